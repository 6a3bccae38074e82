"""What a C program of an integer form consists of: tables of numbers, in the order of the work.

Maps lie as [height][width][channel] there, weights as [row][column][input channel][output channel
of the group]. Average pools are sums, and a linear layer that reads a flattened map is a
convolution of the size of that map.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spiking_resnet.export.format import ExportError
from spiking_resnet.export.trees import pixels
from spiking_resnet.export.widths import shifted
from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Linear,
    MaxPool,
    Node,
    Output,
    Pad,
    Round,
    Select,
    Slice,
)
from spiking_resnet.graph.nodes import Weighted
from spiking_resnet.graph.structure import carries_spikes

Map = tuple[int, int, int]  # channels, rows, columns


def as_map(shape: Sequence[int]) -> Map:
    """The shape of a value as a map."""
    channels, rows, columns = (*shape, 1, 1)[:3]
    return channels, rows, columns


@dataclass(frozen=True, eq=False)
class Geometry:
    """Windows over a map of this shape: kernel, stride, padding, dilation, each (rows, columns)."""

    read: Map
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Synapses:
    """Weights that read a value, times 2^shifts [outputs]; or gains [outputs].

    weights: int64 [rows, columns, groups, channels of a group, outputs of a group]. Gains: one
    synapse from each entry to the one at its place. bias: of weights that read pixels, [outputs],
    which is added before rounding.
    outputs: the map that they lead to.
    """

    read: str
    outputs: Map
    geometry: Geometry
    weights: Tensor | None = None
    shifts: Tensor | None = None
    gains: Tensor | None = None
    bias: Tensor | None = None


@dataclass(eq=False)
class Target:
    """What meets in potentials, or in the read-out: synapses, bias int64 [C]; views of pixels."""

    name: str
    shape: Map
    sources: list[Synapses] = field(default_factory=list)
    bias: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    views: list[Synapses] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons: thresholds int64 [C], initial potentials [C] or of every neuron [H * W * C]."""

    target: Target
    threshold: Tensor
    start: Tensor
    maps_start: bool
    levels: int
    signed: bool
    resets_to_zero: bool


@dataclass(frozen=True, eq=False)
class Pooling:
    """Sums over windows, or maxima; counting: of sums over time, of which it is the growth."""

    name: str
    read: str
    written: Map
    geometry: Geometry
    sums: bool
    counting: bool


@dataclass(frozen=True, eq=False)
class Moving:
    """The entries of these rows, columns and channels of a value, -1 for 0, from channel `first`
    of `name` on.
    """

    name: str
    read: str
    shape: Map  # of what it reads
    written: Map
    rows: Sequence[int]
    columns: Sequence[int]
    channels: Sequence[int]
    first: int = 0


@dataclass(frozen=True, eq=False)
class Layout:
    """A whole program: its operations in order, the read-out, and the shape of each value."""

    graph: Graph
    operations: tuple[Population | Pooling | Moving, ...]
    output: Target
    shapes: Mapping[str, Map]
    aliases: Mapping[str, str]


def layout(graph: Graph) -> Layout:
    """Return the layout of an integer form; ExportError, with the node's name, for what it has no
    code for.
    """
    work = _Laying(graph, carries_spikes(graph), pixels(graph))
    operations = tuple(work.operations())
    return Layout(graph, operations, work.target(graph.output), work.shapes, work.aliases)


