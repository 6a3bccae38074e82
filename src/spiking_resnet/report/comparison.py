"""Comparisons as tables, for a terminal and as Markdown, and as curves of a figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.compare import Comparison, Row
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.evaluation.tune import Tuning
from spiking_resnet.records import Curve, Point
from spiking_resnet.report.table import cells, count, titled

if TYPE_CHECKING:
    from rich.table import Table

FAIRNESS = ("levels", "waits", "pre", "images", "made", "seconds", "trained", "rate")
FAIRNESS_TEXT = (
    "levels: sizes that a neuron's spike in one step can have (±: and negative ones). waits: "
    "neurons wait for their whole input, so latency grows with depth. pre: steps before the T "
    "counted ones. images: seen in calibration. made: once for all T, or for each T anew. seconds: "
    "of all conversions. trained: for its conversion. rate: spikes per neuron and step, %, at the "
    "last T."
)
OPERATIONS_TEXT = (
    "Of a spike: the mean fan-out of its population; of one of n levels: n times that (a "
    "differential one of any size: once). ANN: multiply-accumulates."
)


@dataclass(frozen=True)
class Block:
    """One table: what it shows, its headings, its rows of text, and what they mean."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: str = ""

    @property
    def widths(self) -> tuple[int, ...]:
        """The characters of every column."""
        lines = [self.headings, *self.rows]
        return tuple(max(map(len, column)) for column in zip(*lines, strict=True))

    def fits(self, width: int | None, gap: int = 1) -> bool:
        """Whether it fits into so many characters, with a gap after each column; None: always."""
        return width is None or sum(self.widths) + gap * len(self.headings) <= width

    def beside(self, other: "Block") -> "Block":
        """One table of this and another, whose rows are the same ones."""
        pairs = zip(self.rows, other.rows, strict=True)
        return Block(
            self.title,
            (*self.headings, *other.headings[1:]),
            tuple((*own, *more[1:]) for own, more in pairs),
            f"{self.text} {other.text}",
        )

    def cut(self, width: int | None) -> "list[Block]":
        """Tables that fit, each with the first column and some of the others."""
        if self.fits(width) or width is None:
            return [self]
        parts: list[list[int]] = [[0]]
        for column, own in enumerate(self.widths[1:], 1):
            used = sum(self.widths[known] + 1 for known in parts[-1])
            if used + own + 1 > width and len(parts[-1]) > 1:
                parts.append([0])
            parts[-1].append(column)
        return [
            Block(
                self.title if number == 0 else f"{self.title} (continued)",
                tuple(self.headings[column] for column in part),
                tuple(tuple(row[column] for column in part) for row in self.rows),
                self.text if number == len(parts) - 1 else "",
            )
            for number, part in enumerate(parts)
        ]


def blocks(found: Comparison, width: int | None = None) -> list[Block]:
    """The tables of a comparison: accuracy beside what is fair to know, loss, agreement, cost.

    width: of the terminal; a narrow one gets fewer decimals, the facts in a table of their own,
    and losses without their errors. None: as wide as it takes.
    """
    facts = _fairness(found)
    chosen: list[Block] = []
    for digits in (2, 1):
        accuracy = _accuracy(found, digits)
        if (both := accuracy.beside(facts)).fits(width):
            chosen = [both]
            break
    else:
        alone = replace(facts, rows=facts.rows[1:])
        chosen = [_first(width, _accuracy(found, 2), _accuracy(found, 1)), alone]
    chosen += [
        _first(width, _loss(found), _plain_loss(found, 2), _plain_loss(found, 1)),
        _first(width, _agreement(found, 2), _agreement(found, 1)),
        _operations(found),
    ]
    return [part for block in chosen for part in block.cut(width)]


