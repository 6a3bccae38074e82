"""The ranking of a comparison: its methods class by class, the winner, and how to make it."""

from contextlib import suppress
from math import isinf

from spiking_resnet.conversion.methods import calls, described
from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.comparison import Comparison, Place, Row, choice
from spiking_resnet.report.block import Block, Column, Table, Text
from spiking_resnet.report.block import Row as Cells
from spiking_resnet.report.numbers import count, decimals

_COLUMNS = (
    Column("recipe", align="left"),
    Column("T"),
    Column("accuracy", note="%"),
    Column("SynOps", note="synaptic operations of an image"),
    Column("latency", rank=1, note="time steps until the answer is there"),
    Column(
        "front", rank=2, note="no other is as good in accuracy, SynOps and latency at once; "
        "T=n: it is so at that T; beaten: at none"
    ),
    Column("loss", rank=3, note="points below the ANN, ±: its standard error on the same images"),
    Column("agree", rank=4, note="same class as the ANN, %"),
)  # fmt: skip


def table(found: Comparison) -> Table:
    """A row for each method at its best T, class by class, the smallest loss first."""
    digits = decimals(found.images)
    ann = f"{100 * found.ann_accuracy:.{digits}f}"
    rows = [_row(("ANN", "", ann, count(found.ann_macs)), "strong")]
    group = ""
    for row in found.ranked:
        place = choice(row.places)
        if place is None:
            continue
        if row.group != group:
            group = row.group
            rows.append(_row((group,), "strong", ruled=True))
        rows.append(_row(_cells(found, row, place), _style(found, row)))
    return Table(
        columns=_COLUMNS,
        rows=tuple(rows),
        title="Ranking, each method at its best T, each class by itself",
        footnotes=(
            f"{found.images:,} images. Best T: the fewest SynOps among those whose loss is within "
            "its standard error of the smallest.",
        ),
        shape="wide",
        apart=True,
    )


def winner(found: Comparison) -> list[Block]:
    """The winner, and what makes it."""
    place = found.winner
    if place is None:
        return []
    reading, digits = place.reading, decimals(found.images)
    said = (
        f"winner: {place.row.recipe} at T = {reading.steps}: "
        f"{100 * reading.accuracy:.{digits}f} %, {loss(reading, found.images)} "
        f"points below the ANN, {count(reading.operations)} SynOps, latency "
        f"{latency(place)}. It takes the fewest SynOps of those whose loss is within its standard "
        "error of the smallest."
    )
    made = how(found, place)
    return [Text(said, apart=True), *([Text(made, "code", apart=True)] if made else [])]


def how(found: Comparison, place: Place) -> str:
    """The commands and the line of Python that make a network; nothing of one that was given."""
    written = line(place)
    if not written:
        return ""
    own = found.command if place.reading is getattr(found.winner, "reading", None) else ""
    return "\n".join(filter(None, (own, written)))


def line(place: Place) -> str:
    """The line of Python that makes a network; nothing of one that was given."""
    if "network" not in place.entry.method:
        with suppress(KeyError, TypeError, ValueError):  # of a method that is not this package's
            return calls.written(described(place.entry.method), place.row.recipe)
    return ""


def loss(reading: Reading, images: int) -> str:
    """A loss with its standard error, no zero with a sign."""
    digits = decimals(images)
    return f"{reading.loss:z.{digits}f} ± {reading.told_error(images):.{max(1, digits)}f}"


def latency(place: Place) -> str:
    """The time steps until the answer is there."""
    return "-" if isinf(place.latency) else f"{place.latency:,.0f}"


def _style(found: Comparison, row: Row) -> str:
    return "faint" if row.recipe in found.beaten else "plain"


def _cells(found: Comparison, row: Row, place: Place) -> tuple[str, ...]:
    reading, digits = place.reading, decimals(found.images)
    if row.recipe in found.beaten:
        mark = "beaten"
    else:
        own = [each.reading for each in found.front if each.row is row]
        mark = "yes" if any(each is reading for each in own) else f"T={own[0].steps}"
    return (
        row.recipe,
        str(reading.steps),
        f"{100 * reading.accuracy:.{digits}f}",
        count(reading.operations),
        latency(place),
        mark,
        loss(reading, found.images),
        f"{100 * reading.agreement:.{digits}f}",
    )


def _row(cells: tuple[str, ...], style: str, ruled: bool = False) -> Cells:
    filled = (*cells, *("" for _ in _COLUMNS[len(cells) :]))
    return Cells(filled, style, ruled)  # type: ignore[arg-type]
