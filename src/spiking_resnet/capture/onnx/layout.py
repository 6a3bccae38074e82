"""Operations that move values without computing: reshapes, transposes, cuts, joins."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from spiking_resnet.capture.calls import Unsupported
from spiking_resnet.capture.onnx import spatial
from spiking_resnet.capture.onnx.operation import Activation, Step
from spiking_resnet.graph import Concat, Flatten


def check_alike(values: Sequence[Activation]) -> None:
    """Raise Unsupported unless the values can be combined number by number."""
    first = values[0]
    for other in values[1:]:
        same = first.columns is other.columns or (
            first.columns is not None
            and other.columns is not None
            and torch.equal(first.columns, other.columns)
        )
        if other.axes != first.axes or other.shape != first.shape or not same:
            raise Unsupported(
                f"it combines activations of {first.sizes} and {other.sizes} per image, or with "
                "axes in different orders; both must be the same"
            )


def concat(step: Step) -> Activation:
    """Concat along the channels."""
    values = [step.activation(i) for i in range(len(step.operands))]
    first, axis = values[0], int(step.option("axis", 1))
    orders = {value.axes for value in values}
    if len(orders) > 1 or first.axes[axis % len(first.axes)] != 1:
        raise Unsupported(f"concatenation along axis {axis}; only channels can be")
    if any(value.columns is not None for value in values):
        raise Unsupported("it joins maps that were flattened with channels last")
    shape = (sum(value.shape[0] for value in values), *first.shape[1:])
    node = Concat(**step.call(shape).base(*(value.value for value in values)))
    return step.like(first, node)


def transpose(step: Step) -> Activation:
    """Transpose: no node, only another order of axes."""
    x = step.activation()
    order = step.option("perm", list(range(len(x.axes)))[::-1])
    if order[0] != 0:
        raise Unsupported("it moves the batch axis; every image must be treated alike")
    return replace(x, axes=tuple(x.axes[axis] for axis in order))


def reshape(step: Step) -> Activation:
    """Reshape, Flatten, Squeeze and Unsqueeze: flattening, and moving axes of size 1."""
    x = step.activation()
    batch, *rest = step.sizes or (0,)
    sizes = tuple(rest)
    if batch != step.batch:
        raise Unsupported(
            "it mixes the images of a batch; every image must be treated alike. PyTorch also "
            "writes this where the example images lie in memory with channels last: export with "
            "plain ones, such as torch.zeros(1, C, H, W)"
        )
    if sizes == x.sizes:
        return x
    if len(sizes) == 1:
        return _flattened(step, x)
    whole = _unflattened(step, x) if len(x.axes) == 2 else x
    moved = None if whole is None else _moved(whole, sizes)
    if moved is None:
        raise Unsupported(f"reshaping {x.sizes} to {sizes}; only flattening can be converted")
    return moved


def _flattened(step: Step, x: Activation) -> Activation:
    """All axes in one, with the order in which the file has them kept in mind."""
    total = torch.Size(x.shape).numel()
    places = torch.arange(total, dtype=torch.int64).reshape(x.shape)
    columns = places.permute([axis - 1 for axis in x.axes[1:]]).reshape(-1)
    flat = step.place(Flatten(**step.call((total,)).base(x.value)))
    return replace(flat, columns=None if bool((columns.diff() == 1).all()) else columns)


def _unflattened(step: Step, x: Activation) -> Activation | None:
    """The map of one pixel that a Flatten made features of, or None."""
    node = step.nodes[x.name]
    shape = step.nodes[node.inputs[0]].shape if isinstance(node, Flatten) else ()
    if len(shape) != 3 or shape[0] != x.shape[0]:
        return None
    return Activation(node.inputs[0], shape, (0, 1, 2, 3))


def _moved(x: Activation, sizes: tuple[int, ...]) -> Activation | None:
    """`x` seen with these sizes, where only axes of size 1 change their places; else None."""
    if len(sizes) != len(x.shape):
        return None
    if sizes == x.shape:
        plain = tuple(range(len(sizes) + 1))
        kept = [axis for axis in x.axes[1:] if x.shape[axis - 1] > 1]
        return replace(x, axes=plain) if kept == sorted(kept) else None
    large = [axis for axis in x.axes[1:] if x.shape[axis - 1] > 1]
    small = [axis for axis in x.axes[1:] if x.shape[axis - 1] == 1]
    if [x.shape[axis - 1] for axis in large] != [size for size in sizes if size > 1]:
        return None
    axes = tuple(large.pop(0) if size > 1 else small.pop(0) for size in sizes)
    return replace(x, axes=(0, *axes))


def cut_out(step: Step) -> Activation:
    """Slice, along any axes but the batch."""
    x = step.activation()
    starts, ends = step.option("starts", [], 1), step.option("ends", [], 2)
    axes = step.option("axes", list(range(len(starts))), 3)
    strides = step.option("steps", [1] * len(starts), 4)
    ranges = {}
    for axis, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        own = x.axes[axis % len(x.axes)]
        size = step.batch if own == 0 else x.shape[own - 1]
        if stride < 1:
            raise Unsupported("slicing backwards; only positive steps can be converted")
        found = slice(start, end, stride).indices(size)
        if own == 0 and (found != (0, size, 1) or end < 2**31 - 1):
            raise Unsupported("slicing the batch; every image must be treated alike")
        if own > 0:
            ranges[own - 1] = found
    if x.columns is not None and ranges:
        raise Unsupported("it cuts a map that was flattened with channels last")
    return spatial.cut(step, x, ranges)


def split(step: Step) -> list[Activation]:
    """Split: one Slice for each part."""
    x = step.activation()
    axis = x.axes[int(step.option("axis", 0)) % len(x.axes)]
    if axis == 0 or x.columns is not None:
        raise Unsupported("splitting the batch, or a map that was flattened with channels last")
    size, parts = x.shape[axis - 1], len(step.operation.outputs)
    part = -(-size // parts)
    usual = [min(part, size - part * i) for i in range(parts)]
    found, start = [], 0
    for length in step.option("split", usual, 1):
        found.append(spatial.cut(step, x, {axis - 1: (start, start + length, 1)}))
        start += length
    return found