def render(block: Block, width: int = 120) -> "Table":
    """A rich table of a block, without its text."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=titled(block.title),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1 if block.fits(width, 2) else 0, 0, 0),
        show_edge=False,
    )
    for position, heading in enumerate(block.headings):
        table.add_column(heading, justify="right" if position else "left", no_wrap=True)
    for row in block.rows:
        table.add_row(*cells(row), style="bold" if row[0] == "ANN" else None)
    return table


def markdown(found: Comparison) -> str:
    """The same tables as Markdown text, and what each recipe is."""
    parts = []
    for block in blocks(found):
        ruler = ["---", *("---:" for _ in block.headings[1:])]
        lines = [f"| {' | '.join(cells)} |" for cells in (block.headings, ruler, *block.rows)]
        parts += [f"**{block.title}**", "\n".join(lines), block.text]
    listed = "\n".join(f"- `{row.recipe}`: {row.description}" for row in found.rows)
    problems = "\n".join(f"- {line}" for line in failures(found))
    return "\n\n".join(part for part in (*parts, listed, problems) if part) + "\n"


def trials(found: Tuning) -> Block:
    """Everything that was tried to tune a network, in the order in which it was."""
    rows = tuple(
        (
            trial.recipe,
            str(trial.steps),
            f"{trial.reading.loss:.2f}",
            f"{trial.bounds[0]:+.2f} … {trial.bounds[1]:+.2f}",
            f"{100 * trial.reading.agreement:.2f}",
            count(trial.reading.operations),
            levels(trial.facts),
            {"meets": "yes", "uncertain": "not certain", "misses": "no"}[trial.verdict],
        )
        for trial in found.trials
    )
    headings = ("recipe", "T", "loss", "between", "agreement", "operations", "levels", "meets")
    text = (
        f"On {found.images:,} training images that no method was made on; ANN "
        f"{100 * found.ann_accuracy:.2f} %. loss: points below the ANN; between: what it lies "
        f"above and below, each with {100 * found.confidence:g} % confidence, of this trial by "
        f"itself ({len(found.trials)} were made). operations: synaptic, of an image."
    )
    return Block(f"Tried, the cheapest in {found.measure} first", headings, rows, text)


def failures(found: Comparison) -> list[str]:
    """A line for each recipe that did not give all its numbers, with the reason."""
    return [f"{row.recipe} failed: {row.problem}" for row in found.rows if row.problem]


def curves(found: Comparison) -> dict[str, Curve]:
    """Accuracy over T of every recipe that has any, for a figure."""
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
    """The sizes of a spike, with a sign where there are negative ones."""
    return f"{'±' if facts.signed else ''}{facts.levels}"


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
    """What the layers that read the image cost, where they cost the same in all rows."""
    macs = {entry.image_macs for row in found.rows for entry in row.entries}
    if len(macs) != 1:
        return ""
    return f" Left out: {count(macs.pop())} of the layers that read the image, once an image."


def _first(width: int | None, *choices: Block) -> Block:
    """The first of some tables that fits, or the last."""
    return next((choice for choice in choices if choice.fits(width)), choices[-1])


def _accuracy(found: Comparison, digits: int) -> Block:
    errors = [each.standard_error for row in found.rows for each in row.readings.values()]
    return _by_steps(
        found,
        "Accuracy, %",
        lambda each: f"{100 * each.accuracy:.{digits}f}",
        f"{100 * found.ann_accuracy:.{digits}f}",
        f"{found.images:,} images, the same for all; standard errors of accuracy up to "
        f"{100 * max(errors, default=0.0):.1f} points.",
    )


def _loss(found: Comparison) -> Block:
    return _by_steps(
        found,
        "Loss, points below the ANN",
        lambda each: f"{each.loss:.2f} ± {each.loss_error:.2f}",
        "0",
        "±: the standard error of this difference on the same images.",
    )


def _plain_loss(found: Comparison, digits: int) -> Block:
    errors = [each.loss_error for row in found.rows for each in row.readings.values()]
    return _by_steps(
        found,
        "Loss, points below the ANN",
        lambda each: f"{each.loss:.{digits}f}",
        "0",
        "Standard errors of these differences on the same images: up to "
        f"{max(errors, default=0.0):.1f} points.",
    )


def _agreement(found: Comparison, digits: int) -> Block:
    title = "Agreement with the ANN's decisions, %"
    return _by_steps(found, title, lambda each: f"{100 * each.agreement:.{digits}f}", "100")


def _operations(found: Comparison) -> Block:
    return _by_steps(
        found,
        "Synaptic operations of an image",
        lambda each: count(each.operations),
        count(found.ann_macs),
        f"{OPERATIONS_TEXT}{_image(found)}",
    )


def _fairness(found: Comparison) -> Block:
    """The facts of every recipe, and an empty row for the ANN."""
    none = ("ANN", *("" for _ in FAIRNESS))
    rows = (none, *((row.recipe, *_facts(row)) for row in found.rows))
    return Block("What is fair to know", ("recipe", *FAIRNESS), rows, FAIRNESS_TEXT)


def _by_steps(
    found: Comparison, title: str, cell: Callable[[Reading], str], ann: str, text: str = ""
) -> Block:
    """A table with a row for the ANN and for each recipe, and a column for each T."""
    rows = [("ANN", *(ann for _ in found.steps))]
    for row in found.rows:
        known = row.readings
        rows.append((row.recipe, *(cell(known[T]) if T in known else "-" for T in found.steps)))
    headings: Sequence[str] = ("recipe", *(f"T={step}" for step in found.steps))
    return Block(title, tuple(headings), tuple(rows), text)


def _facts(row: Row) -> tuple[str, ...]:
    """The cells of FAIRNESS."""
    if row.facts is None:
        return tuple("-" for _ in FAIRNESS)
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
