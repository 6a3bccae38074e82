"""Render the blocks of a report as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from math import isnan

from spiking_resnet.printable import printable
from spiking_resnet.report.block import (
    Alternatives,
    Axis,
    Block,
    Chart,
    Choice,
    Column,
    Picture,
    Report,
    Row,
    Series,
    Table,
    Terms,
    Text,
)


def render(blocks: Report) -> bytes:
    """The blocks as the bytes of a Markdown file, in UTF-8."""
    return f"{text(blocks)}\n".encode()


def text(blocks: Report) -> str:
    """The blocks as Markdown text, with a blank line between them."""
    parts: list[str] = []
    listing = False
    for block in blocks:
        remark = isinstance(block, Text) and block.kind == "remark"
        for part in _parts(block):
            if remark and listing:
                parts[-1] += f"\n{part}"
            else:
                parts.append(part)
        listing = remark
    return "\n\n".join(parts)


def _parts(block: Block) -> Iterator[str]:
    """The paragraphs of a block."""
    match block:
        case Text():
            if block.text:
                yield _text(block)
        case Terms():
            yield "\n".join(f"- `{_code(name)}`: {_plain(what)}" for name, what in block.items)
        case Table():
            yield from _table(block)
        case Chart():
            yield from _table(as_table(block))
        case Picture():
            yield "\n\n".join(filter(None, (f"({_plain(block.text)})", _plain(block.caption))))
        case Choice():
            for name, view in block.views:
                yield f"**{_plain(block.label)}: {_plain(name)}**"
                for each in view:
                    yield from _parts(each)
        case Alternatives():
            for each in block.choices[0]:
                yield from _parts(each)


def _text(block: Text) -> str:
    match block.kind:
        case "title":
            return f"# {_plain(block.text)}"
        case "heading":
            return f"## {_plain(block.text)}"
        case "remark":
            return f"- {_plain(block.text)}"
        case "command":
            return f"`{_code(block.text)}`"
        case "code":
            return f"```\n{printable(block.text, keep=chr(10))}\n```"
        case _:
            return printable(block.text, keep="\n").replace("<", r"\<")


def _table(table: Table) -> Iterator[str]:
    """The title, the table, and what it means."""
    if table.title:
        yield f"**{_plain(table.title)}**"
    headings = [column.heading for column in table.columns]
    head = _line(headings) if any(headings) else "|" + " |" * len(headings)
    yield "\n".join([head, _ruler(table.columns), *(_line(row.cells) for row in table.rows)])
    if said := " ".join(filter(None, table.explanations)):
        yield _plain(said)


def _ruler(columns: tuple[Column, ...]) -> str:
    """The line below the headings, which aligns the columns."""
    if all(column.align == "left" for column in columns):
        return "|---" * len(columns) + "|"
    return f"| {' | '.join('---:' if c.align == 'right' else '---' for c in columns)} |"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_plain(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(text: str) -> str:
    """Text on one line that begins no tag."""
    return printable(text).replace("<", r"\<")


def _code(text: str) -> str:
    """Text on one line that ends no code."""
    return printable(text).replace("`", "'")


def as_table(chart: Chart) -> Table:
    """The numbers of a chart: a row for each place, a column for each series.

    Where places are numbers that were measured, each number of a series has a row.
    """
    if chart.x is not None and chart.x.counts:
        return _listed(chart, chart.x)
    series = (*chart.series, *((chart.line,) if chart.line else ()))
    places = chart.rows or tuple(sorted({place for each in series for place in each.at}))
    columns = zip(*(_cells(chart, each, places) for each in series), strict=True)
    return Table(
        title=chart.title,
        columns=(
            Column(chart.side or ("" if chart.x is None else chart.x.heading), align="left"),
            *(Column(each.label) for each in series),
        ),
        rows=tuple(
            Row((_place(chart, place), *cells))
            for place, cells in zip(places, columns, strict=True)
        ),
        footnotes=_explained(chart),
    )


def _explained(chart: Chart) -> tuple[str, ...]:
    """What the numbers of a chart are, and its levels."""
    return (
        f"{chart.y.heading}.",
        f"Columns: {chart.x.heading}." if chart.kind == "cells" and chart.x else "",
        f"In brackets: the {chart.intervals}." if chart.intervals else "",
        *(f"{each.label}: {chart.y.text(each.value)}." for each in chart.levels if each.label),
        *(f"{each.label}: {each.value:g}." for each in chart.moments if each.label),
    )


def _listed(chart: Chart, x: Axis) -> Table:
    """A row for each number of each series."""
    rows = (
        Row((each.label, x.place(place), cell))
        for each in chart.series
        for place, cell in zip(each.at, _cells(chart, each, each.at), strict=True)
    )
    return Table(
        title=chart.title,
        columns=(Column("", align="left"), Column(x.heading), Column(chart.y.label)),
        rows=tuple(rows),
        footnotes=_explained(chart),
    )


def _place(chart: Chart, place: str | float) -> str:
    """A row's name, or a place on the x axis."""
    if isinstance(place, str) or chart.x is None:
        return str(place)
    return chart.x.place(place)


def _cells(chart: Chart, series: Series, places: Sequence[str | float]) -> Iterator[str]:
    """A series' number at each place, with its interval where it has one."""
    own: Sequence[str | float] = chart.rows or series.at
    known = {place: index for index, place in enumerate(own)}
    for place in places:
        index = known.get(place)
        if index is None or isnan(series.values[index]):
            yield "-"
            continue
        ends = series.intervals[index] if series.intervals else None
        said = chart.y.text(series.values[index])
        yield said if ends is None else f"{said} ({ends[0]:.4g} .. {ends[1]:.4g})"
