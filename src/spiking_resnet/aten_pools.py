"""Pools and means over height and width as nodes of a graph, whatever their windows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from spiking_resnet.calls import Call, Unsupported, Value, pair
from spiking_resnet.graph import Affine, AvgPool, MaxPool, Node, Pad, Pair
from spiking_resnet.moves import choices
from spiking_resnet.windows import adaptive, regular, sliding


def max_pool2d(
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Node:
    """A max pool."""
    return MaxPool(
        **call.base(x),
        kernel=pair(kernel),
        stride=pair(stride or kernel),
        padding=pair(padding),
        dilation=pair(dilation),
        ceil_mode=ceil_mode,
    )


def avg_pool2d(
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: float | None = None,
) -> Any:
    """An average pool, behind what makes its windows equal where they are not.

    A negative divisor is a positive one and a gain of -1: what a pool makes of spikes stays spikes.
    """
    if divisor is not None and divisor < 0:
        own = replace(call, name=f"{call.name}.pool")
        made = avg_pool2d(own, x, kernel, stride, padding, ceil_mode, count_include_pad, -divisor)
        nodes = made if isinstance(made, list) else [made]
        pooled = Value(nodes[-1].name, nodes[-1].shape)
        return [*nodes, Affine(**call.base(pooled), scale=torch.tensor(-1.0, dtype=torch.float32))]
    size, border, step = pair(kernel), pair(padding), pair(stride or kernel)
    sizes, counts = x.shape[1:], call.shape[1:]
    beyond = [
        max(0, (counts[i] - 1) * step[i] + size[i] - sizes[i] - 2 * border[i]) for i in (0, 1)
    ]
    counted = count_include_pad or border == (0, 0)
    if counted and not any(beyond):
        return _average(call, x, size, step, border, float(divisor or size[0] * size[1]))
    before: list[Node] = []
    if (counted and any(border)) or divisor:  # zeros that count, or that no divisor minds
        more = beyond if divisor else (0, 0)
        pairs = ((0, 0), *((border[i], border[i] + more[i]) for i in (0, 1)))
        shape = (x.shape[0], *(size + sum(p) for size, p in zip(sizes, pairs[1:], strict=True)))
        pad = replace(call, name=f"{call.name}.pad", shape=shape)
        before.append(Pad(**pad.base(x), padding=pairs))
        x, sizes, border = Value(pad.name, shape), shape[1:], (0, 0)
        if divisor:
            return [*before, _average(call, x, size, step, border, float(divisor))]
    windows = [sliding(sizes[i], counts[i], size[i], step[i], border[i]) for i in (0, 1)]
    return [*before, *_pooled(call, x, windows)] or x.name


def _pooled(call: Call, x: Value, windows: Sequence[Sequence[range]]) -> list[Node]:
    """The means over windows of rows and columns, whatever their sizes."""
    rows, columns = (regular(windows[axis], x.shape[axis + 1]) for axis in (0, 1))
    own = replace(call, name=f"{call.name}.windows")
    nodes = choices(own, x, [range(x.shape[0]), rows.index, columns.index])
    kernel, stride = (rows.kernel, columns.kernel), (rows.stride, columns.stride)
    if kernel == stride == (1, 1):
        return nodes
    source = Value(nodes[-1].name, nodes[-1].shape) if nodes else x
    return [*nodes, _average(call, source, kernel, stride, (0, 0), float(kernel[0] * kernel[1]))]


def _average(
    call: Call, x: Value, kernel: Pair, stride: Pair, padding: Pair, divisor: float
) -> Node:
    return AvgPool(**call.base(x), kernel=kernel, stride=stride, padding=padding, divisor=divisor)


def adaptive_avg_pool2d(call: Call, x: Value, size: Any) -> Any:
    """The means over windows that cover the map, of unequal sizes or repeated as need be."""
    windows = [adaptive(x.shape[axis], call.shape[axis]) for axis in (1, 2)]
    return _pooled(call, x, windows) or x.name


def adaptive_max_pool2d(call: Call, x: Value, size: Any) -> Any:
    """The maxima over windows that divide the map evenly."""
    wanted = call.shape[1:]
    if any(have % want for have, want in zip(x.shape[1:], wanted, strict=True)):
        raise Unsupported(
            f"adaptive max pooling from {x.shape[1:]} to {wanted} has windows of unequal size; "
            "choose an image size that divides evenly"
        )
    kernel = (x.shape[1] // wanted[0], x.shape[2] // wanted[1])
    return MaxPool(**call.base(x), kernel=kernel, stride=kernel)


def _whole(call: Call, x: Value, dim: Any) -> tuple[Call, Pair]:
    """(the call with the axes it reduces kept as 1, the window) of a reduction over image axes."""
    axes = {axis % (len(x.shape) + 1) for axis in ([dim] if isinstance(dim, int) else dim or [])}
    if len(x.shape) != 3 or not axes or not axes <= {2, 3}:
        raise Unsupported(
            f"{call.operation} over axes {dim} of {x.shape}; only that over height and width can be"
        )
    kernel = (x.shape[1] if 2 in axes else 1, x.shape[2] if 3 in axes else 1)
    shape = (x.shape[0], x.shape[1] // kernel[0], x.shape[2] // kernel[1])
    return replace(call, shape=shape), kernel


def mean(call: Call, x: Value, dim: Any = (), keepdim: bool = False, **rest: Any) -> Node:
    """The mean over height, width or both, with the reduced axes kept."""
    own, kernel = _whole(call, x, dim)
    return _average(own, x, kernel, kernel, (0, 0), float(kernel[0] * kernel[1]))


def amax(call: Call, x: Value, dim: Any = (), keepdim: bool = False) -> Node:
    """The maximum over height, width or both, with the reduced axes kept."""
    own, kernel = _whole(call, x, dim)
    return MaxPool(**own.base(x), kernel=kernel, stride=kernel)
