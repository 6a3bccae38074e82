"""Sums, differences, products and concatenations, with constants of any shape, as nodes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.capture.calls import BATCH, Call, Unsupported, Value, unmoved
from spiking_resnet.capture.reindex import settled
from spiking_resnet.graph import Add, Affine, Concat, Node, Pad


def constant(value: Any, like: Value) -> Tensor:
    """A number, or one for each channel of `like`, as float64 [] or [C].

    Raises Unsupported where it is neither.
    """
    found = (
        value.detach().cpu()
        if isinstance(value, Tensor)
        else torch.tensor(float(value), dtype=torch.float32)
    )
    found = found.double()
    if found.numel() == 1 and found.ndim <= len(like.shape) + 1:
        return found.reshape(())
    channels = alike(found, like.shape)
    if channels is None:
        raise Unsupported(
            f"a constant of shape {tuple(found.shape)} for values {like.shape}; only a number, "
            "or one for each channel [C, 1, 1]"
        )
    return channels


def alike(found: Tensor, shape: Sequence[int]) -> Tensor | None:
    """The one number [C] of every channel of a constant for values of `shape`; None if there are
    several, or it does not fit.
    """
    try:
        whole = found.broadcast_to((BATCH, *shape)).reshape(BATCH, shape[0], -1)
    except RuntimeError:
        return None
    channels = whole[:1, :, :1]
    return channels.flatten() if bool((whole == channels).all()) else None


def spread(call: Call, x: Value, others: Sequence[Any]) -> tuple[list[Node], Value]:
    """`x` repeated along axes of size 1, as broadcasting with `others` does: (its nodes, it)."""
    shapes = [
        (BATCH, *other.shape) if isinstance(other, Value) else tuple(other.shape)
        for other in others
        if isinstance(other, Value | Tensor)
    ]
    whole = torch.broadcast_shapes((BATCH, *x.shape), *shapes)
    if whole == (BATCH, *x.shape):
        return [], x
    own = replace(call, name=f"{call.name}.spread", shape=tuple(whole[1:]))
    before = unmoved(x, own)
    nodes = settled(replace(before, places=before.places.broadcast_to(whole)))
    return nodes, Value(nodes[-1].name, nodes[-1].shape)


def value_of(made: Any, nodes: list[Node], like: Value) -> Value:
    """The value of what a builder made, whose nodes are added to `nodes`."""
    if isinstance(made, str):
        return replace(like, name=made)
    nodes += made if isinstance(made, list) else [made]
    return Value(nodes[-1].name, nodes[-1].shape)


def add(call: Call, x: Any, y: Any, alpha: float = 1) -> Any:
    """x + alpha * y."""
    return _sum(call, x, y, 1.0, float(alpha))


def sub(call: Call, x: Any, y: Any, alpha: float = 1) -> Any:
    """x - alpha * y."""
    return _sum(call, x, y, 1.0, -float(alpha))


def rsub(call: Call, x: Any, y: Any, alpha: float = 1) -> Any:
    """y - alpha * x."""
    return _sum(call, x, y, -float(alpha), 1.0)


def _sum(call: Call, x: Any, y: Any, x_gain: float, y_gain: float) -> Any:
    """x_gain * x + y_gain * y, of which one may be a constant."""
    if not isinstance(x, Value):
        x, y, x_gain, y_gain = y, x, y_gain, x_gain
    nodes, x = spread(call, x, [y])
    if not isinstance(y, Value):
        shift = constant(y, x) * y_gain
        if x_gain == 1 and not bool(shift.any()):
            return nodes or x.name
        shift = shift.expand(x.shape[0]).contiguous()
        scale = torch.tensor(x_gain, dtype=torch.float64)
        return [*nodes, Affine(**call.base(x), scale=scale, shift=shift)]
    more, y = spread(replace(call, name=f"{call.name}.second"), y, [x])
    nodes += more
    addends = []
    for suffix, value, gain in (("first", x, x_gain), ("second", y, y_gain)):
        if gain != 1:
            base = replace(call, name=f"{call.name}.{suffix}").base(value)
            nodes.append(Affine(**base, scale=torch.tensor(gain, dtype=torch.float64)))
            value = Value(nodes[-1].name, value.shape)
        addends.append(value)
    return [*nodes, Add(**call.base(*addends))]


def _scaled(call: Call, x: Value, gain: Any, inverse: bool = False) -> list[Node]:
    nodes, x = spread(call, x, [gain])
    factor = constant(gain, x)
    if inverse and not bool(factor.all()):
        raise Unsupported("a division by 0")
    return [*nodes, Affine(**call.base(x), scale=1 / factor if inverse else factor)]


def mul(call: Call, x: Any, y: Any) -> list[Node]:
    """x * y, of which one is a constant."""
    if isinstance(x, Value) and isinstance(y, Value):
        raise Unsupported("a product of two activations (a gate); use a network without gates")
    return _scaled(call, x, y) if isinstance(x, Value) else _scaled(call, y, x)


def div(call: Call, x: Any, y: Any, rounding_mode: str | None = None) -> list[Node]:
    """x / y for a constant y."""
    if rounding_mode is not None:
        raise Unsupported(
            f"a division rounded by {rounding_mode!r}; steps are no firing rates, leave it out"
        )
    if isinstance(y, Value):
        raise Unsupported("a division by an activation; divide by a fixed number")
    return _scaled(call, x, y, inverse=True)


def neg(call: Call, x: Value) -> list[Node]:
    """-x."""
    return _scaled(call, x, -1.0)


def addcmul(call: Call, x: Any, y: Any, z: Any, value: float = 1) -> Any:
    """x + value * y * z, of which at least one of y and z is a constant."""
    return _with_second(call, x, y, z, float(value), mul)


def addcdiv(call: Call, x: Any, y: Any, z: Any, value: float = 1) -> Any:
    """x + value * y / z for a constant z."""
    return _with_second(call, x, y, z, float(value), div)


def _with_second(call: Call, x: Any, y: Any, z: Any, gain: float, operation: Any) -> Any:
    """x + gain * operation(y, z)."""
    if not isinstance(y, Value) and not isinstance(z, Value):
        return add(call, x, y * z if operation is mul else y / z, gain)
    inner = y if isinstance(y, Value) else z
    nodes: list[Node] = []
    shape = replace(call, name=f"{call.name}.product", shape=inner.shape)
    product = value_of(operation(shape, y, z), nodes, inner)
    return [*nodes, *_listed(add(call, x, product, gain))]


def _listed(made: Any) -> list[Node]:
    return made if isinstance(made, list) else [made]


def cat(call: Call, values: list[Any], dim: int = 0) -> Any:
    """Values one after the other along the channels; constants between them are padding."""
    given = [value for value in values if isinstance(value, Value)]
    rest = given[0].shape[1:]
    values = [v for v in values if isinstance(v, Value) or tuple(v.shape) != (0,)]
    if dim % (len(rest) + 2) != 1:
        raise Unsupported(f"concatenation along axis {dim}; only channels (axis 1) can be")
    fixed = [_fixed_part(value, rest) for value in values]
    if not any(part is not None for part in fixed):
        return Concat(**call.base(*given))
    nodes: list[Node] = []
    parts = [_padded(call, given, n, fixed, values, nodes) for n in range(len(given))]
    shifts = [
        torch.zeros(v.shape[0], dtype=torch.float64) if f is None else f
        for v, f in zip(values, fixed, strict=True)
    ]
    shift = torch.cat([part.double() for part in shifts])
    if len(parts) > 1:
        joined = replace(call, name=f"{call.name}.parts" if shift.any() else call.name)
        nodes.append(Concat(**joined.base(*parts)))
    if not bool(shift.any()):
        return nodes
    source = Value(nodes[-1].name, call.shape)
    return [
        *nodes,
        Affine(**call.base(source), scale=torch.ones((), dtype=torch.float64), shift=shift),
    ]


def stack(call: Call, values: list[Any], dim: int = 0) -> Node:
    """Values one after the other along the channels (what stacks them moves them later)."""
    if not all(isinstance(value, Value) for value in values):
        raise Unsupported("stacking a constant beside activations; concatenate it as a channel")
    shape = (sum(value.shape[0] for value in values), *values[0].shape[1:])
    return Concat(**replace(call, shape=shape).base(*values))


def _fixed_part(value: Any, rest: Sequence[int]) -> Tensor | None:
    """One number for each channel of a constant that is joined with values; None for a value."""
    if isinstance(value, Value):
        return None
    found = alike(value.detach().cpu().double(), (value.shape[1], *rest))
    if found is None or value.ndim != len(rest) + 2:
        raise Unsupported(
            f"joining a constant of shape {tuple(value.shape)}; only one with the same number "
            "all over a channel can be"
        )
    return found


def _padded(
    call: Call,
    given: Sequence[Value],
    number: int,
    fixed: Sequence[Tensor | None],
    values: Sequence[Any],
    nodes: list[Node],
) -> Value:
    """The value `number` with zeros for the constants behind it (for the first: before it too)."""
    value = given[number]
    places = [position for position, part in enumerate(fixed) if part is None]
    start, after = places[number], [*places, len(values)][number + 1]
    behind = sum(values[p].shape[1] for p in range(start + 1, after))
    before = sum(values[p].shape[1] for p in range(start)) if number == 0 else 0
    if not before and not behind:
        return value
    shape = (before + value.shape[0] + behind, *value.shape[1:])
    own = replace(call, name=f"{call.name}.part{number}", shape=shape)
    around = ((before, behind), *[(0, 0)] * (len(shape) - 1))
    nodes.append(Pad(**own.base(value), padding=around))
    return Value(own.name, shape)


BUILDERS: dict[str, Callable[..., Any]] = {
    "add": add,
    "sub": sub,
    "subtract": sub,
    "rsub": rsub,
    "neg": neg,
    "negative": neg,
    **dict.fromkeys(("div", "divide", "true_divide"), div),
    "addcmul": addcmul,
    "addcdiv": addcdiv,
    **dict.fromkeys(("cat", "concat", "concatenate"), cat),
    "stack": stack,
}