@dataclass(eq=False)
class _Laying:
    graph: Graph
    spikes: Mapping[str, bool]
    image: set[str]
    shapes: dict[str, Map] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def operations(self) -> Iterator[Population | Pooling | Moving]:
        """All that is done in a step before the read-out."""
        if self.graph.input.encoding != "constant":
            raise ExportError(
                f"{self.graph.input.name!r} draws random spikes: convert with a constant image"
            )
        for node in self.graph.nodes:
            if not self.spikes[node.name]:
                continue
            self.shapes[node.name] = as_map(node.shape)
            if isinstance(node, Fire):
                yield self._population(node)
            elif isinstance(node, AvgPool | MaxPool):
                yield self._pooling(node)
            elif isinstance(node, Flatten):
                self._flatten(node)
            else:
                yield from self._moved(node)

    def _population(self, node: Fire) -> Population:
        neuron, grid = node.neuron, node.grid or 0
        target = self.target(node)
        channels = target.shape[0]
        start = _whole(neuron.initial_potential, grid)
        maps = start.ndim == 3
        return Population(
            target,
            _whole(neuron.threshold, grid).expand(channels),
            start.permute(1, 2, 0).flatten() if maps else start.expand(channels),
            maps,
            neuron.levels,
            neuron.signed,
            neuron.reset == "zero",
        )

    def target(self, node: Fire | Output) -> Target:
        """All that a population, or the read-out, receives."""
        found = Target(node.name, as_map(node.shape))
        found.bias = torch.zeros(found.shape[0], dtype=torch.int64)
        self._collect(found, node.inputs[0], node.grid or 0)
        return found

    def _collect(self, target: Target, name: str, grid: int) -> None:
        """Add to a target what the value called `name` brings."""
        node = self.graph[name]
        if isinstance(node, Add) and not self.spikes[name]:
            for each in node.inputs:
                self._collect(target, each, grid)
        elif self.spikes[name]:
            ones = torch.ones(target.shape[0], dtype=torch.int64)
            self._add(
                target, Synapses(name, target.shape, Geometry(target.shape, (1, 1)), gains=ones)
            )
        elif isinstance(node, Flatten) and as_map(node.shape) == as_map(self._read(node).shape):
            self._collect(target, node.inputs[0], grid)
        elif isinstance(node, Round) and isinstance(view := self._read(node), Weighted):
            target.views.append(self._synapses(view, grid))
        elif isinstance(node, Weighted):
            self._add(target, self._synapses(node, grid))
        else:
            raise ExportError(
                f"{name!r} is a {type(node).__name__} of currents, for which there is no C code: "
                "put the activation before it, or leave the integer form to other programs"
            )

    def _read(self, node: Node) -> Node:
        return self.graph[node.inputs[0]]

    def _add(self, target: Target, synapses: Synapses) -> None:
        target.sources.append(synapses)
        if synapses.bias is not None:
            target.bias = target.bias + synapses.bias

    def _synapses(self, node: Weighted, grid: int) -> Synapses:
        """A node's weights as whole numbers on 2^-grid."""
        source, outputs = self._read(node), as_map(node.shape)
        added = None if node.added is None else _whole(node.added, grid).expand(outputs[0])
        if isinstance(node, Affine):
            gains = _whole(node.scale, grid).expand(outputs[0])
            geometry = Geometry(outputs, (1, 1), groups=outputs[0])
            return Synapses(source.name, outputs, geometry, gains=gains, bias=added)
        assert isinstance(node, Conv2d | Linear)
        weight = _whole(node.weight, grid)
        read = as_map(source.shape)
        if isinstance(node, Linear):
            if isinstance(source, Flatten):
                source = self._read(source)
                read = as_map(source.shape)
            geometry = Geometry(read, (read[1], read[2]))
            weight = weight.view(len(weight), *read)
        else:
            kernel = (node.weight.shape[2], node.weight.shape[3])
            geometry = Geometry(read, kernel, node.stride, node.padding, node.dilation, node.groups)
        if source.name in self.image and source.name != self.graph.input.name:
            raise ExportError(
                f"{source.name!r} moves pixels, for which there is no C code: prepare images so"
            )
        whole, shifts = shifted(weight)
        groups = geometry.groups
        parts = whole.view(groups, len(whole) // groups, *whole.shape[1:])
        laid = parts.permute(3, 4, 0, 2, 1).contiguous()
        return Synapses(source.name, outputs, geometry, laid, shifts, bias=added)

    def _pooling(self, node: AvgPool | MaxPool) -> Pooling:
        read = as_map(self._read(node).shape)
        around = (node.kernel, node.stride, node.padding)
        if isinstance(node, AvgPool):
            geometry = Geometry(read, *around)
            return Pooling(node.name, node.inputs[0], as_map(node.shape), geometry, True, False)
        geometry = Geometry(read, *around, node.dilation)
        counting = node.rule == "cumulative"
        return Pooling(node.name, node.inputs[0], as_map(node.shape), geometry, False, counting)

    def _flatten(self, node: Flatten) -> None:
        """A flattened map: another name of it where it has one position, else a convolution's."""
        source = self._read(node)
        if as_map(source.shape) == as_map(node.shape):
            self.aliases[node.name] = source.name
        elif not all(isinstance(reader, Linear) for reader in self.graph.consumers[node.name]):
            raise ExportError(
                f"{node.name!r} flattens a map of {source.shape} for something else than a linear "
                "layer, for which there is no C code"
            )

    def _moved(self, node: Node) -> Iterator[Moving]:
        """What puts a node's entries to their places: one operation for each input."""
        written, first = as_map(node.shape), 0
        for name in node.inputs:
            shape = as_map(self.graph[name].shape)
            places = [list(range(size)) for size in shape]
            if isinstance(node, Slice):
                places[node.axis] = places[node.axis][node.start : node.stop : node.step]
            elif isinstance(node, Select):
                places[node.axis] = [places[node.axis][index] for index in node.index]
            elif isinstance(node, Pad):
                for axis, (before, after) in enumerate(node.padding):
                    places[axis] = [-1] * before + places[axis] + [-1] * after
            elif not isinstance(node, Concat):
                raise ExportError(
                    f"{node.name!r} is a {type(node).__name__}, for which there is no C code"
                )
            channels, rows, columns = places
            yield Moving(node.name, name, shape, written, rows, columns, channels, first)
            first += len(channels)


def _whole(values: Tensor, grid: int) -> Tensor:
    """Values on the grid 2^-grid as int64."""
    return torch.round(values.double() * 2.0**grid).long()
