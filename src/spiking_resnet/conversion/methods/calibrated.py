"""Calibration through the layers already converted, and the published methods that it contains."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import shared
from spiking_resnet.conversion.methods.method import Method
from spiking_resnet.conversion.methods.option import documented, option
from spiking_resnet.conversion.passes.calibrate import Correction, calibrate
from spiking_resnet.conversion.passes.encode import with_input_limit
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.pools import cumulative_pools, relu_first
from spiking_resnet.conversion.passes.serial import fire_serially
from spiking_resnet.conversion.passes.shift import shift_currents
from spiking_resnet.conversion.passes.snap import snapped
from spiking_resnet.conversion.passes.thresholds import (
    balanced_thresholds,
    delay_of,
    gaussian_thresholds,
    iterated_thresholds,
    mmse_thresholds,
    percentile_thresholds,
)
from spiking_resnet.conversion.statistics import Measured, Statistics, measure
from spiking_resnet.graph import Graph, ReLU
from spiking_resnet.surroundings import undisturbed

FEW = 16  # images in a batch of "balanced" thresholds: what counts is how many batches there are

PLAIN: dict[str, Any] = {"compensation": "none", "weights": False, "delay": 0}


@documented
@dataclass(frozen=True, kw_only=True)
class calibrated(Method):
    """Integrate-and-fire neurons made for T steps, corrected layer by layer on calibration images.

    The axes of what came after the paper, each an option: thresholds x compensation x weights x
    neuron x read-out (passes/thresholds.py, passes/calibrate.py; recipes.py names published sets).

    Thresholds are the "percentile" of the activations; "mmse" of quantisation to T levels (SNN
    Calibration); "iterated" (DCGS's threshold iteration on the activations seen), at most the
    percentile; "gaussian" (on normally distributed inputs, as there); or "balanced" (local
    threshold balancing), always per channel. Of neurons of several levels they are the range over
    these. Corrected is the "bias" of channels, the initial "potential" of neurons, or "offsets" of
    channels with layer-serial neurons, as in DA-QCFS. A population of those fires only after its
    whole input has come, up to T spikes: no uneven arrival, but latency grows with depth, and there
    is no delay. The delay "auto" is that of delayed evaluation (delay_of). Where the network is to
    be on no grid it is corrected on the usual one.
    """

    name: ClassVar[str] = "calibrated"

    thresholds: Literal["percentile", "mmse", "iterated", "gaussian", "balanced"] = option(
        "mmse", "how firing thresholds are found"
    )
    percentile: float = shared.percentile(99.9)
    per_channel: bool = shared.per_channel(True)
    compensation: Literal["none", "bias", "potential", "offsets"] = option(
        "potential", "what is corrected, layer by layer, by the error of rates"
    )
    rounds: int = option(3, "repetitions of the compensation", least=1)
    weights: bool = option(
        True, "weights refitted to what layers receive", flags=("--fit-weights", "--keep-weights")
    )
    fit_to: Literal["layer", "population"] = option(
        "population", "what weights are refitted to: the layer in the ANN, or its population's need"
    )
    ridge: float | None = option(
        None, "how strongly refitted weights are held", above=0, unset="every layer's own"
    )
    initial_potential: float = shared.initial_potential(0.5)
    bias_shift: bool = option(
        False, "the initial potential enters as a current, a T-th part at every step"
    )
    levels: int = shared.levels(1)
    signed: bool = shared.signed(False)
    waits: bool = option(
        False,
        "layer-serial neurons: they fire after their whole input has arrived",
        flags=("--wait", "--no-wait"),
    )
    delay: int | Literal["auto"] | None = option(
        None, "time steps that the read-out leaves out", least=0, unset="found with the weights"
    )
    max_pooling: Literal["cumulative", "instant"] = shared.max_pooling()
    steps: int = shared.steps(32)
    images: int = shared.images(256)
    batches: int = option(500, "batches of images for balanced thresholds", least=1)
    grid: int | None = shared.grid()
    sum_bits: int = shared.sum_bits()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.delay, int) and self.delay >= self.steps:
            raise ValueError(f"delay is {self.delay}: it must lie in 0..{self.steps - 1}")
        if self.waits and (self.levels > 1 or self.signed or self.delay):
            raise ValueError(
                "layer-serial neurons fire 0 or 1 spike, and their read-out has no delay"
            )
        if self.compensation == "offsets" and not self.waits:
            raise ValueError("offsets are for layer-serial neurons: add waits=True")

    @undisturbed()
    def apply(self, traced: Graph, calibration: Calibration | Measured) -> Graph:
        """Return the spiking network of a traced ANN."""
        ann = relu_first(fold_bn(traced))
        statistics = measure(ann, calibration, self.per_channel, self.images)
        ranges = self._ranges(ann, statistics)
        # Layer-serial neurons are built as neurons of one step with T levels.
        steps, levels = (1, self.steps) if self.waits else (self.steps, self.levels)
        thresholds = {name: value / levels for name, value in ranges.items()}
        kind = Kind(initial_potential=self._start, levels=levels, signed=self.signed)
        graph = fire(with_input_limit(ann, statistics.input_limit), thresholds, kind)
        if self.bias_shift:
            share = self.initial_potential / steps
            graph = shift_currents(graph, {name: share * each for name, each in thresholds.items()})
        if self.max_pooling == "cumulative":
            graph = cumulative_pools(graph)
        delay = 0 if self.waits else self._delay(ann, statistics, thresholds)
        correction = Correction(
            steps=steps,
            delay=delay,
            compensation=self.compensation,
            rounds=self.rounds,
            weights=self.weights,
            fit_to=self.fit_to,
            ridge=self.ridge,
            grid=self.grid or Correction.grid,
            sum_bits=self.sum_bits,
        )
        graph = graph.with_nodes([*graph.nodes[:-1], replace(graph.output, delay=delay or 0)])
        if self._corrects:
            graph = calibrate(ann, graph, statistics.sample, correction)
        if self.waits:
            graph = fire_serially(graph, self.steps)
        graph = normalise(graph)
        graph = snapped(graph, self.steps, self.grid, self.sum_bits)
        facts = {
            "made_for": self.made_for,
            "calibration_images": statistics.images,
            "corrected_on": len(statistics.sample) if self._corrects else 0,
            "delay": graph.output.delay,
            "thresholds": {name: value.tolist() for name, value in thresholds.items()},
        }
        return replace(graph, ann=ann).with_notes({**self.describe(), **facts})

    @property
    def per_steps(self) -> bool:
        """Whether anything in its networks depends on T."""
        return self.made_for is not None

    @property
    def made_for(self) -> int | None:
        """The one T that the method's networks are for; None where nothing in them depends on T."""
        plain = not (self._corrects or self.bias_shift or self.waits or self.delay != 0)
        return None if plain and self.thresholds == "percentile" else self.steps

    @property
    def _corrects(self) -> bool:
        """Whether anything is corrected layer by layer."""
        return self.weights or self.compensation != "none"

    @property
    def _start(self) -> float:
        """The membrane potential before the first step, in thresholds."""
        return 0.0 if self.bias_shift else self.initial_potential

    def _ranges(self, ann: Graph, statistics: Statistics) -> dict[str, Tensor]:
        """Return the most that neurons send in one step, by population."""
        levels = self.steps * self.levels
        if self.thresholds == "mmse":
            return mmse_thresholds(ann, statistics, levels)
        if self.thresholds == "iterated":
            return iterated_thresholds(ann, statistics, levels, self.percentile)
        if self.thresholds == "gaussian":
            return gaussian_thresholds(ann, statistics.sample, levels)
        if self.thresholds == "balanced":
            parts = statistics.sample.split(FEW)
            return balanced_thresholds(ann, [parts[i % len(parts)] for i in range(self.batches)])
        found = percentile_thresholds(ann, statistics, self.percentile)
        return {node.name: found[node.name] for node in ann.of(ReLU)}

    def _delay(
        self, ann: Graph, statistics: Statistics, thresholds: Mapping[str, Tensor]
    ) -> int | None:
        """Return the delay; None: it is to be found."""
        if self.delay == "auto":
            return delay_of(ann, statistics.sample, thresholds, self._start, self.steps)
        return 3 * self.steps // 8 if self.delay is None and not self.weights else self.delay
