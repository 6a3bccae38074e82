"""For how long a graph on grids is exact: the bounds of every value, and the room that sums have.

Sums of multiples of 2^-k below 2^24 of them are exact in float32 in whatever order they are added.
What one step may add to a population is bounded by interval arithmetic over the graph's weights;
the number of steps for which no sum can leave the exact range follows.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Output,
    Pad,
    Round,
    Select,
    Slice,
)

MANTISSA = 24  # bits: integers up to 2^24 are exact in float32
WIDE_MANTISSA = 53  # bits of float64: products with pixels, and their sums, are exact below it

Weighted = Conv2d | Linear | Affine
Bounds = tuple[Tensor, Tensor]  # lowest and highest value, [] or [C], float64


def exact_steps(graph: Graph) -> int:
    """For how many steps every sum of a snapped graph is certain to stay exact; 0 off the grid."""
    return min(exact_steps_of(node) for node in graph.integrators)


def exact_steps_of(node: Fire | MaxPool | Output) -> int:
    """For how many steps the sums of one node are certain to stay exact; 0 off the grid."""
    if node.grid is None:
        return 0
    room = 2.0 ** (MANTISSA - node.grid) - potential_offset(node)
    return int(max(min(2.0**31, room / max(node.step_bound, 2.0**-30)), 0))


def potential_offset(node: Fire | MaxPool | Output) -> float:
    """What a potential can hold beside its summed currents."""
    return node.neuron.potential_offset if isinstance(node, Fire) else 0.0


def bounded(graph: Graph, bounds: Mapping[str, Bounds] | None = None) -> Graph:
    """`graph` with no `step_bound` of an integrator on a grid below what its weights say.

    bounds: those of `bounds_of`, where they are known.
    """
    bounds = bounds_of(graph) if bounds is None else bounds

    def raised(node: Node) -> Node:
        if not isinstance(node, Fire | MaxPool | Output) or node.grid is None:
            return node
        if isinstance(node, MaxPool) and node.rule == "instant":
            return node
        needed = largest(bounds[node.inputs[0]])
        return node if node.step_bound >= needed else replace(node, step_bound=needed)

    nodes = tuple(raised(node) for node in graph.nodes)
    changed = any(new is not old for new, old in zip(nodes, graph.nodes, strict=True))
    return graph.with_nodes(nodes) if changed else graph


def largest(bound: Bounds) -> float:
    """The largest magnitude within bounds."""
    return max(float(bound[0].abs().max()), float(bound[1].abs().max()))


def bounds_of(graph: Graph) -> dict[str, Bounds]:
    """Interval arithmetic: the lowest and highest value of every node in one step, per channel."""
    found: dict[str, Bounds] = {}
    for node in graph.nodes:
        found[node.name] = _bound(node, [found[name] for name in node.inputs], graph)
    return found


def _bound(node: Node, inputs: list[Bounds], graph: Graph) -> Bounds:
    zero = torch.zeros((), dtype=torch.float64)
    if isinstance(node, Input):
        size = zero + (node.amplitude if node.encoding == "poisson" else node.limit)
        rounding = 0.0 if node.grid is None else 2.0 ** -(node.grid + 1)
        return -size - rounding, size + rounding
    if isinstance(node, Fire):
        return node.neuron.bounds()
    if isinstance(node, Add):
        return sum((b[0] for b in inputs), zero), sum((b[1] for b in inputs), zero)
    if isinstance(node, Concat):
        sizes = [graph[name].shape[0] for name in node.inputs]
        parts = [[b[end].expand(n) for b, n in zip(inputs, sizes, strict=True)] for end in (0, 1)]
        return torch.cat(parts[0]), torch.cat(parts[1])
    low, high = inputs[0]
    if isinstance(node, Conv2d | Linear):
        return _weighted_bound(node, low, high)
    if isinstance(node, Round):
        return low - 2.0 ** -(node.bits + 1), high + 2.0 ** -(node.bits + 1)
    if isinstance(node, Affine):
        ends = torch.stack([node.scale.double() * low, node.scale.double() * high])
        shift = 0.0 if node.shift is None else node.shift.double()
        return ends.amin(0) + shift, ends.amax(0) + shift
    if isinstance(node, AvgPool):
        share = node.kernel[0] * node.kernel[1] / node.divisor
        return low.clamp(max=0) * share, high.clamp(min=0) * share
    if isinstance(node, Select) and node.axis == 0 and low.ndim and high.ndim:
        return low[list(node.index)], high[list(node.index)]
    if isinstance(node, Slice | Select | Pad | Flatten):
        return low.amin().clamp(max=0), high.amax().clamp(min=0)
    return low, high


def _weighted_bound(node: Conv2d | Linear, low: Tensor, high: Tensor) -> Bounds:
    """The least and the greatest sum of weights times inputs within their bounds, plus bias."""
    weight = node.weight.double()
    groups = node.groups if isinstance(node, Conv2d) else 1
    inner = weight.shape[1] * groups
    low, high = (
        end.expand(inner).view(groups, -1) for end in (low.clamp(max=0), high.clamp(min=0))
    )
    rows = weight.shape[0] // groups
    if groups > 1:
        low, high = low.repeat_interleave(rows, 0), high.repeat_interleave(rows, 0)
    up = weight.clamp(min=0).flatten(2).sum(2) if weight.ndim == 4 else weight.clamp(min=0)
    down = weight.clamp(max=0).flatten(2).sum(2) if weight.ndim == 4 else weight.clamp(max=0)
    bias = 0.0 if node.bias is None else node.bias.double()
    return (up * low + down * high).sum(1) + bias, (up * high + down * low).sum(1) + bias
