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

from spiking_resnet.capture import arithmetic, clips, linear, pools
from spiking_resnet.capture.calls import Call, Mask, Unsupported, Value
from spiking_resnet.capture.reindex import choices
from spiking_resnet.graph import Affine, Node, Pad


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


def _batch_norm_in_inference(
    call: Call, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, momentum: Any, eps: Any
) -> Node:
    return _batch_norm(call, x, weight, bias, mean, variance, False, momentum, eps)


def _instance_norm(
    call: Call,
    x: Value,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    own: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
) -> Node:
    if own or mean is None:
        raise Unsupported(
            "InstanceNorm here uses the statistics of each image; train with "
            "track_running_stats=True, or use BatchNorm, whose statistics are fixed in inference"
        )
    return _batch_norm(call, x, weight, bias, mean, variance, False, momentum, eps)


def _pad(call: Call, x: Value, sizes: list[int], mode: str = "constant", value: Any = None) -> Any:
    if not isinstance(mode, str):  # constant_pad_nd passes the value in its place
        mode, value = "constant", mode
    if mode != "constant" or abs(float(value or 0)) == float("inf"):
        raise Unsupported(
            f"padding with {mode if value is None else value}; only with a number, copies of "
            "entries ('replicate', 'reflect', 'circular'), or -inf before a max pool"
        )
    if value:  # zeros around what is lower by it
        return _pad_with(call, x, sizes, float(value))
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


def _pad_with(call: Call, x: Value, sizes: list[int], value: float) -> list[Node]:
    """x - value, zeros around it, + value."""
    ones, shift = torch.ones((), dtype=torch.float64), torch.tensor(value, dtype=torch.float64)
    low = replace(call, name=f"{call.name}.less", shape=x.shape)
    lower = Affine(**low.base(x), scale=ones, shift=-shift.repeat(x.shape[0]))
    own = replace(call, name=f"{call.name}.zeros")
    nodes: list[Node] = [lower]
    padded = arithmetic.value_of(_pad(own, Value(low.name, x.shape), sizes), nodes, x)
    more = Affine(**call.base(padded), scale=ones, shift=shift.repeat(padded.shape[0]))
    return [*nodes, more]


BUILDERS: dict[str, Callable[..., Any]] = {
    **linear.BUILDERS,
    **clips.BUILDERS,
    **arithmetic.BUILDERS,
    **pools.BUILDERS,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm_in_inference,
    "instance_norm": _instance_norm,
    "pad": _pad,
    "constant_pad_nd": _pad,
}

_POINTWISE = {*arithmetic.BUILDERS, *clips.BUILDERS} - {"cat", "concat", "stack", "prelu"}
_OF_CHANNELS = {"batch_norm", "prelu", "_prelu_kernel", "qcfs", "cat", "concat"}


def completed(
    call: Call, arguments: list[Any], options: dict[str, Any]
) -> tuple[Call, list[Any], dict[str, Any]]:
    """A call on values [N, C, L] (or [N, H, W]) as the same call on maps, with an axis of size 1.

    Raises Unsupported where it is not the same.
    """
    given = [a for group in arguments for a in (group if isinstance(group, list) else [group])]
    values = [value.value if isinstance(value, Mask) else value for value in given]
    axes = {v.missing for v in values if isinstance(v, Value) and v.missing is not None}
    if not axes or (call.operation == "stack" and len(axes) == 1):  # which has an axis of its own
        return call, arguments, options
    axis, operation = axes.pop(), call.operation
    fits = operation in _POINTWISE or (axis and operation in _OF_CHANNELS)
    in_line = operation.endswith("1d") or (operation.endswith("pad") and len(arguments[1]) == 2)
    if axes or not (fits or (axis == 1 and in_line)) or len(call.shape) != 2:
        raise Unsupported(
            f"{operation} of values [N, {', '.join(map(str, call.shape))}] has no counterpart; "
            "maps [N, C, H, W], signals [N, C, L] and features [N, F] have one"
        )
    shape = (*call.shape[:axis], 1, *call.shape[axis:])
    if operation in _POINTWISE:
        arguments = [_with_axis(a, axis) for a in arguments]
    elif operation in ("cat", "concat"):
        arguments = [[_with_axis(a, axis) for a in arguments[0]], *arguments[1:]]
    return replace(call, shape=shape), arguments, options


def _with_axis(constant: Any, axis: int) -> Any:
    """A constant beside values of three axes, [images, 2 more], as beside maps."""
    if not isinstance(constant, Tensor):
        return constant
    behind = 3 - axis  # the place of the new axis from the end
    return constant.unsqueeze(-behind) if constant.ndim >= behind else constant


TRANSPARENT = {  # what changes nothing in inference
    *("dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone", "alias", "detach"),
    *("identity", "to", "_to_copy", "lift_fresh_copy", "type_as"),
}

FROM_SHAPES = {  # constants of which the arguments say the shape, or nothing
    *("zeros_like", "ones_like", "full_like", "empty_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "fill", "zero"),
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


WHAT_CONVERTS = (
    "Replace it by what converts: convolutions, linear layers, BatchNorm, ReLU, clamps, maxima, "
    "sums, pools, concatenations and moves (docs/howto/own_model.md)."
)


def remedy(operation: str) -> str:
    """What a user can do about an operation that cannot be converted."""
    for remedy, operations in _REMEDIES.items():
        if operation in operations:
            return remedy
    return WHAT_CONVERTS
