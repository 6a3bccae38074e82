"""Render the charts of a report as figures for papers (PNG, SVG, PDF)."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiking_resnet.printable import printable
from spiking_resnet.records import InputError
from spiking_resnet.report.block import Axis, Chart, Report, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LIGHT, DARK, INK = "#BBBBBB", "#444444", "#333333"
MARKERS = "osD^vP*"
STYLE: Any = {  # matplotlib's own type lists its 300 names
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "spiking-resnet",
    "pdf.fonttype": 42,
}
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # the same bytes every time
_TALL = 0.19  # inches a row of bars


def check_path(path: str | Path) -> Path:
    """The path of a figure; InputError unless its suffix names a format."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a figure's name ends in {', '.join(SUFFIXES)}")
    return path


def renderer(form: str) -> Callable[[Report], bytes]:
    """`render` for one format."""
    return lambda blocks: render(blocks, form)


def render(blocks: Report, form: str) -> bytes:
    """The charts among some blocks, side by side, in the format png, svg or pdf.

    Raises InputError for no charts, and for several that do not share their rows.
    """
    charts = [block for block in blocks if isinstance(block, Chart)]
    if not charts:
        raise InputError("there is no chart to draw: give at least one")
    if len({(chart.kind, chart.rows) for chart in charts}) > 1:
        raise InputError("these charts do not share a figure: draw them one by one")
    from matplotlib import rc_context

    drawn = io.BytesIO()
    with rc_context(STYLE):
        draw = _lines if charts[0].kind == "lines" else _bars
        draw(charts).savefig(drawn, format=form, metadata=_UNDATED.get(form))
    return drawn.getvalue()


def _lines(charts: Sequence[Chart]) -> "Figure":
    from matplotlib.figure import Figure

    most = max(len(chart.named_series[0]) for chart in charts)
    below = (most + 3) // 2 if most > 2 else 0  # rows of a legend below the axes
    figure = Figure(figsize=(4.5 * len(charts), 3.0 + 0.2 * below), dpi=300)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)  # inches
    for number, chart in enumerate(charts, 1):
        axes = figure.add_subplot(1, len(charts), number)
        named, others = chart.named_series
        for place, series in enumerate(others):
            label = f"{len(others)} others" if place == 0 else "_"
            axes.plot(series.at, series.values, color=LIGHT, linewidth=0.8, label=label, zorder=2)
        for index, series in named:
            _line(axes, series, index)
        for level in chart.levels:
            axes.axhline(
                level.value,
                color=_colour(level.tone, DARK),
                linewidth=1.0,
                linestyle=(0, (4, 2)),
                label=_safe(_level(level.label, level.value, chart.y)) if level.label else None,
            )
        for moment in chart.moments:
            axes.axvline(moment.value, color=DARK, linewidth=0.7, linestyle=(0, (1, 2)))
        _dress_lines(axes, chart)
    return figure


