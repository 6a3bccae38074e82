"""What ONNX operators mean as nodes of a graph; what cannot be one, and what to do about it.

A builder takes a Step and gives the value of its first output, or a list with that of each. It uses
the builders of ATen operations where they fit, and raises Unsupported where nothing does.
"""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import torch
from torch import Tensor

from spiking_resnet.capture import aten
from spiking_resnet.capture.calls import Unsupported
from spiking_resnet.capture.onnx import layout, padding, spatial
from spiking_resnet.capture.onnx.operation import (
    Activation,
    Step,
    affine,
    in_node_order,
    per_channel,
)
from spiking_resnet.graph import Add, ReLU

Builder = Callable[[Step], Activation | list[Activation]]

_FLOATS = (1, 11)  # float32 and float64, as a Cast names them


def _same(step: Step) -> Activation:
    return step.activation()


def _dropout(step: Step) -> Activation:
    old = step.opset < 7 and not step.option("is_test", 0) and len(step.operation.outputs) > 1
    if old or step.option("training_mode", False, 2):
        raise Unsupported("dropout in training mode; export in evaluation mode")
    return step.activation()


def _cast(step: Step) -> Activation:
    if step.option("to") not in _FLOATS:
        raise Unsupported("it makes another kind of number of it; keep activations float32")
    return step.activation()


def _relu(step: Step) -> Activation:
    return step.through("relu", step.activation())


def _clip(step: Step) -> Activation:
    return _limited(step, step.option("min", -inf, 1), step.option("max", inf, 2))


def _limited(step: Step, low: float, high: float) -> Activation:
    """The activation between two bounds; a ReLU before it takes over the upper one."""
    x = step.activation()
    before = step.nodes[x.name]
    ceiling = None if high == inf else high
    if isinstance(before, ReLU) and low <= 0 < high:
        lowest = min(high, before.ceiling or inf)
        call = step.call(x.shape)
        made = replace(before, name=call.name, ceiling=None if lowest == inf else lowest)
        return step.like(x, made)
    return step.through("clamp", x, None if low == -inf else low, ceiling)


def _bound(step: Step) -> tuple[Activation, float]:
    """The activation and the number of a Max or Min of two."""
    found = [value for value in step.operands if isinstance(value, Tensor)]
    others = [value for value in step.operands if isinstance(value, Activation)]
    if len(found) != 1 or len(others) != 1 or len(found[0].unique()) != 1:
        raise Unsupported("it compares activations; only one with a number can be converted")
    per_channel(others[0], found[0])  # no larger than the activation
    return others[0], float(found[0].reshape(-1)[0])


def _maximum(step: Step) -> Activation:
    x, low = _bound(step)
    return _limited(replace(step, operands=(x,)), low, inf)


def _minimum(step: Step) -> Activation:
    x, high = _bound(step)
    return _limited(replace(step, operands=(x,)), -inf, high)


def _leaky_relu(step: Step) -> Activation:
    return step.through("leaky_relu", step.activation(), float(step.option("alpha", 0.01)))


def _prelu(step: Step) -> Activation:
    x = step.activation()
    slope = per_channel(x, step.weight(1))
    if bool((slope == slope.reshape(-1)[0]).all()):
        return step.through("leaky_relu", x, float(slope.reshape(-1)[0]))
    return step.through("prelu", x, slope.float())


def _batch_norm(step: Step) -> Activation:
    x = step.activation()
    if x.axes[1] != 1:
        raise Unsupported("its channels are not the second axis; export with channels first")
    if step.option("training_mode", 0) or not step.option("spatial", 1):
        raise Unsupported(
            "BatchNorm here uses the statistics of each batch, or one mean for each pixel; export "
            "in evaluation mode"
        )
    weight, bias, mean, variance = (
        in_node_order(x, step.vector(i, x.shape[0])) for i in (1, 2, 3, 4)
    )
    eps = float(step.option("epsilon", 1e-5))
    return step.through("batch_norm", x, weight, bias, mean, variance, False, 0.0, eps)


