"""Convolutions and matrix products in all their spellings as Conv2d and Linear nodes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.capture.calls import Call, Unsupported, Value, flat, pair
from spiking_resnet.graph import Conv2d, Linear, Node


def weight_of(weight: Any) -> Tensor:
    """A weight as the graph's own, float32 on the CPU."""
    if not isinstance(weight, Tensor):
        raise Unsupported("its weight depends on the image; weights must be fixed parameters")
    return weight.detach().to("cpu", torch.float32, copy=True)


def _bias(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else weight_of(bias)


def conv2d(
    call: Call,
    x: Value,
    weight: Any,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Node:
    """A convolution over height and width."""
    kernel = weight_of(weight).shape[2:]
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(pair(dilation), kernel, strict=True)]
        if padding == "same" and any(size % 2 for size in reach):
            raise Unsupported("padding='same' is uneven for an even kernel; pad explicitly")
        padding = [size // 2 for size in reach] if padding == "same" else 0
    return Conv2d(
        **call.base(x),
        weight=weight_of(weight),
        bias=_bias(bias),
        stride=pair(stride),
        padding=pair(padding),
        dilation=pair(dilation),
        groups=groups,
    )


def conv1d(
    call: Call,
    x: Value,
    weight: Any,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Node:
    """A convolution over length: one over maps of height 1."""
    if not isinstance(padding, str):
        padding = flat(padding, 0)
    wide = weight_of(weight).unsqueeze(2)
    return conv2d(call, x, wide, bias, flat(stride, 1), padding, flat(dilation, 1), groups)


def conv_transpose2d(
    call: Call,
    x: Value,
    weight: Any,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Node:
    """A transposed convolution of stride 1: one with the kernel turned round."""
    turned = weight_of(weight).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    reach = [d * (k - 1) for d, k in zip(pair(dilation), turned.shape[2:], strict=True)]
    border = [size - cut for size, cut in zip(reach, pair(padding), strict=True)]
    if pair(stride) != (1, 1) or any(pair(output_padding)) or min(border) < 0:
        raise Unsupported(
            f"a transposed convolution of stride {pair(stride)}; write it as nn.Upsample (nearest) "
            "and an nn.Conv2d, and train that"
        )
    return conv2d(call, x, turned.contiguous(), bias, 1, border, dilation, groups)


def linear(call: Call, x: Value, weight: Any, bias: Tensor | None = None) -> Node:
    """A fully connected layer over features."""
    if len(x.shape) != 1:
        raise Unsupported(f"a linear layer over {x.shape} per image; flatten to features first")
    return Linear(**call.base(x), weight=weight_of(weight), bias=_bias(bias))


def matmul(call: Call, x: Any, y: Any) -> Node:
    """x @ W for features x."""
    if not isinstance(x, Value) or isinstance(y, Value):
        raise Unsupported(
            "a matrix product in which the right-hand side depends on the image (attention); only "
            "features times fixed weights, x @ W, can be"
        )
    return _by_probing(call, x, lambda features: features @ weight_of(y))


def addmm(call: Call, bias: Any, x: Any, y: Any, beta: float = 1, alpha: float = 1) -> Node:
    """bias + x @ W for features x."""
    if isinstance(bias, Value) or not isinstance(x, Value) or isinstance(y, Value):
        raise Unsupported("addmm of several activations; only bias + x @ W with fixed weights")
    fixed = [weight_of(each) for each in (bias, y)]
    return _by_probing(
        call, x, lambda f: torch.addmm(fixed[0], f, fixed[1], beta=beta, alpha=alpha)
    )


def einsum(call: Call, equation: str, operands: Sequence[Any], **options: Any) -> Node:
    """A product of features with fixed weights, as torch.einsum spells it."""
    values = [value for value in operands if isinstance(value, Value)]
    if len(values) != 1:
        raise Unsupported("a product of two activations; only features times fixed weights can be")
    fixed = [value if isinstance(value, Value) else weight_of(value) for value in operands]

    def product(features: Tensor) -> Tensor:
        return torch.einsum(equation, *[features if f is values[0] else f for f in fixed])

    return _by_probing(call, values[0], product)


def _by_probing(call: Call, x: Value, function: Callable[[Tensor], Tensor]) -> Node:
    """The Linear node of an affine function of features [N, F] -> [N, K], from what it makes of
    unit vectors and of 0.
    """
    if len(x.shape) != 1 or len(call.shape) != 1:
        raise Unsupported(
            f"a matrix product from {x.shape} to {call.shape} per image; flatten to features first"
        )
    zero = function(torch.zeros(1, x.shape[0], dtype=torch.float32))
    columns = function(torch.eye(x.shape[0], dtype=torch.float32)) - zero
    if zero.shape != (1, *call.shape) or columns.shape != (*x.shape, *call.shape):
        raise Unsupported(f"{call.operation} mixes the images of a batch; treat them alike")
    bias = zero[0] if bool(zero.any()) else None
    return Linear(**call.base(x), weight=columns.T.contiguous(), bias=bias)


BUILDERS: dict[str, Callable[..., Any]] = {
    "conv2d": conv2d,
    "conv1d": conv1d,
    "conv_transpose2d": conv_transpose2d,
    "linear": linear,
    **dict.fromkeys(("matmul", "mm"), matmul),
    "addmm": addmm,
    "einsum": einsum,
}
