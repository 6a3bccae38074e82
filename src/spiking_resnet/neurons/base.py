"""The contract of a spiking neuron: what every engine, conversion pass and evaluation asks of it.

A neuron is a class of its own file with its equation in `step`, and one line in `NEURONS`. Its
RULES refuse those settings of `Neuron` that the equation does not know (as in `Differential`).
Whatever depends on the kind of neuron is a method or a property here, so nobody else asks for its
class but an engine that lists the classes its kernels compute.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from spiking_resnet.rules import Rule, one_of, truth, whole
from spiking_resnet.shown import Short

Reset = Literal["subtract", "zero"]

MOST_LEVELS = 2**24  # spikes of a neuron in a step


class State(NamedTuple):
    """The state of a population between two time steps.

    potential: membrane potentials [N, C, ...]. memory: what else a neuron's equation needs,
    [N, C, ...]; None where there is nothing to remember (yet).
    """

    potential: Tensor
    memory: Tensor | None = None


@dataclass(frozen=True)
class TensorRule:
    """The sizes and entries that a tensor of a neuron or node may have.

    sizes: of "one" number [], one for each of the "channels" [C], for each neuron of the "map"
    [C, H, W] or for each of the "steps" [T]; a "matrix" or "kernels" (two or four axes) of any
    size; or "none", where it may be missing. positive: whether
    all entries must be. on_grid: whether they lie on the grid of the population, if it has one.
    """

    sizes: tuple[Literal["one", "channels", "map", "steps", "matrix", "kernels", "none"], ...]
    positive: bool = False
    on_grid: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Neuron(Short, ABC):
    """A population of spiking neurons: frozen parameters, and the equation that advances them.

    threshold: firing threshold, [] or [C], positive, in the unit of the input current.
    initial_potential: membrane potential before the first step, [], [C] or [C, H, W].
    amplitude: of the emitted spikes, [] or [C]. While a method works on a network, a spike carries
        its threshold; after `normalise` it is 1.
    reset: "subtract" (the remainder above the threshold is kept) or "zero" (it is lost).
    levels: how many sizes of spikes there are in one step. signed: whether a neuron may fire
        negative spikes.

    Raises ValueError for parameters that have no meaning together.
    """

    threshold: Tensor
    initial_potential: Tensor
    amplitude: Tensor
    reset: Reset = "subtract"
    levels: int = 1
    signed: bool = False

    trait: ClassVar[str] = ""  # why an engine may not run it: ends an error after its name
    layer_serial: ClassVar[bool] = False  # whether it fires only after its whole input
    rate_coded: ClassVar[bool] = True  # whether its spike count over T steps is its activation
    free_start: ClassVar[bool] = True  # whether its initial potential may be chosen
    unit_varies: ClassVar[bool] = False  # whether a spike's value depends on its step
    counts_spikes: ClassVar[bool] = True  # whether its threshold may be a number of whole spikes
    arrival: ClassVar[str] = "evenly over time"  # how its input had best arrive
    RULES: ClassVar[Mapping[str, Rule]] = {
        "reset": one_of(get_args(Reset)),
        "levels": whole(1, MOST_LEVELS),
        "signed": truth(),
    }
    TENSORS: ClassVar[Mapping[str, TensorRule]] = {
        "threshold": TensorRule(("one", "channels"), positive=True, on_grid=True),
        "initial_potential": TensorRule(("one", "channels", "map"), on_grid=True),
        "amplitude": TensorRule(("one", "channels"), positive=True),
    }

    @property
    def keeps_charge(self) -> bool:
        """Whether potentials change by the input current and fired thresholds alone: no leak."""
        return self.reset == "subtract"

    @property
    def saturates_at(self) -> float | None:
        """The largest |potential| that is kept from step to step; None where all are."""
        return None

    @property
    def binary(self) -> bool:
        """Whether a neuron fires 0 or 1 spike in a step."""
        return self.levels == 1 and not self.signed

    @property
    def remembers(self) -> bool:
        """Whether a neuron keeps something beside its potential (the memory of its State)."""
        return self.signed

    @property
    def largest_size(self) -> int:
        """The size of the largest spike, in units of `unit`."""
        return self.levels

    @property
    def units(self) -> Tensor:
        """The values that a spike of size 1 has at any step, [] or [C]."""
        return self.amplitude

    @property
    def most_spent(self) -> float:
        """The most that the spikes of one step take off a potential."""
        return self.largest_size * float(self.threshold.max())

    @property
    def steps_before_counting(self) -> int:
        """The time steps that the read-out leaves out: afterwards the neuron starts again."""
        return 0

    @property
    def longest(self) -> int | None:
        """The most time steps that the neuron can run for; None without a limit."""
        return None

    @property
    def firing_steps(self) -> int | None:
        """The most time steps in which a neuron fires; None without a limit."""
        return None

    @property
    def latency(self) -> int | None:
        """The time steps until a layer-serial neuron has fired all its spikes; None for others."""
        return None

    @property
    def potential_offset(self) -> float:
        """The most that |potential| exceeds |summed currents|: threshold + |initial potential|."""
        return float(self.threshold.max()) + float(self.initial_potential.abs().max())

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the (lowest, highest) value of a spike in any step, each [] or [C], float64."""
        high = self.largest_size * self.amplitude.double()
        return (-high if self.signed else torch.zeros((), dtype=torch.float64)), high

    @property
    def turns(self) -> tuple[int, ...]:
        """The steps (0 is the first) before which neurons start again, or begin or cease to fire.

        Engines end a window of time before each; within one neurons do the same at every step.
        """
        return ()

    @property
    def silences(self) -> bool:
        """Whether a neuron may fall silent for good (`silent`)."""
        return False

    def may_fire(self, time: int) -> bool:
        """Return whether any neuron may fire at step `time`."""
        return True

    def restarted(self, state: State, time: int) -> State:
        """Return the state that step `time` begins from, given that after the step before.

        Another one than `state` at some of the `turns` only.
        """
        return state

    def silent(self, state: State, time: int) -> Tensor | None:
        """Return 1 where a neuron no longer fires, [N, C, ...], in step `time` and later; else 0.

        state: the one that the step begins from. None where every neuron may fire.
        """
        return None

    def initial_state(self, current: Tensor) -> State:
        """Return the state before the first step, for input currents like `current` [N, C, ...]."""
        initial = per_channel(self.initial_potential, current)
        return State(torch.empty_like(current).copy_(initial.expand_as(current)))

    @abstractmethod
    def step(self, state: State, current: Tensor, time: int = 0) -> tuple[Tensor, State]:
        """Return (spikes [N, C, ...], the state after the step); the arguments stay as they are.

        current: [N, C, ...]. time: the step, 0 is the first. Spikes are whole sizes times `unit`.
        """

    def steps(
        self, state: State, currents: Tensor, number: int, time: int = 0
    ) -> Iterator[tuple[Tensor, State]]:
        """Yield (spikes, state) of `number` steps from `time` on.

        currents: [number, N, C, ...], or [1, N, C, ...] where the same arrives at every step.
        """
        for index in range(number):
            now = currents[index if len(currents) > 1 else 0]
            spikes, state = self.step(state, now, time + index)
            yield spikes, state

    def run(
        self,
        state: State,
        currents: Tensor,
        number: int,
        time: int = 0,
        watch: Callable[[Tensor], None] | None = None,
    ) -> tuple[Tensor, State]:
        """Return (spikes [number, N, C, ...], final state) of `number` steps from `time` on.

        currents: as for `steps`. watch: called with the potentials after every step. The potentials
        of the state that is given are overwritten.
        """
        spikes = room(state.potential, number)
        for index, (fired, after) in enumerate(self.steps(state, currents, number, time)):
            spikes[index], state = fired, after
            if watch is not None:
                watch(after.potential)
        return spikes, state

    def unit(self, like: Tensor, time: int = 0) -> Tensor:
        """Return the value of a size-1 spike from step `time` on, to multiply [T, N, C, ...] by."""
        return per_channel(self.amplitude, like[0])

    def decode(self, sizes: Tensor, time: int = 0) -> Tensor:
        """Return the spikes [T, N, C, ...] of these whole sizes, fired from step `time` on."""
        return sizes * self.unit(sizes, time)

    def sizes(self, spikes: Tensor, time: int = 0) -> Tensor:
        """Return the whole sizes [T, N, C, ...] of spikes from step `time` on: inverts `decode`."""
        return torch.round(spikes / self.unit(spikes, time))

    def count(self, spikes: Tensor) -> Tensor:
        """Return the signed number of spikes [T, N, C, ...] that every neuron fired.

        spikes: [T, N, C, ...].
        """
        if not self.binary:
            return self.sizes(spikes)
        return spikes if bool((self.amplitude == 1).all()) else spikes != 0

    def most_sent(self, steps: int) -> Tensor:
        """Return the most that a neuron's spikes of `steps` steps add up to, in amplitudes.

        [] or [C], float64.
        """
        return torch.tensor(float(steps * self.largest_size), dtype=torch.float64)

    def best_sent(self, total: Tensor, steps: int) -> Tensor:
        """Return what a neuron's spikes add up to if `total` arrives as it had best (`arrival`).

        total: the sum of the input current over `steps` steps, [N, C, ...]. In amplitudes, float64.
        """
        return self.even_count(total, steps)

    def even_count(self, total: Tensor, steps: int) -> Tensor:
        """Return the spike counts [N, C, ...] of `steps` steps if `total` arrived in equal parts.

        Whole numbers, float64. Raises TypeError for neurons that are not rate coded.
        """
        raise TypeError(f"spike counts of {type(self).__name__} neurons do not tell a rate")


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Return `values` ([], [C] or [C, H, W]) shaped to broadcast against `like` [N, C, ...]."""
    if values.ndim == 1:
        return values.view(-1, *([1] * (like.ndim - 2)))
    return values


def room(like: Tensor, number: int) -> Tensor:
    """Return an uninitialised tensor [number, N, C, ...]; of one step, laid out as `like` is."""
    return torch.empty_like(like)[None] if number == 1 else like.new_empty(number, *like.shape)