def _aligned(step: Step) -> Step:
    """With the second constant as it stands against the first value, as files before opset 7 say.

    Their attribute axis names the axis of the first value that the second's axes begin at.
    """
    axis = step.option("axis", None)
    if step.opset >= 7 or axis is None or not step.option("broadcast", 0):
        return step
    x, constant = step.activation(), step.weight(1)
    behind = len(x.axes) - axis % len(x.axes) - constant.ndim
    shape = (*constant.shape, *[1] * behind)
    return replace(step, operands=(x, constant.reshape(shape)))


def _add(step: Step) -> Activation:
    """The sum of activations and constants."""
    step = _aligned(step)
    values = [value for value in step.operands if isinstance(value, Activation)]
    fixed = [value for value in step.operands if isinstance(value, Tensor)]
    if not values:
        raise Unsupported("it reads no activation where one is needed")
    layout.check_alike(values)
    total = values[0]
    if len(values) > 1:
        call = step.call(total.shape)
        total = step.like(total, Add(**call.base(*(value.value for value in values))))
    for constant in fixed:
        shift = per_channel(total, constant)
        total = affine(step, total, torch.ones((), dtype=torch.float64), shift)
    return total


def _subtract(step: Step) -> Activation:
    step = _aligned(step)
    first, second = step.operands
    one = torch.ones((), dtype=torch.float64)
    if isinstance(first, Activation) and isinstance(second, Tensor):
        return affine(step, first, one, -per_channel(first, second))
    if isinstance(second, Activation) and isinstance(first, Tensor):
        return affine(step, second, -one, per_channel(second, first))
    layout.check_alike([step.activation(0), step.activation(1)])
    return step.through("sub", step.activation(0), step.activation(1).value)


def _negate(step: Step) -> Activation:
    return affine(step, step.activation(), -torch.ones((), dtype=torch.float64))


def _multiply(step: Step) -> Activation:
    values = sorted(_aligned(step).operands, key=lambda value: isinstance(value, Tensor))
    x, gain = values
    if not isinstance(x, Activation) or not isinstance(gain, Tensor):
        raise Unsupported("a product of two activations (a gate); use a network without gates")
    return affine(step, x, per_channel(x, gain))


def _divide(step: Step) -> Activation:
    x, divisor = _aligned(step).operands
    if not isinstance(x, Activation) or not isinstance(divisor, Tensor):
        raise Unsupported("dividing by an activation; use a network without gates")
    gain = per_channel(x, divisor)
    if bool((gain == 0).any()):
        raise Unsupported("it divides by zero")
    return affine(step, x, 1 / gain)


def _gemm(step: Step) -> Activation:
    if step.option("transA", 0):
        raise Unsupported("it transposes the batch; every image must be treated alike")
    weight, bias = step.weight(1), step.constant(2)
    weight = weight if step.option("transB", 0) else weight.T
    bias = None if bias is None else bias * float(step.option("beta", 1.0))
    return _linear(step, weight * float(step.option("alpha", 1.0)), bias)


def _matmul(step: Step) -> Activation:
    x, weight = step.activation(), step.weight(1)
    if weight.ndim != 2:
        raise Unsupported(f"a weight of shape {tuple(weight.shape)}; only matrices can be")
    if len(x.axes) == 2:
        return _linear(step, weight.T, None)
    if len(x.axes) == 4 and x.axes[-1] == 1:  # a dense layer over the channels of every pixel
        kernel = weight.T[:, :, None, None]
        shape = (weight.shape[1], *x.shape[1:])
        return step.like(x, aten.BUILDERS["conv2d"](step.call(shape), x.value, kernel))
    raise Unsupported(f"a linear layer over {x.sizes} per image; flatten to features first")


