"""Render the charts of a report as figures for papers (PNG, SVG, PDF)."""

import io
import warnings
from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiking_resnet.records import InputError
from spiking_resnet.report import heat
from spiking_resnet.report.block import Axis, Chart, Report, Series
from spiking_resnet.report.inks import ON_DARK, ON_LIGHT, STYLE, Inks, safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
MARKERS = "osD^vP*"
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
    from matplotlib.figure import Figure

    drawn = io.BytesIO()
    with rc_context(STYLE):
        figure = Figure(dpi=300)
        _draw(charts, _panels(charts, figure), ON_LIGHT, figure)
        with warnings.catch_warnings():  # names may have characters that no font here has
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            figure.savefig(drawn, format=form, metadata=_UNDATED.get(form))
    return drawn.getvalue()


def plot(
    charts: Sequence[Chart], ax: "Axes | Sequence[Axes] | None", dark: bool, transparent: bool
) -> "Axes | tuple[Axes, ...]":
    """Draw charts that share a figure; the axes, a tuple of them where there are several charts.

    ax: what to draw on; None for a new figure of pyplot's. Raises InputError for other axes than
    charts.
    """
    from matplotlib import pyplot, rc_context

    inks = ON_DARK if dark else ON_LIGHT
    given = _given(ax, len(charts))
    with rc_context(STYLE):
        figure = None if given else pyplot.figure()
        panels = given if figure is None else _panels(charts, figure)
        _draw(charts, panels, inks, figure)
        for axes in panels:
            axes.set_facecolor("none" if transparent else inks.paper)
        if figure is not None:
            figure.set_facecolor("none" if transparent else inks.paper)
    return panels[0] if len(panels) == 1 else tuple(panels)


def _given(ax: Any, charts: int) -> "Sequence[Axes]":
    """The axes that a user gave, one for each chart."""
    from matplotlib.axes import Axes

    if ax is None:
        return ()
    found = [ax] if isinstance(ax, Axes) else list(getattr(ax, "flat", ax))
    if len(found) != charts or not all(isinstance(each, Axes) for each in found):
        wanted = "one matplotlib axes" if charts == 1 else f"{charts} matplotlib axes"
        raise InputError(f"ax is not what this is drawn on: give {wanted}, or None")
    return found


def _panels(charts: Sequence[Chart], figure: "Figure") -> "Sequence[Axes]":
    """The axes of charts side by side in a figure of the size that they need."""
    rows, kind = charts[0].rows, charts[0].kind
    if kind == "cells":
        return heat.panels(charts, figure)
    if kind == "lines":
        most = max(len(chart.named_series[0]) for chart in charts)
        below = (most + 3) // 2 if most > 2 else 0  # rows of a legend below the axes
        figure.set_size_inches(4.5 * len(charts), 3.0 + 0.2 * below)
        figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)  # inches
        return list(figure.subplots(1, len(charts), squeeze=False)[0])
    figure.set_size_inches(6.5, 1.3 + _TALL * len(rows))
    figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)
    ratios = [chart.width for chart in charts]
    return list(figure.subplots(1, len(charts), sharey=True, width_ratios=ratios, squeeze=False)[0])


def _draw(
    charts: Sequence[Chart], panels: "Sequence[Axes]", inks: Inks, figure: "Figure | None"
) -> None:
    """Draw each chart on its axes. figure: theirs, where it holds nothing else."""
    if charts[0].kind == "lines":
        for chart, axes in zip(charts, panels, strict=True):
            _lines(chart, axes, inks)
    elif charts[0].kind == "cells":
        heat.draw(charts, panels, inks)
    else:
        _bars(charts, panels, inks, figure)
    for axes in panels:
        _tint(axes, inks)


def _tint(axes: "Axes", inks: Inks) -> None:
    """Give frame, ticks and texts their colours."""
    for side in ("left", "bottom"):
        axes.spines[side].set_edgecolor(inks.frame)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(width=0.7, length=3, color=inks.frame, labelcolor=inks.text)
    legend = axes.get_legend()
    texts = [axes.xaxis.label, axes.yaxis.label, *(legend.get_texts() if legend else ())]
    for text in texts:
        text.set_color(inks.text)


def _lines(chart: Chart, axes: "Axes", inks: Inks) -> None:
    """The lines of one chart."""
    named, others = chart.named_series
    for place, series in enumerate(others):
        label = safe(_called(others)) if place == 0 else "_"
        axes.plot(series.at, series.values, color=inks.faint, linewidth=0.8, label=label, zorder=2)
    for index, series in named:
        _line(axes, series, index, inks)
    if chart.line is not None:
        axes.plot(
            chart.line.at,
            chart.line.values,
            color=inks.strong,
            linewidth=3.0,
            alpha=0.25,
            drawstyle="steps-post",
            label=safe(chart.line.label),
            zorder=1.5,
        )
    for level in chart.levels:
        axes.axhline(
            level.value,
            color=inks.tone(level.tone, inks.strong),
            linewidth=1.0,
            linestyle=(0, (4, 2)),
            label=safe(_level(level.label, level.value, chart.y)) if level.label else None,
        )
    for moment in chart.moments:
        axes.axvline(moment.value, color=inks.strong, linewidth=0.7, linestyle=(0, (1, 2)))
    _dress_lines(axes, chart, inks)


def _called(others: Sequence[Series]) -> str:
    """What a legend calls the grey lines."""
    return others[0].label if len(others) == 1 else f"{len(others)} others"


