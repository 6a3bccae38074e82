"""The numbers of records as rows of a table, unrounded: for pandas and for CSV files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from spiking_resnet.costs.energy import Account
from spiking_resnet.decided import Decisions, PerClass
from spiking_resnet.evaluation.compare import Comparison
from spiking_resnet.evaluation.diagnosis import CONTRIBUTIONS, Diagnosis
from spiking_resnet.evaluation.findings import Findings
from spiking_resnet.evaluation.inspect import Inspection
from spiking_resnet.evaluation.summary import Summary
from spiking_resnet.evaluation.trials import Tuning
from spiking_resnet.export.nir.verification import Verification
from spiking_resnet.records import Curve, InputError, Run, Stopped
from spiking_resnet.shown import Shown

Numbers = dict[str, Any]  # a row: texts and numbers by column


def of_curve(curve: Curve) -> Iterator[Numbers]:
    """A row for each T, and one for the ANN, whose T is empty."""
    measured = ("accuracy", "interval", "top5", "error")
    for point in curve.points:
        content = point.to_json()
        del content["layers"]
        yield {"network": "SNN", **_flat(content)}
    if curve.ann_accuracy is not None or curve.ann_error is not None:
        ann = {name: getattr(curve, f"ann_{name}") for name in measured}
        yield {"network": "ANN", **_flat(ann)}


def of_run(run: Run) -> Iterator[Numbers]:
    """A row for each population and recorded step."""
    for name, layer in run.to_dict()["layers"].items():
        measured = zip(run.record, layer["spikes_per_image"], layer["rate"], strict=True)
        for steps, spikes, rate in measured:
            yield {
                "population": name,
                "neurons": layer["neurons"],
                "steps": steps,
                "spikes_per_image": spikes,
                "rate": rate,
            }


def of_account(account: Account) -> Iterator[Numbers]:
    """A row for each cost model and network: the spiking one, and its twins."""
    for priced in account.priced:
        spent = {"joules": priced.joules, "silent": priced.silent, **priced.parts}
        yield {"model": priced.model, "network": "SNN", **spent}
        for twin in priced.twins:
            even = {"break_even": twin.break_even, "per_synapse": twin.per_synapse}
            named = {"network": f"ANN {twin.name}", "bits": twin.bits, "joules": twin.joules}
            yield {"model": priced.model, **named, **even, **twin.parts}


def of_comparison(found: Comparison) -> Iterator[Numbers]:
    """A row for each recipe and T."""
    for row in found.rows:
        for _, reading in sorted(row.readings.items()):
            yield {"recipe": row.recipe, **_flat(reading.to_json())}


def of_decisions(found: Decisions) -> Iterator[Numbers]:
    """A row for each image; its columns of decisions and margins at T end in T."""
    for place, image in enumerate(found.images):
        own: Numbers = {"image": image, "label": found.labels[place]}
        if found.ann is not None and found.ann_margins is not None:
            own |= {"ann": found.ann[place], "ann_margin": found.ann_margins[place]}
        own |= {f"snn_{t}": row[place] for t, row in zip(found.steps, found.snn, strict=True)}
        margins = zip(found.steps, found.margins, strict=True)
        yield {**own, **{f"margin_{t}": row[place] for t, row in margins}}


def of_per_class(found: PerClass) -> Iterator[Numbers]:
    """A row for each T and class: images, accuracies and agreement with their 95 % intervals."""
    before = None if found.ann is None else found.right("ann")
    for index, steps in enumerate(found.steps):
        right = found.right(steps)
        for label, images in enumerate(found.images):
            own: Numbers = {"steps": steps, "class": label, "name": found.name(label)}
            own |= {"images": images, **_shared(found, "accuracy", right[label], label)}
            if before is not None and found.agreed is not None and found.lost is not None:
                lost = found.lost[index][label]
                own |= _shared(found, "ann_accuracy", before[label], label)
                own |= _shared(found, "agreement", found.agreed[index][label], label)
                own |= {"lost": lost, "gained": right[label] - before[label] + lost}
            yield own


def _shared(found: PerClass, name: str, count: int, label: int) -> Numbers:
    """A share of a class's images, and its interval; None where it has none."""
    low, high = found.interval(count, label) or (None, None)
    share = count / found.images[label] if found.images[label] else None
    return {name: share, f"{name}_low": low, f"{name}_high": high}


def of_diagnosis(found: Diagnosis) -> Iterator[Numbers]:
    """A row for each population."""
    for layer in found.layers:
        content = layer.to_json()
        parts = content.pop("parts")
        named = {f"{by}_{name}": parts[by][name] for by in CONTRIBUTIONS for name in parts[by]}
        yield {"population": content.pop("name"), **content, "lost": layer.lost, **named}


