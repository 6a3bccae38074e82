"""What a spiking neuron is: its frozen parameters, and the pure function that advances it one step.

The equation of the integrate-and-fire neuron stands here and nowhere else (Hu, Tang, Pan,
"Spiking Deep Residual Network", arXiv 1805.01352, and Rueckauer et al. 2017 for the reset by
subtraction):

    v <- v + I;   s = [v >= threshold];   v <- v - threshold * s     (reset by subtraction)
                                          v <- v * (1 - s)           (reset to zero)

There is no leak and no refractory period; at v = threshold exactly the neuron fires.

A neuron that may fire several spikes in a step, and take spikes back, is the same with

    s = clip(floor(v / threshold), low, levels);   low = -min(levels, spikes so far) if signed, or 0

which is s = [v >= threshold] for one level and no sign. Several levels are the burst neuron (Li and
Zeng, "Efficient and Accurate Conversion of Spiking Neural Network with Burst Spikes", IJCAI 2022)
and, with levels = 2^n - 1, the n thresholds of binary weights of the multi-threshold neuron (its
thresholds are tried from the largest to the smallest, which is what floor and clip do). A sign is
the neuron that takes back what it fired too early (Wang et al., "Signed Neuron with Memory", IJCAI
2022): with v0 = threshold / 2 it does so below -threshold / 2 of what it should have fired.

The differential neuron is this project's form of differential coding (after DCGS, "Differential
Coding for Training-Free ANN-to-SNN Conversion", ICML 2025). What stays the same is sent once: image
and biases enter at the first step only, and every spike corrects what was sent before, by a height
that shrinks from step to step. With e the sum of the spikes so far, times their heights, v = u - e
is what the neuron's input u so far is ahead of it, and

    want = (clip(u, 0, ceiling) - e) / height(t),   u = v + e
    s = sign(want) * the nearest of 0, 1, 2, 4, ... 2^(levels - 1) to |want|
    v <- v + I - height(t) * s;   e <- e + height(t) * s;   height(t) = threshold * heights[t]

so after every step e stands for the (clipped) ReLU of u, as well as that step's height allows.

DCGS's own neuron (Huang et al., "Differential Coding for Training-Free ANN-to-SNN Conversion", ICML
2025) decodes a mean over time. At step t = 1, 2, ... it receives x(t), holds the running means e_in
of its input and e_out of its output (e_in starts as the bias), and fires a spike s(t), one of
threshold / 2^k, k = 0 ... levels - 1, with a sign, or none:

    m <- m + x(t) + e_in - e_out;   s = sign(m) * the largest with |m| >= 3/4 threshold / 2^k
    m <- m - s;   e_in <- e_in + x(t) / t;   e_out <- e_out + s / t

where a negative spike must leave e_out >= 0. That is the multi-threshold neuron; a signed
integrate-and-fire neuron with v0 = threshold / 2 in its place has one size, fired from half of it
on. By induction m = t (e_in - e_out) after every step. So m needs no memory of its own: it is the
differential neuron above with v = m / t, heights threshold / (2^(levels - 1) t) of the smallest
spike, what a spike of step t weighs in e_out as its value, and another rule for s. An image that
enters at the first step is the mean of a constant one.

The layer-serial neuron (the "parallel" neuron of Hao et al., ICML 2025) integrates its whole input
before it fires: the reset by subtraction as above, but s = 0 at all but `window` steps from `start`
on. Once everything has arrived it fires clip(floor(v / threshold), 0, window) spikes.

The gated neuron runs `pre_steps` steps to see what its residual potential v says, starts again at
v0 and then knows better. Had its input arrived evenly, the residual would lie in [0, threshold):
below, it fired too often; above, not often enough (unless more than a spike a step was due).

    "srp"  v < 0: silent from here on   (Hao et al., "Reducing ANN-SNN conversion error through
           residual membrane potential", AAAI 2023: most such neurons stand for a zero activation)
    "cos"  v < 0: starts at v0 - threshold;  v >= threshold: at v0 + threshold   (Hao et al.,
           "Bridging the gap between ANNs and SNNs by calibrating offset spikes", ICLR 2023)
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

Reset = Literal["subtract", "zero"]
Gate = Literal["srp", "cos"]


@dataclass(frozen=True, eq=False, kw_only=True)
class IntegrateAndFire:
    """A population of integrate-and-fire neurons.

    threshold: firing threshold, [] or [C], positive, in the unit of the input current.
    initial_potential: membrane potential before the first step, [], [C] or [C, H, W].
    amplitude: height of the emitted spikes, [] or [C]. While a method works on a network, a spike
        carries its threshold; after `normalise` it is 1.
    reset: "subtract" (the remainder above the threshold is kept) or "zero" (it is lost).
    levels: the most spikes in one step. signed: whether a neuron may fire negative spikes, as many
        as it has fired positive ones. Both go with the reset by subtraction only.
    """

    threshold: Tensor
    initial_potential: Tensor
    amplitude: Tensor
    reset: Reset = "subtract"
    levels: int = 1
    signed: bool = False
    waits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"levels is {self.levels}: a neuron fires at least 1 spike in a step")
        if self.reset == "zero" and not self.binary:
            raise ValueError("several levels and signs need the reset by subtraction")

    @property
    def binary(self) -> bool:
        """Whether it fires 0 or 1 spike in a step."""
        return self.levels == 1 and not self.signed

    @property
    def remembers(self) -> bool:
        """Whether its state is more than its potential: what `remembered` gives."""
        return self.signed


@dataclass(frozen=True, eq=False, kw_only=True)
class Differential(IntegrateAndFire):
    """A population of differential neurons; always signed, its v0 is 0.

    heights: [T], positive: of a spike at each step, in thresholds. levels: sizes of a spike: 1, 2,
    ... 2^(levels - 1) heights. ceiling: [] or [C], of a clipped ReLU, in thresholds. caution: from
    how far between two sizes on the larger one is taken, 0.5 for the nearest; more saves spikes.
    """

    heights: Tensor
    ceiling: Tensor | None = None
    caution: float = 0.5
    signed: bool = True

    @property
    def binary(self) -> bool:
        """It fires -1, 0 or 1 spike in a step."""
        return False


@dataclass(frozen=True, eq=False, kw_only=True)
class Dcgs(Differential):
    """A population of DCGS's neurons.

    heights: [T], of the smallest spike at each step: 2^(1 - levels) / t for the mean over time.
    caution: from what share of a size on it is fired: 3/4, the middle between it and its half, for
    several of them; 1/2 is the signed integrate-and-fire neuron with v0 = threshold / 2.
    """

    caution: float = 0.75


@dataclass(frozen=True, eq=False, kw_only=True)
class Serial(IntegrateAndFire):
    """A population that waits for its whole input.

    It may fire at steps start ... start + window - 1 (0 is the first), one spike a step.
    """

    start: int
    window: int
    waits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.start < 0 or self.window < 1:
            raise ValueError(f"start {self.start}, window {self.window}: at least 0, and 1")
        if self.reset == "zero" or not self.binary:
            raise ValueError("neurons that wait fire 0 or 1 spike and reset by subtraction")


@dataclass(frozen=True, eq=False, kw_only=True)
class Gated(IntegrateAndFire):
    """A population that starts again after `pre_steps` steps, gated by its residual potential."""

    pre_steps: int
    gate: Gate

    def __post_init__(self) -> None:
        if self.pre_steps < 1 or self.gate not in get_args(Gate):
            raise ValueError(
                f"pre_steps {self.pre_steps}, gate {self.gate!r}: at least 1, and one of "
                f"{', '.join(get_args(Gate))}"
            )
        if self.reset == "zero" or not self.binary:
            raise ValueError("gated neurons fire 0 or 1 spike and reset by subtraction")

    @property
    def remembers(self) -> bool:
        """Whether there are neurons that must stay silent."""
        return self.gate == "srp"

    def again(self, residual: Tensor) -> Tensor:
        """The potentials [N, C, ...] that counted steps start at, of those after the pre-steps."""
        first = start(self, residual)
        if self.gate == "srp":
            return first
        threshold = per_channel(self.threshold, residual)
        few, many = (residual >= threshold).to(first.dtype), (residual < 0).to(first.dtype)
        return first + threshold * (few - many)


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """`values` ([], [C] or [C, H, W]) shaped to broadcast against `like` [N, C, ...]."""
    if values.ndim == 1:
        return values.view(-1, *([1] * (like.ndim - 2)))
    return values


def start(neuron: IntegrateAndFire, current: Tensor) -> Tensor:
    """The membrane potentials before the first step, [N, C, ...] like `current`."""
    initial = per_channel(neuron.initial_potential, current)
    return torch.empty_like(current).copy_(initial.expand_as(current))


def step(
    neuron: IntegrateAndFire,
    potential: Tensor,
    current: Tensor,
    emitted: Tensor | float = 0.0,
    time: int = 0,
) -> tuple[Tensor, Tensor]:
    """(spikes, membrane potential after the step).

    potential, current: [N, C, ...]. emitted: what `remembered` gave after the step before (0 before
    the first): the spikes so far, which a signed neuron may take back, or 1 where a gated neuron
    stays silent. Spikes are whole numbers times `amplitude`; of differential neurons, times their
    height at step `time` (0 is the first), and `emitted` is e in thresholds.
    """
    threshold = per_channel(neuron.threshold, current)
    if isinstance(neuron, Gated) and time == neuron.pre_steps:
        potential = neuron.again(potential)
    charged = potential + current
    if isinstance(neuron, Differential):
        height = neuron.heights[time]
        ahead = charged / threshold
        if neuron.ceiling is not None:
            ahead = torch.minimum(ahead, per_channel(neuron.ceiling, current) - emitted)
        sent = height * _size(neuron, ahead / height, emitted / height)
        return per_channel(neuron.amplitude, current) * sent, charged - threshold * sent
    if neuron.binary:
        fired = (charged >= threshold).to(charged.dtype)
        if isinstance(neuron, Serial) and not 0 <= time - neuron.start < neuron.window:
            fired = torch.zeros_like(fired)
        if isinstance(neuron, Gated) and time >= neuron.pre_steps:
            fired = fired * (1 - emitted)
    else:
        fired = torch.floor(charged / threshold).clamp(max=neuron.levels)
        floor = (
            -torch.as_tensor(emitted, dtype=charged.dtype).clamp(max=neuron.levels)
            if neuron.signed
            else 0.0
        )
        fired = fired.clamp(min=floor)
    rest = charged - threshold * fired if neuron.reset == "subtract" else charged * (1 - fired)
    return per_channel(neuron.amplitude, current) * fired, rest


def _size(neuron: Differential, wanted: Tensor, emitted: Tensor) -> Tensor:
    """Of the sizes of a differential neuron's spikes the one for `wanted`, with its sign.

    emitted: what it has sent so far; all in heights of this step.
    """
    if isinstance(neuron, Dcgs):
        return _largest(neuron, wanted, emitted)
    return _nearest(neuron, torch.maximum(wanted, -emitted))


def _largest(neuron: Dcgs, wanted: Tensor, emitted: Tensor) -> Tensor:
    """The largest size of which |wanted| is the share `caution`, with its sign; negative ones are
    no larger than `emitted`.
    """
    found = torch.zeros_like(wanted)
    for size in (2.0**level for level in range(neuron.levels)):
        allowed = (wanted > 0) | (emitted >= size)
        found = torch.where((wanted.abs() >= neuron.caution * size) & allowed, size, found)
    return found * wanted.sign()


def _nearest(neuron: Differential, wanted: Tensor) -> Tensor:
    """The size that is nearest to |wanted| (by the neuron's caution), with its sign."""
    size, found, below = wanted.abs(), torch.zeros_like(wanted), 0
    for level in range(neuron.levels):
        found = torch.where(size >= below + neuron.caution * (2**level - below), 2.0**level, found)
        below = 2**level
    return found * wanted.sign()


def whole(neuron: IntegrateAndFire, spikes: Tensor) -> Tensor:
    """The number of spikes that every neuron fired, negative ones counted so, of spikes [N, C, ...]
    that are their heights. A differential neuron's spike of any size is one.
    """
    if neuron.binary:
        return spikes != 0
    if isinstance(neuron, Differential):
        return spikes.sign()
    return torch.round(spikes / per_channel(neuron.amplitude, spikes))


def sent(neuron: IntegrateAndFire, spikes: Tensor) -> Tensor:
    """What spikes [N, C, ...] add to the `emitted` of `step`."""
    if isinstance(neuron, Differential):
        return spikes / per_channel(neuron.amplitude, spikes)
    return whole(neuron, spikes)


def remembered(
    neuron: IntegrateAndFire, emitted: Tensor, spikes: Tensor, potential: Tensor, time: int
) -> Tensor:
    """The `emitted` of the step after `time`, which gave these spikes and potentials [N, C, ...].

    Signed neurons add what they sent; after its last pre-step a gated neuron notes, by 1, that it
    stays silent.
    """
    if isinstance(neuron, Gated):
        last = neuron.gate == "srp" and time == neuron.pre_steps - 1
        return (potential < 0).to(potential.dtype) if last else emitted
    return emitted + sent(neuron, spikes) if neuron.signed else emitted


def even_count(neuron: IntegrateAndFire, total: Tensor, steps: int) -> Tensor:
    """The spikes [N, C, ...] of `steps` steps if the input arrived evenly: whole numbers, float64.

    total: [N, C, ...], the sum of the input current over all steps, which is presented in equal
    parts. With the reset by subtraction that is clip(floor((v0 + total) / threshold), 0,
    steps * levels); with the reset to zero a neuron needs the same number of steps for every spike
    after its first. The initial potential must lie in [0, threshold).
    """
    total = total.double()
    threshold = per_channel(neuron.threshold.double(), total)
    initial = per_channel(neuron.initial_potential.double(), total)
    if neuron.reset == "subtract":
        return torch.floor((initial + total) / threshold).clamp(0, steps * neuron.levels)
    rising = torch.where(total > 0, total, 1.0)
    first = torch.ceil((threshold - initial) * steps / rising)
    period = torch.ceil(threshold * steps / rising)
    spikes = 1 + torch.floor((steps - first) / period)
    return torch.where((total > 0) & (first <= steps), spikes, 0.0)
