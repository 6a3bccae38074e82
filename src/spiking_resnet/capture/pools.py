"""Pools and means over height and width as nodes of a graph, whatever their windows."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from spiking_resnet.capture.calls import Call, Moved, Unsupported, Value, flat, pair, unmoved
from spiking_resnet.capture.reindex import Windows, choices, settled, whole_maps, windows_of
from spiking_resnet.capture.windows import adaptive, regular, sliding
from spiking_resnet.graph import Affine, AvgPool, Conv2d, Linear, MaxPool, Node, Pad, Pair


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


def max_pool1d(
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Node:
    """A max pool over length: one over maps of height 1."""
    window = (flat(kernel, 1), flat(stride or kernel, 1), flat(padding, 0), flat(dilation, 1))
    return max_pool2d(call, x, *window, ceil_mode)


def avg_pool1d(
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """An average pool over length: one over maps of height 1."""
    window = (flat(kernel, 1), flat(stride or kernel, 1), flat(padding, 0))
    return avg_pool2d(call, x, *window, ceil_mode, count_include_pad)


def _axes(dim: Any, dimensions: int) -> list[int]:
    """The axes (0: images) that a reduction names; all where it names none."""
    named = [dim] if isinstance(dim, int) else list(dim or range(dimensions))
    return sorted({axis % dimensions for axis in named})


def mean(call: Call, x: Value | Moved, dim: Any = (), keepdim: bool = False, **rest: Any) -> Any:
    """The mean over some axes, with the reduced ones kept where they are of a map."""
    return _reduced(call, x, dim, _mean)


def total(call: Call, x: Value | Moved, dim: Any = (), keepdim: bool = False, **rest: Any) -> Any:
    """The sum over some axes."""
    return _reduced(call, x, dim, _total)


def amax(call: Call, x: Value | Moved, dim: Any = (), keepdim: bool = False) -> Any:
    """The maximum over some axes."""
    return _reduced(call, x, dim, _most)


def _mean(call: Call, x: Value, kernel: Pair) -> Node:
    return _average(call, x, kernel, kernel, (0, 0), float(kernel[0] * kernel[1]))


def _total(call: Call, x: Value, kernel: Pair) -> Node:
    return _average(call, x, kernel, kernel, (0, 0), 1.0)


def _most(call: Call, x: Value, kernel: Pair) -> Node:
    return MaxPool(**call.base(x), kernel=kernel, stride=kernel)


def _reduced(call: Call, x: Value | Moved, dim: Any, pool: Callable[..., Node]) -> Any:
    """What a reduction makes: `pool` over windows of the map, channels joined by a 1x1 layer."""
    axes = _axes(dim, len(x.shape) + 1)
    if isinstance(x, Moved) and whole_maps(x, axes):
        x, axes = x.origin, [2, 3]
    if isinstance(x, Value) and len(x.shape) == 3 and set(axes) <= {2, 3}:
        kernel = (x.shape[1] if 2 in axes else 1, x.shape[2] if 3 in axes else 1)
        shape = (x.shape[0], x.shape[1] // kernel[0], x.shape[2] // kernel[1])
        return pool(replace(call, shape=shape), x, kernel)
    moved = unmoved(x, call) if isinstance(x, Value) else x
    if isinstance(x, Moved) and moved.places.ndim == 4 and set(axes) <= {2, 3}:
        try:
            nodes = settled(moved)
        except Unsupported as reason:
            return _over_windows(call, moved, axes, pool, reason)
        value = Value(nodes[-1].name, nodes[-1].shape) if nodes else moved.origin
        return [*nodes, _reduced(call, value, axes, pool)]
    return _over_windows(call, moved, axes, pool)


def _over_windows(
    call: Call,
    moved: Moved,
    axes: list[int],
    pool: Callable[..., Node],
    otherwise: Unsupported | None = None,
) -> Any:
    """A reduction of what is no map as it is; where it cannot be, the reason `otherwise` if any."""
    try:
        windows = windows_of(call, moved, axes)
    except Unsupported as reason:
        raise otherwise or reason from None
    if windows.places.ndim == 2:
        if pool is _most:
            raise Unsupported("a maximum over features; use a max pool over height and width")
        return _of_features(call, windows, divisor=windows.size if pool is _mean else 1)
    channels, kernel = windows.channels, windows.kernel
    if channels > 1 and pool is _most:
        raise Unsupported("a maximum over channels; use torch.maximum of two halves of them")
    own = replace(call, name=f"{call.name}.windows")
    nodes = settled(replace(moved, places=windows.arranged(), call=own))
    value = Value(nodes[-1].name, nodes[-1].shape) if nodes else moved.origin
    shape = (value.shape[0], value.shape[1] // kernel[0], value.shape[2] // kernel[1])
    if kernel != (1, 1):
        name = f"{call.name}.pool" if channels > 1 else call.name
        nodes.append(pool(replace(call, name=name, shape=shape), value, kernel))
        value = Value(name, shape)
    if channels > 1:
        groups = shape[0] // channels
        share = 1 / channels if pool is _mean else 1.0
        weight = torch.full((groups, channels, 1, 1), share, dtype=torch.float32)
        joined = replace(call, shape=(groups, *shape[1:])).base(value)
        nodes.append(Conv2d(**joined, weight=weight, bias=None, groups=groups))
    return nodes or moved.origin.name


def _of_features(call: Call, windows: Windows, divisor: int) -> Node:
    """Sums over groups of features as a fully connected layer of fixed weights."""
    origin = windows.origin
    weight = torch.zeros(len(windows.places), origin.shape[0], dtype=torch.float32)
    weight.scatter_add_(1, windows.places, torch.full_like(weight[:, : windows.size], 1 / divisor))
    own = replace(call, shape=(len(weight),))
    return Linear(**own.base(origin), weight=weight, bias=None)


REDUCTIONS = ("mean", "sum", "amax")

BUILDERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), max_pool2d),
    "avg_pool2d": avg_pool2d,
    **dict.fromkeys(("max_pool1d", "max_pool1d_with_indices"), max_pool1d),
    "avg_pool1d": avg_pool1d,
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), adaptive_avg_pool2d),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), adaptive_max_pool2d),
    "mean": mean,
    "sum": total,
    "amax": amax,
}
