"""The native CPU engine: spikes as bits, layer by layer over windows of time, in integers.

A population and all synapses that lead to it (convolutions, identity gains, constant currents) are
one call of a compiled kernel (`native/`). What lies between populations without weights, or is no
spike, is computed as in `layerwise`. The spikes are the interpreter's, bit for bit.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet import interpret, neurons
from spiking_resnet.engines import kernels
from spiking_resnet.engines.code import BINARY, MOST_LEVELS, Code, codes, joined
from spiking_resnet.engines.fuse import Fused, fuse
from spiking_resnet.engines.kernels import BLOCK, Planes
from spiking_resnet.engines.plan import Plan, Result, ends_of, peak, pool_window, windows
from spiking_resnet.graph import (
    AvgPool,
    Concat,
    Fire,
    Flatten,
    Graph,
    Input,
    MaxPool,
    Node,
    Output,
    Pad,
    Select,
    Slice,
)
from spiking_resnet.passes.snap import MANTISSA

FEW = 2**13  # pixels (8 images of CIFAR) that are not worth waking torch's threads for

WINDOW = 64  # time steps of a layer held at once, and
WINDOW_BYTES = 2**25  # of spikes of the widest layer, and
NUMBER_BYTES = 2**28  # of the widest value that is no spikes (a signed residual stream)

# Cycles of the native kernels (see `choose`).
LOOKUP = 1.25  # for a key, 32 positions of a channel; and so many times that in the wide form
LOOKUP_WIDE = 1.8
ADVANCE = 18  # for 32 neurons
LIST = 6  # for 32 channels at one position of a kernel
PLACE = 100  # for 64 neurons
ROW = 3  # for a spike, 64 neurons

Value = Planes | Tensor  # spikes; or [window, N, ...], [1, ...] where constant in time


def unsupported(graph: Graph, device: torch.device | str = "cpu") -> list[str]:
    """Why this engine cannot run `graph` on `device`."""
    reasons = [] if kernels.library() is not None else [kernels.INSTALL]
    if torch.device(device).type != "cpu":
        reasons.append(f"the images are on {device}, and it runs on the CPU")
    for node in graph.of(Fire):
        neuron = node.neuron
        if not bool((neuron.amplitude == 1).all()):
            reasons.append(f"{node.name!r} does not fire unit spikes: normalise the network first")
            break
        if isinstance(neuron, neurons.Differential):
            reasons.append(f"{node.name!r} is differential: its spikes shrink from step to step")
            break
        if neuron.waits:
            reasons.append(f"{node.name!r} waits for its whole input: `layerwise` runs it")
            break
        if isinstance(neuron, neurons.Gated):
            reasons.append(f"{node.name!r} is gated after pre-steps: `layerwise` runs it")
            break
        if node.grid is None:
            reasons.append(f"{node.name!r} is on no grid: convert with a grid (snap it)")
            break
        if not neuron.binary and (reason := _too_much(node, neuron)):
            reasons.append(reason)
            break
        if neuron.threshold.dtype != torch.float32:
            reasons.append(f"{node.name!r} computes in {neuron.threshold.dtype}, not in float32")
            break
    return reasons


def _too_much(node: Fire, neuron: neurons.IntegrateAndFire) -> str:
    """Why neurons of several levels or signs cannot be computed in integers, or nothing.

    The number of spikes is floor(v / threshold), a quotient of float32: what integers give as long
    as `levels` + 1 thresholds are within their exact range.
    """
    if neuron.levels > MOST_LEVELS:
        return f"{node.name!r} fires up to {neuron.levels} spikes in a step: {MOST_LEVELS} fit"
    largest = float(neuron.threshold.max()) * 2.0 ** (node.grid or 0)
    if (neuron.levels + 1) * largest > 2.0**MANTISSA:
        return (
            f"{node.name!r} fires up to {neuron.levels} spikes in a step, of thresholds so high on "
            "its grid that float32 cannot tell one more from one less: convert with fewer levels "
            "or a coarser grid"
        )
    return ""


def run(graph: Graph, plan: Plan) -> Result:
    """The simulation that `plan` asks for."""
    threads = torch.get_num_threads()
    pixels = len(plan.images) * kernels.positions(graph.input.shape)
    with kernels.alone() if pixels <= FEW else nullcontext():
        return _run(graph, plan, threads)


def _run(graph: Graph, plan: Plan, threads: int) -> Result:
    work = _Work(graph, plan, threads)
    longest = work.longest()
    for start, stop in windows(plan.record, min(plan.window or WINDOW, longest), ends_of(graph)):
        work.advance(start, stop)
        if stop in plan.record:
            state = interpret.State(stop, work.readable())
            work.result.read(interpret.readout(graph, state))
    return work.result


class _Prepared:
    """What is done once for all simulations of a graph, and kept as long as the graph is."""

    def __init__(self, graph: Graph, given: Mapping[str, Tensor]) -> None:
        self.fused, done = fuse(graph, given)
        nodes = interpret.varying(graph, given)
        self.nodes = [node for node in nodes if node.name not in done]
        self.last = {name: node.name for node in self.nodes for name in self._reads(node)}
        self.codes = codes(graph)
        self.populations = {
            node.name: _Population(node, self.fused[node.name]) for node in graph.of(Fire)
        }
        self.free = kernels.Memory()

    def _reads(self, node: Node) -> tuple[str, ...]:
        """The values a node is computed from here."""
        if not isinstance(node, Fire):
            return node.inputs
        fused = self.fused[node.name]
        return (*(synapses.spikes for synapses in fused.synapses), *fused.currents)


_PREPARED: WeakKeyDictionary[Graph, _Prepared] = WeakKeyDictionary()


class _Work:
    """One simulation under way: what it carries from window to window."""

    def __init__(self, graph: Graph, plan: Plan, threads: int) -> None:
        self.graph, self.plan, self.images, self.threads = graph, plan, plan.images, threads
        self.given = interpret.constant_values(graph, plan.images)
        if graph not in _PREPARED:
            _PREPARED[graph] = _Prepared(graph, self.given)
        prepared = _PREPARED[graph]
        self.nodes, self.last, self.codes = prepared.nodes, prepared.last, prepared.codes
        self.populations = prepared.populations
        self.states: dict[str, _State] = {}
        self.memory: dict[str, Tensor] = {}  # read-outs and sums, as in interpret.State
        self.counts: dict[str, tuple[Tensor, Tensor]] = {}  # of cumulative max pools of spikes
        self.free = prepared.free
        self.last_window = False
        self.result = Result.empty(graph, plan)

    def longest(self) -> int:
        """How many steps fit the memory that a window may take."""
        images = len(self.images)
        spikes, numbers = 1, 1  # bytes of a step of the widest
        for node in self.nodes:
            if node.name in self.populations:
                words = kernels.blocks(kernels.positions(node.shape)) * node.shape[0]
                planes = self.codes[node.name].planes
                spikes = max(spikes, 4 * words * planes * images)
            elif node.name not in self.given and node.name not in self.codes:
                numbers = max(numbers, 8 * torch.Size(node.shape).numel() * images)
        return max(1, min(WINDOW_BYTES // spikes, NUMBER_BYTES // numbers))

    def readable(self) -> Mapping[str, Tensor]:
        """The memory of the read-out, potentials included."""
        read = self.graph.output.inputs[0]
        if read not in self.populations:
            return self.memory
        return {**self.memory, read: self.populations[read].potentials(self.states[read])}

    def advance(self, start: int, stop: int) -> None:
        """Runs every layer over the steps start … stop - 1."""
        steps = stop - start
        self.last_window = stop == self.plan.record[-1]
        values: dict[str, Value] = {}
        for node in self.nodes:
            if node.name in self.given:
                values[node.name] = self.given[node.name][None]
            elif isinstance(node, Input):
                frames = [interpret.present(node, self.images, t) for t in range(start, stop)]
                values[node.name] = torch.stack(frames)
            elif isinstance(node, Fire):
                values[node.name] = self._fire(node, values, steps)
            elif isinstance(node, Output):
                values[node.name] = self._read_out(node, values[node.inputs[0]], steps, stop)
            elif isinstance(node, MaxPool):
                values[node.name] = self._pool(node, values[node.inputs[0]], steps)
            else:
                values[node.name] = self._other(node, [values[name] for name in node.inputs])
            for name in [name for name in values if self.last.get(name) == node.name]:
                value = values.pop(name)
                if isinstance(value, Planes) and name in self.populations:
                    self.free.give(value.words)

    def _fire(self, node: Fire, values: Mapping[str, Value], steps: int) -> Planes:
        """The spikes of a population over the window."""
        population = self.populations[node.name]
        watched = node.name in self.plan.watch
        keep = not self.last_window or node.name in self.graph.output.inputs
        with kernels.alone():
            if node.name not in self.states:
                self.states[node.name] = _State(len(self.images), self.threads, self.free)
            state = self.states[node.name]
            spikes, counts, highest = population.run(state, values, steps, watched, keep)
        self.result.add(node.name, counts)
        if node.name in self.plan.trains:
            self.result.keep(node.name, spikes.unpacked())
        if node.name in self.plan.neurons:
            spikes.count_into(self.result.neurons[node.name])
        if watched:
            spent = node.neuron.levels * float(node.neuron.threshold.max())
            reserve = max(spent, node.step_bound)
            self.result.note_peak(node.name, highest + reserve)
        return spikes

    def _read_out(self, node: Output, value: Value, steps: int, stop: int) -> Value:
        """Adds what the window brings to the read-out."""
        if isinstance(value, Planes):
            counts = torch.zeros((len(self.images), *value.shape), dtype=torch.int64)
            value.count_into(counts)
            total = counts.float()
        else:
            total = value.sum(0) if len(value) > 1 else value[0] * steps
        interpret.sum_up(node, self.memory, total, stop)
        if node.name in self.plan.watch:
            self.result.note_peak(node.name, peak(node, self.memory[node.name]))
        return value

    def _pool(self, node: MaxPool, value: Value, steps: int) -> Value:
        """A max pool of the window."""
        if isinstance(value, Planes) and node.rule == "cumulative" and value.code == BINARY:
            if node.name not in self.counts:
                shapes = (value.shape, node.shape)
                ins, outs = (
                    torch.zeros((len(self.images), *shape), dtype=torch.int32) for shape in shapes
                )
                self.counts[node.name] = ins, outs
            found = kernels.pool(node, value, self.counts[node.name])
            if node.name in self.plan.watch:
                highest = float(self.counts[node.name][1].max())
                self.result.note_peak(node.name, highest + node.step_bound)
            return found
        pooled, memory = pool_window(node, _numbers(value), self.memory.get(node.name), steps)
        if memory is not None:
            self.memory[node.name] = memory
            if node.name in self.plan.watch:  # sums between two windows: within one of them
                reserve = steps * node.step_bound
                self.result.note_peak(node.name, peak(node, memory) + reserve)
        return self._as_spikes(node, pooled)

    def _other(self, node: Node, inputs: list[Value]) -> Value:
        """The value of a node that no kernel computes."""
        planes = [value for value in inputs if isinstance(value, Planes)]
        if len(planes) == len(inputs):
            moved = _moved(node, planes)
            if moved is not None:
                return moved
        if isinstance(node, AvgPool) and planes and node.kernel == planes[0].shape[1:]:
            return planes[0].sums()[..., None, None] / node.divisor
        numbers = [_numbers(value) for value in inputs]
        widest = max(len(value) for value in numbers)
        flat = [value.expand(widest, *value.shape[1:]).flatten(0, 1) for value in numbers]
        value = interpret.STATELESS[type(node)](node, *flat).unflatten(0, (widest, -1))
        return self._as_spikes(node, value)

    def _as_spikes(self, node: Node, value: Tensor) -> Value:
        """A node's numbers [window, N, ...] as planes, if they are spikes."""
        if node.name not in self.codes:
            return value
        return Planes.packed(value.to(torch.int8), self.codes[node.name])


