"""The blocks of a comparison: its tables, its chart, and what each recipe is."""

from collections.abc import Callable
from dataclasses import replace
from math import isinf
from operator import itemgetter
from typing import Literal

from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.comparison import Comparison, Place, Row, choice
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.records import Curve, Point
from spiking_resnet.report import ranking
from spiking_resnet.report.block import (
    Alternatives,
    Axis,
    Block,
    Chart,
    Column,
    Level,
    Series,
    Table,
    Terms,
    Text,
)
from spiking_resnet.report.block import Row as Cells
from spiking_resnet.report.curve import in_percent, of_images
from spiking_resnet.report.numbers import count, decimals
from spiking_resnet.shares import told_error

CONDITIONS = (
    Column(
        "levels", note="sizes that a neuron's spike in one step can have (±: and negative ones)"
    ),
    Column("waits", note="layer-serial neurons, so latency grows with depth"),
    Column("pre", rank=1, note="steps before the T counted ones"),
    Column("images", rank=2, note="seen in calibration"),
    Column("made", rank=1, note="once for all T, or for each T anew"),
    Column("seconds", rank=2, note="of all conversions"),
    Column("trained", rank=1, note="for its conversion"),
    Column("rate", rank=1, note="spikes per neuron and step, %, at the last T"),
)
OPERATIONS_TEXT = (
    "Of a spike: the mean fan-out of its population; of one of n levels: n times that (a "
    "differential one of any size: once). ANN: multiply-accumulates."
)
MOST_COLOURS = 6
LATENCY = Axis("Latency: time steps until the answer", symbol="steps", scale="log2")
OPERATIONS = Axis("Synaptic operations of an image", scale="log2", counts=True)
_NAME = Column("recipe", align="left")


def blocks(found: Comparison, title: str = "") -> list[Block]:
    """The ranking and the winner; accuracy beside the firing conditions, loss, agreement and cost
    at every T; failures.

    On a narrow terminal the conditions are a table of their own, and losses have no errors.
    """
    accuracy, facts = _accuracy(found), _conditions(found)
    alone = replace(facts, rows=facts.rows[1:])
    return [
        *([Text(title)] if title else []),
        ranking.table(found),
        *ranking.winner(found),
        Alternatives(((_beside(accuracy, facts),), (accuracy, alone))),
        Alternatives(((_loss(found),), (_plain_loss(found),))),
        _agreement(found),
        _operations(found),
        *_failures(found),
    ]


def document(found: Comparison, command: str) -> list[Block]:
    """The same tables for a file, with the command that made them and what each recipe is."""
    failures = _failures(found)
    tables = [block for block in blocks(found) if block not in failures]
    recipes = Terms(tuple((row.recipe, row.description) for row in found.ranked))
    return [Text(command, "command"), *tables, recipes, *failures]


def charts(found: Comparison, title: str = "") -> tuple[Chart, ...]:
    """Accuracy over latency, and against operations; nothing where no recipe has any."""
    made = chart(found, title), trade(found)
    return tuple(each for each in made if each is not None)


def chart(found: Comparison, title: str = "") -> Chart | None:
    """Accuracy over latency of the recipes that have any, `leaders` in colour."""
    series = _series(found, lambda place: place.latency)
    return _of(found, series, LATENCY, title) if series else None


def trade(found: Comparison, title: str = "") -> Chart | None:
    """Accuracy against operations, with the line of the best for so many operations."""
    series = _series(found, lambda place: place.reading.operations)
    if not series:
        return None
    best = _best(found)
    line = Series("the best for its SynOps", tuple(best.values()), tuple(best), tone=None)
    return replace(_of(found, series, OPERATIONS, title), line=line if len(best) > 1 else None)


def _best(found: Comparison) -> dict[float, float]:
    """The accuracies that grow with operations: no network has more for as few."""
    best: dict[float, float] = {}
    for place in sorted(found.places, key=lambda place: place.reading.operations):
        accuracy = 100 * place.reading.accuracy
        if accuracy > max(best.values(), default=-1.0):
            best[place.reading.operations] = accuracy
    return best


