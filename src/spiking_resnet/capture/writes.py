"""Values of which a part was written anew: `y[:, :4] += a`, `z[..., 1:-1] = a`, as nodes.

A write is carried out on the numbers of places, like a move (`moves`). What it wrote is a box:
some channels, and of these a rectangle of rows and columns. Channels are joined; a rectangle and
what is left around it are padded with zeros and added up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.capture import arithmetic
from spiking_resnet.capture.calls import BATCH, Call, Moved, Unsupported, Value, unmoved
from spiking_resnet.capture.reindex import choices, settled
from spiking_resnet.graph import Add, Affine, Node, Pad
from spiking_resnet.images import map_shape

SOURCES = {  # ATen operations that write into their first argument: the place of what they write
    **dict.fromkeys(("slice_scatter", "select_scatter", "diagonal_scatter", "copy"), 1),
    "index_put": 2,
    "index_copy": 3,
}

Write = Callable[[Tensor, Tensor], Tensor]  # (what is written into, what is written): the result


@dataclass(frozen=True, eq=False)
class Written:
    """A value with a part written anew: entries of what the last of `nodes` makes."""

    nodes: list[Node]
    result: Moved


@dataclass(frozen=True, eq=False)
class _Box:
    """What was written into maps: some channels, and a rectangle of them.

    value: the value with the shape of the box, or one number for each of its channels.
    """

    channels: list[int]
    sides: tuple[range, ...]
    value: Value | Tensor


def written(call: Call, write: Write, base: Any, source: Any) -> Any:
    """What `write` makes of `base` and `source`: each a Value, a Moved or a constant tensor.

    A Moved or constant where it is entries of one of them, otherwise Written. Raises Unsupported.
    """
    base, source = (unmoved(v, call) if isinstance(v, Value) else v for v in (base, source))
    same = isinstance(base, Moved) and isinstance(source, Moved)
    if same and base.origin.name == source.origin.name:
        return replace(base, places=write(base.places, source.places), call=call)
    numbers = source.places if isinstance(source, Moved) else source.detach().cpu().double()
    places = base.places if isinstance(base, Moved) else _numbered(base)
    mark = write(torch.zeros_like(places), torch.ones_like(numbers)) != 0
    found = write(torch.zeros_like(places), numbers)
    if bool(mark.all()):  # whatever was there
        return replace(source, places=found, call=call) if isinstance(source, Moved) else found
    nodes: list[Node] = []
    if isinstance(base, Moved) and not _whole(base):
        own = replace(call, name=f"{call.name}.base", shape=base.shape)
        nodes += settled(replace(base, call=own))
        own_value = unmoved(Value(nodes[-1].name, nodes[-1].shape), call)
        base = replace(own_value, places=own_value.places.view(places.shape))
        places = base.places
    frame = base.origin.shape if isinstance(base, Moved) else _frame(base)
    order = places.flatten().argsort()
    mark, found = (t.flatten()[order].view(BATCH, *frame) for t in (mark, found))
    whole = replace(call, shape=frame)
    box = _box(whole, mark, found, source, nodes)
    before = base.origin if isinstance(base, Moved) else _fixed(base.view(mark.shape), ~mark)
    made = _joined(whole, before, box, nodes)
    nodes[-1] = replace(nodes[-1], name=call.name)
    return Written(nodes, Moved(replace(made, name=call.name), places, call))


def _numbered(base: Tensor) -> Tensor:
    """The places of a constant's entries."""
    if base.ndim < 2 or len(base) != BATCH:
        raise Unsupported("a write into a constant without an axis of images; use torch.cat")
    return torch.arange(base.numel(), dtype=torch.float64).view(base.shape)


def _whole(moved: Moved) -> bool:
    """Whether every entry of the origin is there once."""
    numbers = torch.arange(BATCH * torch.Size(moved.origin.shape).numel(), dtype=torch.float64)
    return torch.equal(moved.places.flatten().sort().values, numbers)


def _frame(base: Tensor) -> tuple[int, ...]:
    """The shape of the maps or features that a constant's entries are, for one image."""
    shape = tuple(base.shape[1:])
    if len(shape) < 3:
        return map_shape(base.shape)[1:] if len(shape) == 2 else shape
    return (torch.Size(shape[:-2]).numel(), *shape[-2:])


def _box(call: Call, mark: Tensor, found: Tensor, source: Any, nodes: list[Node]) -> _Box:
    """The box in which `mark` [BATCH, *frame] is set; `found` are the places of its entries."""
    axes = range(mark.ndim - 1)
    inside = [
        mark[0]
        .movedim(axis, 0)
        .reshape(mark.shape[axis + 1], -1)
        .any(1)
        .nonzero()
        .flatten()
        .tolist()
        for axis in axes
    ]
    size = torch.Size([len(index) for index in inside]).numel()
    sides = tuple(range(index[0], index[-1] + 1) for index in inside[1:])
    full = all(len(side) == len(index) for side, index in zip(sides, inside[1:], strict=True))
    if not torch.equal(mark[0], mark[1]):
        raise Unsupported("a write in place into some images of a batch; treat every image alike")
    if int(mark[0].sum()) != size or not full:
        raise Unsupported(
            f"a write in place into parts of {call.shape} that are no rectangle, the same in "
            "some channels; put the parts together with torch.cat, or pad and add them"
        )
    shape = tuple(len(index) for index in inside)
    part = found[mark].view(BATCH, *shape)
    if not isinstance(source, Moved):
        return _Box(inside[0], sides, _fixed(part, torch.ones_like(part, dtype=torch.bool)))
    own = replace(call, name=f"{call.name}.source", shape=shape)
    made = settled(replace(source, places=part, call=own))
    nodes += made
    value = Value(made[-1].name, shape) if made else source.origin
    return _Box(inside[0], sides, value)


