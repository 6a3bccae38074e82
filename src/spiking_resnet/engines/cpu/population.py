"""A population of neurons with all its synapses, computed by one call of a compiled kernel."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.engines.cpu import kernels, library
from spiking_resnet.engines.cpu.bit_code import BINARY, Code
from spiking_resnet.engines.cpu.firing import Firing
from spiking_resnet.engines.cpu.fitting import Fitting
from spiking_resnet.engines.cpu.fuse import Fused
from spiking_resnet.engines.cpu.inputs import Currents, Sources, Value, in_units, ints
from spiking_resnet.engines.cpu.kernels import Call, Kernel
from spiking_resnet.engines.cpu.library import BLOCK, Planes
from spiking_resnet.engines.cpu.memory import Memory, pointer
from spiking_resnet.engines.cpu.streams import MOST
from spiking_resnet.engines.plan import OutOfRange
from spiking_resnet.graph import Fire
from spiking_resnet.neurons import State as NeuronState
from spiking_resnet.neurons import per_channel

BY_POSITION, _, EVEN_FIRST = kernels.LAYOUTS

MOST_WINDOWS = 256  # that are remembered
HELD = 2**30  # a threshold that no potential reaches; and by so much silent neurons lie lower


@dataclass(frozen=True, eq=False)
class _Window:
    """What so many steps from some step on mean for a population, whatever arrives.

    code: of its spikes. fields: of `library.Population`. spent: `Firing.spent`.
    """

    code: Code
    fields: dict[str, Any]
    spent: int


@dataclass(eq=False)
class State:
    """A population in one simulation.

    before: what it begins from, if not from its initial state. kernels: what computes it, by
    whether spikes arrive, each chosen in the first window of its kind. kernel: the one in whose
    layout potentials are; None where no kernel has run since `before`. silent: 1 where a neuron no
    longer fires, [N, C, ...]: its potential is HELD lower there. remembered: what else neurons
    remember, which no kernel changes. begun: whether any window has been. reached: what no
    |potential| is above, in units of the grid.
    """

    images: int
    threads: int
    memory: Memory
    before: NeuronState | None = None
    kernels: dict[bool, Kernel] = field(default_factory=dict)
    kernel: Kernel | None = None
    potential: Tensor | None = None
    emitted: Tensor | None = None
    silent: Tensor | None = None
    remembered: Tensor | None = None
    begun: bool = False
    reached: int = 0


class Population:
    """A population of neurons with its synapses, ready for the kernels.

    What is kept here depends on the graph alone, and serves simulations in any number of threads.
    once: whether currents that do not change in time enter at the first step alone.
    """

    def __init__(self, node: Fire, fused: Fused, once: bool) -> None:
        self.node, self.fused, self.once = node, fused, once
        self.alone = fused.alone()
        self.unit = 2.0**-fused.grid
        self.held = torch.full_like(fused.bias, HELD)
        self.biased = bool(fused.bias.any())
        self.rounded_once = bool(fused.shift) and bool(fused.first.any())
        self.firing = Firing.of(node)
        self.code = Code.of(node)
        self.longest = self._longest()
        self._start, self._highest_start = self._first_potentials()
        self.fitting = {False: Fitting(), True: Fitting()}  # by whether no spikes arrive
        self._starts: dict[Kernel, Tensor] = {}
        self._windows: dict[tuple[int, int], _Window] = {}

    def _longest(self) -> int:
        """The most steps of a window that 32 bits surely hold, but for what currents bring."""
        each = [
            self.fused.reached(time, 1) + self.firing.spent(time, 1)
            for time in range(len(self.fused.reach))
        ]
        steps = len(each)
        while steps > 1 and max(_sums(each, steps)) >= HELD:
            steps -= 1
        return steps if len(each) > 1 else max(1, HELD // max(1, each[0]))

    def holds(self, steps: int) -> bool:
        """Whether 32 bits surely hold a window of so many steps from the first on, but for what
        currents bring.
        """
        return self.fused.reached(0, steps) + self.firing.spent(0, steps) < HELD

    def _first_potentials(self) -> tuple[Tensor, int]:
        """(potentials [1, C, ...] before the first step, with what enters once; the largest)."""
        like = torch.zeros((1, *self.node.shape), dtype=torch.float32, device="cpu")
        initial, _ = self._in_units(self.node.neuron.initial_state(like).potential)
        whole = initial.long()
        if not self.fused.shift:  # else it is rounded with the products of the first step
            whole = whole + per_channel(self.fused.first.long(), initial)
        highest = int(whole.abs().max())
        if highest >= MOST:
            raise OutOfRange(f"what {self.node.name!r} receives")
        return whole.to(torch.int32), highest

    def _start_in(self, kernel: Kernel) -> Tensor:
        """An image's potentials at the start, in the kernel's layout."""
        if kernel not in self._starts:  # several threads find the same
            self._starts[kernel] = self._laid_out(self._start, kernel)
        return self._starts[kernel]

    def _laid_out(self, numbers: Tensor, kernel: Kernel) -> Tensor:
        """Numbers of neurons, int32 [N, C, ...], in the kernel's layout."""
        found = numbers.reshape(len(numbers), self.node.shape[0], -1)
        if kernel.layout != BY_POSITION:
            found = F.pad(found, (0, -found.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
        found = found.transpose(1, 2)
        if kernel.layout == EVEN_FIRST:
            found = found.unflatten(-1, (-1, 2)).transpose(-1, -2)
        return found.contiguous()

    def _in_units(self, values: Tensor) -> tuple[Tensor, int]:
        """(potentials in units of the grid, the largest of them, without its sign)."""
        return in_units(self.node.name, values, self.fused.grid)

    def left(self, state: State) -> NeuronState:
        """What the population has after the windows run so far; potentials were kept."""
        if state.kernel is None:
            if state.before is not None:
                return state.before
            start = self._start.expand(state.images, *self.node.shape)
            return NeuronState(self._values(start, self.unit))
        potential = self._values(self._potentials(state), self.unit)
        if state.emitted is None:
            return NeuronState(potential, state.remembered)
        emitted = self._as_maps(state.emitted, state.kernel)
        return NeuronState(potential, self._values(emitted, 1 / self.firing.remembers))

    def _values(self, numbers: Tensor, unit: float) -> Tensor:
        """Whole numbers of a unit, in the dtype of the potentials."""
        dtype = torch.float64 if self.node.wide else torch.float32
        return numbers.to(dtype).mul_(unit)

    def _potentials(self, state: State) -> Tensor:
        """The potentials in units of the grid, int32 [N, C, ...]."""
        assert state.potential is not None
        assert state.kernel is not None
        found = self._as_maps(state.potential, state.kernel)
        return found if state.silent is None else found + state.silent * HELD

    def _as_maps(self, numbers: Tensor, kernel: Kernel) -> Tensor:
        """A kernel's numbers of neurons as int32 [N, C, ...]."""
        found = numbers.transpose(1, 2)
        if kernel.layout == EVEN_FIRST:
            found = found.transpose(-1, -2)
        flat = found.flatten(2)[..., : library.positions(self.node.shape)]
        return flat.reshape(-1, *self.node.shape)

    def idle(self, values: Mapping[str, Value], time: int) -> bool:
        """Whether nothing changes from step `time` to the end of its window: nothing arrives of
        `values`, and no neuron may fire.
        """
        enters = self.biased or (self.rounded_once and time == 0)
        return not (values or enters or self.node.neuron.may_fire(time))

    def run(
        self,
        state: State,
        values: Mapping[str, Value],
        time: int,
        steps: int,
        watched: bool,
        keep: bool,
        brightness: float = 1.0,
    ) -> tuple[Planes, Tensor, float]:
        """(spikes, their number by image, largest |potential| if watched) of `steps` steps from
        `time` on.

        values: what arrives; those that are missing are 0. keep: whether the potentials are needed
        afterwards. brightness: how many times as large numbers may be as bounds say. Raises
        OutOfRange.
        """
        neuron, shape, images = self.node.neuron, self.node.shape, state.images
        alone = not any(synapses.spikes in values for synapses in self.fused.synapses)
        fused = self.alone if alone else self.fused
        sources = Sources.of(fused, values, time, (images, steps), state.memory)
        given = [values[name] for name in self.fused.currents if name in values]
        currents = Currents.of(self.node.name, fused.grid, given)
        entering = None
        window = self._window(time, steps)
        further = fused.reached(time, steps) + window.spent
        if brightness > 1.0 and any(each.numbers is not None for each in fused.synapses):
            further += math.ceil(fused.reached(time, steps) * (brightness - 1.0))
        further += currents.highest + steps * currents.varying
        if not (self.once and time == 0):
            further += (steps - 1) * currents.highest
        elif currents.constant is not None:  # part of the first potentials, as the bias is
            entering, currents = currents.constant, replace(currents, constant=None)
        self._stay_in_range(state, time, further)
        keep = keep or (watched and state.silent is not None)
        spikes = Planes.empty(state.memory, images, steps, shape, window.code)
        counts, bits, peaks = torch.zeros(3, images, dtype=torch.int64, device="cpu")
        places = library.positions(shape)
        threshold = fused.threshold if neuron.may_fire(time) else self.held
        bias = fused.bias_at(time) if fused.shift else fused.bias
        population = library.Population(
            *(steps, images, *(*shape[1:], 1, 1)[:2], shape[0]),
            constant=ints(currents.constant, images * shape[0] * places),
            current=ints(currents.current, images * steps * shape[0] * places),
            bias=ints(bias, shape[0]),
            threshold=ints(threshold, shape[0]),
            reset_to_zero=neuron.reset == "zero",
            spikes=spikes.pointer(),
            counts=pointer(counts, torch.int64, images),
            peaks=pointer(peaks, torch.int64, images) if watched else None,
            wide=fused.wide,
            bits=pointer(bits, torch.int64, images),
            planes=fused.code.planes,
            minus=fused.code.signed,
            **window.fields,
            shift=fused.shift,
            stream=ints(currents.stream, images * steps * shape[0] * places),
        )
        call, fitting = Call(population, sources.given), self.fitting[alone]
        kernel = state.kernels.get(alone)
        if kernel is None or call.features() & ~kernel.honours:
            kernel = state.kernels[alone] = fitting.choice(call, sources.rates())
        tables, start = fitting.tables(kernel, call), self._start_in(kernel)
        begins = state.kernel is None and state.before is None and entering is None
        self._lay_out(state, kernel, start, keep, entering)
        each = start.numel()
        population.start = ints(start, each) if begins else None
        population.potential = ints(state.potential, images * each)
        population.emitted = ints(state.emitted, images * each)
        population.tables = pointer(tables, torch.uint8, len(tables))
        call.run(kernel, state.threads)
        total = int((counts if spikes.code == BINARY else bits).sum())
        highest = int(peaks.max()) if watched else 0
        if watched and state.silent is not None:  # kernels saw silent neurons lower than they are
            highest = int(self._potentials(state).abs().max())
        counted = Planes(spikes.words, shape, total, window.code, spikes.buffer)
        return counted, counts, highest * self.unit

    def _window(self, time: int, steps: int) -> "_Window":
        """The same for all runs; several threads find the same."""
        found = self._windows.get((time, steps))
        if found is None:
            if len(self._windows) >= MOST_WINDOWS:
                self._windows.clear()
            found = _Window(
                self.code.within(time, steps),
                self.firing.fields(time, steps),
                self.firing.spent(time, steps),
            )
            self._windows[time, steps] = found
        return found

    def begin(self, state: State, time: int) -> None:
        """Lets neurons start again where they do at step `time`, the first of a window."""
        neuron = self.node.neuron
        if state.begun and time not in neuron.turns:
            return
        state.begun = True
        if not neuron.turns:
            return
        before = self.left(state)
        again = neuron.restarted(before, time)
        if again is not before:
            state.before, state.kernel = again, None
        silent = neuron.silent(again, time)
        state.silent = None if silent is None else silent.to(torch.int32)
        state.remembered = None if neuron.signed else again.memory

    def _lay_out(
        self, state: State, kernel: Kernel, start: Tensor, keep: bool, entering: Tensor | None
    ) -> None:
        """Puts potentials into the layout of the kernel that is to run.

        entering: what is added to them before the first step, int32 [N, C, ...].
        """
        neuron = self.node.neuron
        if state.kernel is not None:
            if state.kernel.layout != kernel.layout:
                for name in ("potential", "emitted"):
                    numbers = getattr(state, name)
                    if numbers is not None:
                        maps = self._as_maps(numbers, state.kernel)
                        setattr(state, name, self._laid_out(maps, kernel))
        elif state.before is not None:
            numbers = self._in_units(state.before.potential)[0]
            if entering is not None:
                numbers = numbers + entering
            if state.silent is not None:
                numbers = numbers - state.silent * HELD
            state.potential = self._laid_out(numbers, kernel)
            if neuron.signed:
                assert state.before.memory is not None  # of a state that fits
                emitted = (state.before.memory * self.firing.remembers).to(torch.int32)
                state.emitted = self._laid_out(emitted, kernel)
        elif entering is not None:
            state.potential = self._laid_out(self._start + entering, kernel)
            state.emitted = torch.zeros_like(state.potential) if neuron.signed else None
        elif keep:
            size = (state.images, *start.shape[1:])
            state.potential = torch.empty(size, dtype=torch.int32, device="cpu")
            state.emitted = torch.empty_like(state.potential) if neuron.signed else None
        state.kernel = kernel

    def _stay_in_range(self, state: State, time: int, further: int) -> None:
        """Raises OutOfRange unless 32 bits hold all potentials of the window that begins at `time`.

        further: the most by which it changes one.
        """
        if state.kernel is None:
            start = self._highest_start
            state.reached = start if state.before is None else self._in_units(state.before[0])[1]
        held = state.silent is not None or not self.node.neuron.may_fire(time)
        room = MOST - HELD if held else MOST
        if state.reached + further >= room and state.kernel is not None:
            low, high = (int(end) for end in torch.aminmax(self._potentials(state)))
            state.reached = max(-low, high)
        state.reached += further
        if state.reached >= room:
            raise OutOfRange(f"the potentials of {self.node.name!r}")


def _sums(each: Sequence[int], steps: int) -> Iterator[int]:
    """The sums of so many neighbours, but for those that begin with the first of several."""
    first = min(1, len(each) - steps)
    return (sum(each[at : at + steps]) for at in range(first, len(each) - steps + 1))
