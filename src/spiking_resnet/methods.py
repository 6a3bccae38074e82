"""Conversion methods: each is a frozen set of options and the tuple of passes they stand for."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from spiking_resnet.graph import Graph, ReLU
from spiking_resnet.neurons import Dcgs, Reset
from spiking_resnet.passes.calibrate import Correction, calibrate
from spiking_resnet.passes.compensate import compensate, search
from spiking_resnet.passes.differential import (
    fire_differentially,
    geometric,
    of_a_mean,
    schedule,
)
from spiking_resnet.passes.encode import poisson_input, with_input_limit
from spiking_resnet.passes.fire import Kind, fire, fire_after_pools, fire_at_output
from spiking_resnet.passes.fold_bn import fold_bn
from spiking_resnet.passes.gate import gate_neurons
from spiking_resnet.passes.normalise import normalise
from spiking_resnet.passes.pools import cumulative_pools, relu_first
from spiking_resnet.passes.serial import fire_serially
from spiking_resnet.passes.shift import shift_currents
from spiking_resnet.passes.shortcuts import projections, unconverted
from spiking_resnet.passes.snap import single, snap
from spiking_resnet.passes.thresholds import (
    balanced_thresholds,
    delay_of,
    gaussian_thresholds,
    iterated_thresholds,
    mmse_thresholds,
    percentile_thresholds,
)
from spiking_resnet.records import Calibration, InputError
from spiking_resnet.simulate import simulate
from spiking_resnet.statistics import Statistics, measure


@dataclass(frozen=True, kw_only=True)
class hu2021:
    """The method of Hu, Tang, Pan, "Spiking Deep Residual Network" (arXiv 1805.01352).

    Defaults are the released code's choices; each alternative is an argument.

    percentile: of a layer's activations, taken as its firing threshold lambda (the paper: 99.9 on
        MNIST and CIFAR, 99.99 on ImageNet); 100 is the maximum.
    per_channel: one threshold per channel instead of one per layer.
    initial_potential: membrane potential before the first step, as a fraction of the threshold.
    reset: "subtract", or "zero".
    levels: the most spikes of a neuron in one step. signed: neurons may take spikes back.
    shortcut_conversion: False leaves out the paper's shortcut conversion model (ablation).
    compensation: the factor on all synapses (1 is none), or "search": tried on calibration images
        only, with the trials in the graph's notes.
    compensation_steps, compensation_images: the time steps and the images of that search.
    pool_neurons: neurons of their own after average pools.
    max_pooling: "cumulative" (spike counts decide), or "instant" (maximum of the spikes: wrong).
    readout: "spikes+membrane" of neurons on the logits, or "membrane": the logits' mean current.
    input_coding: "constant" current, or "poisson" spikes (seed: of their draws).
    steps: the number of time steps the network is made for; sums stay exact that far.
    grid: the most bits of the grid that makes simulation exact, or None for no grid.
    sum_bits: bits of what a population receives in one step, on its grid: 16 (fast), up to 24.
    """

    name: ClassVar[str] = "hu2021"

    percentile: float = 99.9
    per_channel: bool = False
    initial_potential: float = 0.5
    reset: Reset = "subtract"
    levels: int = 1
    signed: bool = False
    shortcut_conversion: bool = True
    compensation: float | Literal["search"] = 1.0
    compensation_steps: int = 100
    compensation_images: int = 100
    pool_neurons: bool = True
    max_pooling: Literal["cumulative", "instant"] = "cumulative"
    readout: Literal["spikes+membrane", "membrane"] = "spikes+membrane"
    input_coding: Literal["constant", "poisson"] = "constant"
    seed: int = 0
    steps: int = 350
    grid: int | None = 14
    sum_bits: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}: it must lie in (0, 100]")
        if not 0 <= self.initial_potential < 1:
            raise ValueError(
                f"initial_potential is {self.initial_potential}: it must lie in [0, 1) thresholds"
            )
        if isinstance(self.compensation, str) and self.compensation != "search":
            raise ValueError(f"compensation is {self.compensation!r}: a factor, or 'search'")
        if self.levels < 1:
            raise ValueError(f"levels is {self.levels}: it starts at 1")
        if self.reset == "zero" and (self.levels > 1 or self.signed):
            raise ValueError("several levels and signs need the reset by subtraction")
        if not self.shortcut_conversion and self.per_channel:
            raise ValueError("without shortcut conversion thresholds are one per layer")
        for option, allowed in _CHOICES.items():
            if hasattr(self, option) and getattr(self, option) not in allowed:
                raise ValueError(f"{option} is {getattr(self, option)!r}: one of {allowed}")
        if not 16 <= self.sum_bits <= 24:
            raise ValueError(f"sum_bits is {self.sum_bits}: it must lie in 16..24")
        if self.steps < 1 or self.compensation_steps < 1 or self.compensation_images < 1:
            raise ValueError("steps, compensation_steps and compensation_images start at 1")

    def apply(self, traced: Graph, calibration: Calibration) -> Graph:
        """The spiking network of a traced one."""
        ann = relu_first(fold_bn(traced))
        probes = [] if self.shortcut_conversion else projections(ann)
        statistics = measure(ann, calibration, self.per_channel, self.compensation_images, probes)
        thresholds = percentile_thresholds(ann, statistics, self.percentile)
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
        if self.readout == "spikes+membrane":
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
        return replace(graph, ann=ann).with_notes({**self.describe(), **facts})

    def _finish(self, graph: Graph, unit: float) -> Graph:
        """Unit spikes, on the grid or off it."""
        graph = normalise(graph, unit)
        if self.grid is None:
            return single(graph)
        return snap(graph, self.steps, self.grid, self.sum_bits)

    def _compensation(
        self, ann: Graph, graph: Graph, images: Tensor, unit: float
    ) -> tuple[float, dict[str, Any]]:
        """The factor, and what was tried to find it."""
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

    def describe(self) -> dict[str, Any]:
        """The method's name and options, JSON-able."""
        return {"method": self.name, "options": asdict(self)}