def _fixed(constant: Tensor, where: Tensor) -> Tensor:
    """The one number [C] of every channel of a constant [BATCH, C, ...] `where` it counts."""
    own = constant.detach().cpu().double().transpose(0, 1).flatten(1)
    counts = where.transpose(0, 1).flatten(1)
    numbers = own.masked_fill(~counts, -torch.inf).amax(1)
    if not bool(((own == numbers.unsqueeze(1)) | ~counts).all()):
        raise Unsupported(
            "a write in place of, or into, a constant that differs from place to place"
        )
    return numbers.masked_fill(~counts.any(1), 0)


def _joined(call: Call, before: Value | Tensor, box: _Box, nodes: list[Node]) -> Value:
    """`before`, of the shape of the call, with what is in the box."""
    count, *sizes = call.shape
    rest = [channel for channel in range(count) if channel not in box.channels]
    inner: Any = box.value
    if [*map(len, box.sides)] != sizes:
        own = replace(call, name=f"{call.name}.inner", shape=(len(box.channels), *sizes))
        around = _taken(own, before, box.channels, nodes)
        inner = _embedded(own, around, box, nodes)
    if not rest:
        return inner
    parts = [(rest, _taken(replace(call, name=f"{call.name}.rest"), before, rest, nodes))]
    parts.insert(int(rest[0] == 0), (box.channels, inner))
    parts.sort(key=lambda part: part[0][0])
    values = [_as_constant(part, sizes) if isinstance(part, Tensor) else part for _, part in parts]
    own = replace(call, name=f"{call.name}.parts")
    joined = arithmetic.value_of(arithmetic.cat(own, values, 1), nodes, Value("", ()))
    order = torch.tensor([c for index, _ in parts for c in index], dtype=torch.int64).argsort()
    return _added(choices(call, joined, [order.tolist()]), joined, nodes)


def _taken(call: Call, value: Value | Tensor, index: list[int], nodes: list[Node]) -> Any:
    """Some channels of a value, or of a constant [C]."""
    if isinstance(value, Tensor):
        return value[index]
    return _added(choices(replace(call, name=f"{call.name}.kept"), value, [index]), value, nodes)


def _added(made: list[Node], value: Value, nodes: list[Node]) -> Value:
    """What the last of `made` makes, or `value` if there are none."""
    nodes += made
    return Value(made[-1].name, made[-1].shape) if made else value


def _as_constant(numbers: Tensor, sizes: Sequence[int]) -> Tensor:
    return numbers.view(1, -1, *[1] * len(sizes)).expand(BATCH, -1, *sizes)


def _embedded(call: Call, around: Value | Tensor, box: _Box, nodes: list[Node]) -> Value:
    """What is in the box with what is `around` it; one of them may be a constant."""
    rows, columns = box.sides
    height, width = call.shape[1:]
    fixed = next((part for part in (around, box.value) if isinstance(part, Tensor)), None)
    parts = [] if isinstance(box.value, Tensor) else [(box.value, rows, columns)]
    if isinstance(around, Value):
        strips = (
            (range(rows.start), range(width)),
            (range(rows.stop, height), range(width)),
            (rows, range(columns.start)),
            (rows, range(columns.stop, width)),
        )
        for number, (own_rows, own_columns) in enumerate(strips):
            if own_rows and own_columns:
                own = replace(call, name=f"{call.name}.strip{number}")
                made = choices(own, around, [range(around.shape[0]), own_rows, own_columns])
                parts.append((_added(made, around, nodes), own_rows, own_columns))
    addends = []
    for number, (value, own_rows, own_columns) in enumerate(parts):
        if fixed is not None and bool(fixed.any()):
            value = _shifted(replace(call, name=f"{call.name}.less{number}"), value, -fixed, nodes)
        padding = ((0, 0), _beside(own_rows, height), _beside(own_columns, width))
        own = replace(call, name=f"{call.name}.padded{number}")
        addends.append(_added([Pad(**own.base(value), padding=padding)], value, nodes))
    summed = addends[0]
    if len(addends) > 1:
        own = replace(call, name=f"{call.name}.sum")
        summed = _added([Add(**own.base(*addends))], summed, nodes)
    if fixed is None or not bool(fixed.any()):
        return summed
    return _shifted(replace(call, name=f"{call.name}.more"), summed, fixed, nodes)


def _beside(side: range, size: int) -> tuple[int, int]:
    """How many rows or columns lie before and behind."""
    return side.start, size - side.stop


def _shifted(call: Call, value: Value, shift: Tensor, nodes: list[Node]) -> Value:
    """A value with a number added to each channel."""
    one, own = torch.ones((), dtype=torch.float64), replace(call, shape=value.shape)
    return _added([Affine(**own.base(value), scale=one, shift=shift)], value, nodes)
