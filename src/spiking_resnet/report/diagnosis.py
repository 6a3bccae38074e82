"""A diagnosis as a table, and what to do about it in words."""

from typing import TYPE_CHECKING

from spiking_resnet.evaluation.diagnose import OWN, Diagnosis, LayerError
from spiking_resnet.report.table import cells, titled

if TYPE_CHECKING:
    from rich.table import Table

EXPLANATION = (
    "error: root mean square of rate - activation, in % of the activations'; mean: of the error. "
    "The four after them are a population's own doing, likewise in %. agreed: % of decisions, if "
    "the ANN goes on from the spiking network's rates in this population and all before; lost: "
    "what this one takes from it, in points."
)
_HEADINGS = ("error", "mean", "clipped", "quant.", "uneven", "weights", "agreed", "lost")
_SHOWN = ("clipping", "quantisation", "unevenness", "weights")
_MARKED = 3  # rows: those that cost most
_FEW = 10  # decisions: fewer say little about where they went

_CAUSES = {
    "weights": "what conversion did to the weights",
    "clipping": "clipping at the thresholds",
    "quantisation": "quantisation to whole spikes",
    "unevenness": "the uneven arrival of spikes",
}


def render(diagnosis: Diagnosis, title: str = "") -> "Table":
    """A rich table, a row for each population; those that cost most are marked."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(
        box=SIMPLE, title=titled(title), caption=EXPLANATION, caption_justify="left",
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("population", overflow="fold")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    marked = _worst_rows(diagnosis)
    for layer in diagnosis.layers:
        style = "bold red" if layer.name in marked else ""
        table.add_row(*cells(_row(layer, layer.name in marked)), style=style)
    return table


def _worst_rows(diagnosis: Diagnosis) -> set[str]:
    """The names of the populations that cost most decisions."""
    ranked = sorted(diagnosis.layers, key=lambda layer: -layer.lost)[:_MARKED]
    return {layer.name for layer in ranked if layer.lost > 0}


def _row(layer: LayerError, marked: bool) -> list[str]:
    parts = [_share(layer.parts[name].rms) for name in _SHOWN]
    mean = 100 * layer.mean / (layer.activation or 1.0)
    lost = f"{100 * layer.lost:+.1f}" if layer.lost else "0.0"
    return [
        f"{layer.name} <" if marked else layer.name,
        _share(layer.rms),
        f"{mean:+.1f}",
        *parts,
        f"{100 * layer.agreement:.1f}",
        lost.replace("+", ""),
    ]


def _share(fraction: float) -> str:
    """A fraction in percent, without decimals where it is large."""
    return f"{100 * fraction:.1f}" if fraction < 10 else f"{100 * fraction:.0f}"


def summary(diagnosis: Diagnosis) -> str:
    """The totals: what the network loses, and what each cause takes of it."""
    lost = 1 - diagnosis.agreement
    causes = sorted(OWN, key=lambda name: -diagnosis.lost(name))
    taken = ", ".join(f"{_CAUSES[name]} {100 * diagnosis.lost(name):.1f}" for name in causes)
    return (
        f"T = {diagnosis.steps}, {diagnosis.images:,} images: "
        f"accuracy {100 * diagnosis.accuracy:.2f} % (ANN {100 * diagnosis.ann_accuracy:.2f} %), "
        f"agreement {100 * diagnosis.agreement:.2f} %.\n"
        f"{100 * lost:.1f} points of agreement are lost: {taken}."
    )


def advice(diagnosis: Diagnosis) -> str:
    """One sentence: where most is lost, by what, and what this library can do about it."""
    decisions = round((1 - diagnosis.agreement) * diagnosis.images)
    few = decisions < _FEW
    name, by = diagnosis.largest if few else diagnosis.costliest
    remedies = "; or ".join(_remedies(diagnosis, by))
    part = next(layer for layer in diagnosis.layers if layer.name == name).parts[by]
    if few:
        return (
            f"{decisions} of {diagnosis.images:,} decisions differ, too few to say where they are "
            f"lost. The largest error of a population's own is {_CAUSES[by]}, at {name} "
            f"({_share(part.rms)} %). To reduce it: {remedies}."
        )
    return (
        f"Most is lost by {_CAUSES[by]} ({100 * diagnosis.lost(by):.1f} of "
        f"{100 * (1 - diagnosis.agreement):.1f} points), most of that at {name} "
        f"({100 * part.lost:.1f}). To reduce it: {remedies}."
    )


def _remedies(diagnosis: Diagnosis, by: str) -> list[str]:
    """What can be done about one cause that was not done already, best first."""
    options = diagnosis.notes.get("options", {})
    percentile = float(options.get("percentile", 100.0))
    longer = f"simulate longer (T = {2 * diagnosis.steps})"
    finer = [] if options.get("per_channel") else ["a threshold per channel (--per-channel)"]
    if by == "clipping":
        higher = [f"{p:g}" for p in (99.0, 99.9, 99.99, 99.999, 100.0) if p > percentile][:1]
        return [f"a higher percentile (--percentile {p})" for p in higher] + (finer or [longer])
    if by == "weights":
        return _undone(options) or ["a finer grid (--sum-bits 24)"]
    centred = options.get("initial_potential", 0.5) == 0.5
    start = [] if centred else ["half a threshold to start from (--initial-potential 0.5)"]
    kept = ["keep what exceeds the threshold (--reset subtract)"]
    return (kept if options.get("reset") == "zero" else []) + start + [longer, *finer]


def _undone(options: dict[str, object]) -> list[str]:
    """The conversion's own choices that move weights, undone."""
    found = []
    if options.get("shortcut_conversion") is False:
        found.append("convert the shortcuts (--shortcut-conversion)")
    if options.get("input_coding") == "poisson":
        found.append("a constant input current (--input-coding constant)")
    if options.get("compensation", 1.0) != 1.0:
        found.append("no compensation (--compensation 1)")
    return found