def _line(axes: "Axes", series: Series, index: int) -> None:
    """One series and the band of its intervals."""
    colour = _colour(series.tone, DARK)
    known = zip(series.at, series.intervals, strict=False)
    bands = [(place, *ends) for place, ends in known if ends is not None]
    if len(bands) > 1:
        places, low, high = zip(*bands, strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        series.at,
        series.values,
        color=colour,
        marker=MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
        markersize=4,
        linewidth=1.4,
        linestyle=("-", ":", "-.")[index // len(COLOURS) % 3],
        label=_safe(series.label),
        zorder=3,
    )


def _dress_lines(axes: "Axes", chart: Chart) -> None:
    """Scales, ticks, labels and legend."""
    places = sorted({place for series in chart.series for place in series.at})
    if chart.x is not None:
        if chart.x.scale == "log2" and places:
            axes.set_xscale("log", base=2)
            axes.minorticks_off()
            ticks = _apart([place for place in places if place == int(place)] or places)
            axes.set_xticks(ticks, [chart.x.place(place) for place in ticks])
            axes.set_xlim(places[0] / 1.15, places[-1] * 1.15)
        axes.set_xlabel(_safe(chart.x.heading))
    bottom, top = axes.get_ylim()
    if chart.y.bounds is not None and top > chart.y.bounds[1]:
        low, high = chart.y.bounds
        axes.set_ylim(bottom, min(top, high + (high - low) / 200))
    else:
        axes.set_ylim(bottom, top)
    axes.set_ylabel(_safe(chart.y.heading))
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(width=0.7, length=3, color=INK)
    if chart.title:
        axes.set_title(_safe(chart.title), loc="left", fontsize=9)
    _explain(axes, chart.intervals if len(places) > 1 else "")


def _explain(axes: "Axes", intervals: str) -> None:
    """The legend: what was labelled, and what the bands are."""
    from matplotlib.patches import Patch

    handles, labels = axes.get_legend_handles_labels()
    if intervals:
        handles.append(Patch(color="#000000", alpha=0.12, linewidth=0))
        labels.append(_safe(intervals))
    if len(handles) <= 4:
        axes.legend(handles, labels, frameon=False, loc="lower right", handlelength=2.4)
    else:  # below the axes, where it hides nothing
        axes.legend(
            handles,
            labels,
            frameon=False,
            loc="upper center",
            bbox_to_anchor=(0.45, -0.2),
            ncols=2,
            handlelength=2.4,
            columnspacing=1.2,
        )


def _bars(charts: Sequence[Chart]) -> "Figure":
    """Panels that share their rows; the first chart's title stands above, its labels below."""
    from matplotlib.figure import Figure

    rows = charts[0].rows
    figure = Figure(figsize=(6.5, 1.3 + _TALL * len(rows)), dpi=300)
    figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)  # inches
    ratios = [chart.width for chart in charts]
    panels = figure.subplots(1, len(charts), sharey=True, width_ratios=ratios, squeeze=False)[0]
    for axes, chart in zip(panels, charts, strict=True):
        _panel(axes, chart)
        axes.tick_params(left=axes is panels[0])
    panels[0].set_yticks(range(len(rows)), [_safe(name) for name in rows], fontsize=7)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, loc="outside lower center", ncols=5, fontsize=8,
        handlelength=1.0, columnspacing=1.2,
    )  # fmt: skip
    if charts[0].title:
        figure.suptitle(_safe(charts[0].title), x=0.01, ha="left", fontsize=9)
    return figure


def _panel(axes: "Axes", chart: Chart) -> None:
    """The bars of one chart, and its line through them."""
    places = range(len(chart.rows))
    stacked = any(series.starts for series in chart.series)
    height = 0.72 if stacked else 0.72 / len(chart.series)
    for index, series in enumerate(chart.series):
        starts = series.starts or [0.0 for _ in places]
        middle = 0.0 if stacked else height * (index - (len(chart.series) - 1) / 2)
        axes.barh(
            [place + middle for place in places],
            series.values,
            left=starts,
            height=height,
            color=_colour(series.tone, LIGHT),
            label=_safe(series.label),
        )
    for level in chart.levels:
        axes.axvline(level.value, color=INK, linewidth=0.7)
    if chart.line is not None:
        axes.plot(chart.line.values, places, color=INK, linewidth=0.9, zorder=3)
        low, high = axes.dataLim.intervalx
        axes.set_xlim(low - 0.04 * (high - low) - 0.1, high + 0.02 * (high - low) + 0.1)
    axes.set_xlabel(_safe(chart.y.heading))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(width=0.7, length=3, color=INK)


def _colour(tone: int | None, grey: str) -> str:
    return grey if tone is None else COLOURS[tone % len(COLOURS)]


def _level(label: str, value: float, axis: Axis) -> str:
    """What a level is called in a legend."""
    return f"{label} ({value:.1f} %)" if axis.unit == "%" else f"{label} ({value:.3g})"


def _safe(text: str) -> str:
    """Text as matplotlib draws it: no formulas, no control characters, and in legends too."""
    plain = printable(text).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def _apart(places: Sequence[float]) -> list[float]:
    """The places whose labels do not run into each other on a logarithmic axis; the last stays."""
    span = places[-1] / places[0]
    room = max(1.0, span) ** (1 / 14)  # at most about 14 labels fit
    kept = [places[-1]]
    for place in reversed(places[:-1]):
        if place * room <= kept[0]:
            kept.insert(0, place)
    return kept
