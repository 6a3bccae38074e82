"""The native CPU engine: spikes as bytes, work done per spike, layer by layer over windows of time.

A population and all synapses that lead to it (convolutions, identity gains, constant currents) are
one call of `cpu_kernels.cpp`. What lies between populations without weights, or is no spike, is
computed as in `layerwise`. On snapped graphs the spikes are the interpreter's, bit for bit.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from spiking_resnet import interpret, neurons
from spiking_resnet.engines.plan import Plan, Result, peak, pool_window, windows
from spiking_resnet.graph import (
    Add,
    Affine,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Output,
    Pad,
    Slice,
)

WINDOW = 64  # time steps of a layer held at once, and
WINDOW_BYTES = 2**26  # spikes of the widest layer held at once
INTERFACE = 2  # the version of the C interface in cpu_kernels.cpp
INSTRUCTION_SETS = ("portable", "avx2", "avx512")
instruction_set = "avx512"  # the best to be used; what the machine lacks is passed over
INSTALL = (
    "its kernels were not compiled: install a C++ compiler (g++ or clang), then "
    "`pip install --force-reinstall --no-deps spiking-resnet`"
)


class _Source(ctypes.Structure):
    _fields_ = [
        ("spikes", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("kernel_height", "kernel_width")),
        *((name, ctypes.c_int64) for name in ("stride_height", "stride_width")),
        *((name, ctypes.c_int64) for name in ("padding_height", "padding_width")),
        *((name, ctypes.c_int64) for name in ("dilation_height", "dilation_width")),
        ("groups", ctypes.c_int64),
    ]


class _Population(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "images", "height", "width", "channels")),
        *((name, ctypes.c_void_p) for name in ("potential", "constant", "current")),
        *((name, ctypes.c_void_p) for name in ("bias", "threshold")),
        *((name, ctypes.c_int64) for name in ("reset_to_zero", "gather")),
        *((name, ctypes.c_void_p) for name in ("spikes", "counts", "peaks")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there are none that fit this file."""
    for file in sorted(Path(__file__).parent.glob("_cpu_kernels*.so")):
        found = ctypes.CDLL(str(file))
        if not hasattr(found, "interface_version") or found.interface_version() != INTERFACE:
            continue  # compiled from an older source
        found.run_window.argtypes = [
            ctypes.POINTER(_Population),
            ctypes.POINTER(_Source),
            *[ctypes.c_int64] * 3,
        ]
        found.run_window.restype = None
        return found
    return None


def unsupported(graph: Graph, device: torch.device | str = "cpu") -> list[str]:
    """Why this engine cannot run `graph` on `device`."""
    reasons = [] if library() is not None else [INSTALL]
    if torch.device(device).type != "cpu":
        reasons.append(f"the images are on {device}, and it runs on the CPU")
    for node in graph.of(Fire):
        neuron = node.neuron
        if not bool((neuron.amplitude == 1).all()) or neuron.threshold.dtype != torch.float32:
            reasons.append(f"{node.name!r} does not fire unit spikes: normalise the network first")
            break
    return reasons