@dataclass(eq=False)
class _State:
    """A population in one simulation. way: how it is computed, chosen in the first window."""

    images: int
    threads: int
    free: kernels.Memory
    way: str = ""
    potential: Tensor | None = None
    emitted: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Made:
    """A population made ready for one way: an image's potentials at the start, in that way's order;
    its tables; its weights, one tensor for each of its synapses.
    """

    start: Tensor
    tables: Tensor
    weights: list[Tensor]


class _Population:
    """A population of neurons with its synapses, ready for the kernels."""

    def __init__(self, node: Fire, fused: Fused) -> None:
        self.node, self.fused = node, fused
        self.unit = 2.0**-fused.grid
        self.made: dict[str, _Made] = {}  # by way

    def _make(self, call: kernels.Call, way: str) -> _Made:
        shape, synapses = self.node.shape, self.fused.synapses
        start = self._integers(neurons.start(self.node.neuron, torch.zeros((1, *shape))))
        start = start.view(1, shape[0], -1)
        if way == "lookup":  # blocks of positions, even ones first
            start = F.pad(start, (0, -start.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK // 2, 2))
            start = start.permute(0, 2, 1, 4, 3).contiguous()
        else:
            start = start.transpose(1, 2).contiguous()
        scattered = way.startswith("scatter")
        weights = [s.scattered() if scattered else s.weights for s in synapses]
        return _Made(start, call.tables(way), weights)

    def _integers(self, values: Tensor) -> Tensor:
        """Currents or potentials in units of the grid."""
        return values.mul(1 / self.unit).round_().to(torch.int32).contiguous()

    def potentials(self, state: _State) -> Tensor:
        """The membrane potentials [N, C, ...]."""
        assert state.potential is not None
        found = state.potential.transpose(1, 2)
        if state.way == "lookup":
            found = found.transpose(-1, -2).flatten(2)
        flat = found[..., : kernels.positions(self.node.shape)] * self.unit
        return flat.reshape(-1, *self.node.shape)

    def run(
        self, state: _State, values: Mapping[str, Value], steps: int, watched: bool, keep: bool
    ) -> tuple[Planes, Tensor, float]:
        """(spikes, their number by image, largest |potential| if watched) over the window.

        keep: whether the potentials are needed afterwards.
        """
        shape, fused, images = self.node.shape, self.fused, state.images
        neuron = self.node.neuron
        own = Code(neuron.levels, neuron.signed)
        size = (kernels.blocks(kernels.positions(shape)), steps * own.planes, shape[0])
        spikes = Planes(state.free.take(images, *size), shape, code=own)
        counts = torch.zeros(images, dtype=torch.int64)
        bits = torch.zeros_like(counts)
        peaks = torch.zeros(images, dtype=torch.int64) if watched else None
        constant, current = self._currents([values[name] for name in fused.currents], steps)
        planes = [_planes(values[synapses.spikes]).coded(fused.code) for synapses in fused.synapses]
        population = kernels.Population(
            *(steps, images, *(*shape[1:], 1, 1)[:2], shape[0]),
            *(None, None, _pointer(constant), _pointer(current)),
            *(fused.bias.data_ptr(), fused.threshold.data_ptr()),
            neuron.reset == "zero",
            *(spikes.words.data_ptr(), counts.data_ptr(), _pointer(peaks)),
            *(None, fused.wide, bits.data_ptr(), fused.code.planes, fused.code.signed),
            *(neuron.levels, neuron.signed, None),
        )
        sources = [
            kernels.Source(value.words.data_ptr(), synapses.weights.data_ptr(), *synapses.geometry)
            for value, synapses in zip(planes, fused.synapses, strict=True)
        ]
        call = kernels.Call(population, sources)
        first = not state.way
        state.way = state.way or choose(call, fused, planes)
        if state.way not in self.made:
            self.made[state.way] = self._make(call, state.way)
        made = self.made[state.way]
        if first:
            call.population.start = made.start.data_ptr()
        if first and keep:
            state.potential = torch.empty((images, *made.start.shape[1:]), dtype=torch.int32)
            state.emitted = torch.empty_like(state.potential) if neuron.signed else None
        call.population.potential = _pointer(state.potential)
        call.population.emitted = _pointer(state.emitted)
        call.population.tables = made.tables.data_ptr()
        for i, weights in enumerate(made.weights):
            call.sources[i].weights = weights.data_ptr()
        call.run(state.way, state.threads)
        spikes = Planes(spikes.words, shape, int((counts if own == BINARY else bits).sum()), own)
        return spikes, counts, 0.0 if peaks is None else float(peaks.max()) * self.unit

    def _currents(self, values: list[Value], steps: int) -> tuple[Tensor | None, Tensor | None]:
        """The current of every step [N, ...], and the one that changes [N, window, ...]."""
        numbers = [_numbers(value) for value in values]
        constant = [value[0] for value in numbers if len(value) == 1]
        varying = [value for value in numbers if len(value) > 1]
        fixed = self._integers(sum(constant[1:], constant[0])) if constant else None
        moving = None
        if varying:
            moving = self._integers(sum(varying[1:], varying[0]).transpose(0, 1))
        return fixed, moving


def choose(call: kernels.Call, fused: Fused, sources: list[Planes]) -> str:
    """The quickest way to compute a population, given the spikes that reach it.

    The costs are cycles per image and step on a Zen 4 core (docs/architecture.md): a lookup's are
    the same whatever fires, a walk's grow with the measured number of spikes.
    """
    level = kernels.INSTRUCTION_SETS[kernels.level()]
    if level != "avx512":
        return f"scatter-{level}"
    fitting = [way for way in ("lookup", "walk") if call.fits(way)]
    if len(fitting) < 2:
        return fitting[0] if fitting else "scatter-avx2"
    if kernels.way:
        return kernels.way
    population = call.population
    places, channels = population.height * population.width, population.channels
    keys, rows, words, bits = 0, 0.0, 0, fused.code.planes
    for synapses, planes in zip(fused.synapses, sources, strict=True):
        if not synapses.identity:
            taps = synapses.weights.shape[2] * synapses.weights.shape[3]
            keys += bits * -(-taps * synapses.weights.shape[1] // 6)
            words += bits * taps * kernels.blocks(synapses.weights.shape[1])
            rows += bits * taps * planes.density() * synapses.weights.shape[1]
    wider = LOOKUP_WIDE if fused.wide else 1
    lookup = kernels.blocks(places) * channels * (LOOKUP * keys * wider + ADVANCE)
    row = ROW * (2 if fused.wide else 1)
    walk = places * (LIST * words + channels / 64 * (PLACE + row * rows))
    return "lookup" if lookup < walk else "walk"


def _moved(node: Node, inputs: list[Planes]) -> Planes | None:
    """Planes that are others' planes, or None where bits must be moved within them."""
    code = joined(planes.code for planes in inputs)
    words = [planes.coded(code).words for planes in inputs]
    if isinstance(node, Concat):
        moved = torch.cat(words, -1)
    elif isinstance(node, Slice) and node.axis == 0:
        moved = words[0][..., node.start : node.stop : node.step].contiguous()
    elif isinstance(node, Select) and node.axis == 0:
        moved = words[0][..., list(node.index)]
    elif isinstance(node, Pad) and not any(sum(pair) for pair in node.padding[1:]):
        moved = F.pad(words[0], node.padding[0])
    elif isinstance(node, Flatten) and kernels.positions(inputs[0].shape) == 1:
        moved = words[0].clone()
    else:
        return None
    return Planes(moved, node.shape, code=code)


def _planes(value: Value) -> Planes:
    """A value that is spikes."""
    assert isinstance(value, Planes)
    return value


def _numbers(value: Value) -> Tensor:
    """A value as float [window, N, ...]."""
    return value.unpacked().float() if isinstance(value, Planes) else value


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
