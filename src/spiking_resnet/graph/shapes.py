"""The shape that follows from a node and what it reads: one function for every kind of node."""

from collections.abc import Callable
from math import prod
from typing import Any

from spiking_resnet.graph.nodes import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    GraphError,
    Input,
    Linear,
    MaxPool,
    Node,
    Output,
    Pad,
    Pair,
    ReLU,
    Round,
    Select,
    Shape,
    Slice,
)

MOST_ENTRIES = 2**31 - 1  # of a value for one image


def check_shape(node: Node, inputs: list[Shape]) -> None:
    """Raises GraphError unless the node's own shape follows from its inputs'."""
    arity = {Input: 0, Add: None, Concat: None}.get(type(node), 1)
    if (arity is None and not inputs) or (arity is not None and len(inputs) != arity):
        raise GraphError(f"{node.name!r}: {type(node).__name__} cannot have {len(inputs)} inputs")
    expected = SHAPES[type(node)](node, *inputs)
    if tuple(node.shape) != expected:
        raise GraphError(f"{node.name!r}: shape {tuple(node.shape)} should be {expected}")
    if prod(expected) > MOST_ENTRIES:
        raise GraphError(
            f"{node.name!r}: shape {expected} has more than {MOST_ENTRIES:,} entries for one image"
        )


def _same(node: Node, shape: Shape) -> Shape:
    return shape


def _image(node: Input) -> Shape:
    return node.shape


def _convolved(node: Conv2d, shape: Shape) -> Shape:
    _is_map(node, shape)
    weight = tuple(node.weight.shape)
    if shape[0] != weight[1] * node.groups or weight[0] % node.groups:
        raise GraphError(
            f"{node.name!r}: weight {weight} with {node.groups} group(s) does not fit an input of "
            f"{shape[0]} channels"
        )
    kernel = (weight[2], weight[3])
    return (weight[0], *_windows(node, shape, kernel, node.stride, node.padding, node.dilation))


def _connected(node: Linear, shape: Shape) -> Shape:
    weight = tuple(node.weight.shape)
    if shape != (weight[1],):
        raise GraphError(f"{node.name!r}: weight {weight} does not fit input {shape}")
    return (weight[0],)


def _added(node: Add, *shapes: Shape) -> Shape:
    if any(shape != shapes[0] for shape in shapes):
        raise GraphError(f"{node.name!r}: cannot add shapes {list(shapes)}")
    return shapes[0]


def _joined(node: Concat, *shapes: Shape) -> Shape:
    if any(shape[1:] != shapes[0][1:] for shape in shapes):
        raise GraphError(f"{node.name!r}: cannot join shapes {list(shapes)} along the channels")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _padded(node: Pad, shape: Shape) -> Shape:
    if len(node.padding) != len(shape):
        raise GraphError(f"{node.name!r}: padding {node.padding} does not fit shape {shape}")
    return tuple(size + sum(pair) for size, pair in zip(shape, node.padding, strict=True))


def _cut(node: Slice, shape: Shape) -> Shape:
    _has_axis(node, shape)
    if not node.start < node.stop <= shape[node.axis]:
        raise GraphError(
            f"{node.name!r}: cuts {node.start} to {node.stop} out of axis {node.axis} of {shape}"
        )
    length = len(range(node.start, node.stop, node.step))
    return (*shape[: node.axis], length, *shape[node.axis + 1 :])


def _selected(node: Select, shape: Shape) -> Shape:
    _has_axis(node, shape)
    if not max(node.index) < shape[node.axis]:
        raise GraphError(f"{node.name!r}: selects entries outside axis {node.axis} of {shape}")
    return (*shape[: node.axis], len(node.index), *shape[node.axis + 1 :])


def _averaged(node: AvgPool, shape: Shape) -> Shape:
    _is_map(node, shape)
    _has_narrow_padding(node)
    return (shape[0], *_windows(node, shape, node.kernel, node.stride, node.padding, (1, 1)))


def _maximised(node: MaxPool, shape: Shape) -> Shape:
    _is_map(node, shape)
    _has_narrow_padding(node)
    for size, padding, dilation in zip(shape[1:], node.padding, node.dilation, strict=True):
        if padding and dilation > size:
            raise GraphError(f"{node.name!r}: there are windows of nothing but padding in {shape}")
    counts = _windows(
        node, shape, node.kernel, node.stride, node.padding, node.dilation, node.ceil_mode
    )
    return (shape[0], *counts)


def _flat(node: Flatten, shape: Shape) -> Shape:
    return (prod(shape),)


def _read(node: Output, shape: Shape) -> Shape:
    if len(shape) != 1:
        raise GraphError(f"{node.name!r}: logits of shape {shape} should have one axis, of classes")
    return shape


SHAPES: dict[type[Node], Callable[..., Shape]] = {
    Input: _image,
    Conv2d: _convolved,
    Linear: _connected,
    Affine: _same,
    Round: _same,
    ReLU: _same,
    Fire: _same,
    Add: _added,
    Concat: _joined,
    Pad: _padded,
    Slice: _cut,
    Select: _selected,
    AvgPool: _averaged,
    MaxPool: _maximised,
    Flatten: _flat,
    Output: _read,
}


def _is_map(node: Node, shape: Shape) -> None:
    if len(shape) != 3:
        raise GraphError(f"{node.name!r}: windows need [channels, height, width], not {shape}")


def _has_axis(node: Slice | Select, shape: Shape) -> None:
    if node.axis >= len(shape):
        raise GraphError(f"{node.name!r}: there is no axis {node.axis} in shape {shape}")


def _has_narrow_padding(node: AvgPool | MaxPool) -> None:
    """Raises GraphError where a window could lie in the padding alone."""
    if any(2 * padding > size for padding, size in zip(node.padding, node.kernel, strict=True)):
        raise GraphError(
            f"{node.name!r}: padding {node.padding} is more than half of the kernel {node.kernel}"
        )


def _windows(
    node: Node,
    shape: Shape,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool = False,
) -> Shape:
    """How many windows there are along height and width; GraphError where none fits."""

    def count(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
        room = size + 2 * padding - dilation * (kernel - 1) - 1
        if room < 0:
            raise GraphError(
                f"{node.name!r}: a window of {dilation * (kernel - 1) + 1} does not fit {size} "
                f"with {padding} of padding on both sides"
            )
        found = room // stride + 1
        # With ceil_mode there is one more where it begins within the image or the padding before.
        more = ceil_mode and room % stride and found * stride < size + padding
        return found + bool(more)

    along: Any = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
    return tuple(count(*numbers) for numbers in along)
