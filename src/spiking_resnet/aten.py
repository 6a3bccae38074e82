"""What ATen operations mean as nodes of a graph; what cannot be one, and what to do about it.

Each builder takes the call, its arguments with image-dependent values as `Value`, and gives a node,
the name of a node that already has the value, or a chain of two nodes. It raises Unsupported where
an operation has no counterpart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Flatten,
    Linear,
    MaxPool,
    Node,
    Pad,
    Pair,
    ReLU,
    Slice,
)


class Unsupported(Exception):
    """One operation that stands in the way; the message says why and what to do."""


@dataclass(frozen=True)
class Value:
    """A value that depends on the image: the name of its node and its shape for one image."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """What every builder needs to know of its call."""

    name: str
    shape: tuple[int, ...]
    source: str

    def base(self, *inputs: Value) -> dict[str, Any]:
        """The fields common to all nodes."""
        names = tuple(value.name for value in inputs)
        return {"name": self.name, "inputs": names, "shape": self.shape, "source": self.source}


def _pair(value: Any) -> Pair:
    """A kernel's, stride's or padding's two numbers."""
    entries = [value] if isinstance(value, int) else list(value)
    return (int(entries[0]), int(entries[-1]))


def _weight(weight: Any) -> Tensor:
    if not isinstance(weight, Tensor):
        raise Unsupported("its weight depends on the image; weights must be fixed parameters")
    return weight.detach().to("cpu", torch.float32, copy=True)  # the graph's own


