"""Results in a line, for `repr`: what was measured, on how much, and the numbers that matter."""

from collections.abc import Callable, Mapping
from typing import Any

from spiking_resnet.costs.energy import Account
from spiking_resnet.decided import Decisions, PerClass
from spiking_resnet.evaluation.compare import Comparison
from spiking_resnet.evaluation.diagnosis import Diagnosis
from spiking_resnet.evaluation.inspect import Inspection
from spiking_resnet.evaluation.summary import Summary
from spiking_resnet.evaluation.trials import Tuning
from spiking_resnet.export.nir.verification import Verification
from spiking_resnet.printable import printable
from spiking_resnet.records import Curve, Point, Run, Stop, Stopped
from spiking_resnet.report import summary
from spiking_resnet.report.account import joules
from spiking_resnet.report.numbers import count, number, percent
from spiking_resnet.shown import Shown

_FEW = 3  # cost models that are named


def line(record: Shown) -> str | None:
    """A result in a line; None for a kind that has none of its own."""
    make = LINES.get(type(record))
    return None if make is None else f"<{type(record).__name__}: {printable(make(record))}>"


def _run(run: Run) -> str:
    steps, neurons = run.record[-1], sum(layer.neurons for layer in run.spikes.values())
    fired = sum(float(layer.spikes[-1].double().mean()) for layer in run.spikes.values())
    rate = percent(fired / (neurons * steps)) if neurons else "-"
    exact = "exact" if run.exact else "not exact"
    return (
        f"{_images(run.images)}, T = {steps}, logits {list(run.logits.shape)}; {count(fired)} "
        f"spikes an image, rate {rate}; engine {run.engine} ({exact}), {run.seconds:.3g} s"
    )


def _curve(curve: Curve) -> str:
    known = [f"T = {point.steps}: {_measured(point, curve.images)}" for point in curve.points]
    shown = known if len(known) <= _FEW else [known[0], "...", *known[-2:]]
    ann = curve.ann_accuracy
    beside = number(curve.ann_error) if ann is None else percent(ann, curve.images)
    exact = "exact" if curve.exact else "not exact"
    return f"{_images(curve.images)}; {', '.join(shown)}; ANN {beside}; {curve.engine} ({exact})"


def _point(point: Point) -> str:
    rate, agreed = percent(point.firing_rate), percent(point.agreement)
    return f"T = {point.steps}, {_measured(point)}, agreement {agreed}, rate {rate}"


def _measured(point: Point, images: int | None = None) -> str:
    if point.accuracy is None:
        return f"error {number(point.error)}"
    return percent(point.accuracy, images)


def _stop(stop: Stop) -> str:
    return (
        f"confidence {stop.confidence:g}, {len(stop.steps)} read-outs up to T = {stop.full}, found "
        f"on {_images(stop.images)}"
    )


def _stopped(found: Stopped) -> str:
    stopped, full = (percent(each, found.images) for each in (found.accuracy, found.full.accuracy))
    return (
        f"{_images(found.images)}, confidence {found.rule.confidence:g}; {stopped} after "
        f"{found.mean_steps:.3g} steps on average; at T = {found.full.steps}: {full}"
    )


def _comparison(found: Comparison) -> str:
    measured = [each.accuracy for row in found.rows for each in row.readings.values()]
    ends = (min(measured), max(measured)) if measured else ()
    range_ = " to ".join(percent(each, found.images) for each in ends) or "no results"
    failed = sum(bool(row.problem) for row in found.rows)
    steps = ", ".join(map(str, found.steps)) if len(found.steps) <= 10 else f"{len(found.steps)}"
    return (
        f"{len(found.rows)} recipes at T = {steps}, {_images(found.images)}; {range_}; ANN "
        f"{percent(found.ann_accuracy, found.images)}"
        f"{f'; {failed} with problems' if failed else ''}"
    )


def _tuning(found: Tuning) -> str:
    best = found.winner
    won = "nothing meets it" if best is None else f"{best.recipe}, T = {best.steps} is the cheapest"
    return (
        f"target {found.target:g} points, {len(found.trials)} trials on {_images(found.images)}; "
        f"{won}"
    )


def _diagnosis(found: Diagnosis) -> str:
    return (
        f"T = {found.steps}, {_images(found.images)}, {len(found.layers)} layers; agreement "
        f"{percent(found.agreement, found.images)}, accuracy "
        f"{percent(found.accuracy, found.images)}, ANN {percent(found.ann_accuracy, found.images)}"
    )


def _decisions(found: Decisions) -> str:
    flipped = "no ANN" if found.ann is None else f"{len(found.flipped()):,} flipped"
    return f"{_images(len(found.images))}, T = {found.steps[-1]}: {flipped}"


def _per_class(found: PerClass) -> str:
    images = sum(found.images)
    right = percent(sum(found.right()) / images, images) if images else "-"
    return f"{found.classes:,} classes, {_images(images)}, T = {found.steps[-1]}: {right}"


def _account(found: Account) -> str:
    spent = [f"{each.model} {joules(each.joules)}" for each in found.priced]
    more = ["..."] if len(spent) > _FEW else []
    return (
        f"{_images(found.images)}, T = {found.steps}, rate {percent(found.rate)}; an image: "
        f"{', '.join([*spent[:_FEW], *more])}"
    )


def _verification(found: Verification) -> str:
    told = [f"{each.reader} {_verdict(each.different)}" for each in found.readings]
    return f"{_images(found.images)}, T = {found.steps}; {', '.join(told)}"


def _verdict(different: int | None) -> str:
    if different is None:
        return "cannot read it"
    return "exact" if different == 0 else f"differs in {count(different)} spikes"


def _inspection(found: Inspection) -> str:
    total = found.total
    kind = f"{len(found.populations)} populations" if found.populations else "no spiking neurons"
    problems = f"; {len(found.problems)} problems" if found.problems else ""
    return (
        f"{len(found.nodes)} nodes, {kind}, {count(total.parameters)} parameters, "
        f"{count(total.neurons)} neurons, {count(total.synapses)} synapses{problems}"
    )


def _images(images: int) -> str:
    return f"{images:,} image{'' if images == 1 else 's'}"


LINES: Mapping[type[Shown], Callable[[Any], str]] = {
    Account: _account,
    Comparison: _comparison,
    Curve: _curve,
    Decisions: _decisions,
    Diagnosis: _diagnosis,
    Inspection: _inspection,
    PerClass: _per_class,
    Point: _point,
    Run: _run,
    Stop: _stop,
    Stopped: _stopped,
    Summary: summary.line,
    Tuning: _tuning,
    Verification: _verification,
}
