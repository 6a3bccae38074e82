"""What a graph on grids claims about exactness, held against its own weights.

A run is called exact because every value lies on a grid and no sum leaves its exact range, which
`step_bound` tells. A graph out of a file may tell anything: here both are computed again.
"""

from collections.abc import Mapping
from math import ceil, frexp, log2

import torch
from torch import Tensor

from spiking_resnet.graph import (
    Add,
    AvgPool,
    Concat,
    Fire,
    Graph,
    GraphError,
    Input,
    Node,
    Output,
    ReLU,
    Round,
    tensors,
)
from spiking_resnet.graph.exactness import (
    MANTISSA,
    WIDE_MANTISSA,
    Bounds,
    Weighted,
    bounded,
    bounds_of,
    largest,
)
from spiking_resnet.graph.structure import PASSING

SLACK = 1.01  # rounding to the grid moves bounds a little beyond those that the grid was chosen by


def claimed(graph: Graph) -> Graph:
    """`graph` with no `step_bound` below what its weights say.

    Raises GraphError where it claims exactness and a value need not lie on the grid of the neurons
    that it reaches.
    """
    if any(node.grid is None for node in graph.integrators):
        return graph  # it claims nothing: every run of it says that it is off the grid
    bounds = bounds_of(graph)
    _check_grids(graph, bounds)
    return bounded(graph, bounds)


def _check_grids(graph: Graph, bounds: Mapping[str, Bounds]) -> None:
    """Raises GraphError unless all that an integrator sums up lies on its grid."""
    grids: dict[str, int | None] = {}  # bits of a grid that all values of a node certainly lie on
    summing = set(graph.integrators)
    for node in graph.nodes:
        inputs = [grids[name] for name in node.inputs]
        grids[node.name] = _grid(node, inputs, bounds)
        if isinstance(node, Fire) and not node.neuron.grid_possible:
            kind = type(node.neuron).__name__
            raise GraphError(f"{node.name!r}: {kind} neurons have no grid; this population has one")
        if node not in summing or _never_exact(node, bounds[node.inputs[0]]):
            continue
        bits = getattr(node, "grid", None)
        if bits is None or inputs[0] is None or inputs[0] > bits:
            raise GraphError(
                f"{node.name!r} claims the grid 2^-{bits}, and what it reads from "
                f"{node.inputs[0]!r} need not lie on it"
            )


def _never_exact(node: Node, bound: Bounds) -> bool:
    """Whether one step alone may leave the exact range, so that every run is watched."""
    reach = max(largest(bound), float(getattr(node, "step_bound", 0.0)))
    return reach * 2.0 ** (getattr(node, "grid", None) or 0) >= 2.0**MANTISSA


def _grid(node: Node, inputs: list[int | None], bounds: Mapping[str, Bounds]) -> int | None:
    """The bits of a grid that a node's values lie on, exactly computed; None if there is none."""
    if isinstance(node, Input):
        return {"constant": node.grid, "poisson": _bits(node.amplitude), "once": None}[
            node.encoding
        ]
    if isinstance(node, Fire):
        return _bits(node.neuron.amplitude)
    if isinstance(node, Round):
        return node.bits
    known = [grid for grid in inputs if grid is not None]
    if len(known) < len(inputs):
        return None
    if isinstance(node, Weighted):
        return _products(node, known[0], bounds[node.name])
    if isinstance(node, AvgPool):
        share, power = frexp(abs(node.divisor))
        return max(known[0] + power - 1, 0) if share == 0.5 else None
    if isinstance(node, ReLU):
        own = 0 if node.ceiling is None else _bits(node.ceiling)
        return None if own is None or node.levels is not None else max(own, known[0])
    if isinstance(node, (Add, Concat, Output, *PASSING)):
        return max(known)
    return None


def _products(node: Weighted, grid: int, bound: Bounds) -> int | None:
    """The grid of sums of weights times values on a grid, if all such sums are exact."""
    if node.grid is not None:
        room = (
            MANTISSA if next(iter(tensors(node).values())).dtype == torch.float32 else WIDE_MANTISSA
        )
        exact = largest(bound) * 2.0 ** (node.grid + grid) <= SLACK * 2.0**room
        return node.grid + grid if exact else None
    # In float64, on a grid as fine as leaves room for the sums.
    spread = float((bound[1] - bound[0]).abs().max())
    bits = WIDE_MANTISSA - grid - ceil(log2(max(spread, 1.0)))
    found = tensors(node)
    own = found.get("weight", found.get("scale"))
    fits = own is not None and own.dtype == torch.float64 and _on_grid(own, bits)
    return grid + bits if fits and all(_on_grid(t, grid + bits) for t in found.values()) else None


def _on_grid(values: Tensor, bits: int) -> bool:
    units = values.double() * 2.0**bits
    return torch.equal(units, units.round())


def _bits(values: Tensor | float) -> int | None:
    """The bits of the coarsest grid that numbers lie on, up to what float32 holds."""
    found = torch.as_tensor(values, dtype=torch.float64)
    return next((bits for bits in range(MANTISSA) if _on_grid(found, bits)), None)
