"""Views, transpositions, splits, shuffles, copies: calls that move values about, as nodes.

Such calls are not translated one by one. They are carried out on the numbers of the places that
entries come from, whatever shapes they go through; what other calls then read is recognised by
where its entries are: a Flatten, or a choice of channels, rows and columns (Slice, Select).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spiking_resnet.calls import BATCH, Call, Moved, Unsupported, Value
from spiking_resnet.graph import Concat, Flatten, Node, Select, Slice

MOVES = {  # ATen operations that hand on entries of their first argument, each unchanged
    *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel"),
    *("permute", "transpose", "swapaxes", "movedim", "moveaxis", "t", "numpy_T", "view_as"),
    *("split", "split_with_sizes", "chunk", "tensor_split", "unbind", "unsafe_chunk", "getitem"),
    *("slice", "select", "narrow", "index", "index_select", "unsafe_split", "unfold"),
    *("flip", "fliplr", "flipud", "rot90", "roll", "expand", "expand_as", "repeat", "tile"),
    *("repeat_interleave", "channel_shuffle", "native_channel_shuffle", "pixel_unshuffle"),
    *("pixel_shuffle", "upsample_nearest2d", "_upsample_nearest_exact2d"),
    *("reflection_pad2d", "replication_pad2d"),
}
BORDERS = ("reflect", "replicate", "circular")  # paddings that copy entries
MOST_PARTS = 64  # ways in which channels may choose their rows and columns

AXES = ("channels", "rows", "columns")


def chosen(call: Call, value: Value, axis: int, index: Sequence[int]) -> Node | None:
    """The node that takes the entries `index` of one axis; None where they are all, in order."""
    size = value.shape[axis]
    if list(index) == [*range(size)]:
        return None
    shape = (*value.shape[:axis], len(index), *value.shape[axis + 1 :])
    base = replace(call, shape=shape).base(value)
    step = index[1] - index[0] if len(index) > 1 else 1
    if step > 0 and list(index) == [*range(index[0], index[-1] + 1, step)]:
        return Slice(**base, axis=axis, start=index[0], stop=index[-1] + 1, step=step)
    return Select(**base, axis=axis, index=tuple(index))


def choices(call: Call, value: Value, indices: Sequence[Sequence[int]]) -> list[Node]:
    """The nodes that take entries along one axis after another; empty where nothing changes."""
    nodes: list[Node] = []
    for axis, index in enumerate(indices):
        node = chosen(replace(call, name=f"{call.name}.{AXES[axis]}"), value, axis, index)
        if node is not None:
            nodes.append(node)
            value = Value(node.name, node.shape)
    if nodes:
        nodes[-1] = replace(nodes[-1], name=call.name)
    return nodes


def settled(moved: Moved) -> list[Node]:
    """The nodes that make the moved value, the last one it; empty where it is its origin.

    Raises Unsupported where images are mixed, or entries do not stay maps or features.
    """
    origin, call = moved.origin, moved.call
    places = _of_one_image(moved)
    if places.ndim == 1:
        return _features(call, origin, places)
    if places.ndim != 3 or len(origin.shape) != 3:
        raise Unsupported(
            f"reshaping {origin.shape} to {moved.shape} for what reads it; maps "
            "[channels, height, width] and features can be read, as they are or reordered"
        )
    height, width = origin.shape[1:]
    channels = places // (height * width)
    rows, columns = places // width % height, places % width
    for found, own in ((channels, [0]), (rows, [0, 1]), (columns, [0, 2])):
        others = [axis for axis in range(3) if axis not in own]
        first = found
        for axis in others:
            first = first.narrow(axis, 0, 1)
        if not bool((found == first).all()):
            raise Unsupported(
                f"{call.operation} from {origin.shape} to {moved.shape} moves entries between "
                "channels and places; only whole rows and columns of channels can be moved"
            )
    return _maps(call, origin, channels[:, 0, 0], rows[:, :, 0], columns[:, 0, :])


def _of_one_image(moved: Moved) -> Tensor:
    """The places [...] that one image's entries come from in that image."""
    places, count = moved.places.long(), torch.Size(moved.origin.shape).numel()
    own = len(places) == BATCH and places.numel() > 0
    if own:
        own = bool(
            (places // count)
            .eq(torch.arange(BATCH, dtype=torch.int64).view(-1, *[1] * (places.ndim - 1)))
            .all()
        )
    if not own or not torch.equal(places[1], places[0] + count):
        raise Unsupported(
            f"{moved.call.operation} takes the images of a batch apart, or mixes them; every image "
            "must be treated alike, and keep its place on axis 0"
        )
    return places[0]


def _features(call: Call, origin: Value, places: Tensor) -> list[Node]:
    """A value of one axis: the origin flattened, then reordered."""
    if len(origin.shape) == 1:
        return choices(call, origin, [places.tolist()])
    size = torch.Size(origin.shape).numel()
    flat = Flatten(**replace(call, shape=(size,)).base(origin))
    inner = replace(call, name=f"{call.name}.order")
    order = choices(inner, Value(flat.name, (size,)), [places.tolist()])
    return [flat, *order]


def _maps(call: Call, origin: Value, channels: Tensor, rows: Tensor, columns: Tensor) -> list[Node]:
    """Maps of chosen `channels` [C], each with its `rows` [C, H] and `columns` [C, W]."""
    height = rows.shape[1]
    ways, way = torch.unique(torch.cat([rows, columns], 1), dim=0, return_inverse=True)
    if len(ways) == 1:
        index = [t.tolist() for t in (channels, ways[0, :height], ways[0, height:])]
        return choices(call, origin, index)
    if len(ways) > MOST_PARTS:
        raise Unsupported(
            f"{call.operation} moves channels in {len(ways)} different ways; at most {MOST_PARTS}"
        )
    nodes: list[Node] = []
    parts: list[Value] = []
    order: list[int] = []  # output channels in the order of the parts
    for number, entries in enumerate(ways):
        members = torch.where(way == number)[0]
        order += members.tolist()
        part = replace(call, name=f"{call.name}.part{number}")
        index = [t.tolist() for t in (channels[members], entries[:height], entries[height:])]
        made = choices(part, origin, index)
        nodes += made
        parts.append(Value(made[-1].name, made[-1].shape) if made else origin)
    places = torch.tensor(order, dtype=torch.int64).argsort().tolist()
    shape = (len(order), height, columns.shape[1])
    joined = Concat(**replace(call, name=f"{call.name}.parts", shape=shape).base(*parts))
    reordered = choices(call, Value(joined.name, shape), [places])
    return [*nodes, joined, *reordered]


def whole_maps(moved: Moved, axes: Sequence[int]) -> bool:
    """Whether the entries along `axes` (0: images) are, for each channel in turn, its whole map."""
    shape, dimensions = moved.origin.shape, moved.places.ndim
    reduced = sorted(axis % dimensions for axis in axes)
    kept = [axis for axis in range(dimensions) if axis not in reduced]
    if len(shape) != 3 or 0 in reduced or len(moved.places) != BATCH:
        return False
    if moved.places.numel() != BATCH * torch.Size(shape).numel():
        return False
    table = moved.places.permute(*kept, *reduced).reshape(-1, shape[1] * shape[2])
    return torch.equal(
        table.sort(1).values.flatten(), torch.arange(table.numel(), dtype=torch.float64)
    )
