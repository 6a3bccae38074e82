"""Operations that put entries around a map, or copy entries of it: padding, nearest resizing."""

from typing import Any

import numpy as np

from spiking_resnet.capture import aten
from spiking_resnet.capture.calls import Unsupported
from spiking_resnet.capture.onnx import nearest
from spiking_resnet.capture.onnx.file import Operation
from spiking_resnet.capture.onnx.operation import Activation, Step
from spiking_resnet.capture.reindex import choices
from spiking_resnet.graph import Pair

_COPIES = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}  # of ONNX, as numpy calls them
_LOWEST = -1e30  # what is below it stands for -inf


def copied(step: Step, x: Activation, indices: list[list[int]]) -> Activation:
    """`x` with the entries `indices` of each of its node's axes."""
    if x.columns is not None:
        raise Unsupported("it takes entries of a map that was flattened with channels last")
    nodes = choices(step.call(x.shape), x.value, indices)
    return step.like(x, nodes) if nodes else x


def bordered(step: Step, x: Activation, pairs: list[Pair], mode: str = "edge") -> Activation:
    """`x` with copies of its entries around it; pairs: before and after, for each node's axis."""
    indices: list[list[int]] = []
    for size, pair in zip(x.shape, pairs, strict=True):
        inside = range(max(-pair[0], 0), size + min(pair[1], 0))
        around = (max(pair[0], 0), max(pair[1], 0))
        indices.append(np.pad(np.array(inside), around, mode=mode).tolist())  # type: ignore[call-overload]
    return copied(step, x, indices)


def pad(step: Step) -> Activation:
    """Pad, along any axes but the batch: zeros, copies, or -inf around what maxima are taken of."""
    x = step.activation()
    mode = step.option("mode", "constant")
    value = _number(step.option("value", None, 2))
    pairs = _pairs(step, x)
    if not any(low or high for low, high in pairs):
        return x
    if mode in _COPIES:
        return bordered(step, x, pairs, _COPIES[mode])
    if mode != "constant":
        raise Unsupported(f"padding of mode {mode!r}; use zeros, edge, reflect or wrap")
    if value <= _LOWEST and _only_maxima(step, x, pairs):
        return bordered(step, x, pairs)
    if value != 0:
        raise Unsupported(
            f"padding with {value}; only zeros can be converted, copies of entries ('edge', "
            "'reflect', 'wrap'), or -inf before a MaxPool"
        )
    if x.columns is not None:
        raise Unsupported("it pads a flattened map")
    around = [size for pair in pairs[::-1] for size in pair]
    shape = tuple(size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True))
    return step.like(x, aten.BUILDERS["pad"](step.call(shape), x.value, around) or x.name)


def _pairs(step: Step, x: Activation) -> list[Pair]:
    """Before and after, along the node's axes."""
    sizes = step.option("pads", None, 1) or step.option("paddings", [])
    rank = len(x.axes)
    axes = [axis % rank for axis in step.option("axes", list(range(rank)), 3)]
    pairs: list[Pair] = [(0, 0)] * rank
    for axis, low, high in zip(axes, sizes[: len(axes)], sizes[len(axes) :], strict=True):
        pairs[x.axes[axis]] = (low, high)
    if pairs[0] != (0, 0):
        raise Unsupported("it pads the batch; every image must be treated alike")
    return pairs[1:]


def _only_maxima(step: Step, x: Activation, pairs: list[Pair]) -> bool:
    """Whether of what is padded only maxima are taken, in windows that reach into the map.

    A window that reaches over the border holds the entry there, so a copy of it changes nothing.
    """
    if not x.is_image or pairs[0] != (0, 0) or not step.readers:
        return False
    return all(_reaches(reader, pairs[1:]) for reader in step.readers)


def _reaches(reader: Operation, pairs: list[Pair]) -> bool:
    found = reader.attributes
    plain = not any(found.get("pads", [])) and found.get("auto_pad", "NOTSET") in (
        "NOTSET",
        "VALID",
    )
    dense = set(found.get("dilations", [1])) == {1} and not found.get("ceil_mode", 0)
    kernel = found.get("kernel_shape", [])
    near = len(kernel) == 2 and all(
        max(pair) < width for pair, width in zip(pairs, kernel, strict=True)
    )
    return reader.kind == "MaxPool" and plain and dense and near


def _number(value: Any) -> float:
    """A number, alone or in a list; 0 where there is none."""
    while isinstance(value, list):
        value = value[0] if value else 0.0
    return float(value or 0.0)


def resize(step: Step) -> Activation:
    """Resize and Upsample to the nearest entry, as copies of entries."""
    x, kind = step.activation(), step.operation.kind
    mode, transformation, rounding = nearest.rules(kind, step.opset, step.option)
    if mode != "nearest":
        raise Unsupported(f"resizing of mode {mode!r}; only 'nearest' can be converted")
    if step.option("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("resizing that keeps the aspect ratio; give it the sizes")
    scales = _scales(step, len(x.axes))
    indices: list[list[int]] = [[]] * len(x.shape)
    for axis, (size, count) in enumerate(zip((step.batch, *x.sizes), step.sizes, strict=True)):
        try:
            found = nearest.sources(size, count, scales[axis], transformation, rounding)
        except KeyError as name:
            raise Unsupported(f"resizing by {name}, which cannot be converted") from None
        own = x.axes[axis]
        if own == 0 and found != [*range(size)]:
            raise Unsupported("it resizes the batch; every image must be treated alike")
        if own > 0:
            indices[own - 1] = found
    return copied(step, x, indices)


def _scales(step: Step, rank: int) -> list[float | None]:
    """The scale of each of the file's axes; None where sizes are given instead."""
    old = step.operation.kind == "Upsample" or step.opset < 11
    given = step.option("scales", [], 1 if old else 2)
    axes = [axis % rank for axis in step.option("axes", list(range(rank)))]
    scales: list[float | None] = [None] * rank
    for axis, scale in zip(axes, given or [None] * len(axes), strict=True):
        scales[axis] = scale
    return scales