def _bias(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else _weight(bias)


def _conv2d(
    call: Call,
    x: Value,
    weight: Any,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Node:
    kernel = _weight(weight).shape[2:]
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(_pair(dilation), kernel, strict=True)]
        if padding == "same" and any(size % 2 for size in reach):
            raise Unsupported("padding='same' is uneven for an even kernel; pad explicitly")
        padding = [size // 2 for size in reach] if padding == "same" else 0
    return Conv2d(
        **call.base(x),
        weight=_weight(weight),
        bias=_bias(bias),
        stride=_pair(stride),
        padding=_pair(padding),
        dilation=_pair(dilation),
        groups=groups,
    )


def _linear(call: Call, x: Value, weight: Any, bias: Tensor | None = None) -> Node:
    if len(x.shape) != 1:
        raise Unsupported(f"a linear layer over {x.shape} per image; flatten to features first")
    return Linear(**call.base(x), weight=_weight(weight), bias=_bias(bias))


def _batch_norm(
    call: Call,
    x: Value,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
) -> Node:
    if training or mean is None or variance is None:
        raise Unsupported(
            "BatchNorm here uses the statistics of each batch, so an image's result depends on its "
            "neighbours; train with track_running_stats=True and convert in evaluation mode"
        )
    # W' = gamma / sigma * W and b' = beta - gamma * mu / sigma follow from this (fold_bn).
    gain = (variance.double() + eps).rsqrt() * (1.0 if weight is None else weight.double())
    shift = -mean.double() * gain + (0.0 if bias is None else bias.double())
    return Affine(**call.base(x), scale=gain.detach().cpu(), shift=shift.detach().cpu())


def _relu(call: Call, x: Value) -> Node:
    return ReLU(**call.base(x))


def _clamp(call: Call, x: Value, low: Any = None, high: Any = None, **rest: Any) -> Node:
    low, high = rest.get("min", low), rest.get("max", high)
    if low != 0 or isinstance(high, Tensor | Value):
        raise Unsupported(f"clamping to [{low}, {high}]; only a lower bound of 0 is a firing rate")
    return ReLU(**call.base(x), ceiling=None if high is None else float(high))


def _hardtanh(call: Call, x: Value, low: float = -1.0, high: float = 1.0) -> Node:
    return _clamp(call, x, low, high)


def _add(call: Call, x: Any, y: Any, alpha: float = 1) -> Node:
    if not (isinstance(x, Value) and isinstance(y, Value)) or alpha != 1:
        raise Unsupported("adding a constant or a multiple; put it in a bias or a BatchNorm")
    if x.shape != y.shape:
        raise Unsupported(f"adding shapes {x.shape} and {y.shape} by broadcasting")
    return Add(**call.base(x, y))


def _scaled(call: Call, x: Any, gain: Any, inverse: bool) -> Node:
    if isinstance(gain, Value) and not inverse:
        x, gain = gain, x
    if not isinstance(x, Value) or isinstance(gain, Value):
        raise Unsupported("a product of two activations (a gate); use a network without gates")
    factor = gain.detach().double().cpu() if isinstance(gain, Tensor) else torch.tensor(float(gain))
    if factor.numel() != 1:
        raise Unsupported("multiplying by a tensor; use BatchNorm or a 1x1 depthwise convolution")
    factor = factor.double().reshape(())
    return Affine(**call.base(x), scale=1 / factor if inverse else factor)


def _mul(call: Call, x: Any, y: Any) -> Node:
    return _scaled(call, x, y, inverse=False)


def _div(call: Call, x: Any, y: Any) -> Node:
    return _scaled(call, x, y, inverse=True)


def _cat(call: Call, values: list[Value], dim: int = 0) -> Node:
    if dim % (len(values[0].shape) + 1) != 1:
        raise Unsupported(f"concatenation along axis {dim}; only channels (axis 1) can be")
    return Concat(**call.base(*values))


def _max_pool2d(
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Node:
    return MaxPool(
        **call.base(x),
        kernel=_pair(kernel),
        stride=_pair(stride or kernel),
        padding=_pair(padding),
        dilation=_pair(dilation),
        ceil_mode=ceil_mode,
    )


def _avg_pool2d(
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: float | None = None,
) -> Node:
    size, border = _pair(kernel), _pair(padding)
    if ceil_mode or (border != (0, 0) and not count_include_pad):
        raise Unsupported(
            "average pooling whose divisor differs at the border; "
            "use ceil_mode=False and count_include_pad=True"
        )
    step = _pair(stride or kernel)
    return _average(call, x, size, step, border, float(divisor or size[0] * size[1]))


def _average(
    call: Call, x: Value, kernel: Pair, stride: Pair, padding: Pair, divisor: float
) -> Node:
    return AvgPool(**call.base(x), kernel=kernel, stride=stride, padding=padding, divisor=divisor)


def _adaptive_avg_pool2d(call: Call, x: Value, size: Any) -> Any:
    wanted = call.shape[-2:]
    if any(have % want for have, want in zip(x.shape[-2:], wanted, strict=True)):
        raise Unsupported(
            f"adaptive pooling from {x.shape[-2:]} to {wanted} has windows of unequal size; "
            "choose an image size that divides evenly"
        )
    kernel = (x.shape[-2] // wanted[0], x.shape[-1] // wanted[1])
    if kernel == (1, 1):
        return x.name
    return _average(call, x, kernel, kernel, (0, 0), float(kernel[0] * kernel[1]))


def _mean(call: Call, x: Value, dim: Any, keepdim: bool = False, **rest: Any) -> Any:
    """A mean over both image axes: pooling, and flattening unless the axes are kept."""
    axes = sorted(axis % (len(x.shape) + 1) for axis in dim)
    if len(x.shape) != 3 or axes != [2, 3]:
        raise Unsupported(f"the mean over axes {dim}; only that over height and width can be")
    kernel = (x.shape[1], x.shape[2])
    channels = (x.shape[0], 1, 1)
    pool = _average(
        replace(call, shape=channels), x, kernel, kernel, (0, 0), float(kernel[0] * kernel[1])
    )
    if keepdim:
        return pool
    return [pool, Flatten(**replace(call, name=f"{call.name}.flatten").base())]


def _flatten(call: Call, x: Value, *sizes: Any) -> Any:
    if call.shape == x.shape:
        return x.name
    if len(call.shape) != 1:
        raise Unsupported(f"reshaping {x.shape} to {call.shape}; only flattening can be converted")
    return Flatten(**call.base(x))


def _slice(
    call: Call, x: Value, dim: int = 0, start: Any = 0, stop: Any = None, step: int = 1
) -> Any:
    if dim % (len(x.shape) + 1) == 0:
        if (start or 0) == 0 and step == 1 and (stop is None or stop >= 2**31):
            return x.name
        raise Unsupported("slicing the batch; every image must be treated alike")
    if call.shape == x.shape:
        return x.name
    axis = dim % (len(x.shape) + 1) - 1
    first, last, _ = slice(start, stop, step).indices(x.shape[axis])
    return Slice(**call.base(x), axis=axis, start=first, stop=last, step=step)


def _pad(call: Call, x: Value, sizes: list[int], mode: str = "constant", value: Any = None) -> Node:
    if not isinstance(mode, str):  # constant_pad_nd passes the value in its place
        mode, value = "constant", mode
    if mode != "constant" or value not in (None, 0):
        raise Unsupported(f"padding of mode {mode!r} with {value}; only zeros can be converted")
    pairs = [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)][::-1]
    pairs = [(0, 0)] * (len(x.shape) - len(pairs)) + pairs
    if any(size < 0 for pair in pairs for size in pair):
        raise Unsupported("padding by a negative size; slice instead")
    return Pad(**call.base(x), padding=tuple(pairs))


BUILDERS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _relu,
    "relu6": lambda call, x: _clamp(call, x, 0, 6),
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "add": _add,
    "mul": _mul,
    "div": _div,
    "cat": _cat,
    "concat": _cat,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
    "flatten": _flatten,
    "view": _flatten,
    "reshape": _flatten,
    "squeeze": _flatten,
    "slice": _slice,
    "pad": _pad,
    "constant_pad_nd": _pad,
}

TRANSPARENT = {  # what changes nothing in inference
    *("dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone", "alias", "detach"),
    *("identity", "to", "_to_copy", "lift_fresh_copy", "type_as"),
}

_REMEDIES = {
    "Train it with ReLU in this place, or fine-tune after exchanging it.": (
        *("silu", "gelu", "sigmoid", "hardswish", "hardsigmoid", "tanh", "elu", "selu", "mish"),
        *("softplus", "leaky_relu", "prelu", "hardshrink", "celu", "glu", "_prelu_kernel"),
    ),
    "Leave it out: it does not change which logit is largest.": ("softmax", "log_softmax"),
    "Use BatchNorm, whose statistics are fixed in inference.": (
        *("layer_norm", "group_norm", "instance_norm", "native_layer_norm", "rms_norm"),
    ),
    "Subtract by giving the layer before it negated weights.": ("sub", "rsub", "neg"),
}


def remedy(operation: str) -> str:
    """What a user can do about an operation that cannot be converted."""
    for remedy, operations in _REMEDIES.items():
        if operation in operations:
            return remedy
    return f"Use one of: {', '.join(sorted(BUILDERS))}."
