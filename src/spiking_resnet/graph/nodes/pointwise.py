"""Kinds of nodes that compute each entry by itself: ReLU, its spiking form Fire, and Round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from spiking_resnet.graph.grids import coarsest_grid, finest
from spiking_resnet.graph.nodes.base import (
    MOST_BITS,
    SUMMED,
    Bounds,
    GraphError,
    Memory,
    Node,
    Shape,
    Summing,
    emitted_by,
)
from spiking_resnet.graph.nodes.weighted import Affine
from spiking_resnet.neurons import Neuron, State, TensorRule
from spiking_resnet.neurons.base import MOST_LEVELS
from spiking_resnet.rules import Rule, Rules, number, optional, whole


class Pointwise(Node):
    """A function of every entry by itself, which maps 0 to 0."""

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of its input."""
        return shape

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return `scale`: input and value share it."""
        return scale

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 where the input can differ from 0."""
        return inputs[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReLU(Pointwise):
    """max(x, 0), cut off at `ceiling` if there is one (ReLU6: 6).

    levels: the quantised activation of QCFS (Bu et al., ICLR 2022) with its threshold as ceiling,
    ceiling * clip(floor(x * levels / ceiling + 1/2) / levels, 0, 1). Raises GraphError for levels
    without a positive ceiling.
    """

    ceiling: float | None = None
    levels: int | None = None

    RULES: ClassVar[Rules] = {
        "ceiling": optional(number(0)),
        "levels": optional(whole(1, MOST_LEVELS)),
    }
    is_population = True

    def __post_init__(self) -> None:
        if self.levels is None:
            return
        if self.levels < 1 or self.ceiling is None or not self.ceiling > 0:
            raise GraphError(
                f"{self.name!r} quantises to {self.levels} levels up to {self.ceiling}: levels "
                "start at 1 and need a positive ceiling; train on, or from other weights"
            )

    def value(self, x: Tensor) -> Tensor:
        """Return max(x, 0), cut off at the ceiling, rounded to a level if there are any."""
        if self.levels is None or self.ceiling is None:
            return x.clamp(0, self.ceiling)
        width = self.ceiling / self.levels
        return (x / width).add_(0.5).floor_().clamp_(0, self.levels).mul_(width)

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the values of both ends: it never falls."""
        low, high = inputs[0]
        return self.value(low), self.value(high)

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the grid of its input, or that of its ceiling."""
        own = 0 if self.ceiling is None else coarsest_grid(self.ceiling)
        return None if self.levels is not None else finest([own, *inputs])


@dataclass(frozen=True, eq=False, kw_only=True)
class Round(Pointwise):
    """Its input rounded to the nearest multiple of 2^-bits (ties to even), as float32."""

    bits: int

    RULES: ClassVar[Rules] = {"bits": whole(0, MOST_BITS)}

    def value(self, x: Tensor) -> Tensor:
        """Return x rounded in float64."""
        return (x.double() * 2.0**self.bits).round_().mul_(2.0**-self.bits).float()

    def summed(self, steps: int) -> Node:
        """Return a node that leaves every step's rounding out."""
        one = torch.ones((), dtype=torch.float64)
        return Affine(name=self.name, inputs=self.inputs, shape=self.shape, scale=one)

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the input's bounds, half a unit of the grid wider."""
        low, high = inputs[0]
        return low - 2.0 ** -(self.bits + 1), high + 2.0 ** -(self.bits + 1)

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the grid that it rounds to."""
        return self.bits


@dataclass(frozen=True, eq=False, kw_only=True)
class Fire(Summing, Pointwise):
    """A population of spiking neurons in the place of a ReLU.

    grid, step_bound, wide: of currents and potentials, as in `Summing`.
    """

    neuron: Neuron
    grid: int | None = None
    step_bound: float = 0.0
    wide: bool = False

    RULES: ClassVar[Rules] = {
        "neuron": Rule("a population of spiking neurons", lambda value: isinstance(value, Neuron)),
        **SUMMED,
    }
    is_population = True

    @property
    def integrates(self) -> bool:
        """Whether it sums up over time: always, in its potentials."""
        return True

    @property
    def potential_offset(self) -> float:
        """The most that |potential| exceeds |summed currents|, of its neurons."""
        return self.neuron.potential_offset

    def state(self, memory: Mapping[str, Tensor], current: Tensor) -> State:
        """Return the state of its neurons, or the first one for currents like `current` [N, C,
        ...].
        """
        if self.name not in memory:
            return self.neuron.initial_state(current)
        return State(memory[self.name], memory.get(emitted_by(self.name)))

    def keep_state(self, memory: Memory, state: State) -> None:
        """Put the state of its neurons into `memory`."""
        memory[self.name] = state.potential
        if state.memory is not None:
            memory[emitted_by(self.name)] = state.memory

    def advance(self, inputs: Sequence[Tensor], memory: Memory, time: int) -> Tensor:
        """Return the spikes that its neurons fire for the current, and update `memory`."""
        current = self.received(inputs[0])
        spikes, state = self.neuron.step(self.state(memory, current), current, time)
        self.keep_state(memory, state)
        return spikes

    def tensor_rules(self) -> Mapping[str, TensorRule]:
        """Return the rules of its neurons' tensors."""
        return _neuron_rules(type(self.neuron))

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds of the spikes of one step."""
        return self.neuron.bounds()

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the grid of its spikes."""
        return coarsest_grid(self.neuron.units)

    def carries_spikes(self, inputs: Sequence[bool]) -> bool:
        """Return True: it fires them."""
        return True

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the amplitude of its spikes."""
        return self.neuron.amplitude.double()

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return its threshold, whatever the amplitude of its spikes is."""
        return self.neuron.threshold.double()


@cache
def _neuron_rules(kind: type[Neuron]) -> Mapping[str, TensorRule]:
    return {f"neuron.{name}": rule for name, rule in kind.TENSORS.items()}
