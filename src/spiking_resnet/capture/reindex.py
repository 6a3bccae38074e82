"""Views, transpositions, splits, shuffles, copies: calls that move values about, as nodes.

Such calls are not translated one by one. They are carried out on the numbers of the places that
entries come from, whatever shapes they go through; what other calls then read is recognised by
where its entries are: a Flatten, or a choice of channels, rows and columns (Slice, Select).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spiking_resnet.capture.calls import BATCH, Call, Moved, Unsupported, Value
from spiking_resnet.graph import Concat, Flatten, Node, Select, Slice

MOVES = {  # ATen operations that hand on entries of their first argument, each unchanged
    *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel"),
    *("permute", "transpose", "swapaxes", "movedim", "moveaxis", "t", "numpy_T", "view_as"),
    *("split", "split_with_sizes", "chunk", "tensor_split", "unbind", "unsafe_chunk", "getitem"),
    *("slice", "select", "narrow", "index", "index_select", "unsafe_split", "unfold"),
    *("flip", "fliplr", "flipud", "rot90", "roll", "expand", "expand_as", "repeat", "tile"),
    *("repeat_interleave", "channel_shuffle", "native_channel_shuffle", "pixel_unshuffle"),
    *("pixel_shuffle", "upsample_nearest2d", "_upsample_nearest_exact2d"),
    *("upsample_nearest1d", "_upsample_nearest_exact1d"),
    *("reflection_pad2d", "replication_pad2d", "reflection_pad1d", "replication_pad1d"),
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
    if places.ndim == 2 and len(origin.shape) == 3:
        plane, width = origin.shape[1] * origin.shape[2], origin.shape[2]
        places = _laid_out(places.unsqueeze(-1), plane, width).squeeze(-1)
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


def lacking(whole: Sequence[int], shape: Sequence[int]) -> int | None:
    """The axis of size 1 that `shape` lacks of the maps `whole`; None if it is another shape."""
    for axis in (1, 2, 0):
        if len(whole) == 3 and whole[axis] == 1 and [*whole[:axis], *whole[axis + 1 :]] == [*shape]:
            return axis
    return None


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
    if torch.Size([moved.places.shape[axis] for axis in reduced]).numel() != shape[1] * shape[2]:
        return False
    table = moved.places.permute(*kept, *reduced).reshape(-1, shape[1] * shape[2])
    places = torch.arange(table.numel(), dtype=torch.float64)
    return torch.equal(table.sort(1).values.flatten(), places)


@dataclass(frozen=True, eq=False)
class Windows:
    """The entries of one image that a reduction puts together.

    places: int64 [features, entries] of an origin of features, or [channels, rows, columns,
    entries] of maps, ordered by channel, row and column. channels, kernel: of a window of maps.
    """

    origin: Value
    places: Tensor
    channels: int = 1
    kernel: tuple[int, int] = (1, 1)

    @property
    def size(self) -> int:
        """The number of entries of a window."""
        return self.places.shape[-1]

    def arranged(self) -> Tensor:
        """Places [BATCH, ...] of maps in which the windows lie side by side, channel by channel."""
        own, (height, width) = self.places, self.kernel
        whole = own.view(*own.shape[:3], self.channels, height, width).permute(0, 3, 1, 4, 2, 5)
        maps = whole.reshape(
            own.shape[0] * self.channels, own.shape[1] * height, own.shape[2] * width
        ).double()
        count = torch.Size(self.origin.shape).numel()
        return torch.stack([maps + number * count for number in range(BATCH)])


def windows_of(call: Call, moved: Moved, axes: Sequence[int]) -> Windows:
    """What a reduction over `axes` (0: images) of a moved value puts together.

    Raises Unsupported where images are mixed, or what is left are not maps or features.
    """
    kept = [axis for axis in range(moved.places.ndim) if axis not in axes]
    table = moved.places.permute(*kept, *axes).flatten(len(kept)).sort(-1).values
    if not kept:
        raise Unsupported(f"{call.operation} over everything, images included; name the axes")
    places = _of_one_image(replace(moved, places=table))
    places = places.unsqueeze(0) if places.ndim == 1 else places
    if len(moved.origin.shape) == 1 and places.ndim == 2:
        return Windows(moved.origin, places)
    if len(moved.origin.shape) != 3 or not 2 <= places.ndim <= 4:
        raise Unsupported(
            f"{call.operation} over axes {list(axes)} of {moved.shape}; what is left must be maps "
            "[channels, height, width] or features"
        )
    plane, width = torch.Size(moved.origin.shape[1:]).numel(), moved.origin.shape[2]
    window = places.flatten(0, -2)[0]
    channels = len(torch.unique(window // plane))
    rows = len(torch.unique(window % plane // width))
    columns = len(torch.unique(window % width))
    if channels * rows * columns != len(window):
        raise Unsupported(f"{call.operation} over parts of a map that are no rectangles")
    laid = _laid_out(places, plane, width)
    return Windows(moved.origin, laid, channels, (rows, columns))


def _laid_out(places: Tensor, plane: int, width: int) -> Tensor:
    """Windows [channels, rows, columns, entries] from windows along some of these axes."""
    found = places[..., 0]
    along = []  # what changes along each axis: 0 channels, 1 rows, 2 columns; None: nothing
    for axis in range(found.ndim):
        first = found.narrow(axis, 0, 1)
        changes = (
            found // plane != first // plane,
            found % plane // width != first % plane // width,
        )
        kinds = [bool(each.any()) for each in (*changes, found % width != first % width)]
        along.append(kinds.index(True) if any(kinds) else None)
    while places.ndim < 4:
        missing = 0 if along[:1] and along[0] in (1, 2) else 1 if along[-1:] == [2] else 2
        missing = min(missing, len(along))
        places = places.unsqueeze(missing)
        along.insert(missing, None)
    return places
