"""Figures of curves, for papers."""

import io
from collections.abc import Mapping
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiking_resnet.files import write_whole
from spiking_resnet.records import Curve, InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
STYLE: Any = {  # matplotlib's own type lists its 300 names
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#333333",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


def plot(curves: Mapping[str, Curve], path: str | Path, title: str = "") -> None:
    """Nothing; `path` (.png, .svg or .pdf) holds accuracy against time steps, one line a curve.

    curves: by label. The bands are 95 % Wilson intervals, dashed lines the artificial networks.
    Of curves of the metric "mse" it is the mean squared error, without bands.
    Raises InputError for no curves, for such of several metrics, or another suffix, OSError where
    the file cannot be written.
    """
    path = check_path(path)
    if not curves:
        raise InputError("there are no curves to plot: give at least one")
    if len({curve.metric == "mse" for curve in curves.values()}) > 1:
        raise InputError("accuracies and errors do not share an axis: plot them one by one")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        rows = (len(curves) + 3) // 2 if len(curves) > 2 else 0  # of a legend below the axes
        figure = Figure(figsize=(4.5, 3.0 + 0.2 * rows), dpi=300)
        figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)  # inches
        axes = figure.add_subplot()
        for index, (label, curve) in enumerate(curves.items()):
            _draw(axes, label, curve, index)
        _draw_ann(axes, curves)
        _dress(axes, curves, title)
        save(figure, path)


def save(figure: "Figure", path: Path) -> None:
    """Nothing; `path` holds the figure, or is as it was (OSError)."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:].lower())
    write_whole(path, drawn.getvalue())


def check_path(path: str | Path) -> Path:
    """The path of a figure; InputError unless its suffix names a format."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a figure's name ends in {', '.join(SUFFIXES)}")
    return path


def _draw(axes: "Axes", label: str, curve: Curve, index: int) -> None:
    """One curve and its band."""
    colour = COLOURS[index % len(COLOURS)]
    steps = [point.steps for point in curve.points]
    bands = [point.interval for point in curve.points if point.interval is not None]
    if len(bands) > 1:
        low, high = ([100 * band[end] for band in bands] for end in (0, 1))
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        steps,
        [_height(point.accuracy, point.error) for point in curve.points],
        color=colour,
        marker=MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
        markersize=4,
        linewidth=1.4,
        linestyle=("-", ":", "-.")[index // len(COLOURS) % 3],
        label=label,
        zorder=3,
    )


def _draw_ann(axes: "Axes", curves: Mapping[str, Curve]) -> None:
    """A dashed line for each artificial network's accuracy: one, in grey, if all share it."""
    known = {name: _height(c.ann_accuracy, c.ann_error) for name, c in curves.items()}
    found = {name: height for name, height in known.items() if not isnan(height)}
    shared = len(set(found.values())) == 1 and len(found) == len(curves)
    for index, name in enumerate(curves):
        if name not in found or (shared and index > 0):
            continue
        label, height = "ANN" if shared else f"ANN of {name}", found[name]
        axes.axhline(
            height,
            color="#444444" if shared else COLOURS[index % len(COLOURS)],
            linewidth=1.0,
            linestyle=(0, (4, 2)),
            label=f"{label} ({height:.1f} %)" if _shares(curves) else f"{label} ({height:.3g})",
        )


def _dress(axes: "Axes", curves: Mapping[str, Curve], title: str) -> None:
    """Scales, ticks, labels and legend."""
    steps = sorted({point.steps for curve in curves.values() for point in curve.points})
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    axes.set_xticks(_apart(steps), [str(step) for step in _apart(steps)])
    axes.set_xlim(steps[0] / 1.15, steps[-1] * 1.15)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, min(top, 100.5) if top > 100 and _shares(curves) else top)
    axes.set_xlabel("Time steps T")
    axes.set_ylabel("Accuracy (%)" if _shares(curves) else "Mean squared error")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(width=0.7, length=3, color="#333333")
    if title:
        axes.set_title(title, loc="left", fontsize=9)
    _explain(axes, banded=len(steps) > 1 and _shares(curves))


def _height(accuracy: float | None, error: float | None) -> float:
    """Where a point lies: its accuracy in percent, or its error; NaN where it has neither."""
    if accuracy is not None:
        return 100 * accuracy
    return nan if error is None else error


def _shares(curves: Mapping[str, Curve]) -> bool:
    """Whether the axis is of accuracies, in percent, and not of errors."""
    return all(curve.metric != "mse" for curve in curves.values())


def _explain(axes: "Axes", banded: bool) -> None:
    """The legend: what was labelled, and what the bands are."""
    from matplotlib.patches import Patch

    handles, labels = axes.get_legend_handles_labels()
    if banded:
        handles.append(Patch(color="#000000", alpha=0.12, linewidth=0))
        labels.append("95 % interval")
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


def _apart(steps: list[int]) -> list[int]:
    """The steps whose labels do not run into each other on a logarithmic axis; the last stays."""
    span = steps[-1] / steps[0]
    room = max(1.0, span) ** (1 / 14)  # at most about 14 labels fit
    kept = [steps[-1]]
    for step in reversed(steps[:-1]):
        if step * room <= kept[0]:
            kept.insert(0, step)
    return kept
