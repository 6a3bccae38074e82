"""Draw charts of cells in rows and columns: the deeper a colour, the larger the number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spiking_resnet.report.block import Chart
from spiking_resnet.report.inks import COLOURS, Inks, safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL = 0.27  # inches
_NUMBERED = 24  # columns of cells that have room for their numbers
_DEEP = 0.6  # from here on numbers are written on the colour as on a dark page


def panels(charts: Sequence[Chart], figure: "Figure") -> "Sequence[Axes]":
    """The axes of charts side by side that share their rows, in a figure of the size they need."""
    rows, columns = len(charts[0].rows), max(len(chart.series) for chart in charts)
    side = max(1.6, _CELL * columns)
    names = 0.075 * max(map(len, charts[0].rows), default=0)
    figure.set_size_inches(len(charts) * (side + 0.2) + names + 0.4, _CELL * rows + names + 0.6)
    figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.04)
    return list(figure.subplots(1, len(charts), sharey=True, squeeze=False)[0])


def draw(charts: Sequence[Chart], panels: "Sequence[Axes]", inks: Inks) -> None:
    """Draw each chart on its axes; its title stands above it."""
    for chart, axes in zip(charts, panels, strict=True):
        _cells(chart, axes, inks)
        columns = [safe(each.label) for each in chart.series]
        axes.set_xticks(range(len(columns)), columns, fontsize=7, rotation=90)
        axes.set_xlabel(safe(chart.x.label if chart.x else ""))
        axes.set_title(safe(chart.title), loc="left", fontsize=9, color=inks.text)
        axes.tick_params(length=0, left=False)
    rows = charts[0].rows
    panels[0].set_yticks(range(len(rows)), [safe(name) for name in rows], fontsize=7)
    panels[0].set_ylabel(safe(charts[0].side))


def _cells(chart: Chart, axes: "Axes", inks: Inks) -> None:
    """The colours, and the numbers where they have room; nothing in a cell of 0."""
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("cells", [COLOURS[0], inks.paper, COLOURS[1]])
    values = [[each.values[place] for each in chart.series] for place in range(len(chart.rows))]
    shades = [chart.shades(place) for place in range(len(chart.rows))]
    axes.imshow(shades, cmap=scale, vmin=-1, vmax=1, aspect="equal", interpolation="nearest")
    if len(chart.series) > _NUMBERED:
        return
    for place, row in enumerate(values):
        for column, value in enumerate(row):
            deep = abs(shades[place][column]) >= _DEEP
            if value:
                axes.text(
                    column, place, f"{value:g}", ha="center", va="center", fontsize=6,
                    color="#FFFFFF" if deep else inks.text,
                )  # fmt: skip
