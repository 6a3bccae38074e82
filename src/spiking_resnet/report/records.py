"""The registry of records that can be shown: for each kind the function that makes its blocks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spiking_resnet.costs.energy import Account
from spiking_resnet.decided import Decisions, PerClass
from spiking_resnet.evaluation.compare import Comparison
from spiking_resnet.evaluation.diagnosis import Diagnosis
from spiking_resnet.evaluation.inspect import Inspection
from spiking_resnet.evaluation.summary import Summary
from spiking_resnet.evaluation.trials import Tuning
from spiking_resnet.export.nir.verification import Verification
from spiking_resnet.records import Curve, InputError, Run, Stopped
from spiking_resnet.report import (
    account,
    classes,
    comparison,
    curve,
    diagnosis,
    flips,
    network,
    run,
    stopping,
    summary,
    terminal,
    tuning,
    verification,
)
from spiking_resnet.report.block import Chart, Report
from spiking_resnet.shown import Shown

BLOCKS: Mapping[type[Shown], Callable[[Any], Report]] = {
    Account: account.blocks,
    Comparison: comparison.blocks,
    Curve: curve.blocks,
    Decisions: flips.blocks,
    Diagnosis: diagnosis.blocks,
    Inspection: network.blocks,
    PerClass: classes.blocks,
    Run: run.blocks,
    Stopped: stopping.blocks,
    Summary: summary.blocks,
    Tuning: tuning.blocks,
    Verification: verification.blocks,
}

CHARTS: Mapping[type[Shown], Callable[[Any], Sequence[Chart]]] = {  # that are not among its blocks
    Account: lambda found: [account.chart(found)],
    Comparison: comparison.charts,
    Curve: lambda found: [curve.chart({"SNN": found})],
    Diagnosis: diagnosis.charts,
    PerClass: classes.charts,
    Run: run.charts,
    Summary: summary.charts,
}


def blocks(record: Shown) -> Report:
    """The blocks of a record; InputError for a kind that has none."""
    make = BLOCKS.get(type(record))
    if make is None:
        known = ", ".join(kind.__name__ for kind in BLOCKS)
        raise InputError(f"nothing is shown of a {type(record).__name__}: give one of {known}")
    return make(record)


def text(record: Shown) -> str:
    """A record as a terminal shows it, without colours; its `repr` if it has no blocks."""
    return terminal.text(blocks(record)) if type(record) in BLOCKS else repr(record)
