"""Rectifiers, clamps, maxima and minima in all their spellings as nodes with ReLUs.

max(x, c) = relu(x - c) + c, min(x, c) = c - relu(c - x), |x| = relu(x) + relu(-x): what is
continuous and piecewise linear needs no other neuron than that of the ReLU. What jumps (a step, a
comparison used as a number) is refused.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.capture.arithmetic import alike, constant, mul, spread
from spiking_resnet.capture.calls import Call, Mask, Unsupported, Value
from spiking_resnet.capture.linear import weight_of
from spiking_resnet.graph import Add, Affine, Node, ReLU


class _Chain:
    """Nodes under names of their own behind a call's, one reading another."""

    def __init__(self, call: Call) -> None:
        self.call, self.nodes = call, list[Node]()

    def _put(self, node: Node) -> Value:
        self.nodes.append(node)
        return Value(node.name, node.shape)

    def _base(self, suffix: str, *sources: Value) -> dict[str, Any]:
        name = f"{self.call.name}.{suffix}" if suffix else self.call.name
        return replace(self.call, name=name, shape=sources[0].shape).base(*sources)

    def spread(self, suffix: str, x: Value, *others: Any) -> Value:
        """x repeated as broadcasting with others does."""
        nodes, x = spread(replace(self.call, name=f"{self.call.name}.{suffix}"), x, others)
        self.nodes += nodes
        return x

    def affine(self, suffix: str, x: Value, scale: Any, shift: Any = None) -> Value:
        """scale * x + shift."""
        scale = torch.as_tensor(scale, dtype=torch.float64)
        if shift is not None:
            shift = torch.as_tensor(shift, dtype=torch.float64).expand(x.shape[0]).contiguous()
        return self._put(Affine(**self._base(suffix, x), scale=scale, shift=shift))

    def relu(self, suffix: str, x: Value, ceiling: float | None = None) -> Value:
        """min(max(x, 0), ceiling)."""
        return self._put(ReLU(**self._base(suffix, x), ceiling=ceiling))

    def add(self, suffix: str, x: Value, y: Value) -> Value:
        """x + y."""
        return self._put(Add(**self._base(suffix, x, y)))


def relu(call: Call, x: Value) -> Node:
    """max(x, 0)."""
    return ReLU(**call.base(x))


def clamp(call: Call, x: Value, low: Any = None, high: Any = None, **rest: Any) -> Any:
    """x between two fixed bounds, numbers or one for each channel, of which one may be missing."""
    low, high = rest.get("min", low), rest.get("max", high)
    if isinstance(low, Value | Mask) or isinstance(high, Value | Mask):
        raise Unsupported("a bound that depends on the image; clamp to fixed numbers")
    if low is None:
        return x.name if high is None else minimum(call, x, high)
    low = constant(low, x)
    if high is None and (low.ndim or low > 0):
        return maximum(call, x, low)
    if high is None:
        ceiling = None
    else:
        high = constant(high, x)
        if low.ndim or high.ndim or low > 0 or high <= 0 or low >= high:
            return _stretched(call, x, low, high)
        ceiling = float(high)
    if low < 0:
        return signed(call, x, torch.ones((), dtype=torch.float32), ceiling, -float(low))
    return ReLU(**call.base(x), ceiling=ceiling)


def clamp_max(call: Call, x: Value, high: Any = None, **rest: Any) -> Any:
    """min(x, high)."""
    return clamp(call, x, None, rest.get("max", high))


def _stretched(call: Call, x: Value, low: Tensor, high: Tensor) -> list[Node]:
    """low + w * min(relu((x - low) / w), 1) for bounds a distance w apart; high where w <= 0."""
    chain = _Chain(call)
    width = high - low
    if width.ndim == 0 and width > 0:  # its scale need not change
        moved = chain.affine("shifted", x, 1.0, -low)
        chain.affine("", chain.relu("clipped", moved, float(width)), 1.0, low)
        return chain.nodes
    inner = torch.where(width > 0, width, 1.0)
    unit = chain.affine("shifted", x, 1 / inner, -low / inner)
    clipped = chain.relu("clipped", unit, 1.0)
    chain.affine("", clipped, width.clamp(min=0), torch.where(width > 0, low, high))
    return chain.nodes


