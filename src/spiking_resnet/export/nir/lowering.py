"""What NIR has no node for, as convolutions: moves of entries, gains, groups, oblong kernels.

NIR's own shape inference takes every kernel for square and every convolution for one without
groups, and all readers follow it; so do the convolutions here. They compute what they replace, bit
for bit: a moved entry is multiplied by 1 and added to zeros.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import frexp
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.export.format import ExportError
from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Graph,
    Linear,
    Node,
    Pad,
    Select,
    Shape,
    Slice,
)
from spiking_resnet.graph.grids import coarsest_grid
from spiking_resnet.graph.interpret import unreached

MOST_WEIGHTS = 2**26  # entries of a convolution that stands for a sum over a window


def lowered(graph: Graph, gains: bool) -> Graph:
    """Return `graph` with convolutions and matrices in the place of what NIR has no node for.

    gains: whether those of shortcuts become convolutions, too; otherwise NIR's Scale serves.
    Raises ExportError for a move that is no convolution.
    """
    nodes: list[Node] = []
    precise = unreached(graph)
    for node in graph.nodes:
        dtype = torch.float64 if node.name in precise else torch.float32
        nodes += _lowered(graph, node, gains, dtype)
    return graph.with_nodes(nodes)


def _lowered(graph: Graph, node: Node, gains: bool, dtype: torch.dtype) -> Sequence[Node]:
    shapes = [graph[name].shape for name in node.inputs]
    if isinstance(node, Affine) and (gains or node.shift is not None):
        return [_gain(node)]
    if isinstance(node, Conv2d):
        return [_square(_without_groups(node))]
    if isinstance(node, Add):
        return _without_repetition(node)
    if isinstance(node, Concat):
        return _joined(node, shapes, dtype)
    if type(node) in _MOVES:
        return [_MOVES[type(node)](node, shapes[0], dtype)]
    return [node]


def _gain(node: Affine) -> Node:
    """Return a factor for each channel, and what is added, as a diagonal of weights."""
    channels = node.shape[0]
    diagonal = torch.diag(node.scale.expand(channels))
    shift = None if node.shift is None else node.shift.expand(channels)
    return _mixing(node, diagonal, node.shape, shift, node.grid)


def _mixing(
    node: Node, weight: Tensor, shape: Shape, bias: Tensor | None, grid: int | None
) -> Node:
    """Return a matrix of channels [out, in], applied at every place."""
    fields: dict[str, Any] = {
        "name": node.name, "inputs": node.inputs, "shape": shape, "source": node.source,
        "bias": bias, "grid": grid,
    }  # fmt: skip
    if len(shape) == 1:
        return Linear(weight=weight, **fields)
    return Conv2d(weight=weight[:, :, None, None], **fields)


def _without_groups(node: Conv2d) -> Conv2d:
    """Return a convolution whose weights outside its groups are 0."""
    if node.groups == 1:
        return node
    outputs, inner, *kernel = node.weight.shape
    rows = outputs // node.groups
    weight = node.weight.new_zeros(outputs, inner * node.groups, *kernel)
    for group in range(node.groups):
        out, read = group * rows, group * inner
        weight[out : out + rows, read : read + inner] = node.weight[out : out + rows]
    return replace(node, weight=weight, groups=1)


def _square(node: Conv2d) -> Conv2d:
    """Return a convolution with as many rows of weights as columns, zeros around."""
    kernel = node.weight.shape[2:]
    missing = [max(kernel) - size for size in kernel]
    if not any(missing):
        return node
    if any(each % 2 for each in missing):
        raise ExportError(
            f"{node.name!r}: NIR takes kernels for square, and one of {tuple(kernel)} cannot be "
            "made so by zeros around it: use odd kernels"
        )
    rows, columns = (each // 2 for each in missing)
    weight = torch.nn.functional.pad(node.weight, (columns, columns, rows, rows))
    around = zip(node.padding, (rows, columns), node.dilation, strict=True)
    rows, columns = (padding + more * dilation for padding, more, dilation in around)
    return replace(node, weight=weight, padding=(rows, columns))


def _without_repetition(node: Add) -> Sequence[Node]:
    """Return a sum that reads nothing twice: NIR's edges are a set."""
    made: list[Node] = []
    inputs: list[str] = []
    for name in dict.fromkeys(node.inputs):
        times = node.inputs.count(name)
        if times == 1:
            inputs.append(name)
            continue
        factor = torch.tensor(float(times), dtype=torch.float32)
        gain = Affine(
            name=f"{node.name}.times{len(inputs)}", inputs=(name,), shape=node.shape, scale=factor,
            grid=0,
        )  # fmt: skip
        made.append(_gain(gain))
        inputs.append(gain.name)
    return [*made, replace(node, inputs=tuple(inputs))]


def _joined(node: Concat, shapes: Sequence[Shape], dtype: torch.dtype) -> Sequence[Node]:
    """Return what puts each input's channels in their place, and the sum of it all."""
    parts: list[Node] = []
    first = 0
    for position, (name, shape) in enumerate(zip(node.inputs, shapes, strict=True)):
        weight = torch.zeros(node.shape[0], shape[0], dtype=dtype)
        weight[first : first + shape[0]] = torch.eye(shape[0], dtype=dtype)
        first += shape[0]
        part = replace(node, name=f"{node.name}.part{position}", inputs=(name,))
        parts.append(_mixing(part, weight, node.shape, None, 0))
    names = tuple(part.name for part in parts)
    return [*parts, Add(name=node.name, inputs=names, shape=node.shape, source=node.source)]


