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

Amplitudes of few bits (`short`), m(t) 2^-k(t), make all of this whole numbers of a grid: a spike
brings whole numbers of its own step's unit, and what is compared lies on the grid of the potential.
"""

from collections.abc import Iterator, Mapping
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
    nearest; more saves spikes. Memory: e in thresholds. A spike of any size counts as one. On a
    grid thresholds and amplitudes are 1.
    """

    heights: Tensor
    ceiling: Tensor | None = None
    caution: float = 0.5
    signed: bool = True

    trait: ClassVar[str] = "is differential (its spikes shrink from step to step)"
    rate_coded: ClassVar[bool] = False
    free_start: ClassVar[bool] = False
    unit_varies: ClassVar[bool] = True
    counts_spikes: ClassVar[bool] = False
    arrival: ClassVar[str] = "at the first step"
    RULES: ClassVar[Mapping[str, Rule]] = {
        "reset": one_of(("subtract",)),
        "levels": whole(1, MOST_SIZES),
        "signed": truth(True),
        "caution": positive(1),
    }
    TENSORS: ClassVar[Mapping[str, TensorRule]] = {
        **Neuron.TENSORS,
        "heights": TensorRule(("steps",), positive=True, on_grid=True),
        "ceiling": TensorRule(("one", "channels", "none"), positive=True, on_grid=True),
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

    @property
    def potential_offset(self) -> float:
        """The most that |potential| exceeds |summed currents|: what all spikes together take."""
        sent = self.largest_size * float(self.heights.double().sum())
        return sent * float(self.threshold.max()) + float(self.initial_potential.abs().max())

    @property
    def most_spent(self) -> float:
        """The most that the spikes of one step take off a potential."""
        return self.largest_size * float(self.heights.max() * self.threshold.max())

    @property
    def units(self) -> Tensor:
        """The values that a spike of size 1 has at any step, [T * C]."""
        return (self.heights[:, None] * self.amplitude.reshape(1, -1)).flatten()

    @property
    def edges(self) -> Tensor:
        """[T, levels]: from what |want| on, in thresholds, a spike of each size is fired."""
        between = torch.tensor(list(self._edges()), dtype=torch.float64)
        return (self.heights.double().cpu()[:, None] * between).to(self.heights)

    def _edges(self) -> Iterator[float]:
        """Yield from what |want| on, in amplitudes, a spike of each size is fired."""
        below = 0
        for level in range(self.levels):
            yield below + self.caution * (2**level - below)
            below = 2**level

    def step(self, state: State, current: Tensor, time: int = 0) -> tuple[Tensor, State]:
        """Return (spikes, the state after the step)."""
        threshold = per_channel(self.threshold, current)
        charged = state.potential + current
        sent = torch.zeros_like(charged) if state.memory is None else state.memory
        ahead = charged / threshold
        if self.ceiling is not None:
            ahead = torch.minimum(ahead, per_channel(self.ceiling, current) - sent)
        more = self.heights[time] * self._size(ahead, sent, time)
        after = State(charged - threshold * more, sent + more)
        spikes = per_channel(self.amplitude, current) * more
        return spikes.to(self.amplitude.dtype), after

    def _size(self, ahead: Tensor, sent: Tensor, time: int) -> Tensor:
        """Return the signed size of a spike at step `time`; what was sent and is ahead of it is in
        thresholds.
        """
        want = torch.maximum(ahead, -sent)
        size, found = want.abs(), torch.zeros_like(want)
        for level, edge in enumerate(self.edges[time]):
            found = torch.where(size >= edge, 2.0**level, found)
        return found * want.sign()

    def steps(
        self, state: State, currents: Tensor, number: int, time: int = 0
    ) -> Iterator[tuple[Tensor, State]]:
        """Yield as in `Neuron`; of thresholds and amplitudes 1 what holds until the next step."""
        ones = all(bool((each == 1).all()) for each in (self.threshold, self.amplitude))
        if type(self) is not Differential or not ones or currents.dtype != state.potential.dtype:
            yield from super().steps(state, currents, number, time)
            return
        ahead, memory = state.potential.clone(), state.memory
        sent = torch.zeros_like(ahead) if memory is None else memory.clone()
        most = None if self.ceiling is None else per_channel(self.ceiling, ahead)
        least, want = torch.empty_like(ahead), torch.empty_like(ahead)
        below = torch.nextafter(self.edges.to(ahead), torch.zeros((), dtype=ahead.dtype)).tolist()
        for index in range(number):
            ahead += currents[index if len(currents) > 1 else 0]
            torch.neg(sent, out=least)
            if most is None:
                torch.maximum(ahead, least, out=want)
            else:
                torch.add(least, most, out=want)
                torch.minimum(want, ahead, out=want)
                torch.maximum(want, least, out=want)
            spikes = self._sizes_above(want, below[time + index])
            spikes *= float(self.heights[time + index])
            ahead -= spikes
            sent += spikes
            yield spikes, State(ahead, sent)

    def _sizes_above(self, want: Tensor, edges: list[float]) -> Tensor:
        """Return signed sizes: the largest whose edge |want| is above, one edge for each."""
        found = torch.hardshrink(want, edges[0]).sign_()
        for level, edge in enumerate(edges[1:]):
            found.add_(torch.hardshrink(want, edge).sign_(), alpha=2**level)
        return found

    def unit(self, like: Tensor, time: int = 0) -> Tensor:
        """Return the value of a size-1 spike from step `time` on, to multiply [T, N, C, ...] by."""
        heights = self.heights[time : time + len(like)]
        return per_channel(self.amplitude, like[0]) * heights.view(-1, *([1] * (like.ndim - 1)))

    def most_sent(self, steps: int) -> Tensor:
        """Return the ceiling, or what the largest spikes of all steps add up to."""
        reach = self.largest_size * self.heights[:steps].double().sum()
        return reach if self.ceiling is None else torch.minimum(reach, self.ceiling.double())

    def best_sent(self, total: Tensor, steps: int) -> Tensor:
        """Return e after `steps` steps if `total` arrives at the first of them, float64."""
        total = total.double()
        _, state = self.step(self.initial_state(total), total)
        for _, after in self.steps(state, torch.zeros_like(total)[None], steps - 1, 1):
            state = after
        return torch.zeros_like(total) if state.memory is None else state.memory.clone()

    def count(self, spikes: Tensor) -> Tensor:
        """Return the signed number of spikes [T, N, C, ...] that every neuron fired."""
        return spikes.sign()
