"""What ends a network and changes no decision: softmax, sigmoid and their logarithms.

They grow with the logit of their class while the other logits stay, so that the largest remains the
largest; a sigmoid is 1/2 where its logit is 0. The graph ends at the logits, and its notes say so.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.capture.aten import TRANSPARENT, remedy
from spiking_resnet.capture.calls import Unsupported, operation_of, source_of
from spiking_resnet.graph import Graph

NOTE = "head"  # in a graph's notes: the names of what was left out, in order

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {  # of logits [N, K]
    "softmax": lambda logits: logits.softmax(1),
    "log_softmax": lambda logits: logits.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "log_sigmoid": F.logsigmoid,
}
_OVER_CLASSES = ("softmax", "log_softmax")
_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")


def heads(end: Any) -> tuple[torch.fx.Node, ...]:
    """The calls before the output `end` that change no decision, in order."""
    found: list[torch.fx.Node] = []
    while isinstance(end, torch.fx.Node) and end.op == "call_function":
        if _name(end) in FUNCTIONS and not _objection(end):
            found.append(end)
        elif operation_of(end) not in TRANSPARENT and not _is_reshape(end):
            break
        end = end.args[0]
    return tuple(found[::-1])


def notes(left_out: Sequence[torch.fx.Node]) -> dict[str, Any]:
    """What a graph's notes say of the calls that were left out."""
    if not left_out:
        return {}
    said = []
    for call in left_out:
        line = source_of(call)
        said.append(
            f"{_name(call)} at the end{f' ({line})' if line else ''} is left out: the network "
            "returns logits, and the largest is the same"
            + ("; what was 1/2 is a logit of 0" if _name(call) == "sigmoid" else "")
        )
    return {NOTE: [_name(call) for call in left_out], "remarks": said}


def with_heads(graph: Graph, logits: Tensor) -> Tensor:
    """What the network that `graph` was traced from makes of its logits [N, K]."""
    for name in graph.notes.get(NOTE, ()):
        logits = FUNCTIONS[name](logits)
    return logits


def refuse(call: torch.fx.Node) -> None:
    """Raises Unsupported for one of these functions that is no head."""
    name = _name(call)
    reason = _objection(call) or (
        f"{name} has no spiking counterpart here; it is left out only at the very end"
    )
    raise Unsupported(f"{reason}. {remedy(name)}")


def _objection(call: torch.fx.Node) -> str:
    """Why a call is not a function of the classes of one image; empty if it is."""
    name, shape = _name(call), _shape(call)
    if name not in _OVER_CLASSES:
        return "" if _is_row(shape) else f"{name} of maps {tuple(shape[1:])}"
    axis = int(str(call.args[1])) % max(len(shape), 1)
    if axis == 0:
        return (
            f"{name} over axis 0, the images of a batch, makes an image's result depend on its "
            "neighbours: take axis 1, the classes"
        )
    if not _is_row(shape) or shape[axis] != max(shape[1:]):
        return f"{name} over axis {axis} of {tuple(shape[1:])} per image; only over the classes"
    return f"{name} over one class is always the same: take a sigmoid" if shape[axis] == 1 else ""


def _is_reshape(call: torch.fx.Node) -> bool:
    """Whether a call hands on the logits of every image in their order."""
    before = call.args[0]
    if operation_of(call) not in _RESHAPES or not isinstance(before, torch.fx.Node):
        return False
    return _shape(before)[:1] == _shape(call)[:1] and _is_row(_shape(before))


def _is_row(shape: Sequence[int]) -> bool:
    """Whether an image has one axis of more than one entry, at most."""
    return len(shape) > 0 and sum(size > 1 for size in shape[1:]) <= 1


def _name(call: torch.fx.Node) -> str:
    return operation_of(call).lstrip("_")


def _shape(call: torch.fx.Node) -> tuple[int, ...]:
    produced = call.meta.get("val")
    return tuple(produced.shape) if isinstance(produced, Tensor) else ()
