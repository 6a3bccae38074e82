"""Signed spikes that correct what was sent before: this project's method, and DCGS."""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods.option import check
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
from spiking_resnet.conversion.passes.snap import single
from spiking_resnet.conversion.passes.thresholds import (
    gaussian_thresholds,
    iterated_thresholds,
    percentile_thresholds,
)
from spiking_resnet.conversion.statistics import Statistics, measure
from spiking_resnet.graph import Graph
from spiking_resnet.neurons import Dcgs
from spiking_resnet.surroundings import undisturbed

SIGNED, MULTI_THRESHOLD = 0.5, 0.75  # from what share of a size on DCGS's neurons fire it


@dataclass(frozen=True, kw_only=True)
class differential:
    """Differential neurons: signed spikes whose amplitude shrinks from step to step (neurons).

    This project's own, after differential coding (DCGS, ICML 2025). Neurons fire as they go, one
    signed spike a step (or one of `levels` sizes); it takes more spikes than rates do and far fewer
    steps. Made for one number of steps: earlier read-outs are of an unfinished sum.

    percentile, per_channel, max_pooling: as in `hu2021`.
    steps: the number of time steps, which the heights are chosen for.
    levels: sizes of a spike: 1, 2, ... 2^(levels - 1) heights.
    first, last: heights of the first and of the last step's spikes in thresholds, the same for all
        populations; None, both: every population's own (passes/differential.py, `schedule`).
    lead: how much earlier the first population has to have settled, as a share of the steps.
    images: calibration images used for that, layer by layer.
    caution: from how far between two sizes on the larger one is fired; more than 0.5 saves spikes.
    """

    name: ClassVar[str] = "differential"

    percentile: float = 99.9
    per_channel: bool = True
    steps: int = 16
    levels: int = 1
    first: float | None = None
    last: float | None = None
    lead: float = 0.3
    images: int = 64
    caution: float = 0.5

    def __post_init__(self) -> None:
        check(self)
        if not 0.5 <= self.caution <= 1:
            raise ValueError(f"caution is {self.caution}: it must lie in 0.5..1")
        if self.steps < 1 or self.levels < 1 or self.images < 1:
            raise ValueError("steps, levels and images start at 1")
        if not 0 <= self.lead <= 1:
            raise ValueError(f"lead is {self.lead}: it must lie in 0..1")
        if (self.first is None) != (self.last is None):
            raise ValueError("first and last go together: name both heights, or neither")

    @undisturbed()
    def apply(self, traced: Graph, calibration: Calibration) -> Graph:
        """The spiking network of a traced one."""
        ann = relu_first(fold_bn(traced))
        statistics = measure(ann, calibration, self.per_channel, self.images)
        thresholds = percentile_thresholds(ann, statistics, self.percentile)
        graph = cumulative_pools(with_input_limit(ann, statistics.input_limit))
        heights = geometric(self.first or 1.0, self.last or 1.0, self.steps)
        graph = fire_differentially(graph, thresholds, heights, self.levels, self.caution)
        ratios: dict[str, float] = {}
        if self.first is None:
            graph, ratios = schedule(ann, graph, statistics.sample, self.steps, self.lead)
        facts = {
            "calibration_images": statistics.images,
            "ratios": ratios,
            "thresholds": {name: value.tolist() for name, value in thresholds.items()},
        }
        graph = single(normalise(graph))
        return replace(graph, ann=ann).with_notes({**self.describe(), **facts})

    def describe(self) -> dict[str, Any]:
        """The method's name and options, JSON-able."""
        return {"method": self.name, "options": asdict(self)}


@dataclass(frozen=True, kw_only=True)
class dcgs:
    """Differential coding with its authors' own neurons and thresholds (neurons/dcgs.py).

    Huang et al., "Differential Coding for Training-Free ANN-to-SNN Conversion", ICML 2025: a spike
    corrects a running mean, by thresholds theta / 2^k, positive and negative. Made for one number
    of steps, which decides the thresholds. Differs in: clipped ReLUs keep their ceiling.

    thresholds: "gaussian" (their threshold iteration, of normally distributed inputs), "iterated"
        (the same of the activations seen) or "percentile", all per channel, for steps *
        2^(levels - 1) levels. percentile: for that, and the most for "iterated".
    steps: as in `differential`. levels: n, of the sizes theta, theta / 2, ... of a spike; more than
        1 are multi-threshold neurons, 1 is the signed integrate-and-fire neuron.
    images: of the calibration images, for the means and variances.
    """

    name: ClassVar[str] = "dcgs"

    thresholds: Literal["gaussian", "iterated", "percentile"] = "gaussian"
    percentile: float = 99.9
    steps: int = 16
    levels: int = 1
    images: int = 256

    def __post_init__(self) -> None:
        check(self)
        if self.thresholds not in ("gaussian", "iterated", "percentile"):
            raise ValueError(
                f"thresholds is {self.thresholds!r}: one of gaussian, iterated and percentile"
            )
        if self.steps < 1 or self.levels < 1 or self.images < 1:
            raise ValueError("steps, levels and images start at 1")

    @undisturbed()
    def apply(self, traced: Graph, calibration: Calibration) -> Graph:
        """The spiking network of a traced one."""
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
        graph = replace(single(normalise(made)), ann=ann)
        return graph.with_notes({**self.describe(), **facts})

    def _thresholds(self, ann: Graph, statistics: Statistics) -> dict[str, Tensor]:
        """What a neuron hands on at most in one step, by population."""
        levels = self.steps * 2 ** (self.levels - 1)
        if self.thresholds == "gaussian":
            return gaussian_thresholds(ann, statistics.sample, levels)
        if self.thresholds == "iterated":
            return iterated_thresholds(ann, statistics, levels, self.percentile)
        return percentile_thresholds(ann, statistics, self.percentile)

    def describe(self) -> dict[str, Any]:
        """The method's name and options, JSON-able."""
        return {"method": self.name, "options": asdict(self)}
