"""Render the blocks of a report as HTML that is read without a script, or seen at all.

Tables have captions and headings with a scope; a chart is a figure with a legend and its numbers as
a table. Text out of files is escaped wherever it stands, in attributes and in JSON too.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from html import escape
from math import isnan
from typing import Any

from spiking_resnet.printable import printable
from spiking_resnet.report.block import (
    Alternatives,
    Axis,
    Block,
    Chart,
    Choice,
    Column,
    Level,
    Picture,
    Report,
    Row,
    Series,
    Table,
    Terms,
    Text,
)
from spiking_resnet.report.markdown import as_table
from spiking_resnet.report.rails import Rails

Draw = Callable[[Chart], str]
TONES = 7  # colours of the palette, and shapes of markers
_MARKERS = (  # the shapes of a chart's markers, told apart without colours, in a box of 12 by 12
    '<circle cx="6" cy="6" r="4.5"/>',
    '<rect x="2" y="2" width="8" height="8"/>',
    '<path d="M6 0.5 11.5 6 6 11.5 0.5 6z"/>',
    '<path d="M6 1 11.5 10.5H0.5z"/>',
    '<path d="M4 0.5h4v3.5h3.5v4H8v3.5H4V8H0.5V4H4z"/>',
    '<path d="M6 0l1.6 4.1 4.4.3-3.4 2.8 1.1 4.3L6 9.1l-3.7 2.4 1.1-4.3L0 4.4l4.4-.3z"/>',
    '<path d="M6 0.8 10.6 3.4V8.6L6 11.2 1.4 8.6V3.4z"/>',
)


def plain(value: str, keep: str = "") -> str:
    """Text on one line, for content and attributes."""
    return escape(printable(value, keep))


def script_json(content: Any) -> str:
    """JSON that nothing in it can end or comment out where it stands in a script element."""
    found = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return found.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def fragment(blocks: Report, level: int = 2, draw: Draw | None = None) -> str:
    """Blocks as HTML. level: of the highest heading. draw: what stands in a chart's figure, beside
    its legend and its numbers; None: data for the page's script.
    """
    return "\n".join(_joined(blocks, level, draw or for_script))


def _joined(blocks: Report, level: int, draw: Draw) -> Iterator[str]:
    """The blocks; remarks that follow one another are one list."""
    remarks: list[str] = []
    for block in blocks:
        if isinstance(block, Text) and block.kind == "remark":
            remarks.append(f"<li>{plain(block.text)}</li>")
            continue
        yield from _list(remarks)
        remarks = []
        yield from _parts(block, level, draw)
    yield from _list(remarks)


def _list(remarks: list[str]) -> Iterator[str]:
    if remarks:
        yield f'<ul class="remarks">{"".join(remarks)}</ul>'


def _parts(block: Block, level: int, draw: Draw) -> Iterator[str]:
    match block:
        case Text():
            if block.text:
                yield _text(block, level)
        case Terms():
            items = (f"<dt>{plain(name)}</dt><dd>{plain(what)}</dd>" for name, what in block.items)
            yield f"<dl>{''.join(items)}</dl>"
        case Table(folded=True):
            summary = f"<summary>{plain(block.title)}</summary>"
            yield f"<details>{summary}{_table(replace(block, title=''))}</details>"
        case Table():
            yield _table(block)
        case Chart():
            yield _figure(block, draw)
        case Picture():
            yield picture(block)
        case Choice():
            yield _choice(block, level, draw)
        case Alternatives():
            yield fragment(block.choices[0], level, draw)


def _text(block: Text, level: int) -> str:
    match block.kind:
        case "title":
            return f"<h{level}>{plain(block.text)}</h{level}>"
        case "heading":
            return f"<h{level + 1}>{plain(block.text)}</h{level + 1}>"
        case "command" | "code":
            return f'<pre tabindex="0"><code>{plain(block.text, keep=chr(10))}</code></pre>'
        case _:
            return f"<p>{plain(block.text, keep=chr(10)).replace(chr(10), '<br>')}</p>"


def _table(table: Table) -> str:
    joined = sum(not row.ruled for row in table.rows)  # what is below a line is a sum of them
    rails = Rails(joined, table.links) if table.links else None
    body = "".join(_row(table, place, row, rails) for place, row in enumerate(table.rows))
    named = plain(table.title or ", ".join(column.heading for column in table.columns))
    caption = f"<caption>{plain(table.title)}</caption>" if table.title else ""
    said = plain(" ".join(filter(None, table.explanations)))
    note = f'<p class="note">{said}</p>' if said else ""
    return (
        f'<div class="scroll" role="region" aria-label="{named}" tabindex="0">'
        f"<table>{caption}<thead><tr>{''.join(map(_heading, table.columns))}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{note}"
    )


def _heading(column: Column) -> str:
    heading = plain(column.heading)
    note = f' title="{plain(column.note)}"' if column.note else ""
    return f'<th scope="col"{_aligned(column)}{note}>{heading}</th>'


def _aligned(column: Column) -> str:
    return ' class="number"' if column.align == "right" else ""


def _row(table: Table, place: int, row: Row, rails: Rails | None) -> str:
    kinds = " ".join((*([row.style] if row.style != "plain" else []), *["ruled"] * row.ruled))
    kind = f' class="{kinds}"' if kinds else ""
    cells = []
    for number, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
        inner = plain(cell)
        if number == 0:
            if rails and not row.ruled:
                inner = f'<span class="railed">{rails.drawn(place)}<span>{inner}</span></span>'
            cells.append(f'<th scope="row"{_aligned(column)}>{inner}</th>')
        else:
            bar = _bar(row.bars.get(number))
            inner = f'<span class="barred">{bar}<span>{inner}</span></span>' if bar else inner
            cells.append(f"<td{_aligned(column)}>{inner}</td>")
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _bar(share: float | None) -> str:
    """A bar that ends left of a cell's number."""
    if share is None or isnan(share):
        return ""
    width = 100 * min(1.0, max(0.0, share))
    return f'<span class="bar" aria-hidden="true"><i style="width:{width:.1f}%"></i></span>'


