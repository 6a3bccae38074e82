"""Tables of a curve: for a terminal, and as Markdown."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from spiking_resnet.printable import printable
from spiking_resnet.records import Curve, Point

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

HEADINGS = ("T", "accuracy", "95 % interval", "loss", "agreement", "spikes/image", "rate")
WITH_TOP5 = ("T", "top-1 %", "95 % range", "top-5 %", "loss", "agree %", "spikes", "rate %")
EXPLANATION = (
    "T: time steps. loss: points below the ANN. agreement: same class as the ANN. "
    "rate: spikes per neuron and step."
)
WITH_TOP5_EXPLANATION = (
    "T: time steps. loss: top-1, points below the ANN. agree: same class as the ANN. "
    "spikes: per image. rate: spikes per neuron and step."
)


WITH_ERROR = ("T", "error", "distance", "spikes/image", "rate")
WITH_ERROR_EXPLANATION = (
    "T: time steps. error: mean squared, from the targets. distance: mean squared, from the ANN's "
    "outputs. rate: spikes per neuron and step."
)


def cells(row: Iterable[str]) -> list["Text"]:
    """A row of a table as it is written: no markup, no control characters."""
    from rich.text import Text

    return [Text(printable(cell)) for cell in row]


def titled(title: str) -> "Text | None":
    """A table's title as it is written."""
    from rich.text import Text

    return Text(printable(title), style="table.title") if title else None


def headings(curve: Curve) -> tuple[str, ...]:
    """The columns of a curve's table: with top-5 accuracy where it was measured."""
    if curve.metric == "mse":
        return WITH_ERROR
    return WITH_TOP5 if _has_top5(curve) else HEADINGS


def explanation(curve: Curve) -> str:
    """What these columns are."""
    if curve.metric == "mse":
        return WITH_ERROR_EXPLANATION
    return WITH_TOP5_EXPLANATION if _has_top5(curve) else EXPLANATION


def _knows_ann(curve: Curve) -> bool:
    return curve.ann_accuracy is not None or curve.ann_error is not None


def _has_top5(curve: Curve) -> bool:
    return any(point.top5 is not None for point in curve.points)


def render(curve: Curve, title: str = "") -> "Table":
    """A rich table of a curve: one row for each T, and one for the artificial network."""
    from rich.table import Table

    caption = f"{_conditions(curve)}\n{explanation(curve)}"
    table = Table(title=titled(title), caption=caption, caption_justify="left")
    for column in headings(curve):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows(curve):
        table.add_row(*cells(row))
    if _knows_ann(curve):
        table.add_section()
        table.add_row(*cells(_ann_row(curve)), style="bold")
    return table


def markdown(curve: Curve) -> str:
    """The same table as Markdown text, with the conditions in the line below."""
    columns = headings(curve)
    lines = [columns, ["---:"] * len(columns), *rows(curve)]
    if _knows_ann(curve):
        lines.append(_ann_row(curve))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{_conditions(curve)} {explanation(curve)}\n"


def rows(curve: Curve) -> list[list[str]]:
    """One row of text for each T, as `headings` says; a dash where nothing was measured."""
    return [_row(point, curve) for point in curve.points]


def bars(curve: Curve, width: int = 40) -> str:
    """Accuracy as one bar of text for each T, from 0 to 100 %, with the ANN's as a mark.

    Empty for curves of another metric.
    """
    lines = []
    mark = None if curve.ann_accuracy is None else min(width - 1, int(curve.ann_accuracy * width))
    for point in curve.points:
        if point.accuracy is None:
            continue
        cells = ["█" if i < round(point.accuracy * width) else " " for i in range(width)]
        if mark is not None:
            cells[mark] = "┃"
        lines.append(f"T = {point.steps:>4} {''.join(cells)} {_percent(point.accuracy)}")
    if mark is not None:
        lines.append(f"{' ' * (9 + mark)}┃ ANN {_percent(curve.ann_accuracy)}")
    return "\n".join(lines)


def _row(point: Point, curve: Curve) -> list[str]:
    ann, wide = curve.ann_accuracy, _has_top5(curve)
    spent = [count(point.spikes_per_image), _percent(point.firing_rate)]
    if curve.metric == "mse":
        return [str(point.steps), _number(point.error), _number(point.distance), *spent]
    known = ann is not None and point.accuracy is not None
    row = [
        str(point.steps),
        _percent(point.accuracy),
        _interval(point.interval),
        *([_percent(point.top5)] if wide else []),
        f"{100 * ((ann or 0.0) - (point.accuracy or 0.0)):+.2f}" if known else "-",
        _percent(point.agreement),
        *spent,
    ]
    return _bare(row) if wide else row


def _ann_row(curve: Curve) -> Sequence[str]:
    if curve.metric == "mse":
        return ["ANN", _number(curve.ann_error), "", "", ""]
    row = ["ANN", _percent(curve.ann_accuracy), _interval(curve.ann_interval)]
    if not _has_top5(curve):
        return [*row, "", "", "", ""]
    return _bare([*row, _percent(curve.ann_top5), "", "", "", ""])


def _bare(row: list[str]) -> list[str]:
    """A row without percent signs, which stand in the headings."""
    return [cell.removesuffix(" %") for cell in row]


def _conditions(curve: Curve) -> str:
    exact = "exact" if curve.exact else "not exact"
    errors = (
        "" if curve.metric == "mse" else f"; standard errors up to {_largest_error(curve)} points"
    )
    return (
        f"n = {curve.images:,} images; engine {curve.engine} ({exact}); "
        f"{curve.seconds:.1f} s of simulation{errors}."
    )


def _largest_error(curve: Curve) -> str:
    """The largest standard error of the curve's accuracies, in points."""
    shares = [curve.ann_accuracy, *(point.accuracy for point in curve.points)]
    return f"{100 * max(curve.standard_error(share) or 0.0 for share in shares):.2f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f}"


def count(number: float) -> str:
    """A number of spikes, operations or bytes in three digits: "174 k", "7.19 M"."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * unit:
            return f"{_three_digits(number / unit)}{name}"
    return _three_digits(number)


def _three_digits(number: float) -> str:
    decimals = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{decimals}f}"
