"""The blocks of a diagnosis: its table, its charts, and advice in words."""

from spiking_resnet.evaluation.diagnosis import CONTRIBUTIONS, OWN, Diagnosis, LayerError
from spiking_resnet.report.block import (
    Axis,
    Block,
    Chart,
    Column,
    Level,
    Row,
    Series,
    Table,
    Text,
)
from spiking_resnet.report.numbers import decimals, told

EXPLANATION = (
    "error: root mean square of what the neurons say - activation, in % of the activations'; mean: "
    "of the error. clipped, quant., uneven, weights: a population's own doing, likewise in %. "
    "agreed: % of decisions, if the ANN goes on from the spiking network's values in this "
    "population and all before; lost: what this one takes from it, in points. alone: % of "
    "decisions, if the ANN gets nothing but this population's own error."
)
_COLUMNS = (
    Column("population", align="left", folds=True),
    Column("error"),
    Column("mean", rank=2),
    Column("clipped", rank=1),
    *(Column(name) for name in ("quant.", "uneven")),
    Column("weights", rank=2),
    *(Column(name) for name in ("agreed", "lost")),
    Column("alone", rank=1),
)
_TONES = dict(zip(CONTRIBUTIONS, (None, 3, 0, 1, 2), strict=True))
_SHOWN = ("clipping", "quantisation", "unevenness", "weights")
_MARKED = 3  # rows: those that cost most
_FEW = 10  # decisions: fewer say little about where they went

_CAUSES = {
    "weights": "what conversion did to the weights",
    "clipping": "clipping at the thresholds",
    "quantisation": "quantisation to whole spikes",
    "unevenness": "the uneven arrival of spikes",
}


def blocks(diagnosis: Diagnosis, title: str = "") -> list[Block]:
    """The table of a diagnosis' populations, the totals, and advice."""
    return [table(diagnosis, title), Text(summary(diagnosis)), Text(advice(diagnosis))]


def table(diagnosis: Diagnosis, title: str = "") -> Table:
    """A diagnosis as a table: a row for each population; those that cost most are marked."""
    marked = _worst_rows(diagnosis)
    return Table(
        columns=_COLUMNS,
        rows=tuple(
            _row(layer, diagnosis.images, layer.name in marked) for layer in diagnosis.layers
        ),
        title=title,
        footnotes=(EXPLANATION, _uneven(diagnosis)),
        shape="long",
    )


def charts(diagnosis: Diagnosis, title: str = "") -> tuple[Chart, Chart]:
    """Two charts with a row for each population.

    The first: the error (root mean square, in % of the activations'), cut by what each contribution
    has of its square; what works against the others is drawn left of zero. The second: the
    agreement with the ANN that is left after each population, and what each contribution took from
    it.
    """
    names = tuple(layer.name for layer in diagnosis.layers)
    errors = Chart(
        kind="bars",
        y=Axis("error", "% of the activations' r.m.s."),
        series=_stacked(diagnosis),
        title=title,
        levels=(Level(0.0),),
        rows=names,
        width=3.0,
    )
    left = tuple(100 * layer.agreement for layer in diagnosis.layers)
    decisions = Chart(
        kind="bars",
        y=Axis("agreement with the ANN", "%"),
        series=_taken(diagnosis),
        rows=names,
        line=Series("agreement", left, tone=None),
        width=2.0,
    )
    return errors, decisions


def _stacked(diagnosis: Diagnosis) -> tuple[Series, ...]:
    """Bars of the errors, cut by their contributions' shares; negative ones left of zero."""
    ends = {sign: [0.0 for _ in diagnosis.layers] for sign in (True, False)}
    found = []
    for name in CONTRIBUTIONS:
        shares = tuple(100 * each.rms * each.parts[name].share for each in diagnosis.layers)
        starts = []
        for row, share in enumerate(shares):
            end = ends[share >= 0]
            starts.append(end[row])
            end[row] += share
        found.append(Series(name, shares, starts=tuple(starts), tone=_TONES[name]))
    return tuple(found)