def _figure(chart: Chart, draw: Draw) -> str:
    """A chart with its legend, and its numbers as a table."""
    title = f"<figcaption>{plain(chart.title)}</figcaption>" if chart.title else ""
    if chart.kind == "cells":
        return f'<figure class="chart">{title}{_cells(chart)}</figure>'
    return (
        f'<figure class="chart">{title}{legend(chart)}{draw(chart)}'
        f"<details><summary>The numbers of this chart</summary>{_table(as_table(chart))}</details>"
        "</figure>"
    )


def _cells(chart: Chart) -> str:
    """Cells as a table whose colours say how large the numbers are."""
    head = "".join(_heading(Column(each.label)) for each in chart.series)
    rows = []
    for place, name in enumerate(chart.rows):
        values = [each.values[place] for each in chart.series]
        cells = "".join(map(_shaded, values, chart.shades(place)))
        rows.append(f'<tr><th scope="row">{plain(name)}</th>{cells}</tr>')
    of = f"{chart.side} / {chart.x.label}" if chart.x else chart.side
    return (
        f'<div class="scroll" role="region" aria-label="{plain(chart.y.heading)}" tabindex="0">'
        f'<table><thead><tr><th scope="col">{plain(of)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="note">{plain(chart.y.heading)}.</p>'
    )


def _shaded(value: float, shade: float) -> str:
    """A cell with its number; nothing in one of 0."""
    tone = "213, 94, 0" if shade > 0 else "0, 114, 178"
    style = f' style="background: rgba({tone}, {0.6 * abs(shade):.2f})"' if shade else ""
    return f'<td class="number"{style}>{f"{value:g}" if value else ""}</td>'


