"""Render the blocks of a report in a terminal: tables by rich, charts as bars of text."""

import io
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING, Any

from spiking_resnet.printable import printable
from spiking_resnet.report import markdown
from spiking_resnet.report.block import (
    Alternatives,
    Block,
    Chart,
    Choice,
    Picture,
    Report,
    Series,
    Table,
    Terms,
    Text,
)
from spiking_resnet.report.fitting import FOLDED, cut, fits, keyed, widths

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

BARS = 40  # characters of a chart's longest bar
_PLAIN = str.maketrans(
    {"█": "#", "░": "-", "┃": "|", "…": "."}
)  # for terminals that have other characters only
_COMMAND = "spiking-resnet "  # how a command to copy begins
_BEGIN = re.compile(r" *(\d+\. )?")  # of a line: what the lines below it leave free
_STYLES = {"plain": None, "strong": "bold", "alarming": "bold red", "faint": "dim"}


def show(blocks: Report, out: "Console", err: "Console | None" = None) -> None:
    """Print blocks, as wide as the terminal allows; remarks to `err` where one is given."""
    for block in _chosen(blocks, out.width):
        match block:
            case Text(kind="remark"):
                say(err or out, f"warning: {block.text}", "yellow")
            case Text(kind="code" | "command"):
                _lines(out, f"\n{block.text}" if block.apart else block.text)
            case Text():
                say(out, f"\n{block.text}" if block.apart else block.text, _style(block))
            case Terms():
                say(out, _listed(block))
            case Chart(kind="cells"):
                show(_cells(block, out.width), out, err)
            case Chart():
                _lines(out, bars(block))
            case Table():
                _print(block, out)
            case Picture():
                said = map(printable, filter(None, (f"({block.text})", block.caption)))
                say(out, "\n".join(said))


def page(blocks: Report, out: "Console") -> None:
    """Print blocks as a document, with its headings and its code set off."""
    from rich.markdown import Markdown

    out.print(Markdown(markdown.text(blocks)))


def text(blocks: Report, width: int = 100) -> str:
    """What `show` prints on a terminal of so many characters a line, without colours."""
    from rich.console import Console

    file = io.StringIO()
    plain: Any = {"highlight": False, "markup": False, "emoji": False, "color_system": None}
    console = Console(file=file, width=width, force_terminal=False, force_jupyter=False, **plain)
    show(blocks, console)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def say(console: "Console", text: str, style: str = "") -> None:
    """Print lines in what characters the terminal has, wrapped at words where it is one."""
    text = printable(text, keep="\n")
    _lines(console, wrapped(text, console.width) if console.is_terminal else text, style)


def wrapped(text: str, width: int) -> str:
    """Lines of at most so many characters, broken between words; indented ones stay indented.

    Lines that hold a command to copy stay as they are, and so do long words.
    """
    lines = text.split("\n")
    return "\n".join(line if _COMMAND in line else _broken(line, width) for line in lines)


def _broken(line: str, width: int) -> str:
    begin = _BEGIN.match(line)
    indent = " " * begin.end() if begin else ""
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _lines(console: "Console", text: str, style: str = "") -> None:
    """Print lines as they are, in what characters the terminal has."""
    from rich.text import Text as RichText

    shown = RichText(in_characters_of(console, printable(text, keep="\n")), style=style)
    console.print(shown, soft_wrap=True)


def in_characters_of(console: "Console", text: str) -> str:
    """Text with bars of characters that a terminal has."""
    return text if console.encoding.lower().startswith("utf") else text.translate(_PLAIN)


def _cells(chart: Chart, width: int) -> Report:
    """The numbers of cells as tables that fit."""
    return cut(replace(markdown.as_table(chart), shape="wide"), width)


def _style(block: Text) -> str:
    return "bold" if block.kind in ("title", "heading") else ""


def _listed(terms: Terms) -> str:
    return "\n".join(f"{printable(name)}: {printable(what)}" for name, what in terms.items)


def _chosen(blocks: Iterable[Block], width: int) -> Iterator[Block]:
    """The blocks that are shown on so many characters: no alternatives, and tables that fit."""
    for block in blocks:
        if isinstance(block, Alternatives):
            fitting = (choice for choice in block.choices if _fit(choice, width))
            yield from _chosen(next(fitting, block.choices[-1]), width)
        elif isinstance(block, Choice):
            for name, view in block.views:
                yield Text(printable(f"{block.label}: {name}"), "heading", apart=True)
                yield from _chosen(view, width)
        elif isinstance(block, Table):
            kept = keyed(block, width)
            yield from cut(kept, width) if kept.shape == "wide" else (kept,)
        else:
            yield block


