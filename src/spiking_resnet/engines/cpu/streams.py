"""Which values of a graph that are no spikes the native engine computes as integers."""

import torch

from spiking_resnet.graph import Affine, Conv2d, Graph, Linear, Round, interpret, tensors
from spiking_resnet.graph.exactness import bounds_of, largest
from spiking_resnet.graph.grids import coarsest_grid, on_grid
from spiking_resnet.graph.structure import carries_spikes

Weighing = Conv2d | Linear | Affine

FACTOR = 2**15 - 1  # the largest number, and the largest weight of one
MOST = 2**31 - 2**20  # numbers below it fit 32 bits, with what kernels add on the way to a sum


class Streams:
    """Signed streams of a graph: sums of what spikes bring, and numbers of 16 bits made of them.

    bounds: of every value, by name.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._fixed = interpret.constants(graph)
        self._spikes = carries_spikes(graph)
        self.bounds = bounds_of(graph)
        self._grids: dict[str, int | None] = {}
        for node in graph.nodes:
            inputs = [self._grids[name] for name in node.inputs]
            self._grids[node.name] = node.value_grid(inputs, self.bounds[node.name])

    def reach(self, name: str, grid: int) -> int:
        """The largest value, in units of 2^-grid."""
        return int(min(largest(self.bounds[name]) * 2.0**grid, 2.0**62)) + 1

    def grid(self, name: str) -> int | None:
        """The bits of the grid of a value that changes in time and fits 32 bits; else None."""
        grid = self._grids[name]
        if grid is None or name in self._fixed or self.reach(name, grid) >= MOST:
            return None
        return grid

    def numbers(self, name: str) -> int | None:
        """The bits of the grid that a value is rounded to, so that it fits 16 bits; else None."""
        node = self._graph[name]
        if not isinstance(node, Round) or name in self._fixed:
            return None
        return node.bits if self.reach(name, node.bits) <= FACTOR else None

    def handed_on(self, name: str) -> int | None:
        """The bits of the grid of spikes that are no whole numbers, pooled or joined with others
        that count differently, if they fit 16 bits; else None.
        """
        bits = self._grids[name] if self._spikes[name] else None
        return bits if bits and self.reach(name, bits) <= FACTOR else None

    def products(self, name: str) -> int | None:
        """The bits of the grid of a node's sums of products, if it weighs numbers: by weights that
        fit 16 bits, and the sums fit 32. Else None.
        """
        node = self._graph[name]
        bits = self.numbers(node.inputs[0]) if isinstance(node, Weighing) else None
        if bits is None:
            return None
        own = tensors(node)
        added = own.pop(node.ADDED, torch.zeros((), dtype=torch.float64))
        (weights,) = own.values()
        grid = coarsest_grid(weights)
        if grid is None or float(weights.abs().max()) * 2.0**grid > FACTOR:
            return None
        total = self.reach(name, grid + bits) + float(added.abs().max()) * 2.0 ** (grid + bits)
        return grid + bits if total < MOST and on_grid(added, grid + bits) else None