def _linear(step: Step, weight: Tensor, bias: Tensor | None) -> Activation:
    """A layer of weight [out, in], whose columns are put in the order of the node's features."""
    x = step.activation()
    if len(x.axes) != 2:
        raise Unsupported(f"a linear layer over {x.sizes} per image; flatten to features first")
    if bias is not None:
        if bias.numel() not in (1, len(weight)):
            raise Unsupported(f"a bias of shape {tuple(bias.shape)} for {len(weight)} features")
        bias = bias.reshape(-1).expand(len(weight))
    columns = in_node_order(x, weight, 1)
    return step.place(aten.BUILDERS["linear"](step.call((len(weight),)), x.value, columns, bias))


def _where(step: Step) -> Activation:
    """Where of a fixed condition that is the same everywhere: one of its two values."""
    condition = step.constant(0)
    if condition is None or len(condition.unique()) != 1:
        raise Unsupported("it chooses by values of the image, or number by number")
    chosen = step.activation(1 if bool(condition.reshape(-1)[0]) else 2)
    if chosen.sizes != step.sizes[1:]:
        raise Unsupported(f"it enlarges {chosen.sizes} to {step.sizes[1:]}")
    return chosen


def _softmax(step: Step) -> Activation:
    x, kind = step.activation(), step.operation.kind
    axis, count = step.option("axis"), len(x.axes)
    if axis is None:
        axis = 1 if step.opset < 13 else -1
    old = f"axes {axis % count} to {count - 1} together"
    shown = old if step.opset < 13 else f"axis {axis}"
    raise Unsupported(
        f"it normalises over {shown} of {('N', *x.sizes)}: {kind} can be left out only at the end, "
        "over the classes of [N, K]; export the network without it, or with axis=1 there"
    )


PER_VALUE: dict[str, Builder] = {  # what treats all numbers, or all of a channel, alike
    "Add": _add,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Div": _divide,
    "Dropout": _dropout,
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "Max": _maximum,
    "Min": _minimum,
    "Mul": _multiply,
    "Neg": _negate,
    "PRelu": _prelu,
    "Relu": _relu,
    "Sub": _subtract,
    "Sum": _add,
}

BUILDERS: dict[str, Builder] = {
    **PER_VALUE,
    "AveragePool": spatial.average_pool,
    "Concat": layout.concat,
    "Conv": spatial.convolution,
    "Flatten": layout.reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": spatial.global_average_pool,
    "GlobalMaxPool": spatial.global_max_pool,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": spatial.max_pool,
    "Pad": padding.pad,
    "ReduceMax": spatial.maximum,
    "ReduceMean": spatial.mean,
    "Reshape": layout.reshape,
    "Resize": padding.resize,
    "Slice": layout.cut_out,
    "Softmax": _softmax,
    "Split": layout.split,
    "Squeeze": layout.reshape,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.reshape,
    "Upsample": padding.resize,
    "Where": _where,
}

_ATEN = {  # operators whose remedy is that of an ATen operation
    "Celu": "celu",
    "Elu": "elu",
    "Gelu": "gelu",
    "GroupNormalization": "group_norm",
    "HardSigmoid": "hardsigmoid",
    "HardSwish": "hardswish",
    "InstanceNormalization": "instance_norm",
    "LayerNormalization": "layer_norm",
    "Mish": "mish",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Tanh": "tanh",
}
_QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear", "QLinear", "QGemm")
_BRANCHES = ("If", "Loop", "Scan")
_REMEDIES = {
    "ConvTranspose": "Use nearest upsampling (Resize) and a convolution in its place.",
    "LRN": "Take it out, or put BatchNorm in its place, and train on: later AlexNets have none.",
}


def remedy(kind: str) -> str:
    """What a user can do about an operator that cannot be converted."""
    if kind in _ATEN:
        return aten.remedy(_ATEN[kind])
    if kind in _REMEDIES:
        return _REMEDIES[kind]
    if kind.startswith(_QUANTISED) or kind.endswith("Integer"):
        return "Export the network before it is quantised, with float32 weights."
    if kind in _BRANCHES:
        return "Export it without branches or loops, or simplify the file (onnxsim)."
    return aten.WHAT_CONVERTS
