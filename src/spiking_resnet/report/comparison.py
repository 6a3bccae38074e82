"""The blocks of a comparison: its tables, its chart, and what each recipe is."""

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter

from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.compare import Comparison, Row
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.records import Curve, Point
from spiking_resnet.report import curve
from spiking_resnet.report.block import Alternatives, Block, Chart, Column, Table, Terms, Text
from spiking_resnet.report.block import Row as Cells
from spiking_resnet.report.numbers import count

CONDITIONS = (
    Column(
        "levels", note="sizes that a neuron's spike in one step can have (±: and negative ones)"
    ),
    Column("waits", note="layer-serial neurons, so latency grows with depth"),
    Column("pre", note="steps before the T counted ones"),
    Column("images", note="seen in calibration"),
    Column("made", note="once for all T, or for each T anew"),
    Column("seconds", note="of all conversions"),
    Column("trained", note="for its conversion"),
    Column("rate", note="spikes per neuron and step, %, at the last T"),
)
OPERATIONS_TEXT = (
    "Of a spike: the mean fan-out of its population; of one of n levels: n times that (a "
    "differential one of any size: once). ANN: multiply-accumulates."
)
MOST_COLOURS = 6
_NAME = Column("recipe", align="left")


def blocks(found: Comparison, title: str = "") -> list[Block]:
    """Tables of accuracy beside the firing conditions, of loss, agreement and cost, and failures.

    On a narrow terminal: fewer decimals, the conditions in a table of their own, and losses
    without their errors.
    """
    fine, coarse, facts = _accuracy(found, 2), _accuracy(found, 1), _conditions(found)
    alone = replace(facts, rows=facts.rows[1:])
    return [
        *([Text(title)] if title else []),
        Alternatives(
            (
                (_beside(fine, facts),),
                (_beside(coarse, facts),),
                (Alternatives(((fine,), (coarse,))), alone),
            )
        ),
        Alternatives(((_loss(found),), (_plain_loss(found, 2),), (_plain_loss(found, 1),))),
        Alternatives(((_agreement(found, 2),), (_agreement(found, 1),))),
        _operations(found),
        *_failures(found),
    ]


def document(found: Comparison, command: str) -> list[Block]:
    """The same tables for a file, with the command that made them and what each recipe is."""
    failures = _failures(found)
    tables = [block for block in blocks(found) if block not in failures]
    recipes = Terms(tuple((row.recipe, row.description) for row in found.rows))
    return [Text(command, "command"), *tables, recipes, *failures]


def chart(found: Comparison, title: str = "") -> Chart | None:
    """Accuracy over T of the recipes that have any, `leaders` in colour; None where none has."""
    drawn = curves(found)
    if not drawn:
        return None
    made, tones = curve.chart(drawn, title), leaders(found)
    series = tuple(replace(each, tone=tones.get(each.label)) for each in made.series)
    many = len(series) > MOST_COLOURS
    return replace(made, series=series, intervals="" if many else made.intervals)


def leaders(found: Comparison) -> dict[str, int]:
    """The colours of the recipes that a chart of many brings out: at most `MOST_COLOURS`.

    They are the paper's, and those that are the best at some T, then the second best, and so on; of
    equal accuracy the one that agrees more with the ANN.
    """
    ranked = []
    for steps in found.steps:
        rows = [row for row in found.rows if steps in row.readings]
        best = sorted(rows, key=lambda row: _merit(row.readings[steps]), reverse=True)
        ranked += [(place, row.recipe) for place, row in enumerate(best)]
    first = [(-1, row.recipe) for row in found.rows[:1] if row.readings]
    names = list(dict.fromkeys(name for _, name in sorted(first + ranked, key=itemgetter(0))))
    kept = {*names[:MOST_COLOURS]}
    shown = [row.recipe for row in found.rows if row.recipe in kept]
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


def _accuracy(found: Comparison, digits: int) -> Table:
    errors = [each.standard_error for row in found.rows for each in row.readings.values()]
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
        lambda each: f"{each.loss:.2f} ± {each.loss_error:.2f}",
        "0",
        "±: the standard error of this difference on the same images.",
    )


def _plain_loss(found: Comparison, digits: int) -> Table:
    errors = [each.loss_error for row in found.rows for each in row.readings.values()]
    return _by_steps(
        found,
        "Loss, points below the ANN",
        lambda each: f"{each.loss:.{digits}f}",
        "0",
        "Standard errors of these differences on the same images: up to "
        f"{max(errors, default=0.0):.1f} points.",
    )


def _agreement(found: Comparison, digits: int) -> Table:
    title = "Agreement with the ANN's decisions, %"
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
        [("ANN", *("" for _ in CONDITIONS)), *((row.recipe, *_facts(row)) for row in found.rows)],
    )


def _by_steps(
    found: Comparison, title: str, cell: Callable[[Reading], str], ann: str, text: str = ""
) -> Table:
    """A table with a row for the ANN and for each recipe, and a column for each T."""
    rows = [("ANN", *(ann for _ in found.steps))]
    for row in found.rows:
        known = row.readings
        rows.append((row.recipe, *(cell(known[T]) if T in known else "-" for T in found.steps)))
    columns = (_NAME, *(Column(f"T={step}") for step in found.steps))
    return _wide(title, columns, rows, *filter(None, (text,)))


def _wide(
    title: str, columns: tuple[Column, ...], rows: list[tuple[str, ...]], *footnotes: str
) -> Table:
    return Table(
        columns=columns,
        rows=tuple(Cells(row, "strong" if row[0] == "ANN" else "plain") for row in rows),
        title=title,
        footnotes=footnotes,
        shape="wide",
        apart=True,
    )


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