def _line(axes: "Axes", series: Series, index: int, inks: Inks) -> None:
    """One series and the band of its intervals, or the bar of an only one."""
    colour = inks.tone(series.tone, inks.strong)
    known = zip(series.at, series.intervals, strict=False)
    bands = [(place, *ends) for place, ends in known if ends is not None]
    if len(bands) > 1:
        places, low, high = zip(*bands, strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    elif bands:
        axes.vlines(*bands[0], color=colour, alpha=0.5, linewidth=1.4)
    axes.plot(
        series.at,
        series.values,
        color=colour,
        marker=MARKERS[(index + index // len(MARKERS)) % len(MARKERS)],
        markersize=4,
        linewidth=1.4,
        linestyle=("-", ":", "-.")[index // len(MARKERS) % 3],
        label=safe(series.label),
        zorder=3,
    )


def _dress_lines(axes: "Axes", chart: Chart, inks: Inks) -> None:
    """Scales, ticks, labels and legend."""
    places = sorted({place for series in chart.series for place in series.at})
    if chart.x is not None:
        if chart.x.scale == "log2" and places:
            axes.set_xscale("log", base=2)
            axes.minorticks_off()
            ticks = _rounded(places) if chart.x.counts else places
            ticks = _apart([place for place in ticks if place == int(place)] or ticks)
            axes.set_xticks(ticks, [_tick(chart.x, place) for place in ticks])
            axes.set_xlim(places[0] / 1.15, places[-1] * 1.15)
        axes.set_xlabel(safe(chart.x.heading))
    bottom, top = axes.get_ylim()
    if chart.y.bounds is not None and top > chart.y.bounds[1]:
        low, high = chart.y.bounds
        axes.set_ylim(bottom, min(top, high + (high - low) / 200))
    else:
        axes.set_ylim(bottom, top)
    axes.set_ylabel(safe(chart.y.heading))
    axes.grid(axis="y", color=inks.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    if chart.title:
        axes.set_title(safe(chart.title), loc="left", fontsize=9, color=inks.text)
    _explain(axes, chart.intervals, inks)


def _explain(axes: "Axes", intervals: str, inks: Inks) -> None:
    """The legend: what was labelled, and what the bands are."""
    from matplotlib.patches import Patch

    handles, labels = axes.get_legend_handles_labels()
    if intervals:
        handles.append(Patch(color=inks.text, alpha=0.12, linewidth=0))
        labels.append(safe(intervals))
    if len(handles) <= 4:
        axes.legend(handles, labels, frameon=False, loc="best", handlelength=2.4)
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


def _bars(
    charts: Sequence[Chart], panels: "Sequence[Axes]", inks: Inks, figure: "Figure | None"
) -> None:
    """Panels that share their rows; the first chart's title stands above, its labels below."""
    rows = charts[0].rows
    for axes, chart in zip(panels, charts, strict=True):
        _panel(axes, chart, inks)
        axes.tick_params(left=axes is panels[0])
    panels[0].set_yticks(range(len(rows)), [safe(name) for name in rows], fontsize=7)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    handles, labels = panels[0].get_legend_handles_labels()
    looks: Any = {"frameon": False, "fontsize": 8, "handlelength": 1.0, "columnspacing": 1.2}
    if figure is None:
        panels[0].legend(handles, labels, **looks)
    else:
        looks |= {"ncols": 5, "labelcolor": inks.text}
        figure.legend(handles, labels, loc="outside lower center", **looks)
    title = charts[0].title
    if title and figure is not None:
        figure.suptitle(safe(title), x=0.01, ha="left", fontsize=9, color=inks.text)
    elif title:
        panels[0].set_title(safe(title), loc="left", fontsize=9, color=inks.text)


def _panel(axes: "Axes", chart: Chart, inks: Inks) -> None:
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
            color=inks.tone(series.tone, inks.faint),
            label=safe(series.label),
        )
    for level in chart.levels:
        axes.axvline(level.value, color=inks.frame, linewidth=0.7)
    if chart.line is not None:
        axes.plot(chart.line.values, places, color=inks.frame, linewidth=0.9, zorder=3)
        low, high = axes.dataLim.intervalx
        axes.set_xlim(low - 0.04 * (high - low) - 0.1, high + 0.02 * (high - low) + 0.1)
    axes.set_xlabel(safe(chart.y.heading))
    axes.grid(axis="x", color=inks.grid, linewidth=0.6)
    axes.set_axisbelow(True)


def _level(label: str, value: float, axis: Axis) -> str:
    """What a level is called in a legend."""
    told = axis.text(value) if axis.unit == "%" else f"{value:.3g}"
    return f"{label} ({told})"


def _rounded(places: Sequence[float]) -> Sequence[float]:
    """Round numbers between the least and the most of some places; these where there are few."""
    low, high = places[0] / 1.1, places[-1] * 1.1
    powers = range(floor(log10(low)), ceil(log10(high)) + 1) if low > 0 else ()
    found = [part * 10.0**power for power in powers for part in (1, 2, 5)]
    kept = [place for place in found if low <= place <= high]
    return kept if len(kept) > 1 else places


def _tick(axis: Axis, place: float) -> str:
    """A place on an axis without the zeros that say nothing."""
    number, space, unit = axis.place(place).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{space}{unit}"


def _apart(places: Sequence[float]) -> list[float]:
    """The places whose labels do not run into each other on a logarithmic axis; the last stays."""
    span = places[-1] / places[0]
    room = max(1.0, span) ** (1 / 14)  # at most about 14 labels fit
    kept = [places[-1]]
    for place in reversed(places[:-1]):
        if place * room <= kept[0]:
            kept.insert(0, place)
    return kept
