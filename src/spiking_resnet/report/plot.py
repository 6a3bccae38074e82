"""Figures of curves, for papers."""

import io
from collections.abc import Mapping
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
    Raises InputError for no curves or another suffix, OSError where the file cannot be written.
    """
    path = check_path(path)
    if not curves:
        raise InputError("there are no curves to plot: give at least one")
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
    low, high = ([100 * point.interval[end] for point in curve.points] for end in (0, 1))
    if len(steps) > 1:
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        steps,
        [100 * point.accuracy for point in curve.points],
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
    found = {name: c.ann_accuracy for name, c in curves.items() if c.ann_accuracy is not None}
    shared = len(set(found.values())) == 1 and len(found) == len(curves)
    for index, name in enumerate(curves):
        if name not in found or (shared and index > 0):
            continue
        label = "ANN" if shared else f"ANN of {name}"
        axes.axhline(
            100 * found[name],
            color="#444444" if shared else COLOURS[index % len(COLOURS)],
            linewidth=1.0,
            linestyle=(0, (4, 2)),
            label=f"{label} ({100 * found[name]:.1f} %)",
        )


def _dress(axes: "Axes", curves: Mapping[str, Curve], title: str) -> None:
    """Scales, ticks, labels and legend."""
    steps = sorted({point.steps for curve in curves.values() for point in curve.points})
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    axes.set_xticks(_apart(steps), [str(step) for step in _apart(steps)])
    axes.set_xlim(steps[0] / 1.15, steps[-1] * 1.15)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, min(top, 100.5) if top > 100 else top)
    axes.set_xlabel("Time steps T")
    axes.set_ylabel("Accuracy (%)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(width=0.7, length=3, color="#333333")
    if title:
        axes.set_title(title, loc="left", fontsize=9)
    _explain(axes, banded=len(steps) > 1)


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
