"""The blocks of energy in a report: for each cost model what an image takes, and by what."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from spiking_resnet.costs.energy import Priced
from spiking_resnet.evaluation.findings import Energy
from spiking_resnet.records import Curve
from spiking_resnet.report import account as own
from spiking_resnet.report.accuracy import against
from spiking_resnet.report.block import Axis, Block, Chart, Series, Terms, Text

JOULES = Axis("Energy of an image", "J", scale="log2", counts=True)
_PARTS = 6  # kinds of operations and accesses that have a colour; the rest is one
_TAKEN = Axis("Energy of an image", "J", counts=True)
_NAMES = {"fp32": "ANN, fp32", "int32": "ANN, int32", "int8": "ANN, int8"}


def views(measured: Curve, found: Energy) -> list[tuple[str, tuple[Block, ...]]]:
    """A view for each cost model: accuracy against joules, what takes them, and the sources."""
    account, models = found.account, {each.name: each for each in found.models}
    said = {name: text for block in own.verdicts(account) if isinstance(block, Terms)
            for name, text in block.items}  # fmt: skip
    return [
        (
            priced.title,
            (
                Text(said[priced.model]),
                against(measured, found.joules[priced.model], JOULES),
                parts(priced, account.steps),
                replace(own.layers(account, priced), folded=True),
                *([own.sources([models[priced.model]])] if priced.model in models else []),
            ),
        )
        for priced in account.priced
    ]


def blocks(found: Energy) -> list[Block]:
    """All models side by side, where each breaks even, and what was counted."""
    account = found.account
    chart = own.chart(account, "Firing rate below which this network would take less")
    return [
        own.prices(account, "All cost models"),
        *([chart] if chart.rows and chart.series else []),
        own.operations(account),
    ]


def parts(priced: Priced, steps: int) -> Chart:
    """What takes the energy, of this network and of each artificial one, as stacked bars."""
    bars = {f"this network, T = {steps}": priced.parts}
    for twin in priced.twins:
        if twin.joules is not None:
            bars[_NAMES.get(twin.name, f"ANN, {twin.bits} bits")] = twin.parts
    return Chart(
        kind="bars",
        y=_TAKEN,
        series=_stacked(list(bars.values())),
        rows=tuple(bars),
        title="What takes it",
    )


def _stacked(bars: Sequence[Mapping[str, float]]) -> tuple[Series, ...]:
    """A series for each kind, the largest first; small ones are one."""
    largest = {kind: max(each.get(kind, 0.0) for each in bars) for each in bars for kind in each}
    kinds = sorted(largest, key=lambda kind: -largest[kind])
    groups = [[kind] for kind in kinds[:_PARTS]]
    if rest := kinds[_PARTS:]:
        groups.append(rest)
    starts, found = [0.0 for _ in bars], list[Series]()
    for tone, group in enumerate(groups):
        values = tuple(sum(each.get(kind, 0.0) for kind in group) for each in bars)
        label = group[0].replace("_", " ") if len(group) == 1 else "others"
        tones = tone if tone < _PARTS else None
        found.append(Series(label, values, starts=tuple(starts), tone=tones))
        starts = [start + value for start, value in zip(starts, values, strict=True)]
    return tuple(found)
