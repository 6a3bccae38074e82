"""From an nn.Module to a Graph, or an error that names every culprit.

Capture is by `torch.export` at the ATen level, which sees functional and in-place calls, modules
used twice and declarations out of order as what they compute. It appears in this file alone.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Output,
    Pad,
    Pair,
    ReLU,
    Slice,
)


class TraceError(ValueError):
    """A network that cannot be converted; the message lists node, source line and remedy."""


class Unsupported(Exception):
    """One operation that stands in the way; the message says why and what to do."""


def trace(model: nn.Module, shape: Sequence[int]) -> Graph:
    """The graph that `model` computes in inference on images of `shape` (C, H, W).

    The model may be in training mode, on any device, wrapped in DataParallel or compiled; it is
    left as it was. BatchNorms become Affine nodes in float64. Raises TraceError.
    """
    inner = _unwrap(model)
    modes = {module: module.training for module in inner.modules()}
    inner.eval()
    try:
        program = _export(inner, tuple(shape))
        return _Translation(program).graph(tuple(shape))
    finally:
        for module, training in modes.items():
            module.training = training


def _unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside the wrappers that training puts around it."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(original := getattr(model, "_orig_mod", None), nn.Module):
            model = original
        else:
            return model


def _export(model: nn.Module, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """The model as an ATen graph for a batch of two images."""
    parameter = next((p for p in model.parameters()), torch.zeros(()))
    example = torch.zeros(2, *shape, device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.no_grad():
            return torch.export.export(model, (example,), strict=False)
    except Exception as error:
        raise TraceError(
            f"torch.export cannot capture {type(model).__name__} for images of shape {shape}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}. "
            "The forward pass must be the same operations for every image (no branch on values), "
            "take one image batch [N, C, H, W] and fit this image size"
        ) from error


@dataclass
class _Translation:
    """The work of turning one exported program into nodes."""

    program: torch.export.ExportedProgram
    nodes: dict[str, Node] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)  # fx name -> node name or constant tensor
    problems: list[str] = field(default_factory=list)

    def graph(self, shape: tuple[int, ...]) -> Graph:
        signature = self.program.graph_signature
        if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
            raise TraceError(
                f"the network takes {len(signature.user_inputs)} inputs and returns "
                f"{len(signature.user_outputs)} outputs: wrap it in a module that maps one image "
                "batch [N, C, H, W] to one tensor of logits [N, K]"
            )
        constants = self._constants()
        for call in self.program.graph.nodes:
            if call.op == "placeholder":
                if call.name in constants:
                    self.values[call.name] = constants[call.name].detach()
                else:
                    self.values[call.name] = self.put(Input(name="input", inputs=(), shape=shape))
            elif call.op == "call_function":
                self._translate(call)
        if self.problems:
            listed = "\n".join(f"  {number}. {p}" for number, p in enumerate(self.problems, 1))
            raise TraceError(f"{len(self.problems)} operation(s) cannot be converted:\n{listed}")
        final = self.values[str(signature.user_outputs[0])]
        if not isinstance(final, str) or len(self.nodes[final].shape) != 1:
            raise TraceError("the network does not return logits [N, K] that depend on the image")
        self.put(Output(name="output", inputs=(final,), shape=self.nodes[final].shape))
        return Graph(_reachable(self.nodes))

    def _constants(self) -> dict[str, Tensor]:
        """Parameters, buffers and other fixed tensors, by placeholder name."""
        signature = self.program.graph_signature
        state: dict[str, Any] = {**self.program.constants, **self.program.state_dict}
        targets = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        return {name: state[target] for name, target in targets.items()}

    def put(self, node: Node) -> str:
        """Adds a node, under a name of its own; returns the name."""
        name, count = node.name, 1
        while name in self.nodes:
            count += 1
            name = f"{node.name}_{count}"
        self.nodes[name] = replace(node, name=name)
        return name

    def _translate(self, call: torch.fx.Node) -> None:
        """Adds what one ATen call computes, or notes why it cannot."""
        arguments = [self._resolve(argument) for argument in call.args]
        options = {name: self._resolve(value) for name, value in call.kwargs.items()}
        if any(argument is _FAILED for argument in _flat(arguments)):
            self.values[call.name] = _FAILED  # its cause has been reported already
            return
        depends = any(isinstance(argument, _Value) for argument in _flat(arguments))
        if not depends and callable(call.target):  # a weight computed from parameters
            self.values[call.name] = call.target(*arguments, **options)
            return
        try:
            self.values[call.name] = self._build(call, arguments, options)
        except Unsupported as reason:
            where = f"{_name(call)!r}" + (f" ({_source(call)})" if _source(call) else "")
            self.problems.append(f"{where}: {reason}")
            self.values[call.name] = _FAILED

    def _resolve(self, argument: Any) -> Any:
        """An fx argument with values as _Value and constants as tensors."""
        if isinstance(argument, torch.fx.Node):
            value = self.values[argument.name]
            return _Value(value, self.nodes[value].shape) if isinstance(value, str) else value
        if isinstance(argument, list | tuple):
            return [self._resolve(entry) for entry in argument]
        return argument

    def _build(self, call: torch.fx.Node, arguments: list[Any], options: dict[str, Any]) -> Any:
        operation = str(call.target).removeprefix("aten.").split(".")[0].rstrip("_")
        if operation in TRANSPARENT:
            return arguments[0].name
        builder = BUILDERS.get(operation)
        if builder is None:
            raise Unsupported(f"{operation} has no spiking counterpart here. {_remedy(operation)}")
        produced = call.meta.get("val")
        shape = tuple(produced.shape[1:]) if isinstance(produced, Tensor) else ()
        context = _Call(_name(call), tuple(int(size) for size in shape), _source(call))
        made = builder(context, *arguments, **options)
        if isinstance(made, list):  # a chain: each node reads the one before it
            first, second = made
            return self.put(replace(second, inputs=(self.put(first),)))
        return made if isinstance(made, str) else self.put(made)


@dataclass(frozen=True)
class _Value:
    """A value that depends on the image: the name of its node and its shape for one image."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Call:
    """What every builder needs to know of its call."""

    name: str
    shape: tuple[int, ...]
    source: str

    def base(self, *inputs: _Value) -> dict[str, Any]:
        """The fields common to all nodes."""
        names = tuple(value.name for value in inputs)
        return {"name": self.name, "inputs": names, "shape": self.shape, "source": self.source}


