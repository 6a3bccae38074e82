"""Grids of signed streams: values that are no spikes, read by weights as numbers of 16 bits.

A sum of what spikes bring (a residual sum without ReLU, a linear bottleneck) lies on the grid of
the currents around it. What reads it through weights reads it rounded so far that it certainly fits
16 bits, with weights of 16 bits, and the sums of their products fit 32 bits: integers that every
engine adds exactly, a native one without float64. The sums are rounded to the grid of the neurons.
"""

from collections.abc import Mapping
from math import floor, log2

from torch import Tensor

from spiking_resnet.graph import Graph, tensors, with_tensors
from spiking_resnet.graph.exactness import largest
from spiking_resnet.graph.grids import SLACK, to_grid
from spiking_resnet.graph.nodes import Bounds, Weighted

FACTOR_BITS = 15  # of a number or a weight, without its sign
SUM_BITS = 30  # of a sum of products, without its sign, and a bit to round it with
WEIGHT_GRID = 24  # no weight or bias in float64 lies on a finer one
FAVOUR = 2  # bits of a number's range that it hardly ever uses: more than of a weight's


def number_grids(
    graph: Graph,
    spikes: Mapping[str, bool],
    bounds: Mapping[str, Bounds],
    grids: Mapping[str, int],
) -> dict[str, int]:
    """Return the bits of the grid that each signed stream is rounded to where weights read it.

    By the stream's name. grids: of currents, finer or equal.
    """
    found: dict[str, int] = {}
    image_only = _of_image(graph, spikes)
    for node in graph.nodes:
        if not isinstance(node, Weighted):
            continue
        (name,) = node.inputs
        if spikes[name] or name in image_only:
            continue
        stream = largest(bounds[name])
        balanced = (_products(node, bounds) + FAVOUR + _log2(_factor(node)) - _log2(stream)) / 2
        bits = floor(min(balanced, FACTOR_BITS - _log2(stream)))
        found[name] = max(0, min(found.get(name, grids[name]), bits))
    return found


def reading_numbers(node: Weighted, bits: int, bounds: Mapping[str, Bounds]) -> Weighted:
    """Return a node that reads numbers on 2^-bits, with weights of 16 bits (in float64)."""
    room = min(_products(node, bounds) - bits, FACTOR_BITS - _log2(_factor(node)))
    own = min(floor(room), WEIGHT_GRID)
    added = min(bits + own, WEIGHT_GRID)
    new = {
        name: to_grid(tensor, added if name == node.ADDED else own)
        for name, tensor in tensors(node).items()
    }
    return with_tensors(node, new)


def _of_image(graph: Graph, spikes: Mapping[str, bool]) -> set[str]:
    """Return the values that no spike has a part in."""
    found: set[str] = set()
    for node in graph.nodes:
        if not spikes[node.name] and all(name in found for name in node.inputs):
            found.add(node.name)
    return found


def _products(node: Weighted, bounds: Mapping[str, Bounds]) -> float:
    """Return the bits behind the point that the node's sums of products have room for."""
    added = [tensor for name, tensor in tensors(node).items() if name == node.ADDED]
    most = largest(bounds[node.name]) + max((_largest(tensor) for tensor in added), default=0.0)
    return SUM_BITS - _log2(most)


def _factor(node: Weighted) -> float:
    """Return the node's largest weight."""
    return max(_largest(t) for name, t in tensors(node).items() if name != node.ADDED)


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().max())


def _log2(value: float) -> float:
    """Return the bits before the point of a value and what rounding to grids may add to it."""
    return log2(max(SLACK * value, 2.0**-FACTOR_BITS))