def _taken(diagnosis: Diagnosis) -> tuple[Series, ...]:
    """Bars from the agreement before each contribution to that after it."""
    bars: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTRIBUTIONS}
    before = 1.0
    for layer in diagnosis.layers:
        for name in CONTRIBUTIONS:
            after = before - layer.parts[name].lost
            bars[name].append((100 * before, 100 * (after - before)))
            before = after
    return tuple(
        Series(
            name,
            values=tuple(length for _, length in found),
            starts=tuple(start for start, _ in found),
            tone=_TONES[name],
        )
        for name, found in bars.items()
    )


def _worst_rows(diagnosis: Diagnosis) -> set[str]:
    """The names of the populations that cost most decisions."""
    ranked = sorted(diagnosis.layers, key=lambda layer: -layer.lost)[:_MARKED]
    return {layer.name for layer in ranked if layer.lost > 0}


def _uneven(diagnosis: Diagnosis) -> str:
    """What unevenness is of these neurons."""
    if not any(layer.parts["unevenness"].rms for layer in diagnosis.layers):
        return f"Nothing is uneven: the input of all neurons arrives {diagnosis.arrival}."
    return f"uneven: of input that does not arrive {diagnosis.arrival}."


def _row(layer: LayerError, images: int, marked: bool) -> Row:
    parts = [_share(layer.parts[name].rms) for name in _SHOWN]
    cells = (
        f"{layer.name} <" if marked else layer.name,
        _share(layer.rms),
        f"{100 * layer.mean / (layer.activation or 1.0):+.1f}",
        *parts,
        told(layer.agreement, images),
        _points(layer.lost, images),
        told(layer.alone, images),
    )
    return Row(cells, "alarming" if marked else "plain")


def _points(share: float, images: int) -> str:
    """A difference of shares in points, in the digits that so many images can tell apart."""
    found = f"{100 * share:.{decimals(images)}f}"
    return found.removeprefix("-") if float(found) == 0 else found


def _share(fraction: float) -> str:
    """A fraction in percent, without decimals where it is large."""
    return f"{100 * fraction:.1f}" if fraction < 10 else f"{100 * fraction:.0f}"


def summary(diagnosis: Diagnosis) -> str:
    """The totals in words: how much agreement is lost, and how much of it by each cause."""
    lost, images = 1 - diagnosis.agreement, diagnosis.images
    causes = sorted(OWN, key=lambda name: -diagnosis.lost(name))
    taken = ", ".join(f"{_CAUSES[name]} {_points(diagnosis.lost(name), images)}" for name in causes)
    return (
        f"T = {diagnosis.steps}, {images:,} images: "
        f"accuracy {told(diagnosis.accuracy, images)} % "
        f"(ANN {told(diagnosis.ann_accuracy, images)} %), "
        f"agreement {told(diagnosis.agreement, images)} %.\n"
        f"{_points(lost, images)} points of agreement are lost: {taken}."
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
        f"Most is lost by {_CAUSES[by]} ({_of_all(diagnosis, by)}), most of that at {name} "
        f"({_points(part.lost, diagnosis.images)}). To reduce it: {remedies}."
    )


def _of_all(diagnosis: Diagnosis, by: str) -> str:
    """What one cause takes, beside what is lost in all."""
    taken, total = diagnosis.lost(by), 1 - diagnosis.agreement
    told, all_told = (_points(share, diagnosis.images) for share in (taken, total))
    if taken > total:
        return f"{told} points, of which others give some back: {all_told} in all"
    return f"{told} of {all_told} points"


def _remedies(diagnosis: Diagnosis, by: str) -> list[str]:
    """What can be done about one cause that was not done already, best first."""
    options = diagnosis.notes.get("options", {})
    if diagnosis.remade:
        return _remade(diagnosis, by)
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


def _remade(diagnosis: Diagnosis, by: str) -> list[str]:
    """The same for a network that is made for one T: it is converted again."""
    options = diagnosis.notes.get("options", {})
    steps = options.get("steps", diagnosis.steps)
    longer = f"convert for more time steps (--steps {2 * steps})"
    if by == "clipping":
        return ["a higher percentile (--percentile), where thresholds go by one", longer]
    if by == "weights" and options.get("weights"):  # refitted, to errors of the layers before
        return [longer, "more images to refit weights on (--images)"]
    return ["a finer grid (--grid)"] if by == "weights" else [longer, "more sizes of spikes"]


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
