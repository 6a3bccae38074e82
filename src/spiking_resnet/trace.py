"""From an nn.Module to a Graph, or an error that names every culprit.

Capture is by `torch.export` at the ATen level, which sees functional and in-place calls, modules
used twice and declarations out of order as what they compute. It appears in this file alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet.aten import BUILDERS, TRANSPARENT, Call, Unsupported, Value, remedy
from spiking_resnet.graph import Graph, Input, Node, Output


class TraceError(ValueError):
    """A network that cannot be converted; the message lists node, source line and remedy.

    problems: the same one by one. nodes: what could be traced, in order (both may be empty).
    """

    def __init__(
        self, message: str, problems: Iterable[str] = (), nodes: Iterable[Node] = ()
    ) -> None:
        super().__init__(message)
        self.problems, self.nodes = tuple(problems), tuple(nodes)


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
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
            f"{_where(str(error))}. "
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
            elif call.op == "call_function" and "_assert" not in str(call.target):
                self._translate(call)
        if self.problems:
            listed = "\n".join(f"  {number}. {p}" for number, p in enumerate(self.problems, 1))
            message = f"{len(self.problems)} operation(s) cannot be converted:\n{listed}"
            raise TraceError(message, self.problems, self.nodes.values())
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
        depends = any(isinstance(argument, Value) for argument in _flat(arguments))
        if not depends and callable(call.target):  # a weight computed from parameters
            self.values[call.name] = call.target(*arguments, **options)
            return
        try:
            self.values[call.name] = self._build(call, arguments, options)
        except Unsupported as reason:
            where = f"{_name(call)!r}" + (f" ({_source(call)})" if _source(call) else "")
            self.problems.append(f"{where}: {reason}")
            # Go on as if it were not there, so that all problems are found at once.
            before = arguments[0] if arguments else None
            if isinstance(before, Value) and before.shape == _shape(call):
                self.values[call.name] = before.name
            else:
                self.values[call.name] = _FAILED

    def _resolve(self, argument: Any) -> Any:
        """An fx argument with values as Value and constants as tensors."""
        if isinstance(argument, torch.fx.Node):
            value = self.values[argument.name]
            return Value(value, self.nodes[value].shape) if isinstance(value, str) else value
        if isinstance(argument, list | tuple):
            return [self._resolve(entry) for entry in argument]
        return argument

    def _build(self, call: torch.fx.Node, arguments: list[Any], options: dict[str, Any]) -> Any:
        operation = str(call.target).removeprefix("aten.").split(".")[0].rstrip("_")
        produced = call.meta.get("val")
        if isinstance(produced, Tensor) and not produced.dtype.is_floating_point:
            raise Unsupported(f"{operation} makes {produced.dtype} of it; keep activations float")
        if operation in TRANSPARENT:
            return arguments[0].name
        builder = BUILDERS.get(operation)
        if builder is None:
            raise Unsupported(f"{operation} has no spiking counterpart here. {remedy(operation)}")
        context = Call(_name(call), _shape(call), _source(call))
        made = builder(context, *arguments, **options)
        if isinstance(made, list):  # a chain: each node reads the one before it
            first, second = made
            return self.put(replace(second, inputs=(self.put(first),)))
        return made if isinstance(made, str) else self.put(made)


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


def _shape(call: torch.fx.Node) -> tuple[int, ...]:
    """The shape of a call's value for one image."""
    produced = call.meta.get("val")
    return tuple(int(size) for size in produced.shape[1:]) if isinstance(produced, Tensor) else ()


def _name(call: torch.fx.Node) -> str:
    """The path of the module that made the call, with the operation where it is functional."""
    stack = list((call.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else kind.__module__
    operation = str(call.target).removeprefix("aten.").split(".")[0].rstrip("_")
    if path and kind.startswith("torch.nn.modules.") and ".container." not in kind:
        return str(path)
    return f"{path}.{operation}" if path else operation


def _where(message: str) -> str:
    """The user's line in an error message of torch's, in brackets; empty if there is none."""
    line = _user_line(message)
    return f" ({line})" if line else ""


def _source(call: torch.fx.Node) -> str:
    """The user's line that made the call."""
    return _user_line(call.meta.get("stack_trace") or "")


def _user_line(trace_text: str) -> str:
    """The last line of a stack trace outside torch, as "file:line: code"; empty if none."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in \S+\n\s+(.+)', trace_text)
    library = str(Path(torch.__file__).parent)
    own = [frame for frame in frames if not frame[0].startswith(library)]
    if not own:
        return ""
    file, line, code = own[-1]
    return f"{Path(file).name}:{line}: {code.strip()}"