def of_inspection(found: Inspection) -> Iterator[Numbers]:
    """A row for each node."""
    for node in found.nodes:
        content = node.to_json()
        size = content.pop("size")
        yield {**content, **size}


def of_stopped(found: Stopped) -> Iterator[Numbers]:
    """A row for the rule, and one for the full run, whose confidence is empty."""
    content = found.to_json()
    for name in ("rule", "ended", "layers", "full"):
        del content[name]
    yield {"confidence": found.rule.confidence, **_flat(content)}
    full = found.full
    yield {
        "confidence": None, "mean_steps": float(full.steps), "images": found.images,
        **_flat({"accuracy": full.accuracy, "interval": full.interval}),
        "agreement": full.agreement, "spikes_per_image": full.spikes_per_image,
        "operations": found.full_operations,
    }  # fmt: skip


def of_summary(found: Summary) -> Iterator[Numbers]:
    """A row for each layer."""
    for layer in found.layers:
        content = layer.to_json()
        low, high = content.pop("threshold") or (None, None)
        size, rate = content.pop("size"), content.pop("rate")
        ends = {"threshold_low": low, "threshold_high": high}
        yield {**content, **size, **ends, "rate": rate}


def of_tuning(found: Tuning) -> Iterator[Numbers]:
    """A row for each trial."""
    for trial in found.trials:
        told = {"recipe": trial.recipe, "verdict": trial.verdict}
        yield {**told, **_flat(trial.reading.to_json())}


def of_verification(found: Verification) -> Iterator[Numbers]:
    """A row for each reader."""
    for each in found.readings:
        yield each.to_json()


ROWS: Mapping[type[Shown], Callable[[Any], Iterator[Numbers]]] = {
    Account: of_account,
    Comparison: of_comparison,
    Curve: of_curve,
    Decisions: of_decisions,
    Diagnosis: of_diagnosis,
    Inspection: of_inspection,
    PerClass: of_per_class,
    Run: of_run,
    Stopped: of_stopped,
    Summary: of_summary,
    Tuning: of_tuning,
    Verification: of_verification,
}


def rows(record: Shown) -> Sequence[Numbers]:
    """The rows of a record; InputError for a kind that has none."""
    make = ROWS.get(type(record))
    if make is None:
        known = ", ".join(kind.__name__ for kind in ROWS)
        raise InputError(f"a {type(record).__name__} is no table: give one of {known}")
    return list(make(record))


def _flat(content: Mapping[str, Any]) -> Numbers:
    """The content with the two ends of its interval apart."""
    found = dict(content)
    if "interval" in found:
        low, high = found.pop("interval") or (None, None)
        found |= {"interval_low": low, "interval_high": high}
    return found


LONG = ("part", "name", "steps", "quantity", "value")


def long(found: Findings) -> Iterator[tuple[Any, ...]]:
    """All numbers of a report, a row of LONG for each, unrounded; what is not known is left out."""
    spent = dict(zip((point.steps for point in found.curve.points), found.operations, strict=True))
    for row in of_curve(found.curve):
        own = {**row, "operations": spent.get(row.get("steps", 0))}
        yield from _numbers("curve", own.pop("network"), own)
    for layer in found.layers:
        yield from _numbers("layers", layer.name, layer.to_json())
    parts: list[tuple[str, Shown | None, str]] = [
        ("diagnosis", found.diagnosis, "population"),
        ("comparison", found.comparison, "recipe"),
        ("energy", None if found.energy is None else found.energy.account, "model"),
    ]
    for part, record, named in parts:
        for own in [] if record is None else rows(record):
            network = f" {own['network']}" if part == "energy" else ""
            yield from _numbers(part, f"{own.pop(named)}{network}", own)
    if found.energy is not None:
        for model, taken in found.energy.joules.items():
            for step, value in zip(spent, taken, strict=True):
                yield "energy", f"{model} over time", step, "joules", value
    for sample in [] if found.observation is None else found.observation.samples:
        for chosen, values in zip(sample.classes, sample.readout, strict=True):
            for step, value in enumerate(values, 1):
                yield "samples", f"image {sample.image}", step, f"readout of class {chosen}", value
        told = {"label": sample.label, "decision": sample.decision, "settled": sample.settled}
        yield from _numbers("samples", f"image {sample.image}", {**told, "ann": sample.ann})


def _numbers(part: str, name: str, content: Numbers) -> Iterator[tuple[Any, ...]]:
    """A row of LONG for each number."""
    steps = content.pop("steps", None)
    for quantity, value in content.items():
        if isinstance(value, int | float):
            yield part, name, steps, quantity, value
