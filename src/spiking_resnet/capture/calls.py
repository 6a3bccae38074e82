"""What tracing knows of one call in the user's network, and of the values that calls exchange."""

import operator
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.graph import Node

_LEAVES = ("torch.nn.modules.", "spiking_resnet.ann.activation.")  # modules of one operation
_WRAPPER = str(Path(__file__).with_name("logits.py"))  # its forward calls the user's
WRAPPED = "model"  # the user's module in the one that is captured (logits.Picked)
BATCH = 2  # images in the example batch that a network is captured with


class TraceError(ValueError):
    """A network that cannot be converted; the message lists node, source line and remedy.

    problems: all places one by one. causes: the same by cause (`problems.Cause`). nodes: what could
    be traced, in order. All may be empty.
    """

    causes: tuple[Any, ...] = ()

    def __init__(
        self, message: str, problems: Iterable[str] = (), nodes: Iterable[Node] = ()
    ) -> None:
        super().__init__(message)
        self.problems, self.nodes = tuple(problems), tuple(nodes)


class Unsupported(Exception):
    """One operation that stands in the way; the message says why and what to do."""


@dataclass(frozen=True)
class Value:
    """A value that depends on the image: the name of its node and its shape for one image.

    missing: the axis of `shape`, of size 1, that it does not have in the user's network.
    """

    name: str
    shape: tuple[int, ...]
    missing: int | None = None


@dataclass(frozen=True)
class Mask:
    """Where `value` is above `bound` (below it, unless `above`): what a comparison finds.

    bound: a number, a constant tensor or another value.
    """

    value: Value
    bound: Any
    above: bool


@dataclass(frozen=True)
class Call:
    """What every builder needs to know of its call."""

    name: str
    shape: tuple[int, ...]
    source: str
    operation: str = ""
    layer: str = ""  # the kind of torch's module that made it

    def base(self, *inputs: Value) -> dict[str, Any]:
        """The fields common to all nodes. Raises Unsupported where an input is a constant."""
        if not all(isinstance(value, Value) for value in inputs):
            raise Unsupported(
                f"{self.operation} of values of the image and a constant (such as a class token); "
                "only sums and products with a constant can be"
            )
        names = tuple(value.name for value in inputs)
        return {"name": self.name, "inputs": names, "shape": self.shape, "source": self.source}


def pair(value: Any) -> tuple[int, int]:
    """A kernel's, stride's or padding's two numbers."""
    entries = [value] if isinstance(value, int) else list(value)
    return (int(entries[0]), int(entries[-1]))


def flat(size: Any, other: int) -> tuple[int, int]:
    """A number of a one-dimensional window, for maps of height 1."""
    return (other, pair(size)[1])


@dataclass(frozen=True, eq=False)
class Moved:
    """A value whose entries are those of another, moved about, and no node yet.

    places: float64 [BATCH, ...], for every entry the number of its place in `origin` (numbered
    through the whole batch). call: the last that moved it.
    """

    origin: Value
    places: Tensor
    call: Call

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape for one image, if its first axis is that of the images."""
        return tuple(self.places.shape[1:])


def unmoved(value: Value, call: Call) -> Moved:
    """`value`, every entry in its own place."""
    count = BATCH * torch.Size(value.shape).numel()
    places = torch.arange(count, dtype=torch.float64).view(BATCH, *value.shape)
    return Moved(value, places, call)


def shape_of(call: torch.fx.Node) -> tuple[int, ...]:
    """The shape of a call's (first) value for one image."""
    produced = call.meta.get("val")
    if isinstance(produced, list | tuple) and produced:
        produced = produced[0]
    return tuple(int(size) for size in produced.shape[1:]) if isinstance(produced, Tensor) else ()


def operation_of(call: torch.fx.Node) -> str:
    """What the call is called in ATen, without overload and in-place mark."""
    if call.target is operator.getitem:
        return "getitem"
    name = str(call.target).removeprefix("aten.").removeprefix("spiking_resnet.")
    return name.split(".")[0].rstrip("_")


def name_of(call: torch.fx.Node) -> str:
    """The path of the module that made the call, with the operation where it is functional."""
    stack = list((call.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    path = str(path).removeprefix(WRAPPED).removeprefix(".")
    kind = kind if isinstance(kind, str) else kind.__module__
    operation = operation_of(call)
    if path and kind.startswith(_LEAVES) and ".container." not in kind:
        return path
    return f"{path}.{operation}" if path else operation


def layer_of(call: torch.fx.Node) -> str:
    """The kind of torch's own module that made the call, such as "LocalResponseNorm"; or empty."""
    stack = list((call.meta.get("nn_module_stack") or {}).values())
    kind = stack[-1][1] if stack else ""
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    own = kind.startswith(_LEAVES) and ".container." not in kind
    return kind.rsplit(".", 1)[-1] if own else ""


def source_of(call: torch.fx.Node) -> str:
    """The user's line that made the call."""
    return _user_line(call.meta.get("stack_trace") or "")


def _user_line(trace_text: str) -> str:
    """The last line of a stack trace outside torch, as "file:line: code"; empty if none."""
    found = re.findall(r'File "([^"]+)", line (\d+), in \S+\n\s+(.+)', trace_text)
    return user_line((file, int(line), code) for file, line, code in found)


def user_line(frames: Iterable[tuple[str, int, str]]) -> str:
    """The last of frames (file, line, code) outside torch, as "file:line: code"; empty if none."""
    library = f"{Path(torch.__file__).parent}{os.sep}"
    foreign = (library, _WRAPPER, "<string>", "<eval_with_key>")
    own = [frame for frame in frames if not frame[0].startswith(foreign)]
    if not own:
        return ""
    file, line, code = own[-1]
    return f"{Path(file).name}:{line}: {code.strip()}"
