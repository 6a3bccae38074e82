"""From a module to its ATen calls, by `torch.export`, which appears in this file alone.

Capture sees functional and in-place calls, modules used twice and declarations out of order as what
they compute. Blocks under `torch.no_grad()` and the like, which it keeps apart, are written out.
"""

import contextlib
import io
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from spiking_resnet.capture import logits
from spiking_resnet.capture.aliases import shared_writes
from spiking_resnet.capture.calls import BATCH, TraceError, operation_of, source_of, user_line

_BLOCKS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")
_ON_VALUES = ("data-dependent", "_local_scalar_dense", "DataDependent")  # in torch's messages


@dataclass(frozen=True, eq=False)
class Captured:
    """What a model computes of BATCH images.

    graph: its calls in order. constants: parameters, buffers and other fixed tensors, by the name
    of their placeholder. logits: the call that makes the output, or a constant.
    """

    graph: torch.fx.Graph
    constants: Mapping[str, Tensor]
    logits: Any


def captured(model: nn.Module, shape: tuple[int, ...]) -> Captured:
    """The calls of a model in evaluation mode for images of `shape`. Raises TraceError."""
    parameter = next((p for p in model.parameters()), torch.zeros((), dtype=torch.float32))
    example = torch.zeros(BATCH, *shape, device=parameter.device, dtype=parameter.dtype)
    try:
        with _mode(model), _quiet():
            program = torch.export.export(logits.Picked(model), (example,), strict=False)
    except TraceError:
        raise
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__} cannot be captured for images of shape {shape}: "
            f"{_reason(error)}{_where(error)}. {_remedy(error)}"
        ) from error
    _write_out(program.graph, example.device.type)
    program = _functional(program, type(model).__name__)
    _check_shapes(program.graph, type(model).__name__)
    signature = program.graph_signature
    state: dict[str, Any] = {**program.constants, **program.state_dict}
    targets = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    kinds = [spec.kind.name for spec in signature.output_specs]
    outputs = next(node for node in program.graph.nodes if node.op == "output").args[0]
    return Captured(
        graph=program.graph,
        constants={name: state[target] for name, target in targets.items()},
        logits=outputs[kinds.index("USER_OUTPUT")],
    )


@contextlib.contextmanager
def _mode(model: nn.Module) -> Iterator[None]:
    """Without gradients; what was made in inference mode can be exported only there."""
    made = any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers()))
    with torch.inference_mode(made), torch.no_grad():  # the first sets gradients, too
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch warns of nothing, and prints no graphs on standard error, in this thread."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(_Others(sys.stderr)):
        warnings.simplefilter("ignore")
        yield


class _Others(io.TextIOBase):
    """A stream that hands on what other threads write."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.own = stream, threading.get_ident()

    def write(self, text: str) -> int:
        """The number of characters."""
        return len(text) if threading.get_ident() == self.own else self.stream.write(text)

    def flush(self) -> None:
        """Write out what was handed on."""
        self.stream.flush()


def _reason(error: Exception) -> str:
    """What torch.export says, in one line without its own advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if any(sign in f"{type(error).__name__} {error}" for sign in _ON_VALUES):
        return "it decides by the values of the images, or makes Python numbers of them"
    if "fake tensor in the exported program" in str(error):
        return "it takes .data of a value, or keeps one between calls"
    return re.split(r"\. (?:See|If you|Maybe|Please) |\(unhinted", lines[0])[0].rstrip(". ")