def _fit(blocks: Iterable[Block], width: int) -> bool:
    """Whether every table fits into so many characters."""
    return all(fits(block, width) for block in blocks if isinstance(block, Table))


def _print(table: Table, out: "Console") -> None:
    """Print a table; of a wide one what it means comes below, on lines of full length."""
    from rich.text import Text as RichText

    if table.apart:
        out.print()
    out.print(rich_table(table, out.width))
    if table.shape == "wide" and (said := " ".join(filter(None, table.explanations))):
        out.print(RichText(printable(said), style="italic"))


def rich_table(table: Table, width: int = 120) -> "RichTable":
    """A table as rich draws it: no markup, no control characters."""
    from rich.table import Table as RichTable
    from rich.text import Text as RichText

    title = RichText(printable(table.title), style="table.title") if table.title else None
    made = RichTable(title=title, caption_justify="left", **_looks(table, width))
    for column, taken in zip(table.columns, widths(table), strict=True):
        made.add_column(
            RichText(printable(column.heading)),
            justify=column.align,
            min_width=min(taken, FOLDED) if column.folds else None,
            no_wrap=not column.folds,
            overflow="fold" if column.folds else "ellipsis",
        )
    for row in table.rows:
        if row.ruled:
            made.add_section()
        cells = [RichText(printable(cell)) for cell in row.cells]
        made.add_row(*cells, style=_STYLES[row.style])
    return made


def _looks(table: Table, width: int) -> dict[str, Any]:
    """rich's settings for a table: frame, space between columns, and footnotes."""
    from rich.box import HEAVY_HEAD, SIMPLE, SIMPLE_HEAD
    from rich.text import Text as RichText

    if table.shape == "wide":
        return {
            "box": SIMPLE_HEAD,
            "padding": (0, 1 if fits(table, width, 2) else 0, 0, 0),
            "show_edge": False,
            "title_justify": "left",
        }
    said = "\n".join(printable(line) for line in table.explanations)
    caption = RichText(said, style="table.caption") if said else None
    if table.shape == "long":
        return {"box": SIMPLE, "padding": (0, 1, 0, 0), "caption": caption}
    return {"box": HEAVY_HEAD, "caption": caption}


def bars(chart: Chart, width: int = BARS) -> str:
    """Every number of a chart as a bar of text, with a mark at its levels."""
    series = (*chart.series, *((chart.line,) if chart.line else ()))
    known = [value for each in series for value in each.values if not isnan(value)]
    known += [0.0, *(level.value for level in chart.levels)]
    low, high = chart.y.bounds or (min(known), max(known))
    scale = width / (high - low) if high > low else 0.0
    marks = [min(width - 1, int((level.value - low) * scale)) for level in chart.levels]
    lines = [printable(chart.title)] if chart.title else []
    indent = 0
    for each in series:
        if len(series) > 1:
            lines.append(printable(each.label))
        for place, value in zip(_places(chart, each), each.values, strict=True):
            indent = len(place) + 1
            if not isnan(value):
                drawn = _bar(round((value - low) * scale), width, marks)
                lines.append(f"{place} {drawn} {chart.y.text(value)}")
    for level, mark in zip(chart.levels, marks, strict=True):
        if level.label:
            said = f"┃ {printable(level.label)} {chart.y.text(level.value)}"
            lines.append(f"{' ' * (indent + mark)}{said}")
    return "\n".join(lines)


def _places(chart: Chart, series: Series) -> list[str]:
    """The label before each bar, all of one length."""
    if chart.x is None:
        names = [printable(name) for name in chart.rows]
        return [name.ljust(max(map(len, names))) for name in names]
    symbol = chart.x.symbol or chart.x.label
    return [f"{symbol} = {chart.x.place(place):>4}" for place in series.at]


def _bar(filled: int, width: int, marks: list[int]) -> str:
    cells = ["█" if place < filled else " " for place in range(width)]
    for mark in marks:
        cells[mark] = "┃"
    return "".join(cells)