def run(graph: Graph, plan: Plan) -> Result:
    """The simulation that `plan` asks for."""
    images = plan.images.contiguous(memory_format=torch.channels_last)
    work = _Work(graph, plan, images)
    widest = max(torch.Size(node.shape).numel() for node in graph.of(Fire)) * len(images)
    for start, stop in windows(
        plan.record, max(1, min(plan.window or WINDOW, WINDOW_BYTES // widest))
    ):
        work.advance(start, stop)
        if stop in plan.record:
            work.result.read(interpret.readout(graph, interpret.State(stop, work.memory)))
    return work.result


def binary(graph: Graph) -> set[str]:
    """Names of the values that are 0 or 1 at every step: spikes, moved about or pooled by count."""
    found: set[str] = set()
    for node in graph.nodes:
        moved = isinstance(node, Slice | Pad | Flatten | Concat | MaxPool)
        if isinstance(node, Fire) or (moved and all(name in found for name in node.inputs)):
            found.add(node.name)
    return found


@dataclass(frozen=True, eq=False)
class Synapses:
    """Spikes named `spikes` reaching a population through `weights`, laid out for the kernel."""

    spikes: str
    weights: Tensor
    geometry: tuple[int, ...]  # the numbers of _Source from `height` on


@dataclass(frozen=True, eq=False)
class Fused:
    """A population with everything that one kernel call computes.

    synapses: its spiking inputs. currents: names of other values added at every step. bias: [C].
    gather: which of the kernel's two ways it goes.
    """

    synapses: tuple[Synapses, ...]
    currents: tuple[str, ...]
    bias: Tensor
    gather: bool


def fuse(graph: Graph, fixed: Mapping[str, Tensor]) -> tuple[dict[str, Fused], set[str]]:
    """For every population what its kernel call computes, and the nodes thereby done.

    fixed: the values known beforehand (constant currents).
    """
    spikes, found, done = binary(graph), dict[str, Fused](), set[str]()
    for node in graph.of(Fire):
        before = graph[node.inputs[0]]
        addends = [before.name]
        if isinstance(before, Add) and len(graph.consumers[before.name]) == 1:
            addends = list(before.inputs)
            done.add(before.name)
        weighted: list[Conv2d | Linear | Affine] = []
        currents = []
        for name in addends:
            source = graph[name]
            own = len(graph.consumers[name]) == 1 and name not in fixed
            if own and isinstance(source, Conv2d | Linear | Affine) and source.inputs[0] in spikes:
                weighted.append(source)
                done.add(name)
            elif name in spikes:
                one = torch.ones(())
                gain = Affine(name=name, inputs=(name,), shape=source.shape, scale=one)
                weighted.append(gain)
            else:
                currents.append(name)
        found[node.name] = _fused(graph, node, weighted, currents)
    return found, done


def _fused(
    graph: Graph, node: Fire, weighted: list[Conv2d | Linear | Affine], currents: list[str]
) -> Fused:
    """A population with its spiking inputs laid out for the kernel."""
    bias = torch.zeros(node.shape[0])
    for source in weighted:
        shift = source.shift if isinstance(source, Affine) else source.bias
        bias = bias if shift is None else bias + shift
    gather = node.shape[0] % 16 == 0 and all(_gathers(graph, source) for source in weighted)
    synapses = tuple(_synapses(graph, source, gather) for source in weighted)
    return Fused(synapses, tuple(currents), bias, gather)


def _gathers(graph: Graph, node: Conv2d | Linear | Affine) -> bool:
    """Whether the kernel's faster way takes these synapses."""
    if isinstance(node, Affine):
        return True
    plain = isinstance(node, Linear) or (node.groups == 1 and node.dilation == (1, 1))
    return plain and graph[node.inputs[0]].shape[0] % 8 == 0


def _synapses(graph: Graph, node: Conv2d | Linear | Affine, gather: bool) -> Synapses:
    """The weights of a node, laid out as cpu_kernels.cpp wants them, and its geometry."""
    shape = graph[node.inputs[0]].shape
    channels, height, width = (*shape, 1, 1)[:3]
    steps, pads, reach, groups = (1, 1), (0, 0), (1, 1), 1
    if isinstance(node, Conv2d):
        weight, groups = node.weight, node.groups
        steps, pads, reach = node.stride, node.padding, node.dilation
    elif isinstance(node, Linear):
        weight = node.weight[:, :, None, None]
    else:
        weight, groups = node.scale.expand(channels).reshape(-1, 1, 1, 1), channels
    out, inner, tall, wide = weight.shape
    if gather and groups == 1:
        table = weight.permute(2, 3, 1, 0)
    else:
        table = weight.reshape(groups, out // groups, inner, tall, wide)
        table = table.permute(3, 0, 2, 4, 1).reshape(tall, channels, wide, out // groups)
        if groups == 1 and steps[1] == 1 and reach[1] == 1:
            table = table.flip(2)  # see cpu_kernels.cpp, side_by_side
    geometry = (height, width, channels, tall, wide, *steps, *pads, *reach, groups)
    return Synapses(node.inputs[0], table.float().contiguous(), geometry)


class _Work:
    """One simulation under way: what it carries from window to window."""

    def __init__(self, graph: Graph, plan: Plan, images: Tensor) -> None:
        self.graph, self.plan, self.images = graph, plan, images
        self.given = interpret.constant_values(graph, images)
        self.fused, done = fuse(graph, self.given)
        nodes = interpret.varying(graph, self.given)
        self.nodes = [node for node in nodes if node.name not in done]
        self.last = {name: node.name for node in self.nodes for name in self._reads(node)}
        self.memory: dict[str, Tensor] = {}
        self.result = Result.empty(graph, plan)
        self.binary = binary(graph)

    def _reads(self, node: Node) -> tuple[str, ...]:
        """The values a node is computed from here."""
        if not isinstance(node, Fire):
            return node.inputs
        fused = self.fused[node.name]
        return (*(synapses.spikes for synapses in fused.synapses), *fused.currents)

    def advance(self, start: int, stop: int) -> None:
        """Runs every layer over the steps start … stop - 1."""
        steps = stop - start
        values: dict[str, Tensor] = {}  # [window, N, ...], uint8 where binary; [1, …] if constant
        for node in self.nodes:
            if node.name in self.given:
                values[node.name] = self.given[node.name][None]
            elif isinstance(node, Input):
                frames = [interpret.present(node, self.images, t) for t in range(start, stop)]
                values[node.name] = torch.stack(frames)
            elif isinstance(node, Fire):
                values[node.name] = self._fire(node, values, steps)
            else:
                values[node.name] = self._other(node, [values[n] for n in node.inputs], steps)
            for name in [name for name in values if self.last.get(name) == node.name]:
                del values[name]

    def _other(self, node: Node, inputs: list[Tensor], steps: int) -> Tensor:
        """The value of a node that no kernel computes."""
        if isinstance(node, Output):
            total = _float(inputs[0]).sum(0) if len(inputs[0]) > 1 else _float(inputs[0])[0] * steps
            self.memory[node.name] = self.memory.get(node.name, 0) + total
            if node.name in self.plan.watch:
                self.result.note_peak(node.name, peak(node, self.memory[node.name]))
            return inputs[0]
        if isinstance(node, MaxPool):
            pooled, memory = pool_window(node, _float(inputs[0]), self.memory.get(node.name), steps)
            if memory is not None:
                self.memory[node.name] = memory
                if node.name in self.plan.watch:  # sums between two windows: within one of them
                    reserve = steps * node.step_bound
                    self.result.note_peak(node.name, peak(node, memory) + reserve)
            return pooled.to(torch.uint8) if node.name in self.binary else pooled
        widest = max(len(value) for value in inputs)
        kept = node.name in self.binary
        flat = [
            (value if kept else _float(value)).expand(widest, *value.shape[1:]).flatten(0, 1)
            for value in inputs
        ]
        return interpret.STATELESS[type(node)](node, *flat).unflatten(0, (widest, -1))

    def _fire(self, node: Fire, values: Mapping[str, Tensor], steps: int) -> Tensor:
        """The spikes [window, N, ...] (uint8) of a population; one kernel call."""
        fused, neuron = self.fused[node.name], node.neuron
        count = len(self.images)
        if node.name not in self.memory:
            like = _empty(count, node.shape, torch.float32)
            self.memory[node.name] = neurons.start(neuron, like)
        constant, current = self._currents(fused, values, steps, self.memory[node.name])
        spikes = _empty(steps * count, node.shape, torch.uint8)
        counts = torch.zeros(count, dtype=torch.int64)
        peaks = torch.zeros(count) if node.name in self.plan.watch else None
        threshold = neuron.threshold.expand(node.shape[0]).contiguous()
        kept = [_channels_last(values[s.spikes].flatten(0, 1)) for s in fused.synapses]
        sources = (_Source * max(len(kept), 1))(*(
            _Source(tensor.data_ptr(), s.weights.data_ptr(), *s.geometry)
            for tensor, s in zip(kept, fused.synapses, strict=True)
        ))  # fmt: skip
        channels, height, width = (*node.shape, 1, 1)[:3]
        population = _Population(
            *(steps, count, height, width, channels),
            *(self.memory[node.name].data_ptr(), _pointer(constant), _pointer(current)),
            *(fused.bias.data_ptr(), threshold.data_ptr(), neuron.reset == "zero"),
            fused.gather,
            *(spikes.data_ptr(), counts.data_ptr(), _pointer(peaks)),
        )
        kernels, level = library(), INSTRUCTION_SETS.index(instruction_set)
        assert kernels is not None  # unsupported() refuses otherwise
        kernels.run_window(population, sources, len(kept), torch.get_num_threads(), level)
        spikes = spikes.unflatten(0, (steps, count))
        self.result.add(node.name, counts, spikes)
        if peaks is not None:
            reserve = max(float(threshold.max()), node.step_bound)
            self.result.note_peak(node.name, float(peaks.max()) + reserve)
        return spikes

    def _currents(
        self, fused: Fused, values: Mapping[str, Tensor], steps: int, like: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """The current of every step [N, ...], and the one that changes [window, N, ...]."""
        constant = [values[n][0] for n in fused.currents if len(values[n]) == 1]
        varying = [_float(values[n]) for n in fused.currents if len(values[n]) > 1]
        if steps == 1:  # a window of one step: either will do
            varying = []
            constant = [_float(values[n])[0] for n in fused.currents]
        fixed = _channels_last(sum(constant[1:], constant[0]).float()) if constant else None
        moving = None
        if varying:
            moving = _channels_last(sum(varying[1:], varying[0]).float().flatten(0, 1))
        return fixed, moving


def _float(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.uint8 else value


def _empty(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised [count, *shape] with channels innermost in memory."""
    layout = torch.channels_last if len(shape) == 3 else torch.contiguous_format
    return torch.empty((count, *shape), dtype=dtype, memory_format=layout)


def _channels_last(value: Tensor) -> Tensor:
    """`value` [N, C, H, W] or [N, C] with channels innermost in memory."""
    if value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value.contiguous()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
