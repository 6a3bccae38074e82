"""The differential neuron: a spike corrects what was sent before, by amplitudes that shrink.

This project's form of differential coding (after DCGS, "Differential Coding for Training-Free
ANN-to-SNN Conversion", ICML 2025). What stays the same is sent once: image and biases enter at the
first step only, and every spike corrects what was sent before, by an amplitude that shrinks from
step to step. With e the sum of the spikes so far, v = u - e is what the neuron's input u so far is
ahead of it, and

    want = (clip(u, 0, ceiling) - e) / a(t),   u = v + e
    s = sign(want) * the nearest of 0, 1, 2, 4, ... 2^(levels - 1) to |want|
    v <- v + I - a(t) * s;   e <- e + a(t) * s;   a(t) = threshold * heights[t]

so after every step e is the (clipped) ReLU of u, to the accuracy of that step's amplitude a(t).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spiking_resnet.neurons.base import Neuron, State, TensorRule, per_channel
from spiking_resnet.rules import Rule, one_of, positive, truth, whole

MOST_SIZES = 24  # of a spike, each twice the one before


@dataclass(frozen=True, eq=False, kw_only=True)
class Differential(Neuron):
    """A population of differential neurons; always signed, with initial potential 0.

    heights: [T], positive: amplitude of the smallest spike at each step, in thresholds. levels:
    sizes of a spike: 1, 2, ... 2^(levels - 1) of these. ceiling: [] or [C], of a clipped ReLU, in
    thresholds. caution: from how far between two sizes on the larger one is taken, 0.5 for the
    nearest; more saves spikes. Memory: e in thresholds. A spike of any size counts as one.
    """

    heights: Tensor
    ceiling: Tensor | None = None
    caution: float = 0.5
    signed: bool = True

    trait: ClassVar[str] = "is differential (its spikes shrink from step to step)"
    rate_coded: ClassVar[bool] = False
    grid_possible: ClassVar[bool] = False
    free_start: ClassVar[bool] = False
    RULES: ClassVar[Mapping[str, Rule]] = {
        "reset": one_of(("subtract",)),
        "levels": whole(1, MOST_SIZES),
        "signed": truth(True),
        "caution": positive(1),
    }
    TENSORS: ClassVar[Mapping[str, TensorRule]] = {
        **Neuron.TENSORS,
        "heights": TensorRule(("steps",), positive=True),
        "ceiling": TensorRule(("one", "channels", "none"), positive=True),
    }

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"levels is {self.levels}: a neuron fires at least 1 spike in a step")
        if self.reset == "zero":
            raise ValueError("several levels and signs need the reset by subtraction")

    @property
    def largest_size(self) -> int:
        """The size of the largest spike, in smallest spikes of the same step."""
        return 2 ** (self.levels - 1)

    @property
    def longest(self) -> int:
        """The most time steps that the neuron can run for: the length of `heights`."""
        return len(self.heights)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the (lowest, highest) value of a spike in any step, each [] or [C], float64."""
        high = self.largest_size * self.amplitude.double() * self.heights.double().max()
        return -high, high

    def step(self, state: State, current: Tensor, time: int = 0) -> tuple[Tensor, State]:
        """Return (spikes, the state after the step)."""
        threshold = per_channel(self.threshold, current)
        amplitude = per_channel(self.amplitude, current)
        charged, share = state.potential + current, self.heights[time]
        sent = torch.zeros_like(charged) if state.memory is None else state.memory
        ahead = charged / threshold
        if self.ceiling is not None:
            ahead = torch.minimum(ahead, per_channel(self.ceiling, current) - sent)
        more = share * self._size(ahead / share, sent / share)
        spikes = amplitude * more
        return spikes, State(charged - threshold * more, sent + spikes / amplitude)

    def _size(self, wanted: Tensor, sent: Tensor) -> Tensor:
        """Return the signed size of a spike for `wanted`, after `sent`; all in its amplitudes."""
        return self._nearest(torch.maximum(wanted, -sent))

    def _nearest(self, wanted: Tensor) -> Tensor:
        """Return the signed size that is nearest to |wanted| (by the neuron's caution)."""
        size, found, below = wanted.abs(), torch.zeros_like(wanted), 0
        for level in range(self.levels):
            edge = below + self.caution * (2**level - below)
            found = torch.where(size >= edge, 2.0**level, found)
            below = 2**level
        return found * wanted.sign()

    def unit(self, like: Tensor, time: int = 0) -> Tensor:
        """Return the value of a size-1 spike from step `time` on, to multiply [T, N, C, ...] by."""
        heights = self.heights[time : time + len(like)]
        return per_channel(self.amplitude, like[0]) * heights.view(-1, *([1] * (like.ndim - 1)))

    def count(self, spikes: Tensor) -> Tensor:
        """Return the signed number of spikes [T, N, C, ...] that every neuron fired."""
        return spikes.sign()
