"""The figure of a diagnosis: what every population's error consists of, and what it costs."""

from pathlib import Path
from typing import TYPE_CHECKING

from spiking_resnet.evaluation.diagnose import CONTRIBUTIONS, Diagnosis
from spiking_resnet.report.plot import COLOURS, STYLE, check_path, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOUR = dict(zip(CONTRIBUTIONS, ("#BBBBBB", *COLOURS[3:4], *COLOURS[:3]), strict=True))
_TALL = 0.19  # inches a population


def plot_diagnosis(diagnosis: Diagnosis, path: str | Path, title: str = "") -> None:
    """Nothing; `path` (.png, .svg or .pdf) holds two panels with a row for each population.

    Left: the error (root mean square, in % of the activations'), cut by what each contribution has
    of its square; what works against the others stands left of zero. Right: the agreement with the
    artificial network that is left after each population. Raises InputError for another suffix,
    OSError where the file cannot be written.
    """
    path = check_path(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        rows = len(diagnosis.layers)
        figure = Figure(figsize=(6.5, 1.3 + _TALL * rows), dpi=300)
        figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)  # inches
        errors, decisions = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _stack(errors, diagnosis)
        _agreements(decisions, diagnosis)
        errors.set_yticks(range(rows), [layer.name for layer in diagnosis.layers], fontsize=7)
        errors.set_ylim(rows - 0.4, -0.6)  # the first population on top
        handles, labels = errors.get_legend_handles_labels()
        figure.legend(
            handles, labels, frameon=False, loc="outside lower center", ncols=5, fontsize=8,
            handlelength=1.0, columnspacing=1.2,
        )  # fmt: skip
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        save(figure, path)


def _stack(axes: "Axes", diagnosis: Diagnosis) -> None:
    """Bars of the errors, cut by their contributions' shares; negative ones left of zero."""
    rows = range(len(diagnosis.layers))
    ends = {+1: [0.0 for _ in rows], -1: [0.0 for _ in rows]}
    for name in CONTRIBUTIONS:
        widths = [100 * layer.rms * layer.parts[name].share for layer in diagnosis.layers]
        starts = []
        for row, width in enumerate(widths):
            end = ends[+1 if width >= 0 else -1]
            starts.append(end[row])
            end[row] += width
        axes.barh(rows, widths, left=starts, height=0.72, color=_COLOUR[name], label=name)
    axes.axvline(0, color="#333333", linewidth=0.7)
    axes.set_xlabel("error (% of the activations' r.m.s.)")
    _dress(axes)


def _agreements(axes: "Axes", diagnosis: Diagnosis) -> None:
    """The agreement after each population, and what each contribution took from it."""
    before = 1.0
    for row, layer in enumerate(diagnosis.layers):
        for name in CONTRIBUTIONS:
            after = before - layer.parts[name].lost
            width = 100 * (after - before)
            axes.barh(row, width, left=100 * before, height=0.72, color=_COLOUR[name])
            before = after
    agreements = [100 * layer.agreement for layer in diagnosis.layers]
    axes.plot(agreements, range(len(agreements)), color="#333333", linewidth=0.9, zorder=3)
    low, high = axes.dataLim.intervalx
    axes.set_xlim(low - 0.04 * (high - low) - 0.1, high + 0.02 * (high - low) + 0.1)
    axes.set_xlabel("agreement with the ANN (%)")
    axes.tick_params(left=False)
    _dress(axes)


def _dress(axes: "Axes") -> None:
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(width=0.7, length=3, color="#333333")
