"""The torch calls that nodes and neurons make, as operations of ONNX (opset 17)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.export.onnx.recorder import Recorder

Builder = Callable[..., str]


def _arithmetic(kind: str) -> Builder:
    def build(to: Recorder, result: Tensor, one: Any, other: Any) -> str:
        return to.emit(kind, [to.name_of(each, result.dtype) for each in (one, other)])

    return build


def _turned(kind: str) -> Builder:
    """Return the builder of an operation whose second operand comes first."""
    return lambda to, result, one, other: _arithmetic(kind)(to, result, other, one)


def _comparison(kind: str) -> Builder:
    def build(to: Recorder, result: Tensor, one: Any, other: Any) -> str:
        dtype = torch.result_type(one, other)
        return to.emit(kind, [to.name_of(each, dtype) for each in (one, other)])

    return build


def _pointwise(kind: str) -> Builder:
    return lambda to, result, x: to.emit(kind, [to.name_of(x)])


def _same(to: Recorder, result: Tensor, x: Tensor, *others: Any, **options: Any) -> str:
    """A change of type, or of nothing."""
    return to.name_of(x, result.dtype)


def _clamp(to: Recorder, result: Tensor, x: Tensor, min: Any = None, max: Any = None) -> str:
    name = to.name_of(x, result.dtype)
    for kind, bound in (("Max", min), ("Min", max)):
        if bound is not None:
            name = to.emit(kind, [name, to.name_of(bound, result.dtype)])
    return name


def _where(to: Recorder, result: Tensor, which: Tensor, one: Any, other: Any) -> str:
    chosen = [to.name_of(each, result.dtype) for each in (one, other)]
    return to.emit("Where", [to.name_of(which), *chosen])


def _zeros_like(to: Recorder, result: Tensor, x: Tensor, **options: Any) -> str:
    zero = to.name_of(0, result.dtype)
    return to.emit("Expand", [zero, to.emit("Shape", [to.name_of(x)])])


def _copy(to: Recorder, result: Tensor, x: Tensor, other: Tensor) -> str:
    """The entries of `other` in the shape of x, whose own are of no account."""
    return to.emit("Expand", [to.name_of(other, result.dtype), to.emit("Shape", [to.name_of(x)])])


def _shaped(to: Recorder, result: Tensor, x: Tensor, *others: Any) -> str:
    return to.emit("Reshape", [to.name_of(x), to.whole(0, *result.shape[1:])])


def _item(to: Recorder, result: Tensor, x: Tensor, index: Any) -> str:
    parts = index if isinstance(index, tuple) else (index,)
    cuts = [(axis, part) for axis, part in enumerate(parts) if part != slice(None)]
    bounds = [part.indices(x.shape[axis]) for axis, part in cuts]
    starts, stops, steps = zip(*bounds, strict=True)
    axes = to.whole(*(axis for axis, _ in cuts))
    return to.emit(
        "Slice", [to.name_of(x), to.whole(*starts), to.whole(*stops), axes, to.whole(*steps)]
    )


def _index_select(to: Recorder, result: Tensor, x: Tensor, axis: int, index: Tensor) -> str:
    return to.emit("Gather", [to.name_of(x), to.name_of(index)], axis=axis)


def _cat(to: Recorder, result: Tensor, parts: Sequence[Tensor], axis: int = 0) -> str:
    return to.emit("Concat", [to.name_of(part, result.dtype) for part in parts], axis=axis)


def _stack(to: Recorder, result: Tensor, parts: Sequence[Tensor], axis: int = 0) -> str:
    at = to.whole(axis)
    return to.emit(
        "Concat", [to.emit("Unsqueeze", [to.name_of(part), at]) for part in parts], axis=axis
    )


def _sum(to: Recorder, result: Tensor, x: Tensor, axis: int) -> str:
    return to.emit("ReduceSum", [to.name_of(x), to.whole(axis)], keepdims=0)


def _pad(to: Recorder, result: Tensor, x: Tensor, padding: Sequence[int], **zeros: Any) -> str:
    pairs = [padding[at : at + 2] for at in range(0, len(padding), 2)][::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + [tuple(pair) for pair in pairs]
    ends = [pair[end] for end in (0, 1) for pair in pairs]
    return to.emit("Pad", [to.name_of(x), to.whole(*ends)])


def _conv2d(
    to: Recorder, result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None,
    stride: Any, padding: Any, dilation: Any, groups: int,
) -> str:  # fmt: skip
    read = [to.name_of(x), to.name_of(weight)]
    read += [] if bias is None else [to.name_of(bias)]
    return to.emit(
        "Conv", read, strides=list(stride), pads=[*padding, *padding], dilations=list(dilation),
        group=groups,
    )  # fmt: skip


def _linear(to: Recorder, result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> str:
    read = [to.name_of(x), to.name_of(weight)]
    return to.emit("Gemm", read + ([] if bias is None else [to.name_of(bias)]), transB=1)


def _max_pool2d(
    to: Recorder, result: Tensor, x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any,
    *ceil_mode: Any, **options: Any,
) -> str:  # fmt: skip
    """With the padding after the last row and column that gives as many windows."""
    after = [
        max((result.shape[2 + a] - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + 1
            - x.shape[2 + a] - padding[a], 0)
        for a in (0, 1)
    ]  # fmt: skip
    return to.emit(
        "MaxPool", [to.name_of(x)], kernel_shape=list(kernel), strides=list(stride),
        pads=[*padding, *after], dilations=list(dilation),
    )  # fmt: skip


def _softmax(to: Recorder, result: Tensor, x: Tensor, axis: int, **options: Any) -> str:
    return to.emit("Softmax", [to.name_of(x)], axis=axis)


_BOTH = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "truediv": "Div", "matmul": "MatMul",
    "maximum": "Max", "minimum": "Min", "and": "And", "or": "Or", "bitwise_or": "Or", "iadd": "Add",
    "isub": "Sub", "imul": "Mul",
}  # fmt: skip
_TURNED = {"radd": "Add", "rsub": "Sub", "rmul": "Mul", "rtruediv": "Div", "rdiv": "Div"}
_COMPARED = {
    "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less", "eq": "Equal",
}  # fmt: skip
_ALONE = {"neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "round": "Round"}
_SAME = ("to", "float", "double", "detach", "expand_as", "type")

BUILDERS: Mapping[str, Builder] = {
    **{name: _arithmetic(kind) for name, kind in _BOTH.items()},
    **{name: _turned(kind) for name, kind in _TURNED.items()},
    **{name: _comparison(kind) for name, kind in _COMPARED.items()},
    **{name: _pointwise(kind) for name, kind in _ALONE.items()},
    **dict.fromkeys(_SAME, _same),
    "clamp": _clamp, "where": _where, "zeros_like": _zeros_like, "empty_like": _zeros_like,
    "copy": _copy, "flatten": _shaped, "unflatten": _shaped, "reshape": _shaped,
    "getitem": _item, "index_select": _index_select, "cat": _cat, "stack": _stack, "sum": _sum,
    "pad": _pad, "conv2d": _conv2d, "linear": _linear, "max_pool2d": _max_pool2d,
    "softmax": _softmax,
}  # fmt: skip