class _Failed:
    pass


_FAILED = _Failed()


def _flat(arguments: Sequence[Any]) -> list[Any]:
    return [
        entry
        for argument in arguments
        for entry in (_flat(argument) if isinstance(argument, list) else [argument])
    ]


def _reachable(nodes: dict[str, Node]) -> tuple[Node, ...]:
    """The nodes that the output depends on, in order; the Input always among them."""
    needed = {"input", "output"}
    for node in reversed(nodes.values()):
        if node.name in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes.values() if node.name in needed)


def _name(call: torch.fx.Node) -> str:
    """The path of the module that made the call, with the operation where it is functional."""
    stack = list((call.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else kind.__module__
    operation = str(call.target).removeprefix("aten.").split(".")[0].rstrip("_")
    if path and kind.startswith("torch.nn.modules.") and ".container." not in kind:
        return str(path)
    return f"{path}.{operation}" if path else operation


def _source(call: torch.fx.Node) -> str:
    """The user's line that made the call, as "file:line: code" (the last one outside torch)."""
    frames = re.findall(
        r'File "([^"]+)", line (\d+), in \S+\n\s+(.+)', call.meta.get("stack_trace") or ""
    )
    library = str(Path(torch.__file__).parent)
    own = [frame for frame in frames if not frame[0].startswith(library)]
    if not own:
        return ""
    file, line, code = own[-1]
    return f"{Path(file).name}:{line}: {code.strip()}"


def _pair(value: Any) -> Pair:
    """A kernel's, stride's or padding's two numbers."""
    entries = [value] if isinstance(value, int) else list(value)
    return (int(entries[0]), int(entries[-1]))


def _weight(weight: Any) -> Tensor:
    if not isinstance(weight, Tensor):
        raise Unsupported("its weight depends on the image; weights must be fixed parameters")
    return weight.detach().to("cpu", torch.float32)


def _bias(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else _weight(bias)


def _conv2d(
    call: _Call,
    x: _Value,
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


def _linear(call: _Call, x: _Value, weight: Any, bias: Tensor | None = None) -> Node:
    if len(x.shape) != 1:
        raise Unsupported(f"a linear layer over {x.shape} per image; flatten to features first")
    return Linear(**call.base(x), weight=_weight(weight), bias=_bias(bias))


def _batch_norm(
    call: _Call,
    x: _Value,
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


def _relu(call: _Call, x: _Value) -> Node:
    return ReLU(**call.base(x))


def _clamp(call: _Call, x: _Value, low: Any = None, high: Any = None, **rest: Any) -> Node:
    low, high = rest.get("min", low), rest.get("max", high)
    if low != 0 or isinstance(high, Tensor | _Value):
        raise Unsupported(f"clamping to [{low}, {high}]; only a lower bound of 0 is a firing rate")
    return ReLU(**call.base(x), ceiling=None if high is None else float(high))


def _hardtanh(call: _Call, x: _Value, low: float = -1.0, high: float = 1.0) -> Node:
    return _clamp(call, x, low, high)


def _add(call: _Call, x: Any, y: Any, alpha: float = 1) -> Node:
    if not (isinstance(x, _Value) and isinstance(y, _Value)) or alpha != 1:
        raise Unsupported("adding a constant or a multiple; put it in a bias or a BatchNorm")
    if x.shape != y.shape:
        raise Unsupported(f"adding shapes {x.shape} and {y.shape} by broadcasting")
    return Add(**call.base(x, y))


def _scaled(call: _Call, x: Any, gain: Any, inverse: bool) -> Node:
    if isinstance(gain, _Value) and not inverse:
        x, gain = gain, x
    if not isinstance(x, _Value) or isinstance(gain, _Value):
        raise Unsupported("a product of two activations (a gate); use a network without gates")
    factor = gain.detach().double().cpu() if isinstance(gain, Tensor) else torch.tensor(float(gain))
    if factor.numel() != 1:
        raise Unsupported("multiplying by a tensor; use BatchNorm or a 1x1 depthwise convolution")
    factor = factor.double().reshape(())
    return Affine(**call.base(x), scale=1 / factor if inverse else factor)


def _mul(call: _Call, x: Any, y: Any) -> Node:
    return _scaled(call, x, y, inverse=False)


def _div(call: _Call, x: Any, y: Any) -> Node:
    return _scaled(call, x, y, inverse=True)


def _cat(call: _Call, values: list[_Value], dim: int = 0) -> Node:
    if dim % (len(values[0].shape) + 1) != 1:
        raise Unsupported(f"concatenation along axis {dim}; only channels (axis 1) can be")
    return Concat(**call.base(*values))


def _max_pool2d(
    call: _Call,
    x: _Value,
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
    call: _Call,
    x: _Value,
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
    call: _Call, x: _Value, kernel: Pair, stride: Pair, padding: Pair, divisor: float
) -> Node:
    return AvgPool(**call.base(x), kernel=kernel, stride=stride, padding=padding, divisor=divisor)


def _adaptive_avg_pool2d(call: _Call, x: _Value, size: Any) -> Any:
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


def _mean(call: _Call, x: _Value, dim: Any, keepdim: bool = False, **rest: Any) -> Any:
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


def _flatten(call: _Call, x: _Value, *sizes: Any) -> Any:
    if call.shape == x.shape:
        return x.name
    if len(call.shape) != 1:
        raise Unsupported(f"reshaping {x.shape} to {call.shape}; only flattening can be converted")
    return Flatten(**call.base(x))


def _slice(
    call: _Call, x: _Value, dim: int = 0, start: Any = 0, stop: Any = None, step: int = 1
) -> Any:
    if call.shape == x.shape:
        return x.name
    if dim % (len(x.shape) + 1) == 0:
        raise Unsupported("slicing the batch; every image must be treated alike")
    axis = dim % (len(x.shape) + 1) - 1
    first, last, _ = slice(start, stop, step).indices(x.shape[axis])
    return Slice(**call.base(x), axis=axis, start=first, stop=last, step=step)


def _pad(
    call: _Call, x: _Value, sizes: list[int], mode: str = "constant", value: Any = None
) -> Node:
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


def _remedy(operation: str) -> str:
    """What a user can do about an operation that cannot be converted."""
    for remedy, operations in _REMEDIES.items():
        if operation in operations:
            return remedy
    return f"Use one of: {', '.join(sorted(BUILDERS))}."
