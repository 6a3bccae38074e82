"""The blocks of early stopping: a row for each rule, and one for the full run."""

from collections.abc import Sequence

from spiking_resnet.records import Curve, Stop, Stopped
from spiking_resnet.report.block import Block, Column, Row, Series, Table, Text
from spiking_resnet.report.numbers import count, interval, percent

_COLUMNS = (
    Column("P", note="confidence"),
    Column("steps", note="in the mean"),
    Column("90 %", rank=1, note="of the images have stopped by this step"),
    Column("top-1", "%"),
    Column("95 % range", rank=1),
    Column("loss", note="points of top-1 below the full run"),
    Column("kept", "%", note="decide as the full run"),
    Column("agree", "%", rank=2, note="same class as the ANN"),
    Column("spikes", rank=2, note="per image"),
    Column("SynOps", rank=1, note="synaptic operations per image"),
    Column("ops", "%", note="SynOps as a share of the full run's"),
)


def blocks(stopped: Stopped) -> list[Block]:
    """The table of one rule, and a remark where it stops no image."""
    return several((stopped,))


def several(stopped: Sequence[Stopped], title: str = "Images that stop early") -> list[Block]:
    """The table of several rules and the full run; a remark for each that stops no image."""
    if not stopped:
        return []
    idle = [each for each in stopped if each.ended[-1] == each.images]
    remarks = [Text(_idle(each.rule), "remark") for each in idle]
    return [table(stopped, title), *remarks]


def table(stopped: Sequence[Stopped], title: str) -> Table:
    """A row for each rule, in order, and one for the full run of each T."""
    full = {each.rule.full: each for each in stopped}
    return Table(
        columns=_COLUMNS,
        rows=(
            *(Row(tuple(_row(each))) for each in stopped),
            *(Row(tuple(_full(full[t])), "strong", ruled=True) for t in sorted(full)),
        ),
        title=title,
        footnotes=tuple(dict.fromkeys(_found(each.rule) for each in stopped)),
        shape="wide",
        apart=True,
    )


def series(label: str, curve: Curve, tone: int) -> Series:
    """Accuracy in percent against mean steps, a point for each rule."""
    known = sorted(curve.stopped, key=lambda each: each.mean_steps)
    return Series(
        f"{label}, stopping early",
        values=tuple(100 * each.accuracy for each in known),
        at=tuple(each.mean_steps for each in known),
        intervals=tuple((100 * each.interval[0], 100 * each.interval[1]) for each in known),
        tone=tone,
    )


def _row(stopped: Stopped) -> list[str]:
    full = stopped.full
    return [
        f"{stopped.rule.confidence:g}",
        f"{stopped.mean_steps:.2f}",
        str(stopped.quantile(0.9)),
        _bare(stopped.accuracy),
        interval(stopped.interval),
        f"{100 * ((full.accuracy or 0.0) - stopped.accuracy):+.2f}",
        _bare(stopped.kept),
        _bare(stopped.agreement),
        count(stopped.spikes_per_image),
        count(stopped.operations),
        _bare(stopped.operations / stopped.full_operations if stopped.full_operations else None),
    ]


def _full(stopped: Stopped) -> list[str]:
    full = stopped.full
    return [
        "full", str(full.steps), str(full.steps), _bare(full.accuracy), interval(full.interval),
        "", "", _bare(full.agreement), count(full.spikes_per_image),
        count(stopped.full_operations), "",
    ]  # fmt: skip


def _bare(share: float | None) -> str:
    return percent(share).removesuffix(" %")


def _found(rule: Stop) -> str:
    """What a rule was found on, in words."""
    if not rule.images:
        return f"An image stops at one of {len(rule.steps)} steps, up to T = {rule.full}."
    named = (str(rule.notes[name]) for name in ("split", "dataset") if name in rule.notes)
    where = f" ({' of '.join(named)})" if "dataset" in rule.notes else ""
    return (
        f"Rules found on {rule.images:,} other images{where}, of which a share P decides as at "
        f"T = {rule.full}; {len(rule.steps)} read-outs, the first at t = {rule.steps[0]}."
    )


def _idle(rule: Stop) -> str:
    return (
        f"with P = {rule.confidence:g} no image stops before T = {rule.full}: decisions are not "
        "certain earlier; take a smaller P, or more images to find the rule on"
    )
