"""What ATen operations mean as nodes of a graph; what cannot be one, and what to do about it.

Each builder takes the call, its arguments with image-dependent values as `Value`, and gives a node,
the name of a node that already has the value, or a list of nodes, of which the last has it. It
raises Unsupported where an operation has no counterpart. Calls that only move values: `moves`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.aten_pools import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    amax,
    avg_pool2d,
    max_pool2d,
    mean,
)
from spiking_resnet.calls import Call, Unsupported, Value, pair
from spiking_resnet.graph import (
    Add,
    Affine,
    Concat,
    Conv2d,
    Linear,
    Node,
    Pad,
    ReLU,
)
from spiking_resnet.moves import choices


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
        reach = [d * (k - 1) for d, k in zip(pair(dilation), kernel, strict=True)]
        if padding == "same" and any(size % 2 for size in reach):
            raise Unsupported("padding='same' is uneven for an even kernel; pad explicitly")
        padding = [size // 2 for size in reach] if padding == "same" else 0
    return Conv2d(
        **call.base(x),
        weight=_weight(weight),
        bias=_bias(bias),
        stride=pair(stride),
        padding=pair(padding),
        dilation=pair(dilation),
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


def _clamp(call: Call, x: Value, low: Any = None, high: Any = None, **rest: Any) -> Any:
    low, high = rest.get("min", low), rest.get("max", high)
    plain = all(end is None or isinstance(end, int | float) for end in (low, high))
    if not plain or low is None or low > 0 or (high is not None and high <= 0):
        raise Unsupported(
            f"clamping to [{low}, {high}]; only bounds on both sides of 0, or a lower bound of 0, "
            "are firing rates"
        )
    ceiling = None if high is None else float(high)
    if low < 0:
        return _signed(call, x, torch.ones((), dtype=torch.float32), ceiling, -float(low))
    return ReLU(**call.base(x), ceiling=ceiling)


def _hardtanh(call: Call, x: Value, low: float = -1.0, high: float = 1.0) -> Any:
    return _clamp(call, x, low, high)


def _threshold(call: Call, x: Value, threshold: float, value: float) -> Node:
    if threshold != 0 or value != 0:
        raise Unsupported(f"a threshold at {threshold} with {value} below it; only 0 and 0 can be")
    return _relu(call, x)


def _qcfs(call: Call, x: Value, threshold: Any, levels: int) -> Node:
    threshold = _weight(threshold)
    if threshold.numel() != 1:
        raise Unsupported(
            f"thresholds of shape {tuple(threshold.shape)}; give it one threshold for its layer"
        )
    return ReLU(**call.base(x), ceiling=float(threshold), levels=levels)


def _signed(
    call: Call, x: Value, slope: Tensor, ceiling: float | None = None, floor: float | None = None
) -> list[Node]:
    """min(relu(x), ceiling) - slope * min(relu(-x), floor): the negative part has neurons too.

    A leaky ReLU is one population for each sign; what reads it is inhibited by the second.
    """

    def base(suffix: str, *sources: Value | Node) -> dict[str, Any]:
        values = (Value(source.name, source.shape) for source in sources)
        return replace(call, name=f"{call.name}{suffix}").base(*values)

    positive = ReLU(**base(".positive", x), ceiling=ceiling)
    turned = Affine(**base(".turned", x), scale=torch.tensor(-1.0, dtype=torch.float64))
    negative = ReLU(**base(".negative", turned), ceiling=floor)
    inhibition = Affine(**base(".slope", negative), scale=-slope.double())
    return [positive, turned, negative, inhibition, Add(**base("", positive, inhibition))]


def _leaky_relu(call: Call, x: Value, slope: float = 0.01) -> Any:
    return _signed(call, x, torch.tensor(float(slope), dtype=torch.float32))


def _prelu(call: Call, x: Value, slope: Any) -> Any:
    slope = _weight(slope).flatten()
    return _signed(call, x, slope.reshape(()) if slope.numel() == 1 else slope)


def _add(call: Call, x: Any, y: Any, alpha: float = 1) -> Any:
    return _sum(call, x, y, 1.0, float(alpha))


def _sub(call: Call, x: Any, y: Any, alpha: float = 1) -> Any:
    return _sum(call, x, y, 1.0, -float(alpha))


def _rsub(call: Call, x: Any, y: Any, alpha: float = 1) -> Any:
    return _sum(call, x, y, -float(alpha), 1.0)


def _sum(call: Call, x: Any, y: Any, x_gain: float, y_gain: float) -> Any:
    """x_gain * x + y_gain * y, of which one may be a constant."""
    if not isinstance(x, Value):
        x, y, x_gain, y_gain = y, x, y_gain, x_gain
    if not isinstance(y, Value):
        shift = _constant(y, x) * y_gain
        if x_gain == 1 and not bool(shift.any()):
            return x.name
        shift = shift.expand(x.shape[0]).contiguous()
        return Affine(**call.base(x), scale=torch.tensor(x_gain, dtype=torch.float64), shift=shift)
    if x.shape != y.shape:
        raise Unsupported(f"adding shapes {x.shape} and {y.shape} by broadcasting")
    nodes: list[Node] = []
    addends = []
    for suffix, value, gain in (("first", x, x_gain), ("second", y, y_gain)):
        if gain != 1:
            base = replace(call, name=f"{call.name}.{suffix}").base(value)
            nodes.append(Affine(**base, scale=torch.tensor(gain, dtype=torch.float64)))
            value = Value(nodes[-1].name, value.shape)
        addends.append(value)
    return [*nodes, Add(**call.base(*addends))]


def _constant(value: Any, like: Value) -> Tensor:
    """A number, or one for each channel of `like`, as float64 [] or [C]."""
    constant = (
        value.detach().cpu()
        if isinstance(value, Tensor)
        else torch.tensor(float(value), dtype=torch.float32)
    )
    constant = constant.double()
    if constant.numel() == 1:
        return constant.reshape(())
    own = constant.shape[1:] if constant.ndim == len(like.shape) + 1 else constant.shape
    if own != (like.shape[0], *[1] * (len(like.shape) - 1)) or constant.numel() != like.shape[0]:
        raise Unsupported(
            f"a constant of shape {tuple(constant.shape)} for values {like.shape}; only a number, "
            "or one for each channel [C, 1, 1]"
        )
    return constant.flatten()


def _scaled(call: Call, x: Any, gain: Any, inverse: bool) -> Node:
    if isinstance(gain, Value) and not inverse:
        x, gain = gain, x
    if not isinstance(x, Value) or isinstance(gain, Value):
        raise Unsupported("a product of two activations (a gate); use a network without gates")
    factor = _constant(gain, x)
    return Affine(**call.base(x), scale=1 / factor if inverse else factor)


def _mul(call: Call, x: Any, y: Any) -> Node:
    return _scaled(call, x, y, inverse=False)


def _div(call: Call, x: Any, y: Any) -> Node:
    return _scaled(call, x, y, inverse=True)


def _neg(call: Call, x: Value) -> Node:
    return _scaled(call, x, -1.0, inverse=False)


def _cat(call: Call, values: list[Value], dim: int = 0) -> Node:
    if dim % (len(values[0].shape) + 1) != 1:
        raise Unsupported(f"concatenation along axis {dim}; only channels (axis 1) can be")
    return Concat(**call.base(*values))


def _pad(call: Call, x: Value, sizes: list[int], mode: str = "constant", value: Any = None) -> Any:
    if not isinstance(mode, str):  # constant_pad_nd passes the value in its place
        mode, value = "constant", mode
    if mode != "constant" or value not in (None, 0):
        raise Unsupported(
            f"padding with {value}; only with zeros, copies of entries ('replicate', 'reflect'), "
            "or -inf before a max pool"
        )
    pairs = [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)][::-1]
    pairs = [(0, 0)] * (len(x.shape) - len(pairs)) + pairs
    inside = [
        range(max(-before, 0), size + min(after, 0))
        for size, (before, after) in zip(x.shape, pairs, strict=True)
    ]
    nodes = choices(replace(call, name=f"{call.name}.crop"), x, inside)  # negative sizes
    if nodes:
        x = Value(nodes[-1].name, nodes[-1].shape)
    around = tuple((max(before, 0), max(after, 0)) for before, after in pairs)
    if not any(any(pair) for pair in around):
        return nodes or x.name
    return [*nodes, Pad(**call.base(x), padding=around)]


BUILDERS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _relu,
    "relu6": lambda call, x: _clamp(call, x, 0, 6),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "threshold": _threshold,
    "hardtanh": _hardtanh,
    "qcfs": _qcfs,  # spiking_resnet.ann.activation
    "clamp": _clamp,
    "clamp_min": _clamp,
    "add": _add,
    "sub": _sub,
    "subtract": _sub,
    "rsub": _rsub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "cat": _cat,
    "concat": _cat,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "adaptive_max_pool2d": adaptive_max_pool2d,
    "mean": mean,
    "amax": amax,
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
        *("softplus", "hardshrink", "celu", "glu", "softsign", "log_sigmoid", "rrelu"),
    ),
    "Use a network without attention; at the very end, over the classes, it is left out.": (
        *("softmax", "log_softmax"),
    ),
    "Convert the float network, as it was before it was prepared for quantisation.": (
        *("fused_moving_avg_obs_fake_quant", "fake_quantize_per_tensor_affine"),
        *("fake_quantize_per_channel_affine", "quantize_per_tensor", "dequantize_per_tensor"),
        *("quantize_per_channel", "dequantize_per_channel", "quantize", "dequantize"),
    ),
    "For a trained quantised activation use spiking_resnet.ann.activation.QCFS(levels, threshold), "
    "which is threshold * clip(floor(x * levels / threshold + 1/2) / levels, 0, 1).": (
        *("floor", "round", "ceil", "trunc", "frac", "sign", "heaviside"),
    ),
    "Use BatchNorm, whose statistics are fixed in inference.": (
        *("layer_norm", "group_norm", "instance_norm", "native_layer_norm", "rms_norm"),
    ),
}


def remedy(operation: str) -> str:
    """What a user can do about an operation that cannot be converted."""
    for remedy, operations in _REMEDIES.items():
        if operation in operations:
            return remedy
    known = sorted(name for name in BUILDERS if not name.startswith("_"))
    return f"Use one of: {', '.join(known)}, or what only moves values (view, split, permute, …)."