def _where(error: Exception) -> str:
    """The user's line that an error came from, in brackets; empty if there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    found = [(frame.filename, frame.lineno or 0, frame.line or "") for frame in frames]
    line = user_line(f for f in found if "site-packages" not in f[0]) or user_line(found)
    return f" ({line})" if line else ""


def _remedy(error: Exception) -> str:
    size = re.search(r"shape\[0\] to be equal to (\d+)|size\(\)\[0\] == (\d+)", str(error))
    if size is not None:
        return (
            f"It was exported for batches of {size[1] or size[2]} images alone: export it with a "
            "free batch, dynamic_shapes=({0: torch.export.Dim('batch')},), or give the program "
            "itself, or the module it was exported from"
        )
    if any(_is_normalize(frame) for frame in traceback.extract_tb(error.__traceback__)):
        return (
            "torchvision's normalize looks at the numbers that it is given: take that of "
            "torchvision.transforms.v2, or write (x - mean) / std with both of them as buffers"
        )
    return (
        "The forward pass must be the same operations for every image (no branch on values), "
        "take one image batch [N, C, H, W] and fit this image size"
    )


def _is_normalize(frame: traceback.FrameSummary) -> bool:
    return frame.name == "normalize" and "torchvision" in frame.filename


def _functional(program: torch.export.ExportedProgram, model: str) -> torch.export.ExportedProgram:
    """The program; where views are written to, one that computes the same without such writes."""
    writes = shared_writes(program.graph)
    if not writes:
        return program
    try:
        program.graph_module.recompile()
        with _mode(program.graph_module), _quiet():
            return program.run_decompositions({})
    except Exception as error:
        line = source_of(writes[0])
        raise TraceError(
            f"{model} cannot be captured: {operation_of(writes[0])}_ changes in place what is read "
            f"again under another name{f' ({line})' if line else ''}, and that cannot be followed "
            f"({_reason(error)}). Write it out of place: join the parts with torch.cat"
        ) from error


def _check_shapes(graph: torch.fx.Graph, model: str) -> None:
    """Raises TraceError for a call whose result has as many entries as the images' values say."""
    for call in graph.nodes:
        produced = call.meta.get("val")
        for value in produced if isinstance(produced, list | tuple) else [produced]:
            sizes = value.shape if isinstance(value, Tensor) else (value,)
            if any(_is_unknown(size) for size in sizes):
                line = source_of(call)
                raise TraceError(
                    f"{model} cannot be captured: what {operation_of(call)} makes depends on the "
                    f"values of the images{f' ({line})' if line else ''}. The forward pass must be "
                    "the same operations for every image"
                )


def _is_unknown(size: Any) -> bool:
    """Whether a size is a symbol that capture has found no number for."""
    if isinstance(size, torch.SymInt):
        return size.node.maybe_as_int() is None
    return isinstance(size, torch.SymFloat)


def _write_out(graph: torch.fx.Graph, device: str) -> None:
    """Replace blocks that only set a mode by their calls."""
    for call in list(graph.nodes):
        if call.op != "call_function" or operation_of(call) not in _BLOCKS:
            continue
        place = next(i for i, a in enumerate(call.args) if _is_block(a))
        block = getattr(graph.owning_module, str(call.args[place].target)).graph
        _check_autocast(call, block, device)
        _write_out(block, device)
        made = _copied(graph, call, block, call.args[place + 1 :])
        for user in list(call.users):  # all of them take one of its values
            user.replace_all_uses_with(made[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(call)


def _is_block(argument: Any) -> bool:
    return isinstance(argument, torch.fx.Node) and argument.op == "get_attr"


def _copied(graph: torch.fx.Graph, call: torch.fx.Node, block: torch.fx.Graph, given: Any) -> Any:
    """What a block returns of the values `given`; its calls stand in `graph`, before `call`."""
    waiting, copies = iter(given), {}
    with graph.inserting_before(call):
        for inner in block.nodes:
            if inner.op == "placeholder":
                copies[inner] = next(waiting)
            elif inner.op == "call_function":
                copies[inner] = graph.node_copy(inner, copies.__getitem__)
            elif inner.op == "output":
                return torch.fx.map_arg(inner.args[0], copies.__getitem__)
    raise AssertionError("a block of calls has an output")


def _check_autocast(call: torch.fx.Node, block: torch.fx.Graph, device: str) -> None:
    """Raises TraceError for a block that computes in half precision."""
    if operation_of(call) != "wrap_with_autocast":
        return
    kind, dtype, enabled = call.args[:3]
    if enabled and kind == device:
        lines = [line for node in block.nodes if (line := source_of(node))]
        raise TraceError(
            f"torch.autocast inside the forward pass computes in {dtype}"
            f"{f' ({lines[-1]})' if lines else ''}: neurons are made of float32 values. Leave it "
            "out, or open it with enabled=self.training"
        )