def _of(found: Comparison, series: tuple[Series, ...], axis: Axis, title: str) -> Chart:
    level = Level(100 * found.ann_accuracy, "ANN")
    intervals = "95 % interval" if any(each.intervals for each in series) else ""
    return Chart(
        "lines", of_images(found.images), series, axis, title, (level,), intervals=intervals
    )


def _series(found: Comparison, at: Callable[[Place], float]) -> tuple[Series, ...]:
    """A line for each recipe, coloured ones first; with intervals only where it is the only one."""
    tones = leaders(found)
    rows = sorted(found.ranked, key=lambda row: row.recipe not in tones)
    drawn = [(row, [place for place in row.places if not isinf(at(place))]) for row in rows]
    drawn = [(row, places) for row, places in drawn if places]
    return tuple(
        Series(
            row.recipe,
            tuple(100 * place.reading.accuracy for place in places),
            tuple(at(place) for place in places),
            tuple(in_percent(place.reading.interval) for place in places if len(drawn) == 1),
            tone=tones.get(row.recipe),
        )
        for row, places in drawn
    )


def leaders(found: Comparison) -> dict[str, int]:
    """The colours of the recipes that a chart brings out: at most `MOST_COLOURS`.

    None of them is beaten by others on every axis. They are the choice of each class, then those
    that are the best at some T, then the second best, and so on; of equal accuracy the one that
    agrees more with the ANN.
    """
    ranked = []
    for steps in found.steps:
        rows = [row for row in found.rows if steps in row.readings]
        best = sorted(rows, key=lambda row: _merit(row.readings[steps]), reverse=True)
        ranked += [(place, row.recipe) for place, row in enumerate(best)]
    for group in dict.fromkeys(row.group for row in found.rows):
        own = choice(place for row in found.rows if row.group == group for place in row.places)
        ranked += [] if own is None else [(-1, own.row.recipe)]
    beaten = found.beaten
    names = dict.fromkeys(name for _, name in sorted(ranked, key=itemgetter(0)))
    kept = [name for name in names if name not in beaten][:MOST_COLOURS]
    shown = [row.recipe for row in found.ranked if row.recipe in kept]
    return {name: tone for tone, name in enumerate(shown)}


def _merit(reading: Reading) -> tuple[float, float]:
    return reading.accuracy, reading.agreement


def curves(found: Comparison) -> dict[str, Curve]:
    """Accuracy over T of every recipe that has any."""
    return {
        row.recipe: Curve(
            images=found.images,
            points=tuple(_point(each) for _, each in sorted(row.readings.items())),
            ann_accuracy=found.ann_accuracy,
            ann_interval=found.ann_interval,
            engine="",
            seconds=0.0,
            exact=all(each.exact for each in row.readings.values()),
        )
        for row in found.rows
        if row.readings
    }


def levels(facts: Facts) -> str:
    """The number of amplitudes of a spike, with ± where there are negative spikes."""
    return f"{'±' if facts.signed else ''}{facts.levels}"


def _failures(found: Comparison) -> list[Block]:
    """A remark for each recipe that did not give all its numbers, with the reason."""
    return [
        Text(f"{row.recipe} failed: {row.problem}", "remark") for row in found.rows if row.problem
    ]


def _point(reading: Reading) -> Point:
    return Point(
        steps=reading.steps,
        accuracy=reading.accuracy,
        interval=reading.interval,
        agreement=reading.agreement,
        spikes_per_image=reading.spikes_per_image,
        firing_rate=reading.firing_rate,
        layers={},
    )


def _image(found: Comparison) -> str:
    """A note on the cost of the layers that read the image, if it is the same in all rows."""
    macs = {entry.image_macs for row in found.rows for entry in row.entries}
    if len(macs) != 1:
        return ""
    return f" Left out: {count(macs.pop())} of the layers that read the image, once an image."


def _beside(one: Table, other: Table) -> Table:
    """Two tables of the same rows, side by side as one."""
    pairs = zip(one.rows, other.rows, strict=True)
    return replace(
        one,
        columns=(*one.columns, *other.columns[1:]),
        rows=tuple(replace(own, cells=(*own.cells, *more.cells[1:])) for own, more in pairs),
        footnotes=(*one.footnotes, *other.footnotes),
    )