@dataclass(frozen=True, kw_only=True)
class differential:
    """Differential neurons: signed spikes whose height shrinks from step to step (neurons.py).

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
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}: it must lie in (0, 100]")
        if not 0.5 <= self.caution <= 1:
            raise ValueError(f"caution is {self.caution}: it must lie in 0.5..1")
        if self.steps < 1 or self.levels < 1 or self.images < 1:
            raise ValueError("steps, levels and images start at 1")
        if not 0 <= self.lead <= 1:
            raise ValueError(f"lead is {self.lead}: it must lie in 0..1")
        if (self.first is None) != (self.last is None):
            raise ValueError("first and last go together: name both heights, or neither")

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
    """Differential coding with its authors' own neurons and thresholds (neurons.Dcgs).

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
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}: it must lie in (0, 100]")
        if self.thresholds not in ("gaussian", "iterated", "percentile"):
            raise ValueError(
                f"thresholds is {self.thresholds!r}: one of gaussian, iterated and percentile"
            )
        if self.steps < 1 or self.levels < 1 or self.images < 1:
            raise ValueError("steps, levels and images start at 1")

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


@dataclass(frozen=True, kw_only=True)
class calibrated:
    """Integrate-and-fire neurons made for T steps, corrected layer by layer on calibration images.

    The axes of what came after the paper, each an argument: thresholds x compensation x weights x
    neuron x read-out (passes/thresholds.py, passes/calibrate.py; PRESETS names published sets).

    thresholds: "percentile" of the activations; "mmse" of quantisation to T levels (SNN
        Calibration); "iterated" (DCGS's threshold iteration on the activations seen), "gaussian"
        (on normally distributed inputs, as there); "balanced" (local threshold balancing).
        percentile: for "percentile", and the most for "iterated".
    per_channel: one threshold per channel; "balanced" ones always are.
    compensation: of channels' "bias", of neurons' initial "potential", channels' "offsets" (of
        neurons that wait: DA-QCFS), or "none". rounds: of the first two.
    weights: refitted to what layers receive. ridge: how strongly they are held (calibrate.py).
    initial_potential, levels, signed, max_pooling, grid, sum_bits: as in `hu2021`. Thresholds of
        neurons of several levels are the range over the levels.
    bias_shift: the initial potential is 0 and enters as a current, its T-th part at every step.
    waits: neurons wait for their whole input and then fire up to T spikes (layer-serial, after
        DA-QCFS): no uneven arrival, but latency grows with depth. Off the grid, without a delay.
    delay: steps that the read-out leaves out; "auto" is what delayed evaluation takes (delay_of);
        None three eighths of the steps.
    steps: T. images: calibration images used layer by layer. batches: of "balanced" thresholds.
    """

    name: ClassVar[str] = "calibrated"

    thresholds: Literal["percentile", "mmse", "iterated", "gaussian", "balanced"] = "mmse"
    percentile: float = 99.9
    per_channel: bool = True
    compensation: Literal["none", "bias", "potential", "offsets"] = "potential"
    rounds: int = 3
    weights: bool = True
    ridge: float = 1e-3
    initial_potential: float = 0.5
    bias_shift: bool = False
    levels: int = 1
    signed: bool = False
    waits: bool = False
    delay: int | Literal["auto"] | None = None
    max_pooling: Literal["cumulative", "instant"] = "cumulative"
    steps: int = 32
    images: int = 256
    batches: int = 500
    grid: int | None = 14
    sum_bits: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}: it must lie in (0, 100]")
        if not 0 <= self.initial_potential < 1:
            raise ValueError(
                f"initial_potential is {self.initial_potential}: it must lie in [0, 1) thresholds"
            )
        if isinstance(self.delay, str) and self.delay != "auto":
            raise ValueError(f"delay is {self.delay!r}: a number of steps, 'auto' or None")
        if isinstance(self.delay, int) and not 0 <= self.delay < self.steps:
            raise ValueError(f"delay is {self.delay}: it must lie in 0..{self.steps - 1}")
        if self.waits and (self.levels > 1 or self.signed or self.delay):
            raise ValueError("neurons that wait fire 0 or 1 spike, and their read-out has no delay")
        if not self.ridge > 0:
            raise ValueError(f"ridge is {self.ridge}: it must be positive")
        for option, allowed in _CHOICES.items():
            if hasattr(self, option) and getattr(self, option) not in allowed:
                raise ValueError(f"{option} is {getattr(self, option)!r}: one of {allowed}")
        if not 16 <= self.sum_bits <= 24:
            raise ValueError(f"sum_bits is {self.sum_bits}: it must lie in 16..24")
        if self.compensation not in ("none", "bias", "potential", "offsets"):
            raise ValueError(
                f"compensation is {self.compensation!r}: one of none, bias, potential and offsets"
            )
        if self.compensation == "offsets" and not self.waits:
            raise ValueError("offsets are for neurons that wait: add waits=True")
        for option in ("steps", "images", "levels", "rounds", "batches"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} is {getattr(self, option)}: it starts at 1")

    def apply(self, traced: Graph, calibration: Calibration) -> Graph:
        """The spiking network of a traced one."""
        ann = relu_first(fold_bn(traced))
        statistics = measure(ann, calibration, self.per_channel, self.images)
        ranges = self._ranges(ann, statistics)
        # Neurons that wait count what they received once: one step with T levels.
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
            ridge=self.ridge,
        )
        if self._corrects:
            graph = calibrate(ann, graph, statistics.sample, correction)
        if self.waits:
            graph = fire_serially(graph, self.steps)
        graph = normalise(graph.with_nodes([*graph.nodes[:-1], replace(graph.output, delay=delay)]))
        graph = (
            single(graph)
            if self.grid is None or self.waits
            else snap(graph, self.steps, self.grid, self.sum_bits)
        )
        facts = {
            "calibration_images": statistics.images,
            "corrected_on": len(statistics.sample) if self._corrects else 0,
            "delay": delay,
            "thresholds": {name: value.tolist() for name, value in thresholds.items()},
        }
        return replace(graph, ann=ann).with_notes({**self.describe(), **facts})

    @property
    def _corrects(self) -> bool:
        """Whether anything is corrected layer by layer."""
        return self.weights or self.compensation != "none"

    @property
    def _start(self) -> float:
        """Potentials before the first step, in thresholds."""
        return 0.0 if self.bias_shift else self.initial_potential

    def _ranges(self, ann: Graph, statistics: Statistics) -> dict[str, Tensor]:
        """What neurons hand on at most in one step, by population."""
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

    def _delay(self, ann: Graph, statistics: Statistics, thresholds: Mapping[str, Tensor]) -> int:
        if self.delay == "auto":
            return delay_of(ann, statistics.sample, thresholds, self._start, self.steps)
        return 3 * self.steps // 8 if self.delay is None else self.delay

    def describe(self) -> dict[str, Any]:
        """The method's name and options, JSON-able."""
        return {"method": self.name, "options": asdict(self)}


