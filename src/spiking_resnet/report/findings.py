"""The page of a spiking network: the verdict in numbers, and a section for each question."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spiking_resnet.evaluation.compare import Comparison
from spiking_resnet.evaluation.findings import Findings
from spiking_resnet.evaluation.paired import Paired
from spiking_resnet.records import Curve, Point
from spiking_resnet.report import comparison, diagnosis, energy, layers, observation
from spiking_resnet.report.accuracy import against, over_time
from spiking_resnet.report.block import (
    Block,
    Choice,
    Column,
    Row,
    Table,
    Terms,
    Text,
)
from spiking_resnet.report.numbers import count, decimals, number, percent, told
from spiking_resnet.report.page import Number, Page, Section

Pictures = Callable[[int], bytes]  # the PNG of an observed image, by its place


def page(
    found: Findings,
    name: str,
    dataset: str,
    made: Sequence[tuple[str, str]],
    pictures: Pictures,
    data: Mapping[str, Any],
) -> Page:
    """The page of what was found. name: the network's. made: all that is needed to make the report
    again. data: the numbers of the page, as they are written to a JSON file.
    """
    return Page(
        title=f"{name} on {dataset}",
        kicker="Report of a spiking network",
        lead=lead(found),
        verdict=verdict(found),
        sections=tuple(_sections(found, made, pictures)),
        data=data,
    )


def _sections(
    found: Findings, made: Sequence[tuple[str, str]], pictures: Pictures
) -> list[Section]:
    sections = [
        Section("accuracy", "Accuracy over time", over_time(found.curve)),
        Section("cost", "Cost", costs(found)),
    ]
    if found.energy is not None:
        sections.append(Section("energy", "Energy", energy.blocks(found.energy)))
    if found.comparison is not None:
        sections.append(Section("methods", "Methods", _methods(found.comparison)))
    sections.append(Section("network", "Layer by layer", layers.blocks(found)))
    sections.append(Section("losses", "Lost decisions", _losses(found)))
    if found.observation is not None and found.observation.rasters:
        sections.append(observation.rasters(found.observation))
    if found.observation is not None and found.observation.samples:
        names = found.class_names
        sections.append(observation.samples(found.observation, names, pictures))
    sections.append(Section("again", "Make it again", _again(made)))
    return sections


def lead(found: Findings) -> str:
    """The verdict in a sentence or two."""
    last, images = found.curve.points[-1], f"{found.curve.images:,} images"
    if last.accuracy is None:
        return (
            f"After {last.steps} time steps its outputs are {number(last.error)} from the targets "
            f"(mean squared, {images})."
        )
    told = percent(last.accuracy, found.curve.images)
    text = f"After {last.steps} time steps it is right on {told} of {images}"
    if found.curve.ann_accuracy is None:
        return f"{text}. The artificial network it was made from is not in its file."
    worse = 100 * (found.curve.ann_accuracy - last.accuracy)
    digits = decimals(found.curve.images)
    how = "as often as" if abs(worse) < 0.005 else f"{abs(worse):.{digits}f} points "
    how += "" if abs(worse) < 0.005 else "less than" if worse > 0 else "more than"
    return (
        f"{text}, {how} the artificial network it was made from "
        f"({percent(found.curve.ann_accuracy, found.curve.images)}), and makes the same decision "
        f"on {'100 %' if last.agreement == 1 else percent(last.agreement, found.curve.images)}."
    )


def verdict(found: Findings) -> tuple[Number, ...]:
    """The four numbers that a reader looks for first."""
    measured, last = found.curve, found.curve.points[-1]
    spent = Number("Synaptic operations an image", count(found.operations[-1]), _against_ann(found))
    if last.accuracy is None:
        ann = f"ANN: {number(measured.ann_error)}"
        distance = Number("Distance from the ANN", number(last.distance), "mean squared")
        return (Number(f"Error at T = {last.steps}", number(last.error), ann), distance, spent)
    about = f"n = {measured.images:,} images"
    if last.interval is not None:
        about = f"95 %: {_ends(last.interval, measured.images)}; {about}"
    return (
        Number(f"Accuracy at T = {last.steps}", percent(last.accuracy, measured.images), about),
        Number("Loss against the ANN", *_loss(measured, last)),
        Number(
            "Agreement with the ANN",
            percent(last.agreement, measured.images),
            "of its decisions are the same ones",
        ),
        spent,
    )


def _loss(measured: Curve, last: Point) -> tuple[str, str]:
    """The points below the ANN, and their 95 % interval where decisions were paired."""
    if measured.ann_accuracy is None or last.accuracy is None:
        return "-", "the ANN is not in the file"
    lost = 100 * (measured.ann_accuracy - last.accuracy)
    digits = decimals(measured.images)
    value = f"{lost:z.{digits}f} points"
    ann = f"ANN {percent(measured.ann_accuracy, measured.images)}"
    if last.lost is None or last.gained is None:
        return value, ann
    paired = Paired(last.lost, last.gained, measured.images)
    low, high = paired.at_least(0.975), paired.at_most(0.975)
    return value, f"95 %: {100 * low:z.{digits}f} to {100 * high:z.{digits}f}; {ann}"


def _ends(interval: tuple[float, float], images: int) -> str:
    low, high = (told(end, images) for end in interval)
    return f"{low} to {high} %"


def _against_ann(found: Findings) -> str:
    if not found.ann_macs:
        return "additions of weights to potentials"
    return (
        f"additions; {found.operations[-1] / found.ann_macs:.3g} for each of the ANN's "
        f"{count(found.ann_macs)} multiply-adds"
    )


def costs(found: Findings) -> list[Block]:
    """Accuracy against what it costs, by one measure of cost or another."""
    views = [("Synaptic operations", tuple(_operations(found)))]
    if found.energy is None:
        return [*views[0][1]]
    views += energy.views(found.curve, found.energy)
    return [Choice("Cost measured in", tuple(views))]


def _operations(found: Findings) -> list[Block]:
    points = found.curve.points
    rows = tuple(
        Row(
            (
                str(point.steps),
                number(point.error)
                if point.accuracy is None
                else percent(point.accuracy, found.curve.images),
                count(spent),
                f"{spent / found.ann_macs:.3g}" if found.ann_macs else "-",
                count(point.spikes_per_image),
            )
        )
        for point, spent in zip(points, found.operations, strict=True)
    )
    table = Table(
        columns=(
            Column("T"),
            Column("error" if found.curve.metric == "mse" else "accuracy"),
            Column("operations"),
            Column("per MAC", note="operations for each multiply-add of the ANN"),
            Column("spikes"),
        ),
        rows=rows,
        footnotes=(
            f"Of an image. {comparison.OPERATIONS_TEXT} Left out: {count(found.image_macs)} of "
            "the layers that read the image, once an image.",
        ),
    )
    return [against(found.curve, found.operations, comparison.OPERATIONS), table]


def _methods(found: Comparison) -> list[Block]:
    """What each method reaches, and at what cost."""
    trade = comparison.trade(found, "Accuracy against cost")
    over = comparison.chart(found, "Accuracy over latency")
    recipes = Terms(tuple((row.recipe, row.description) for row in found.ranked))
    named = {"cost": trade, "latency": over}
    views = tuple((name, (view,)) for name, view in named.items() if view is not None)
    return [
        *([Choice("Accuracy against", views)] if views else []),
        recipes,
        *comparison.blocks(found),
    ]


def _losses(found: Findings) -> list[Block]:
    """The diagnosis, or why there is none."""
    if found.diagnosis is None:
        return [Text(f"Not diagnosed: {found.undiagnosed}")]
    said = found.diagnosis
    errors, decisions = diagnosis.charts(said, "Error of each population, cut by cause")
    lost = any(layer.agreement < 1 for layer in said.layers)
    left = replace(decisions, title="Agreement that is left, and what each cause took from it")
    return [
        Text(diagnosis.summary(said)),
        Text(diagnosis.advice(said)),
        errors,
        *([left] if lost else []),
        diagnosis.table(said),
    ]


def _again(made: Sequence[tuple[str, str]]) -> list[Block]:
    """The commands as they are typed, and the facts."""
    commands = [(name, what) for name, what in made if name.endswith("command")]
    facts = tuple((name, what) for name, what in made if not name.endswith("command"))
    typed = [
        block for name, what in commands for block in (Text(name, "heading"), Text(what, "command"))
    ]
    return [*typed, Text("Facts", "heading"), Terms(facts)]
