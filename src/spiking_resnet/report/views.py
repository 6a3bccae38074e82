"""How results show themselves: each view's renderer, loaded when it is asked for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spiking_resnet.records import InputError
from spiking_resnet.report.block import Alternatives, Block, Choice, Report, Table
from spiking_resnet.shown import Shown, Views

WIDTH = 100  # characters of a line


def _line(record: Shown) -> str | None:
    from spiking_resnet.report.lines import line

    return line(record)


def _text(record: Shown) -> str:
    from spiking_resnet.report.records import text

    return text(record)


def _html(record: Shown) -> str | None:
    from spiking_resnet.report.notebook import html

    return html(record)


def _rows(record: Shown) -> Sequence[Mapping[str, Any]]:
    from spiking_resnet.report.rows import rows

    return rows(record)


def _table(record: Shown) -> str:
    from spiking_resnet.report.records import blocks
    from spiking_resnet.report.terminal import text

    return text(tuple(_tables(blocks(record))), WIDTH).strip("\n")


def _tables(blocks: Report) -> Iterator[Block]:
    """The tables among blocks, in whichever widths and choices they come."""
    for block in blocks:
        parts: Sequence[Report] = ()
        if isinstance(block, Alternatives):
            parts = block.choices
        elif isinstance(block, Choice):
            parts = [view for _, view in block.views]
        found = any(True for part in parts for _ in _tables(part))
        if isinstance(block, Table) or found:
            yield block


def _plot(record: Shown, ax: Any, dark: bool, transparent: bool) -> Any:
    from spiking_resnet.report.figure import plot
    from spiking_resnet.report.records import CHARTS

    make = CHARTS.get(type(record))
    charts = () if make is None else tuple(make(record))
    if not charts:
        known = ", ".join(kind.__name__ for kind in CHARTS)
        kind = type(record).__name__
        why = f"there is no chart of a {kind}" if make is None else f"this {kind} has no chart"
        raise InputError(f"{why}: take table(), or one of {known}")
    return plot(charts, ax, dark, transparent)


VIEWS = Views(line=_line, text=_text, html=_html, table=_table, rows=_rows, plot=_plot)