def _accuracy(found: Comparison) -> Table:
    shares = [each.accuracy for row in found.rows for each in row.readings.values()]
    errors = [told_error(share, found.images) for share in shares]
    digits = decimals(found.images)
    return _by_steps(
        found,
        "Accuracy, %",
        lambda each: f"{100 * each.accuracy:.{digits}f}",
        f"{100 * found.ann_accuracy:.{digits}f}",
        f"{found.images:,} images, the same for all; standard errors of accuracy up to "
        f"{100 * max(errors, default=0.0):.1f} points.",
    )


def _loss(found: Comparison) -> Table:
    return _by_steps(
        found,
        "Loss, points below the ANN",
        lambda each: ranking.loss(each, found.images),
        "0",
        "±: the standard error of this difference on the same images.",
    )


def _plain_loss(found: Comparison) -> Table:
    readings = [each for row in found.rows for each in row.readings.values()]
    errors = [each.told_error(found.images) for each in readings]
    digits = decimals(found.images)
    return _by_steps(
        found,
        "Loss, points below the ANN",
        lambda each: f"{each.loss:z.{digits}f}",
        "0",
        "Standard errors of these differences on the same images: up to "
        f"{max(errors, default=0.0):.1f} points.",
    )


def _agreement(found: Comparison) -> Table:
    title, digits = "Agreement with the ANN's decisions, %", decimals(found.images)
    return _by_steps(found, title, lambda each: f"{100 * each.agreement:.{digits}f}", "100")


def _operations(found: Comparison) -> Table:
    return _by_steps(
        found,
        "Synaptic operations of an image",
        lambda each: count(each.operations),
        count(found.ann_macs),
        f"{OPERATIONS_TEXT}{_image(found)}",
    )


def _conditions(found: Comparison) -> Table:
    """The table of firing conditions: a row for every recipe, and an empty one for the ANN."""
    return _wide(
        "Conditions",
        (_NAME, *CONDITIONS),
        found,
        [("ANN", *("" for _ in CONDITIONS)), *((row.recipe, *_facts(row)) for row in found.ranked)],
    )


def _by_steps(
    found: Comparison, title: str, cell: Callable[[Reading], str], ann: str, text: str = ""
) -> Table:
    """A table with a row for the ANN and for each recipe, and a column for each T."""
    rows = [("ANN", *(ann for _ in found.steps))]
    for row in found.ranked:
        known = row.readings
        rows.append((row.recipe, *(cell(known[T]) if T in known else "-" for T in found.steps)))
    columns = (_NAME, *(Column(f"T={step}") for step in found.steps))
    return _wide(title, columns, found, rows, *filter(None, (text,)))


def _wide(
    title: str,
    columns: tuple[Column, ...],
    found: Comparison,
    rows: list[tuple[str, ...]],
    *footnotes: str,
) -> Table:
    """A table with the ANN's row first; what others beat on every axis is faint."""
    groups = {row.recipe: row.group for row in found.rows}
    named = [cells[0] for cells in rows]
    changes = [i > 0 and groups.get(named[i - 1]) != groups[named[i]] for i in range(len(rows))]
    beaten = found.beaten
    return Table(
        columns=columns,
        rows=tuple(
            Cells(cells, _style(cells[0], beaten), ruled=changed)
            for cells, changed in zip(rows, changes, strict=True)
        ),
        title=title,
        footnotes=footnotes,
        shape="wide",
        apart=True,
    )


def _style(name: str, beaten: set[str]) -> Literal["plain", "strong", "faint"]:
    return "strong" if name == "ANN" else "faint" if name in beaten else "plain"


def _facts(row: Row) -> tuple[str, ...]:
    """The cells of a recipe's CONDITIONS."""
    if row.facts is None:
        return tuple("-" for _ in CONDITIONS)
    last = row.readings[max(row.readings)]
    return (
        levels(row.facts),
        _answer(row.facts.waits),
        str(row.facts.pre_steps),
        str(row.facts.calibration_images),
        "per T" if row.per_steps else "once",
        f"{row.seconds:.1f}",
        _answer(row.facts.trained),
        f"{100 * last.firing_rate:.1f}",
    )


def _answer(true: bool) -> str:
    return "yes" if true else "no"