def hardtanh(call: Call, x: Value, low: float = -1.0, high: float = 1.0) -> Any:
    """x between two numbers."""
    return clamp(call, x, low, high)


def threshold(call: Call, x: Value, at: float, value: float) -> Any:
    """x above `at`, `value` below it, where that does not jump."""
    if at != value:
        raise Unsupported(
            f"a threshold at {at} with {value} below it jumps; only one with {at} below it can be"
        )
    return maximum(call, x, at)


def qcfs(call: Call, x: Value, threshold: Any, levels: int) -> Node:
    """The quantised activation of QCFS."""
    threshold = weight_of(threshold)
    if threshold.numel() != 1:
        raise Unsupported(
            f"thresholds of shape {tuple(threshold.shape)}; give it one threshold for its layer"
        )
    return ReLU(**call.base(x), ceiling=float(threshold), levels=levels)


def signed(
    call: Call, x: Value, slope: Tensor, ceiling: float | None = None, floor: float | None = None
) -> list[Node]:
    """min(relu(x), ceiling) - slope * min(relu(-x), floor): the negative part has neurons too.

    A leaky ReLU is one population for each sign; what reads it is inhibited by the second.
    """
    chain = _Chain(call)
    positive = chain.relu("positive", x, ceiling)
    negative = chain.relu("negative", chain.affine("turned", x, -1.0), floor)
    chain.add("", positive, chain.affine("slope", negative, -slope.double()))
    return chain.nodes


def leaky_relu(call: Call, x: Value, slope: float = 0.01) -> Any:
    """x above 0, slope * x below it."""
    return signed(call, x, torch.tensor(float(slope), dtype=torch.float32))


def prelu(call: Call, x: Value, slope: Any) -> Any:
    """x above 0, slope * x below it, with learned slopes."""
    slope = weight_of(slope).flatten()
    return signed(call, x, slope.reshape(()) if slope.numel() == 1 else slope)


def absolute(call: Call, x: Value) -> Any:
    """|x|."""
    return signed(call, x, torch.tensor(-1.0, dtype=torch.float32))


def maximum(call: Call, x: Any, y: Any) -> Any:
    """The larger of two values, of which one may be a constant."""
    return _larger(call, x, y, 1.0)


def minimum(call: Call, x: Any, y: Any) -> Any:
    """The smaller of two values, of which one may be a constant."""
    return _larger(call, x, y, -1.0)


def _larger(call: Call, x: Any, y: Any, sign: float) -> Any:
    """sign * max(sign * x, sign * y)."""
    chain = _Chain(call)
    x, y = (x, y) if isinstance(x, Value) else (y, x)
    x = chain.spread("spread", x, y)
    if isinstance(y, Value):
        y = chain.spread("other", y, x)
        turned = chain.affine("turned", y if sign > 0 else x, -1.0)
        excess = chain.relu("excess", chain.add("ahead", x if sign > 0 else y, turned))
        chain.add("", y, excess if sign > 0 else chain.affine("less", excess, -1.0))
        return chain.nodes
    bound = constant(y, x)
    if sign > 0 and not bool(bound.any()):
        return [*chain.nodes, relu(call, x)]
    excess = chain.relu("excess", chain.affine("ahead", x, sign, -sign * bound))
    chain.affine("", excess, sign, bound)
    return chain.nodes


def larger(call: Call, x: Any, y: Any = None, *rest: Any, **options: Any) -> Any:
    """torch.max of two values (`maximum`)."""
    return _of_two(call, maximum, x, y, rest or options)


def smaller(call: Call, x: Any, y: Any = None, *rest: Any, **options: Any) -> Any:
    """torch.min of two values (`minimum`)."""
    return _of_two(call, minimum, x, y, rest or options)


