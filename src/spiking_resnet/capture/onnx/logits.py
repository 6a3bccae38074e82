"""Where a file's logits are: what only shows them another way at the end is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

Shape = tuple[int, ...]

_PROBABILITIES = ("Softmax", "LogSoftmax")
_SEEN_THROUGH = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout")


@dataclass(frozen=True)
class End:
    """name: of the logits. remarks: what was left out behind them."""

    name: str
    remarks: tuple[str, ...]


def end_of(
    nodes: Sequence[Any], output: str, shapes: Mapping[str, Shape], batch: int | None, opset: int
) -> End:
    """The logits behind the output of `nodes`.

    A Softmax over the classes and a Sigmoid grow with the logits of every image, so no decision
    changes without them. Any other one stays, and is refused where it is read.
    """
    made_by = {name: node for node in nodes for name in node.output}
    logits, remarks = output, list[str]()
    while True:
        name = logits
        while (last := made_by.get(name)) is not None and last.op_type in _SEEN_THROUGH:
            name = last.input[0]
        shape = None if last is None else shapes.get(last.input[0])
        if last is None or shape is None or not _monotone(last, shape, batch, opset):
            return End(_with_classes(logits, made_by, shapes), tuple(remarks))
        logits = last.input[0]
        remarks.append(_said(last, shape))


def _with_classes(logits: str, made_by: Mapping[str, Any], shapes: Mapping[str, Shape]) -> str:
    """The logit [N, 1] that was squeezed to [N]; any other logits as they are."""
    before = logits
    while len(shapes.get(before, ())) == 1 and before in made_by:
        if made_by[before].op_type not in _SEEN_THROUGH:
            return logits
        before = made_by[before].input[0]
    return before


def over_classes(kind: str, axis: int | None, shape: Shape, batch: int | None, opset: int) -> bool:
    """Whether a Softmax or LogSoftmax of `shape` takes exactly the values of one image together.

    axis: its attribute, or None. Before opset 13 it takes all axes from there on as one (1 unless
    it is given), from then on this axis alone (the last).
    """
    axis = (1 if opset < 13 else -1) if axis is None else axis
    axis %= max(1, len(shape))
    together = prod(shape[axis:]) if opset < 13 else shape[axis]
    ours = axis > 0 or (opset < 13 and batch == 1)
    return kind in _PROBABILITIES and ours and 1 < together == prod(shape[1:])


def _monotone(node: Any, shape: Shape, batch: int | None, opset: int) -> bool:
    if node.op_type == "Sigmoid":
        return True
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), None)
    return over_classes(node.op_type, axis, shape, batch, opset)


def _said(node: Any, shape: Shape) -> str:
    name = f"{node.op_type} {node.name or node.output[0]!r} at the end is left out"
    if node.op_type == "Sigmoid" and prod(shape[1:]) == 1:
        return f"{name}: a probability above 0.5 is a logit above 0"
    return f"{name}: it does not change which logit is largest"
