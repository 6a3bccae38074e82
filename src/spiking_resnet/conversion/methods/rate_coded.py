"""Methods whose firing rates represent activations: the paper's, and the one for QCFS ANNs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import shared
from spiking_resnet.conversion.methods.method import Method
from spiking_resnet.conversion.methods.option import documented, option
from spiking_resnet.conversion.passes.compensate import compensate, search
from spiking_resnet.conversion.passes.encode import poisson_input, with_input_limit
from spiking_resnet.conversion.passes.fire import Kind, fire, fire_after_pools, fire_at_output
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.gate import gate_neurons
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.pools import cumulative_pools, relu_first
from spiking_resnet.conversion.passes.shortcuts import projections, unconverted
from spiking_resnet.conversion.passes.snap import snapped
from spiking_resnet.conversion.passes.thresholds import percentile_thresholds, shared_over_stages
from spiking_resnet.conversion.statistics import Measured, Statistics, measure
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.graph import Graph, ReLU, with_remark
from spiking_resnet.neurons import Reset
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed

MOST_NEGATIVE = 0.01  # of calibration images without a positive logit: spike counts still serve


@documented
@dataclass(frozen=True, kw_only=True)
class hu2021(Method):
    """The method of Hu, Tang, Pan, "Spiking Deep Residual Network" (arXiv 1805.01352).

    Defaults are the released code's choices; each alternative is an option. The paper's percentile
    is 99.9 on MNIST and CIFAR, 99.99 on ImageNet. The read-out "spikes+membrane" of neurons on the
    logits is the paper's and cannot be negative; "membrane", the logits' mean current,
    can; "auto" is the paper's, unless the network has one output or more than 1 % of the
    calibration images have no positive logit. Trials of a search are in the graph's notes.
    """

    name: ClassVar[str] = "hu2021"

    percentile: float = shared.percentile(99.9)
    per_channel: bool = shared.per_channel(False)
    shared_scale: Literal["none", "stage"] = option(
        "none", "one threshold for all that identity shortcuts join, so that these need no gain"
    )
    initial_potential: float = shared.initial_potential(0.5)
    reset: Reset = option("subtract", "what a spike does to the membrane potential")
    levels: int = shared.levels(1)
    signed: bool = shared.signed(False)
    shortcut_conversion: bool = option(
        True, "the paper's shortcut conversion model; leaving it out is the paper's ablation"
    )
    compensation: float | Literal["search"] = option(
        1.0, "factor on all synapses; search: found on calibration images", above=0, below=inf
    )
    compensation_steps: int = option(100, "time steps of the search for the compensation", least=1)
    compensation_images: int = option(
        100, "calibration images of the search for the compensation", least=1
    )
    pool_neurons: bool = option(True, "neurons of their own after average pools")
    max_pooling: Literal["cumulative", "instant"] = shared.max_pooling()
    readout: Literal["auto", "spikes+membrane", "membrane"] = option(
        "auto", "spike counts of neurons on the logits, or the logits' mean current"
    )
    input_coding: Literal["constant", "poisson"] = option(
        "constant", "the image as a constant current, or as random spikes"
    )
    seed: int = option(0, "of the draws of a Poisson input's spikes")
    steps: int = shared.steps(350)
    grid: int | None = shared.grid()
    sum_bits: int = shared.sum_bits()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reset == "zero" and (self.levels > 1 or self.signed):
            raise ValueError("several levels and signs need the reset by subtraction")
        if not self.shortcut_conversion and self.per_channel:
            raise ValueError("without shortcut conversion thresholds are one per layer")

    @property
    def per_steps(self) -> bool:
        """No: rates are read out at every T."""
        return False

    @undisturbed()
    def apply(self, traced: Graph, calibration: Calibration | Measured) -> Graph:
        """Return the spiking network of a traced ANN."""
        ann = relu_first(fold_bn(traced))
        probes = [] if self.shortcut_conversion else projections(ann)
        statistics = measure(ann, calibration, self.per_channel, self.compensation_images, probes)
        thresholds = percentile_thresholds(ann, statistics, self.percentile, self.levels)
        if self.shared_scale == "stage":
            thresholds = shared_over_stages(ann, thresholds)
        graph = with_input_limit(ann, statistics.input_limit)
        if self.input_coding == "poisson":
            graph = poisson_input(graph, statistics.input_limit, self.seed)
        kind = Kind(
            initial_potential=self.initial_potential,
            reset=self.reset,
            levels=self.levels,
            signed=self.signed,
        )
        graph = fire(graph, thresholds, kind)
        if self.pool_neurons:
            graph = fire_after_pools(graph, kind)
        if self.max_pooling == "cumulative":
            graph = cumulative_pools(graph)
        remark = self._no_counts(graph, statistics)
        if self.readout == "spikes+membrane" or (self.readout == "auto" and not remark):
            graph = fire_at_output(graph, thresholds, kind)
        if not self.shortcut_conversion:
            graph = unconverted(graph, thresholds)
        unit = float(thresholds[graph.output.name])
        factor, notes = self._compensation(ann, graph, statistics.sample, unit)
        graph = self._finish(compensate(graph, factor), unit)
        facts = {
            "calibration_images": statistics.images,
            "compensation": notes,
            "thresholds": {name: value.tolist() for name, value in thresholds.items()},
        }
        graph = replace(graph, ann=ann).with_notes({**self.describe(), **facts})
        return with_remark(graph, remark) if remark and self.readout == "auto" else graph

    def _no_counts(self, graph: Graph, statistics: Statistics) -> str:
        """Return why spike counts cannot represent the logits, or an empty text."""
        told = "so the read-out is the logits' mean current (readout='membrane'), not spike counts"
        if graph.output.shape == (1,):
            return f"the network has one output, which may be negative, {told}"
        if statistics.no_positive_logit > MOST_NEGATIVE * statistics.images:
            return (
                f"{statistics.no_positive_logit} of {statistics.images} calibration images have "
                f"no positive logit, {told}"
            )
        return ""

    def _finish(self, graph: Graph, unit: float) -> Graph:
        """Return the graph with unit spikes, on the grid or off it."""
        return snapped(normalise(graph, unit), self.steps, self.grid, self.sum_bits)

    def _compensation(
        self, ann: Graph, graph: Graph, images: Tensor, unit: float
    ) -> tuple[float, dict[str, Any]]:
        """Return the factor, and what was tried to find it."""
        if self.compensation != "search":
            return self.compensation, {"factor": self.compensation}

        def build(factor: float) -> Callable[[Tensor], Tensor]:
            candidate = self._finish(compensate(graph, factor), unit)
            return lambda part: simulate(candidate, part, self.compensation_steps).logits[-1]

        trials = search(ann, images, build)
        return trials[0].factor, {
            "factor": trials[0].factor,
            "steps": self.compensation_steps,
            "images": len(images),
            "trials": [asdict(trial) for trial in sorted(trials, key=lambda t: t.factor)],
        }


@documented
@dataclass(frozen=True, kw_only=True)
class qcfs(Method):
    """The conversion of networks trained with the quantised activation (Bu et al., ICLR 2022).

    Every threshold is the trained one and v0 is half of it: after T = `levels` steps of even input
    a neuron has sent its activation. Only for networks with QCFS activations, as `train
    --activation qcfs` makes them; nothing is calibrated. After the pre-steps neurons start again,
    corrected by what they have seen (neurons/gated.py); the read-out leaves the pre-steps out, but
    they must be simulated too.
    """

    name: ClassVar[str] = "qcfs"
    trained: ClassVar[bool] = True

    gate: Literal["none", "srp", "cos"] = option(
        "none", "how neurons are corrected after the pre-steps"
    )
    pre_steps: int = option(0, "time steps before the counted ones, for the gate")
    max_pooling: Literal["cumulative", "instant"] = shared.max_pooling()
    steps: int = shared.steps(64)
    grid: int | None = shared.grid()
    sum_bits: int = shared.sum_bits()

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.gate == "none") != (self.pre_steps == 0) or self.pre_steps < 0:
            raise ValueError(
                f"pre_steps is {self.pre_steps} and gate {self.gate!r}: pre-steps are for the "
                "gates srp and cos, which need at least one"
            )

    @property
    def per_steps(self) -> bool:
        """No: rates are read out at every T."""
        return False

    @undisturbed()
    def apply(self, traced: Graph, calibration: Calibration | Measured) -> Graph:
        """Return the spiking network of a traced ANN; InputError where a ReLU is not quantised."""
        ann = relu_first(fold_bn(traced))
        thresholds = {node.name: _trained_threshold(node) for node in ann.of(ReLU)}
        statistics = measure(ann, calibration, False, 1)
        graph = fire(with_input_limit(ann, statistics.input_limit), thresholds, Kind())
        if self.max_pooling == "cumulative":
            graph = cumulative_pools(graph)
        if self.gate != "none":
            graph = gate_neurons(graph, self.gate, self.pre_steps)
        steps = self.steps + self.pre_steps
        graph = snapped(normalise(graph), steps, self.grid, self.sum_bits)
        facts = {
            "calibration_images": statistics.images,
            "corrected_on": 0,
            "delay": self.pre_steps,
            "trained": True,
            "thresholds": {name: value.tolist() for name, value in thresholds.items()},
        }
        return replace(graph, ann=ann).with_notes({**self.describe(), **facts})


def _trained_threshold(node: ReLU) -> Tensor:
    """Return the threshold [] of a quantised activation."""
    if node.levels is None or node.ceiling is None:
        source = f" ({node.source})" if node.source else ""
        raise InputError(
            f"{node.name!r}{source} is a ReLU without levels, and the method qcfs is for networks "
            "trained with quantised activations: fine-tune it with `spiking-resnet train "
            "--activation qcfs --from WEIGHTS`, or choose the method hu2021 or calibrated"
        )
    return torch.tensor(node.ceiling, dtype=torch.float32)