def _of_two(call: Call, builder: Any, x: Any, y: Any, more: Any) -> Any:
    if more or not isinstance(y, Value | Tensor):
        raise Unsupported(
            f"{call.operation} over an axis; use amax over height and width, or a max pool"
        )
    return builder(call, x, y)


def above(call: Call, x: Any, y: Any) -> Mask:
    """x > y."""
    return Mask(x, y, True) if isinstance(x, Value) else Mask(y, x, False)


def below(call: Call, x: Any, y: Any) -> Mask:
    """x < y."""
    return Mask(x, y, False) if isinstance(x, Value) else Mask(y, x, True)


def opposite(call: Call, mask: Mask) -> Mask:
    """Where a comparison does not hold."""
    return replace(mask, above=not mask.above)


def where(call: Call, mask: Any, x: Any, y: Any) -> Any:
    """x where a comparison holds, y elsewhere, where that does not jump: a maximum or a minimum."""
    if not isinstance(mask, Mask):
        raise Unsupported("a choice by fixed places; multiply by a fixed mask for each channel")
    if not mask.above:
        x, y = y, x
    if _same(x, mask.value, mask.value) and _same(y, mask.bound, mask.value):
        return maximum(call, mask.value, mask.bound)
    if _same(y, mask.value, mask.value) and _same(x, mask.bound, mask.value):
        return minimum(call, mask.value, mask.bound)
    raise Unsupported(
        "a choice between values that jumps, or is no maximum or minimum; write it as relu, clamp, "
        "leaky_relu, maximum or minimum"
    )


def _same(one: Any, other: Any, like: Value) -> bool:
    """Whether two values, or constants beside values like `like`, are the same."""
    if isinstance(one, Value) or isinstance(other, Value):
        return isinstance(one, Value) and isinstance(other, Value) and one.name == other.name
    whole = [
        alike(torch.as_tensor(each, dtype=torch.float64).cpu(), like.shape) for each in (one, other)
    ]
    first, second = whole
    return first is not None and second is not None and torch.equal(first, second)


def product(call: Call, x: Any, y: Any) -> Any:
    """x * y, of which one is a constant, or x > c with x * (x > c) continuous."""
    mask, other = (x, y) if isinstance(x, Mask) else (y, x)
    if isinstance(mask, Mask):
        return where(call, mask, other, 0.0)
    return mul(call, x, y)


def masked_fill(call: Call, x: Any, mask: Any, value: Any) -> Any:
    """`value` where a comparison holds, x elsewhere."""
    return where(call, mask, value, x)


COMPARISONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("gt", "ge", "greater", "greater_equal"), above),
    **dict.fromkeys(("lt", "le", "less", "less_equal"), below),
}

NEGATIONS = dict.fromkeys(("logical_not", "bitwise_not"), opposite)

BUILDERS: dict[str, Callable[..., Any]] = {
    "relu": relu,
    "relu6": lambda call, x: clamp(call, x, 0, 6),
    "leaky_relu": leaky_relu,
    **dict.fromkeys(("prelu", "_prelu_kernel"), prelu),
    "threshold": threshold,
    "hardtanh": hardtanh,
    "qcfs": qcfs,  # spiking_resnet.ann.activation
    **dict.fromkeys(("clamp", "clip", "clamp_min"), clamp),
    "clamp_max": clamp_max,
    **dict.fromkeys(("abs", "absolute"), absolute),
    **dict.fromkeys(("maximum", "fmax"), maximum),
    **dict.fromkeys(("minimum", "fmin"), minimum),
    "max": larger,
    "min": smaller,
    "where": where,
    "masked_fill": masked_fill,
    **dict.fromkeys(("mul", "multiply"), product),
    **COMPARISONS,
    **NEGATIONS,
}

OF_MASKS = (*NEGATIONS, "where", "masked_fill", "mul", "multiply")  # what may read a comparison