@dataclass(frozen=True, kw_only=True)
class qcfs:
    """The conversion of networks trained with the quantised activation (Bu et al., ICLR 2022).

    Every threshold is the trained one and v0 is half of it: after T = `levels` steps of even input
    a neuron has sent what its activation is. Only for networks with QCFS activations, as `train
    --activation qcfs` makes them; nothing is calibrated.

    gate: "srp" or "cos": after `pre_steps` steps neurons start again, corrected by what they have
        seen (neurons.py); "none". The read-out leaves the pre-steps out; simulate them too.
    max_pooling, steps, grid, sum_bits: as in `hu2021`; `steps` are the counted ones.
    """

    name: ClassVar[str] = "qcfs"

    gate: Literal["none", "srp", "cos"] = "none"
    pre_steps: int = 0
    max_pooling: Literal["cumulative", "instant"] = "cumulative"
    steps: int = 64
    grid: int | None = 14
    sum_bits: int = 16

    def __post_init__(self) -> None:
        for option, allowed in _CHOICES.items():
            if hasattr(self, option) and getattr(self, option) not in allowed:
                raise ValueError(f"{option} is {getattr(self, option)!r}: one of {allowed}")
        if (self.gate == "none") != (self.pre_steps == 0) or self.pre_steps < 0:
            raise ValueError(
                f"pre_steps is {self.pre_steps} and gate {self.gate!r}: pre-steps are for the "
                "gates srp and cos, which need at least one"
            )
        if not 16 <= self.sum_bits <= 24:
            raise ValueError(f"sum_bits is {self.sum_bits}: it must lie in 16..24")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}: it starts at 1")

    def apply(self, traced: Graph, calibration: Calibration) -> Graph:
        """The spiking network of a traced one; InputError where a ReLU is not quantised."""
        ann = relu_first(fold_bn(traced))
        thresholds = {node.name: _trained_threshold(node) for node in ann.of(ReLU)}
        statistics = measure(ann, calibration, False, 1)
        graph = fire(with_input_limit(ann, statistics.input_limit), thresholds, Kind())
        if self.max_pooling == "cumulative":
            graph = cumulative_pools(graph)
        if self.gate != "none":
            graph = gate_neurons(graph, self.gate, self.pre_steps)
        graph = normalise(graph)
        graph = (
            single(graph)
            if self.grid is None
            else snap(graph, self.steps + self.pre_steps, self.grid, self.sum_bits)
        )
        facts = {
            "calibration_images": statistics.images,
            "corrected_on": 0,
            "delay": self.pre_steps,
            "trained": True,
            "thresholds": {name: value.tolist() for name, value in thresholds.items()},
        }
        return replace(graph, ann=ann).with_notes({**self.describe(), **facts})

    def describe(self) -> dict[str, Any]:
        """The method's name and options, JSON-able."""
        return {"method": self.name, "options": asdict(self)}


