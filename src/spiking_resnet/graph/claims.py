"""Checks of what a graph claims about exactness, against its own weights.

A run is called exact because every value lies on a grid and no sum leaves its exact range, which
`step_bound` gives. A graph out of a file may claim anything: here both are computed again.
"""

from collections.abc import Mapping

from spiking_resnet.graph import Graph, GraphError, Node
from spiking_resnet.graph.exactness import bounded, bounds_of, largest
from spiking_resnet.graph.nodes import Bounds
from spiking_resnet.graph.nodes.base import Summing


def claimed(graph: Graph) -> Graph:
    """Return `graph` with every `step_bound` at least what its weights imply.

    Raises GraphError where it claims exactness and a value need not lie on the grid of the neurons
    that it reaches.
    """
    if any(node.grid is None for node in graph.integrators):
        return graph  # it claims nothing: every run of it says that it is off the grid
    bounds = bounds_of(graph)
    _check_grids(graph, bounds)
    return bounded(graph, bounds)


def _check_grids(graph: Graph, bounds: Mapping[str, Bounds]) -> None:
    """Raise GraphError unless all that an integrator sums up lies on its grid."""
    grids: dict[str, int | None] = {}  # bits of a grid that all values of a node certainly lie on
    for node in graph.nodes:
        inputs = [grids[name] for name in node.inputs]
        grids[node.name] = node.value_grid(inputs, bounds[node.name])
        if not node.integrates or _never_exact(node, bounds[node.inputs[0]]):
            continue
        bits = getattr(node, "grid", None)
        if bits is None or inputs[0] is None or inputs[0] > bits:
            raise GraphError(
                f"{node.name!r} claims the grid 2^-{bits}, and what it reads from "
                f"{node.inputs[0]!r} need not lie on it"
            )


def _never_exact(node: Node, bound: Bounds) -> bool:
    """Return whether one step alone may leave the exact range, so that every run is watched."""
    if not isinstance(node, Summing):
        return False
    reach = max(largest(bound), node.step_bound)
    return reach * 2.0 ** (node.grid or 0) >= 2.0**node.mantissa
