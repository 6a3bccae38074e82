"""Bounds of every value of a graph, and for how many steps its sums are exact.

Sums of multiples of 2^-k below 2^24 of them are exact in float32 in whatever order they are added,
and below 2^53 in float64.
What one step may add to a population is bounded by interval arithmetic over the graph's weights;
the number of steps for which no sum can leave the exact range follows.
"""

from collections.abc import Mapping
from dataclasses import replace
from weakref import WeakKeyDictionary

from spiking_resnet.graph import Graph, Node
from spiking_resnet.graph.nodes import Bounds
from spiking_resnet.graph.nodes.base import Summing
from spiking_resnet.graph.structure import shapes_read

LONGEST = 2**31  # time steps: for ever

_certain: WeakKeyDictionary[Graph, int] = WeakKeyDictionary()  # `exact_steps`, which every run asks


def exact_steps(graph: Graph) -> int:
    """Return for how many steps every sum of a snapped graph is surely exact; 0 off the grid."""
    if graph not in _certain:
        certain = min(exact_steps_of(node) for node in graph.integrators)
        arriving = graph.arriving_steps
        _certain[graph] = certain if arriving is None or certain < arriving else LONGEST
    return _certain[graph]


def exact_steps_of(node: Summing) -> int:
    """Return for how many steps the sums of one node are surely exact; 0 off the grid."""
    if node.grid is None:
        return 0
    room = 2.0 ** (node.mantissa - node.grid) - node.potential_offset
    return int(max(min(LONGEST, room / max(node.step_bound, 2.0**-30)), 0))


def bounded(graph: Graph, bounds: Mapping[str, Bounds] | None = None) -> Graph:
    """Return `graph` with every integrator's `step_bound` at least what its weights imply.

    bounds: those of `bounds_of`, where they are known.
    """
    bounds = bounds_of(graph) if bounds is None else bounds

    def raised(node: Node) -> Node:
        if not isinstance(node, Summing) or not node.integrates:
            return node
        if node.grid is None:
            return node
        needed = largest(bounds[node.inputs[0]])
        return node if node.step_bound >= needed else replace(node, step_bound=needed)  # type: ignore[call-arg]

    nodes = tuple(raised(node) for node in graph.nodes)
    changed = any(new is not old for new, old in zip(nodes, graph.nodes, strict=True))
    return graph.with_nodes(nodes) if changed else graph


def largest(bound: Bounds) -> float:
    """Return the largest magnitude within bounds."""
    return max(float(bound[0].abs().max()), float(bound[1].abs().max()))


def bounds_of(graph: Graph) -> dict[str, Bounds]:
    """Return every node's lowest and highest value in one step, per channel."""
    found: dict[str, Bounds] = {}
    for node in graph.nodes:
        inputs = [found[name] for name in node.inputs]
        found[node.name] = node.bounds(inputs, shapes_read(graph, node))
    return found