def legend(chart: Chart) -> str:
    """The names of a chart's series with their colours and markers, where there are several."""
    series = (*chart.series, *((chart.line,) if chart.line else ()))
    if len(series) < 2 and not chart.intervals:
        return ""
    lines = chart.kind == "lines"
    named, others = chart.named_series
    items = [
        f"<li>{_swatch(each, place if lines else 1)}{plain(each.label)}</li>"
        for place, each in named
    ]
    if others:
        items.append(f"<li>{_swatch(others[0], 1)}{len(others)} others</li>")
    if chart.line is not None:
        items.append(f'<li><span class="swatch line"></span>{plain(chart.line.label)}</li>')
    if chart.intervals:
        items.append(f'<li><span class="swatch band"></span>{plain(chart.intervals)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _swatch(series: Series, place: int) -> str:
    tone = "grey" if series.tone is None else str(series.tone % TONES)
    shape = _MARKERS[place % TONES]
    return f'<svg class="swatch tone-{tone}" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>'


def for_script(chart: Chart) -> str:
    """Where the page's script draws a chart, and what it draws."""
    said = f"{chart.title or chart.y.heading}: a chart; its numbers follow as a table"
    return (
        f'<div class="plot" role="img" aria-label="{plain(said)}"></div>'
        f'<script type="application/json">{script_json(chart_data(chart))}</script>'
    )


def chart_data(chart: Chart) -> dict[str, Any]:
    """A chart as JSON-able data, names as they are printed."""
    x = chart.x
    return {
        "kind": chart.kind,
        "y": {**_axis_data(chart.y), "bounds": chart.y.bounds},
        "x": None if x is None else _axis_data(x),
        "series": [_series_data(chart, each) for each in chart.series],
        "line": None if chart.line is None else _series_data(chart, chart.line),
        "rows": [printable(name) for name in chart.rows],
        "levels": [_level_data(each) for each in chart.levels],
        "moments": [_level_data(each) for each in chart.moments],
        "low": chart.low,
        "stacked": any(each.starts for each in chart.series),
    }  # fmt: skip


def _axis_data(axis: Axis) -> dict[str, Any]:
    """An axis; the unit of counts stands beside its numbers."""
    return {
        "label": printable(axis.label if axis.counts else axis.heading),
        "symbol": printable(axis.symbol),
        "scale": axis.scale,
        "counts": axis.counts,
        "unit": printable(axis.unit),
    }


def _level_data(level: Level) -> dict[str, Any]:
    return {
        "value": level.value,
        "label": printable(level.label),
        "tone": None if level.tone is None else level.tone % TONES,
    }


def _series_data(chart: Chart, series: Series) -> dict[str, Any]:
    places = range(len(series.values))
    return {
        "label": printable(series.label),
        "tone": None if series.tone is None else series.tone % TONES,
        "values": [None if isnan(value) else value for value in series.values],
        "texts": [chart.y.text(value) for value in series.values],
        "at": list(series.at),
        "places": [chart.x.place(place) for place in series.at] if chart.x else [],
        "intervals": [series.intervals[i] if series.intervals else None for i in places],
        "starts": list(series.starts) or [0.0 for _ in places],
    }


def picture(block: Picture) -> str:
    """An image that is part of the page."""
    below = f"<figcaption>{plain(block.caption)}</figcaption>" if block.caption else ""
    kind = ' class="exact"' if block.exact else ""
    source = f"data:image/png;base64,{b64encode(block.png).decode()}"
    image = f'<img{kind} src="{source}" alt="{plain(block.text)}">'
    return f'<figure class="picture">{image}{below}</figure>'


def _choice(block: Choice, level: int, draw: Draw) -> str:
    """Views below one another; a script shows one at a time."""
    options = "".join(f"<option>{plain(name)}</option>" for name, _ in block.views)
    views = "".join(_views(block.views, level, draw))
    asked = (
        f'<label class="chooser" hidden>{plain(block.label)} <select>{options}</select></label>'
        '<p class="unseen" aria-live="polite"></p>'
        if len(block.views) > 1
        else ""
    )
    return f'<div class="choice">{asked}{views}</div>'


def _views(views: Iterable[tuple[str, tuple[Block, ...]]], level: int, draw: Draw) -> Iterator[str]:
    for name, view in views:
        heading = f'<h{level + 1} class="view-name">{plain(name)}</h{level + 1}>'
        yield f'<section class="view">{heading}{fragment(view, level + 1, draw)}</section>'
