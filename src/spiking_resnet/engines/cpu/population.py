"""A population of neurons with all its synapses, computed by one call of a compiled kernel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.engines.cpu import kernels, library
from spiking_resnet.engines.cpu.bit_code import BINARY, Code
from spiking_resnet.engines.cpu.fuse import MOST, Fused
from spiking_resnet.engines.cpu.kernel_costs import quickest
from spiking_resnet.engines.cpu.kernels import Call, Kernel
from spiking_resnet.engines.cpu.library import BLOCK, Planes
from spiking_resnet.engines.cpu.memory import Memory, pointer
from spiking_resnet.engines.plan import OutOfRange
from spiking_resnet.graph import Fire
from spiking_resnet.neurons import State as NeuronState

BY_POSITION, _, EVEN_FIRST = kernels.LAYOUTS

Value = Planes | Tensor  # spikes; or [window, N, ...], [1, ...] where constant in time


@dataclass(eq=False)
class State:
    """A population in one simulation.

    before: what it begins from, if not from its initial state. kernel: what computes it, chosen in
    the first window. reached: what no |potential| is above, in units of the grid.
    """

    images: int
    threads: int
    memory: Memory
    before: NeuronState | None = None
    kernel: Kernel | None = None
    potential: Tensor | None = None
    emitted: Tensor | None = None
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
        self.unit = 2.0**-fused.grid
        like = torch.zeros((1, *node.shape), dtype=torch.float32, device="cpu")
        self._start, self._highest_start = self._integers(node.neuron.initial_state(like).potential)
        self._lock = Lock()
        self.made: dict[Kernel, _Made] = {}
        self.refused: dict[Kernel, int] = {}  # features, as bits

    def ready(self, kernel: Kernel, call: Call) -> _Made:
        """The population made ready for `kernel`, which takes long once."""
        with self._lock:
            if kernel not in self.made:
                self.made[kernel] = self._make(kernel, call)
            return self.made[kernel]

    def _make(self, kernel: Kernel, call: Call) -> _Made:
        return _Made(self._laid_out(self._start, kernel), call.tables(kernel))

    def _laid_out(self, numbers: Tensor, kernel: Kernel) -> Tensor:
        """Numbers of neurons, int32 [N, C, ...], in the kernel's layout."""
        found = numbers.reshape(len(numbers), self.node.shape[0], -1)
        if kernel.layout != BY_POSITION:
            found = F.pad(found, (0, -found.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
        found = found.transpose(1, 2)
        if kernel.layout == EVEN_FIRST:
            found = found.unflatten(-1, (-1, 2)).transpose(-1, -2)
        return found.contiguous()

    def kernels(self, call: Call) -> list[Kernel]:
        """What there is to choose from for one simulation, the first of which `call` is."""
        asked = call.features()
        known = [kernel for kernel in kernels.available() if not asked & ~kernel.honours]
        with self._lock:
            for kernel in known:
                if kernel not in self.refused:
                    self.refused[kernel] = call.refused(kernel)
            return [kernel for kernel in known if not self.refused[kernel]]

    def _integers(self, values: Tensor) -> tuple[Tensor, int]:
        """(currents or potentials in units of the grid, the largest of them, without its sign)."""
        scaled = values.mul(1 / self.unit).round_()
        low, high = (float(end) for end in torch.aminmax(scaled))
        if not (low > -MOST and high < MOST):  # NaN is not
            raise OutOfRange(f"what {self.node.name!r} receives")
        return scaled.to(torch.int32).contiguous(), int(max(-low, high))

    def left(self, state: State) -> NeuronState:
        """What the population has after the windows run so far; potentials were kept."""
        assert state.potential is not None
        potential = self._as_maps(state.potential, state).mul_(self.unit)
        emitted = state.emitted
        return NeuronState(potential, None if emitted is None else self._as_maps(emitted, state))

    def _as_maps(self, numbers: Tensor, state: State) -> Tensor:
        """A kernel's numbers of neurons as float32 [N, C, ...]."""
        found = numbers.transpose(1, 2)
        if state.kernel is not None and state.kernel.layout == EVEN_FIRST:
            found = found.transpose(-1, -2)
        flat = found.flatten(2)[..., : library.positions(self.node.shape)].float()
        return flat.reshape(-1, *self.node.shape)

    def run(
        self, state: State, values: Mapping[str, Value], steps: int, watched: bool, keep: bool
    ) -> tuple[Planes, Tensor, float]:
        """(spikes, their number by image, largest |potential| if watched) over the window.

        keep: whether the potentials are needed afterwards. Raises OutOfRange.
        """
        shape, fused, images = self.node.shape, self.fused, state.images
        neuron, places = self.node.neuron, library.positions(shape)
        given = [values[name] for name in fused.currents]
        constant, current, largest = self._currents(given, steps)
        self._stay_in_range(state, steps, largest)
        spikes = Planes.empty(
            state.memory, images, steps, shape, Code(neuron.levels, neuron.signed)
        )
        counts, bits, peaks = (
            torch.zeros(images, dtype=torch.int64, device="cpu") for _ in range(3)
        )
        planes = [_planes(values[synapses.spikes]).coded(fused.code) for synapses in fused.synapses]
        population = library.Population(
            *(steps, images, *(*shape[1:], 1, 1)[:2], shape[0]),
            constant=_ints(constant, images * shape[0] * places),
            current=_ints(current, images * steps * shape[0] * places),
            bias=_ints(fused.bias, shape[0]),
            threshold=_ints(fused.threshold, shape[0]),
            reset_to_zero=neuron.reset == "zero",
            spikes=spikes.pointer(),
            counts=pointer(counts, torch.int64, images),
            peaks=pointer(peaks, torch.int64, images) if watched else None,
            wide=fused.wide,
            bits=pointer(bits, torch.int64, images),
            planes=fused.code.planes,
            minus=fused.code.signed,
            levels=neuron.levels,
            is_signed=neuron.signed,
        )
        call = Call(population, sources_of(fused, planes, images, steps))
        first = state.kernel is None
        state.kernel = state.kernel or choose(self.kernels(call), call, planes)
        made = self.ready(state.kernel, call)
        if first and state.before is not None:
            self._go_on(state, state.before, state.kernel)
        elif first and keep:
            size = (images, *made.start.shape[1:])
            state.potential = torch.empty(size, dtype=torch.int32, device="cpu")
            state.emitted = torch.empty_like(state.potential) if neuron.signed else None
        each = made.start.numel()
        population.start = _ints(made.start, each) if first and state.before is None else None
        population.potential = _ints(state.potential, images * each)
        population.emitted = _ints(state.emitted, images * each)
        population.tables = pointer(made.tables, torch.uint8, call.table_bytes(state.kernel))
        call.run(state.kernel, state.threads)
        total = int((counts if spikes.code == BINARY else bits).sum())
        return replace(spikes, count=total), counts, float(peaks.max()) * self.unit

    def _go_on(self, state: State, before: NeuronState, kernel: Kernel) -> None:
        """Puts what the population begins from in the kernel's layout."""
        state.potential = self._laid_out(self._integers(before.potential)[0], kernel)
        if self.node.neuron.signed:
            assert before.memory is not None  # of a state that fits
            state.emitted = self._laid_out(before.memory.to(torch.int32), kernel)

    def _currents(
        self, values: list[Value], steps: int
    ) -> tuple[Tensor | None, Tensor | None, int]:
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

    def _stay_in_range(self, state: State, steps: int, current: int) -> None:
        """Raises OutOfRange unless 32 bits hold all potentials of the window."""
        if state.kernel is None:
            start = self._highest_start
            state.reached = start if state.before is None else self._integers(state.before[0])[1]
        further = steps * (self.fused.reach + current)
        if state.reached + further >= MOST and state.potential is not None:
            low, high = (int(end) for end in torch.aminmax(state.potential))
            state.reached = max(-low, high)
        state.reached += further
        if state.reached >= MOST:
            raise OutOfRange(f"the potentials of {self.node.name!r}")


def sources_of(
    fused: Fused, planes: Sequence[Planes], images: int, steps: int
) -> list[library.Source]:
    """What the kernels are told of a population's synapses and of the spikes that reach them."""
    found = []
    for synapses, spikes in zip(fused.synapses, planes, strict=True):
        height, width, channels = synapses.geometry[:3]
        words = images * library.blocks(height * width) * steps * fused.code.planes * channels
        weights = synapses.number(len(fused.bias))
        addresses = _ints(spikes.words, words), _ints(synapses.weights, weights)
        found.append(library.Source(*addresses, *synapses.geometry))
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
    return value.unpacked().float() if isinstance(value, Planes) else value


def _ints(tensor: Tensor | None, number: int) -> int | None:
    """Where C finds so many int32 numbers; nothing where there are none."""
    return None if tensor is None else pointer(tensor, torch.int32, number)