def _sliced(node: Slice, shape: Shape, dtype: torch.dtype) -> Node:
    if node.axis == 0:
        return _channels(node, range(node.start, node.stop, node.step), shape, dtype)
    return _along(node, node.axis, node.step, node.start, shape, dtype)


def _selected(node: Select, shape: Shape, dtype: torch.dtype) -> Node:
    if node.axis == 0:
        return _channels(node, node.index, shape, dtype)
    step = node.index[1] - node.index[0] if len(node.index) > 1 else 1
    even = range(node.index[0], node.index[0] + step * len(node.index), step or 1)
    if step < 1 or tuple(even) != node.index:
        raise ExportError(
            f"{node.name!r}: NIR has no node that copies or reorders rows and columns: leave "
            "upsampling and shuffles of places out of the network"
        )
    return _along(node, node.axis, step, node.index[0], shape, dtype)


def _padded(node: Pad, shape: Shape, dtype: torch.dtype) -> Node:
    before = node.padding[0][0]
    kept = [place - before for place in range(node.shape[0])]
    index = [place if 0 <= place < shape[0] else -1 for place in kept]
    if len(shape) == 1:
        return _channels(node, index, shape, dtype)
    rows, columns = (-pair[0] for pair in node.padding[1:])
    return _moved(node, index, (1, 1), (rows, columns), shape, dtype)


_MOVES: Mapping[type[Node], Callable[[Any, Shape, torch.dtype], Node]] = {
    Slice: _sliced,
    Select: _selected,
    Pad: _padded,
}


def _channels(node: Node, index: Sequence[int], shape: Shape, dtype: torch.dtype) -> Node:
    """Return what has the channels `index` of its input, zeros for -1."""
    return _mixing(node, _chosen(index, shape[0], dtype), node.shape, None, 0)


def _chosen(index: Sequence[int], channels: int, dtype: torch.dtype) -> Tensor:
    weight = torch.zeros(len(index), channels, dtype=dtype)
    for row, place in enumerate(index):
        if place >= 0:
            weight[row, place] = 1
    return weight


def _along(node: Node, axis: int, step: int, start: int, shape: Shape, dtype: torch.dtype) -> Node:
    """Return every `step`-th row (axis 1) or column (axis 2) from `start` on."""
    steps, starts = [1, 1], [0, 0]
    steps[axis - 1], starts[axis - 1] = step, start
    return _moved(node, range(shape[0]), (steps[0], steps[1]), (starts[0], starts[1]), shape, dtype)


def _moved(
    node: Node,
    index: Sequence[int],
    steps: tuple[int, int],
    starts: tuple[int, int],
    shape: Shape,
    dtype: torch.dtype,
) -> Node:
    """Return the convolution with `out[c, y, x] = in[index[c], start + step * y, …]`, 0 outside."""
    axes = list(zip(steps, starts, node.shape[1:], shape[1:], strict=True))
    for kernel in range(1, 2 * max(*shape[1:], *node.shape[1:]) + 2):
        places = [_place(kernel, *axis) for axis in axes]
        if None in places:
            continue
        (top, row), (left, column) = (place for place in places if place is not None)
        weight = torch.zeros(len(index), shape[0], kernel, kernel, dtype=dtype)
        weight[:, :, row, column] = _chosen(index, shape[0], dtype)
        return Conv2d(
            name=node.name, inputs=node.inputs, shape=node.shape, source=node.source,
            weight=weight, bias=None, stride=steps, padding=(top, left), grid=0,
        )  # fmt: skip
    raise ExportError(f"{node.name!r}: what it cuts out of {shape} is no convolution that NIR has")


def _place(kernel: int, step: int, start: int, number: int, size: int) -> tuple[int, int] | None:
    """Return (padding, tap) of a kernel of zeros and one 1 that moves entries along an axis."""
    for tap in range(kernel):
        padding = tap - start
        room = size + 2 * padding - kernel
        if padding >= 0 and (number - 1) * step <= room < number * step:
            return padding, tap
    return None


def with_summing_convolutions(graph: Graph) -> Graph:
    """Return `graph` with convolutions of ones in the place of sums over windows.

    Readers have no sum pool, ignore its padding, or divide and multiply again. A pool stays whose
    convolution would have more than MOST_WEIGHTS weights, that divides inexactly, or whose windows
    are oblong.
    """

    def summing(node: Node) -> Node:
        channels, size = node.shape[0], max(getattr(node, "kernel", (0, 0)))
        if not isinstance(node, AvgPool) or channels**2 * size**2 > MOST_WEIGHTS:
            return node
        if frexp(node.divisor)[0] != 0.5 or node.kernel[0] != node.kernel[1]:
            return node
        weight = torch.zeros(channels, channels, *node.kernel, dtype=torch.float32)
        weight[range(channels), range(channels)] = 1 / node.divisor
        return Conv2d(
            name=node.name, inputs=node.inputs, shape=node.shape, source=node.source,
            weight=weight, bias=None, stride=node.stride, padding=node.padding,
            grid=coarsest_grid(1 / node.divisor),
        )  # fmt: skip

    return graph.with_nodes(summing(node) for node in graph.nodes)
