"""Signed spikes that correct what was sent before: this project's method, and DCGS."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import shared
from spiking_resnet.conversion.methods.method import Method
from spiking_resnet.conversion.methods.option import documented, option
from spiking_resnet.conversion.passes.differential import (
    fire_differentially,
    geometric,
    of_a_mean,
    schedule,
)
from spiking_resnet.conversion.passes.encode import with_input_limit
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.pools import cumulative_pools, relu_first
from spiking_resnet.conversion.passes.snap import snapped
from spiking_resnet.conversion.passes.thresholds import (
    gaussian_thresholds,
    iterated_thresholds,
    percentile_thresholds,
)
from spiking_resnet.conversion.statistics import Measured, Statistics, measure
from spiking_resnet.graph import Fire, Graph
from spiking_resnet.neurons import Dcgs
from spiking_resnet.surroundings import undisturbed

SIGNED, MULTI_THRESHOLD = 0.5, 0.75  # from what share of a size on DCGS's neurons fire it


@documented
@dataclass(frozen=True, kw_only=True)
class differential(Method):
    """Differential neurons: signed spikes whose amplitude shrinks from step to step (neurons).

    This project's own, after differential coding (DCGS, ICML 2025). Neurons fire as they go, one
    signed spike a step (or one of `levels` sizes); it takes more spikes than rates do and far fewer
    steps. Made for one number of steps: earlier read-outs are of an unfinished sum. Amplitudes are
    every population's own (passes/differential.py, `schedule`) unless `first` and `last` give one
    sequence for all.
    """

    name: ClassVar[str] = "differential"

    percentile: float = shared.percentile(99.9)
    per_channel: bool = shared.per_channel(True)
    steps: int = shared.steps(16)
    levels: int = option(
        1, "sizes of a spike in one step: 1, 2, ... 2^(levels - 1) amplitudes", least=1
    )
    first: float | None = option(
        None,
        "amplitude of the first step's spikes, in thresholds",
        above=0,
        unset="every population's own",
    )
    last: float | None = option(
        None,
        "amplitude of the last step's spikes, in thresholds",
        above=0,
        unset="every population's own",
    )
    lead: float = option(
        0.3, "share of the steps by which the first population settles earlier", least=0, most=1
    )
    images: int = shared.images(64)
    caution: float = option(
        0.5, "where between two sizes the larger one is fired; more saves spikes", least=0.5, most=1
    )
    grid: int | None = shared.grid()

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.first is None) != (self.last is None):
            raise ValueError("first and last go together: name both amplitudes, or neither")

    @property
    def graded(self) -> bool:
        """Yes: spikes are signed, and shrink from step to step."""
        return True

    @undisturbed()
    def apply(self, traced: Graph, calibration: Calibration | Measured) -> Graph:
        """Return the spiking network of a traced ANN."""
        ann = relu_first(fold_bn(traced))
        statistics = measure(ann, calibration, self.per_channel, self.images)
        thresholds = percentile_thresholds(ann, statistics, self.percentile)
        graph = cumulative_pools(with_input_limit(ann, statistics.input_limit))
        first, last = (1.0 if end is None else end for end in (self.first, self.last))
        heights = geometric(first, last, self.steps)
        graph = fire_differentially(graph, thresholds, heights, self.levels, self.caution)
        ratios: dict[str, float] = {}
        if self.first is None:
            graph, ratios = schedule(ann, graph, statistics.sample, self.steps, self.lead)
        facts = {
            "calibration_images": statistics.images,
            "ratios": ratios,
            "amplitudes": {n.name: n.neuron.amplitude.tolist() for n in graph.of(Fire)},
            "thresholds": {name: value.tolist() for name, value in thresholds.items()},
        }
        graph = snapped(normalise(graph), self.steps, self.grid)
        return replace(graph, ann=ann).with_notes({**self.describe(), **facts})


@documented
@dataclass(frozen=True, kw_only=True)
class dcgs(Method):
    """Differential coding with its authors' own neurons and thresholds (neurons/dcgs.py).

    Huang et al., "Differential Coding for Training-Free ANN-to-SNN Conversion", ICML 2025: a spike
    corrects a running mean, by thresholds theta / 2^k, positive and negative. Made for one number
    of steps, which decides the thresholds: all per channel, for steps * 2^(levels - 1) levels.
    They are "gaussian" (threshold iteration on normally distributed inputs), "iterated" (the same
    on the activations seen) or "percentile". Differs in: clipped ReLUs keep their ceiling.
    """

    name: ClassVar[str] = "dcgs"

    thresholds: Literal["gaussian", "iterated", "percentile"] = option(
        "gaussian", "how firing thresholds are found"
    )
    percentile: float = shared.percentile(99.9)
    steps: int = shared.steps(16)
    levels: int = option(
        1, "sizes theta, theta / 2, ... of a spike in one step; 1: signed neurons", least=1
    )
    images: int = option(256, "calibration images, for means and variances", least=1)
    grid: int | None = shared.grid()

    @property
    def graded(self) -> bool:
        """Yes: spikes are signed, and shrink from step to step."""
        return True

    @undisturbed()
    def apply(self, traced: Graph, calibration: Calibration | Measured) -> Graph:
        """Return the spiking network of a traced ANN."""
        ann = relu_first(fold_bn(traced))
        statistics = measure(ann, calibration, True, self.images)
        thresholds = self._thresholds(ann, statistics)
        graph = cumulative_pools(with_input_limit(ann, statistics.input_limit))
        heights = of_a_mean(self.steps, self.levels)
        share = SIGNED if self.levels == 1 else MULTI_THRESHOLD
        made = fire_differentially(graph, thresholds, heights, self.levels, share, Dcgs)
        facts = {
            "calibration_images": statistics.images,
            "thresholds": {name: value.tolist() for name, value in thresholds.items()},
        }
        graph = replace(snapped(normalise(made), self.steps, self.grid), ann=ann)
        return graph.with_notes({**self.describe(), **facts})

    def _thresholds(self, ann: Graph, statistics: Statistics) -> dict[str, Tensor]:
        """Return the most that a neuron sends in one step, by population."""
        levels = self.steps * 2 ** (self.levels - 1)
        if self.thresholds == "gaussian":
            return gaussian_thresholds(ann, statistics.sample, levels)
        if self.thresholds == "iterated":
            return iterated_thresholds(ann, statistics, levels, self.percentile)
        return percentile_thresholds(ann, statistics, self.percentile)
