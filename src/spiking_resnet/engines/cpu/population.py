"""A population of neurons with all its synapses, computed by one call of a compiled kernel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.engines.cpu import kernels, library
from spiking_resnet.engines.cpu.bit_code import BINARY, Code
from spiking_resnet.engines.cpu.firing import Firing
from spiking_resnet.engines.cpu.fuse import MOST, Fused
from spiking_resnet.engines.cpu.kernel_costs import quickest
from spiking_resnet.engines.cpu.kernels import Call, Kernel
from spiking_resnet.engines.cpu.library import BLOCK, Planes
from spiking_resnet.engines.cpu.memory import Memory, pointer
from spiking_resnet.engines.plan import OutOfRange
from spiking_resnet.graph import Fire
from spiking_resnet.neurons import State as NeuronState
from spiking_resnet.neurons import per_channel

BY_POSITION, _, EVEN_FIRST = kernels.LAYOUTS
SHADES = 64  # of densities that a kernel is chosen for, evenly spread

Value = Planes | Tensor  # spikes; or [window, N, ...], [1, ...] where constant in time


HELD = 2**30  # a threshold that no potential reaches; and by so much silent neurons lie lower


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


@dataclass(frozen=True, eq=False)
class _Made:
    """A population made ready for one kernel: an image's potentials at the start, in the kernel's
    layout; its tables.
    """

    start: Tensor
    tables: Tensor


class Population:
    """A population of neurons with its synapses, ready for the kernels.

    What is kept here depends on the graph alone, and serves simulations in any number of threads.
    """

    def __init__(self, node: Fire, fused: Fused) -> None:
        self.node, self.fused = node, fused
        self.alone = fused.alone()
        self.unit = 2.0**-fused.grid
        self.held = torch.full_like(fused.threshold, HELD)
        self.biased = bool(fused.bias.any())
        self.firing = Firing.of(node)
        self.code = Code.of(node)
        self.longest = self._longest()
        self._start, self._highest_start = self._first_potentials()
        self._lock = Lock()
        self.made: dict[tuple[Kernel, bool], _Made] = {}
        self.refused: dict[tuple[Kernel, bool], int] = {}  # features, as bits
        self._chosen: dict[tuple[int, ...], Kernel] = {}

    def _longest(self) -> int:
        """The most steps of a window that 32 bits surely hold, where steps bring unlike amounts."""
        each = [
            self.fused.reached(time, 1) + self.firing.spent(time, 1)
            for time in range(len(self.fused.reach))
        ]
        steps = len(each)
        while steps > 1 and max(_sums(each, steps)) >= HELD:
            steps -= 1
        return steps if len(each) > 1 else MOST

    def _first_potentials(self) -> tuple[Tensor, int]:
        """(potentials [1, C, ...] before the first step, with what enters once; the largest)."""
        like = torch.zeros((1, *self.node.shape), dtype=torch.float32, device="cpu")
        initial, _ = self._integers(self.node.neuron.initial_state(like).potential)
        whole = initial.long() + per_channel(self.fused.first.long(), initial)
        highest = int(whole.abs().max())
        if highest >= MOST:
            raise OutOfRange(f"what {self.node.name!r} receives")
        return whole.to(torch.int32), highest

    def ready(self, kernel: Kernel, call: Call, alone: bool) -> _Made:
        """The population made ready for `kernel`, which takes long once."""
        with self._lock:
            if (kernel, alone) not in self.made:
                made = _Made(self._laid_out(self._start, kernel), call.tables(kernel))
                self.made[kernel, alone] = made
            return self.made[kernel, alone]

    def _laid_out(self, numbers: Tensor, kernel: Kernel) -> Tensor:
        """Numbers of neurons, int32 [N, C, ...], in the kernel's layout."""
        found = numbers.reshape(len(numbers), self.node.shape[0], -1)
        if kernel.layout != BY_POSITION:
            found = F.pad(found, (0, -found.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
        found = found.transpose(1, 2)
        if kernel.layout == EVEN_FIRST:
            found = found.unflatten(-1, (-1, 2)).transpose(-1, -2)
        return found.contiguous()

    def kernels(self, call: Call, alone: bool = False) -> list[Kernel]:
        """What there is to choose from for one simulation, the first of which `call` is."""
        asked = call.features()
        known = [kernel for kernel in kernels.available() if not asked & ~kernel.honours]
        with self._lock:
            for kernel in known:
                if (kernel, alone) not in self.refused:
                    self.refused[kernel, alone] = call.refused(kernel)
            return [kernel for kernel in known if not self.refused[kernel, alone]]

    def choice(self, call: Call, sources: Sequence[Planes], alone: bool) -> Kernel:
        """The kernel for a simulation whose first window `call` is: the quickest for runs of this
        size, with about so many spikes.
        """
        if library.kernel is not None:
            return choose(self.kernels(call, alone), call, sources)
        run = call.population
        shades = (int(SHADES * planes.density()) for planes in sources)
        key = (alone, run.images, run.steps, call.features(), library.level(), *shades)
        found = self._chosen.get(key)
        if found is None:
            found = self._chosen[key] = choose(self.kernels(call, alone), call, sources)
        return found

    def _integers(self, values: Tensor) -> tuple[Tensor, int]:
        """(currents or potentials in units of the grid, the largest of them, without its sign)."""
        scaled = values.mul(1 / self.unit).round_()
        low, high = (float(end) for end in torch.aminmax(scaled))
        if not (low > -MOST and high < MOST):  # NaN is not
            raise OutOfRange(f"what {self.node.name!r} receives")
        return scaled.to(torch.int32).contiguous(), int(max(-low, high))

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
        return not (values or self.biased or self.node.neuron.may_fire(time))

    def run(
        self,
        state: State,
        values: Mapping[str, Value],
        time: int,
        steps: int,
        watched: bool,
        keep: bool,
    ) -> tuple[Planes, Tensor, float]:
        """(spikes, their number by image, largest |potential| if watched) of `steps` steps from
        `time` on.

        values: what arrives; those that are missing are 0. keep: whether the potentials are needed
        afterwards. Raises OutOfRange.
        """
        neuron, shape, images = self.node.neuron, self.node.shape, state.images
        fused, planes = self._arriving(state, values, steps)
        alone = fused is self.alone
        given = [values[name] for name in self.fused.currents if name in values]
        if self.fused.currents and not given and alone not in state.kernels:
            given = [torch.zeros(1, images, *shape, device="cpu")]  # a kernel that takes currents
        constant, current, largest = self._currents(given)
        further = fused.reached(time, steps) + self.firing.spent(time, steps)
        self._stay_in_range(state, time, further + steps * largest)
        keep = keep or (watched and state.silent is not None)
        code = self.code.within(time, steps)
        spikes = Planes.empty(state.memory, images, steps, shape, code)
        counts, bits, peaks = torch.zeros(3, images, dtype=torch.int64, device="cpu")
        places = library.positions(shape)
        threshold = fused.threshold if neuron.may_fire(time) else self.held
        population = library.Population(
            *(steps, images, *(*shape[1:], 1, 1)[:2], shape[0]),
            constant=_ints(constant, images * shape[0] * places),
            current=_ints(current, images * steps * shape[0] * places),
            bias=_ints(fused.bias, shape[0]),
            threshold=_ints(threshold, shape[0]),
            reset_to_zero=neuron.reset == "zero",
            spikes=spikes.pointer(),
            counts=pointer(counts, torch.int64, images),
            peaks=pointer(peaks, torch.int64, images) if watched else None,
            wide=fused.wide,
            bits=pointer(bits, torch.int64, images),
            planes=fused.code.planes,
            minus=fused.code.signed,
            **self.firing.fields(time, steps),
        )
        call = Call(population, sources_of(fused, planes, images, time, steps))
        if alone not in state.kernels:
            state.kernels[alone] = self.choice(call, planes, alone)
        kernel = state.kernels[alone]
        made = self.ready(kernel, call, alone)
        begins = state.kernel is None and state.before is None
        self._lay_out(state, kernel, made, keep)
        each = made.start.numel()
        population.start = _ints(made.start, each) if begins else None
        population.potential = _ints(state.potential, images * each)
        population.emitted = _ints(state.emitted, images * each)
        population.tables = made.tables.data_ptr()
        call.run(kernel, state.threads)
        total = int((counts if spikes.code == BINARY else bits).sum())
        highest = int(peaks.max()) if watched else 0
        if watched and state.silent is not None:  # kernels saw silent neurons lower than they are
            highest = int(self._potentials(state).abs().max())
        return replace(spikes, count=total), counts, highest * self.unit

    def begin(self, state: State, time: int) -> None:
        """Lets neurons start again where they do at step `time`, the first of a window."""
        neuron = self.node.neuron
        if state.begun and time not in neuron.turns:
            return
        if not (neuron.turns or neuron.silences):
            known = state.before is not None and not neuron.signed
            state.remembered = state.before.memory if known and state.before else None
            state.begun = True
            return
        before = self.left(state)
        again = neuron.restarted(before, time)
        if again is not before:
            state.before, state.kernel = again, None
        silent = neuron.silent(again, time)
        state.silent = None if silent is None else silent.to(torch.int32)
        state.remembered = None if neuron.signed else again.memory
        state.begun = True

    def _arriving(
        self, state: State, values: Mapping[str, Value], steps: int
    ) -> tuple[Fused, list[Planes]]:
        """What is computed, and the spikes of its synapses, all of them if any arrive."""
        sources = self.fused.synapses
        if sources and not any(source.spikes in values for source in sources):
            return self.alone, []
        found = [
            _planes(values[source.spikes])
            if source.spikes in values
            else Planes.silent(state.memory, state.images, steps, source.shape)
            for source in sources
        ]
        return self.fused, [planes.coded(self.fused.code) for planes in found]

    def _lay_out(self, state: State, kernel: Kernel, made: _Made, keep: bool) -> None:
        """Puts potentials into the layout of the kernel that is to run."""
        neuron = self.node.neuron
        if state.kernel is not None:
            if state.kernel.layout != kernel.layout:
                for name in ("potential", "emitted"):
                    numbers = getattr(state, name)
                    if numbers is not None:
                        maps = self._as_maps(numbers, state.kernel)
                        setattr(state, name, self._laid_out(maps, kernel))
        elif state.before is not None:
            numbers = self._integers(state.before.potential)[0]
            if state.silent is not None:
                numbers = numbers - state.silent * HELD
            state.potential = self._laid_out(numbers, kernel)
            if neuron.signed:
                assert state.before.memory is not None  # of a state that fits
                emitted = (state.before.memory * self.firing.remembers).to(torch.int32)
                state.emitted = self._laid_out(emitted, kernel)
        elif keep:
            size = (state.images, *made.start.shape[1:])
            state.potential = torch.empty(size, dtype=torch.int32, device="cpu")
            state.emitted = torch.empty_like(state.potential) if neuron.signed else None
        state.kernel = kernel

    def _currents(self, values: list[Value]) -> tuple[Tensor | None, Tensor | None, int]:
        """(the current of every step [N, ...], the one that changes [N, window, ...], the largest
        of one step).
        """
        numbers = [numbers_of(value) for value in values]
        constant = [value[0] for value in numbers if len(value) == 1]
        varying = [value for value in numbers if len(value) > 1]
        fixed = moving = None
        largest = most = 0
        if constant:
            fixed, largest = self._integers(sum(constant[1:], constant[0]))
        if varying:
            moving, most = self._integers(sum(varying[1:], varying[0]).transpose(0, 1))
        return fixed, moving, largest + most

    def _stay_in_range(self, state: State, time: int, further: int) -> None:
        """Raises OutOfRange unless 32 bits hold all potentials of the window that begins at `time`.

        further: the most by which it changes one.
        """
        if state.kernel is None:
            start = self._highest_start
            state.reached = start if state.before is None else self._integers(state.before[0])[1]
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


def sources_of(
    fused: Fused, planes: Sequence[Planes], images: int, time: int, steps: int
) -> list[library.Source]:
    """What the kernels are told of a population's synapses and of the spikes that reach them."""
    found = []
    for synapses, spikes in zip(fused.synapses, planes, strict=True):
        height, width, channels = synapses.geometry[:3]
        words = images * library.blocks(height * width) * steps * fused.code.planes * channels
        weights = synapses.number(len(fused.bias))
        addresses = _ints(spikes.words, words), _ints(synapses.weights, weights)
        factors = synapses.factors
        found.append(
            library.Source(
                *addresses,
                *synapses.geometry,
                factors=None if factors is None else _ints(factors[time : time + steps], steps),
            )
        )
    return found


def choose(fitting: Sequence[Kernel], call: Call, sources: Sequence[Planes]) -> Kernel:
    """The quickest of these kernels, given the spikes that reach the population."""
    for kernel in fitting:
        if kernel.name == library.kernel:
            return kernel
    if len(fitting) == 1:
        return fitting[0]
    return quickest(fitting, call, [planes.density() for planes in sources])


def _planes(value: Value) -> Planes:
    """A value that is spikes."""
    assert isinstance(value, Planes)
    return value


def numbers_of(value: Value) -> Tensor:
    """A value as float [window, N, ...]."""
    return value.code.values(value.unpacked()) if isinstance(value, Planes) else value


def _ints(tensor: Tensor | None, number: int) -> int | None:
    """Where C finds so many int32 numbers; nothing where there are none."""
    return None if tensor is None else pointer(tensor, torch.int32, number)