def _trained_threshold(node: ReLU) -> Tensor:
    """The threshold [] of a quantised activation."""
    if node.levels is None or node.ceiling is None:
        source = f" ({node.source})" if node.source else ""
        raise InputError(
            f"{node.name!r}{source} is a ReLU without levels, and the method qcfs is for networks "
            "trained with quantised activations: fine-tune it with `spiking-resnet train "
            "--activation qcfs --from WEIGHTS`, or choose the method hu2021 or calibrated"
        )
    return torch.tensor(node.ceiling)


SIGNED, MULTI_THRESHOLD = 0.5, 0.75  # from what share of a size on DCGS's neurons fire it
FEW = 16  # images in a batch of "balanced" thresholds: what counts is how many batches there are

Method = hu2021 | differential | dcgs | calibrated | qcfs

_CHOICES = {
    "reset": ("subtract", "zero"),
    "max_pooling": ("cumulative", "instant"),
    "readout": ("spikes+membrane", "membrane"),
    "input_coding": ("constant", "poisson"),
    "thresholds": ("percentile", "mmse", "iterated", "gaussian", "balanced"),
    "gate": ("none", "srp", "cos"),
}

PLAIN: dict[str, Any] = {"compensation": "none", "weights": False, "delay": 0}

# Published sets of options of `calibrated`, by name: usable wherever a method is named.
PRESETS: dict[str, dict[str, Any]] = {
    "optimal-potential": {**PLAIN, "thresholds": "percentile"},  # Bu et al., AAAI 2022: v0 = th / 2
    "mmse": {**PLAIN, "thresholds": "mmse"},
    "threshold-iteration": {**PLAIN, "thresholds": "iterated"},  # of DCGS, ICML 2025
    "threshold-balancing": {**PLAIN, "thresholds": "balanced", "delay": "auto"},  # CVPR 2025
    "bias-shift": {**PLAIN, "thresholds": "percentile", "bias_shift": True},  # ICLR 2021
    "da-qcfs": {  # Hao et al., ICML 2025
        **PLAIN,
        "thresholds": "mmse",
        "compensation": "offsets",
        "waits": True,
    },
    # Li et al., ICML 2021
    "snn-calibration-light": {**PLAIN, "compensation": "bias", "rounds": 1},
    # with the ridge regression in the place of its gradient descent
    "snn-calibration-advanced": {
        **PLAIN,
        "compensation": "potential",
        "rounds": 1,
        "weights": True,
    },
}

METHODS: dict[str, type[Method]] = {
    "hu2021": hu2021,
    "differential": differential,
    "calibrated": calibrated,
    "dcgs": dcgs,
    "qcfs": qcfs,
}


def named(name: str, **options: Any) -> Method:
    """The method, or the published set of options, of this name; `options` go before its own.

    Raises ValueError for names there are not, TypeError for options it does not have.
    """
    if name in PRESETS:
        return calibrated(**{**PRESETS[name], **options})
    if name not in METHODS:
        known = ", ".join((*METHODS, *PRESETS))
        raise ValueError(f"there is no method {name!r}: use one of {known}")
    return METHODS[name](**options)
