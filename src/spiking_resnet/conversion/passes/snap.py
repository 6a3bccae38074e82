"""Weights, biases, gains and thresholds on a grid 2^-k, so that simulation is exact.

Sums of multiples of 2^-k below 2^24 of them are exact in float32 in whatever order they are added.
The interpreter, every engine, any number of threads, any batch size and any device then give the
same spikes, bit for bit, over all time steps. k is chosen for every population from the bounds of
its currents (interval arithmetic) over the number of steps the network is made for.

What reads spikes is computed in float32 on the grid. What reads anything else (the image; a signed
residual stream) is computed in float64, where its sums are exact too, and rounded back to the grid.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, floor, log2

from spiking_resnet.graph import (
    Fire,
    Graph,
    Input,
    MaxPool,
    Node,
    Output,
    Round,
    tensors,
    with_tensors,
)
from spiking_resnet.graph.exactness import bounded, bounds_of, largest
from spiking_resnet.graph.grids import MANTISSA, WIDE_MANTISSA, to_grid
from spiking_resnet.graph.nodes import Bounds, Weighted
from spiking_resnet.graph.structure import carries_spikes

INPUT_GRID = 20  # pixels below 2^INPUT_REACH are rounded to 2^-20; of larger ones as many bits
INPUT_REACH = 12
WEIGHT_GRID = 24  # weights computed with in float64 are rounded to 2^-24, or coarser
FEWEST_BITS = 10  # accuracy suffers below; longer runs are watched instead


def single(graph: Graph) -> Graph:
    """Return `graph` off the grid, with float32 tensors: for simulation without exactness."""
    return graph.with_nodes(
        with_tensors(node, {name: t.float() for name, t in tensors(node).items()})
        for node in graph.nodes
    )


def snap(graph: Graph, steps: int, bits: int = 14, sum_bits: int = 16) -> Graph:
    """Return a normalised `graph` on grids of at most `bits` bits, exact for `steps` time steps.

    sum_bits: what a population receives in one step fits into so many bits (sign included): 16, so
    that an engine can add 32 numbers at once, or more (up to 24) for a finer grid.
    Where `steps` or `sum_bits` would leave fewer than 10 bits (or `bits`, if smaller) the grid has
    those, and `exact_steps` says how far exactness is certain; a longer run is watched by its
    engine.
    """
    if not 1 <= bits <= 20 or steps < 1 or not 16 <= sum_bits <= MANTISSA:
        raise ValueError(
            f"a grid of {bits} bits for {steps} steps and sums of {sum_bits} bits: need 1..20 "
            f"bits, 1 step or more, and 16..{MANTISSA} bits"
        )
    spikes, bounds, pixels = carries_spikes(graph), bounds_of(graph), _pixel_grid(graph.input)
    grids = _grids(graph, spikes, bounds, steps, bits, sum_bits)
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for original in graph.nodes:
        node = original
        reads_pixels = isinstance(node, Weighted) and node.inputs == (graph.input.name,)
        if not reads_pixels:
            node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        fed_by_spikes = all(spikes[name] for name in original.inputs)
        grid = grids.get(node.name, 0)
        if isinstance(node, Input) and node.encoding != "poisson":
            node = replace(node, grid=pixels)
        elif isinstance(node, Weighted) and not fed_by_spikes:
            node = _snapped_wide(node, bounds[node.name], pixels if reads_pixels else INPUT_GRID)
        else:
            node = _snapped(node, grid, bounds)
        nodes[node.name] = node
        if _leaves_grid(graph, original, fed_by_spikes):
            name = f"{node.name}.round"
            nodes[name] = Round(name=name, inputs=(node.name,), shape=node.shape, bits=grid)
            renamed[node.name] = name
    return bounded(graph.with_nodes(nodes.values()))


def _leaves_grid(graph: Graph, node: Node, fed_by_spikes: bool) -> bool:
    """Return whether a node's values must be rounded to the grid before others read them."""
    if isinstance(node, Input):
        readers = graph.consumers[node.name]
        return node.encoding != "poisson" and not all(isinstance(r, Weighted) for r in readers)
    return node.has_synapses and not fed_by_spikes


def _pixel_grid(node: Input) -> int:
    """Return the grid of pixels: coarser where they are so large that weights must be small."""
    return INPUT_GRID - max(0, floor(log2(max(node.limit, 1.0))) - INPUT_REACH)


def _snapped(node: Node, grid: int, bounds: Mapping[str, Bounds]) -> Node:
    """Return one node, fed by spikes or without weights, with float32 tensors on the grid."""
    if isinstance(node, Weighted | Fire):
        new = {name: to_grid(tensor, grid).float() for name, tensor in tensors(node).items()}
        node = replace(with_tensors(node, new), grid=grid)  # type: ignore[arg-type]
    if isinstance(node, Fire | MaxPool | Output) and node.integrates:
        bound = largest(bounds[node.inputs[0].removesuffix(".round")])
        return replace(node, grid=grid, step_bound=bound)
    return node


def _snapped_wide(node: Weighted, bound: Bounds, pixels: int) -> Node:
    """What reads other numbers than spikes, on 2^-pixels, with weights that it computes with in
    float64: on the finest grid that leaves room for their sums. Biases are added to products, so
    they need no coarser grid than these.
    """
    spread = float((bound[1] - bound[0]).abs().max())
    room = WIDE_MANTISSA - 1 - ceil(log2(max(spread, 1.0)))  # bits of products
    products = min(WEIGHT_GRID + INPUT_GRID, room)
    added = min(WEIGHT_GRID, products)
    new = {
        name: to_grid(tensor, added if name == node.ADDED else products - pixels)
        for name, tensor in tensors(node).items()
    }
    return with_tensors(node, new)


def _grids(
    graph: Graph,
    spikes: Mapping[str, bool],
    bounds: Mapping[str, Bounds],
    steps: int,
    bits: int,
    sum_bits: int,
) -> dict[str, int]:
    """Return the grid of every current, population and read-out.

    Currents that are added up, or handed on unweighted, share a grid: the coarsest that the
    populations and the read-out they reach need for `steps` steps of `sum_bits` bits.
    """
    group: dict[str, str] = {}  # union-find over the names of currents
    allowed: dict[str, int] = {}  # bits, by the group's first name

    def root(name: str) -> str:
        while group[name] != name:
            group[name] = group[group[name]]  # halves the path, so that long chains stay quick
            name = group[name]
        return name

    def limit(name: str, most: int) -> None:
        allowed[root(name)] = min(allowed[root(name)], most)

    for node in graph.nodes:
        currents = [name for name in node.inputs if not spikes[name]]
        if currents and isinstance(node, Fire | MaxPool | Output) and node.integrates:
            reach = largest(bounds[currents[0]])
            total = steps * reach + node.potential_offset
            fitting = floor(MANTISSA - log2(max(total, 1.0)))
            if isinstance(node, Fire):  # a little less than half: rounding to the grid may add
                fitting = min(fitting, floor(sum_bits - 1 - log2(max(1.01 * reach, 1.0))))
            limit(currents[0], max(fitting, min(bits, FEWEST_BITS)))
        if not (spikes[node.name] or isinstance(node, Fire | Output)):
            group[node.name] = node.name
            allowed[node.name] = bits
            if node.shares_grid:
                for name in currents:
                    other = root(name)
                    allowed[root(node.name)] = min(allowed[root(node.name)], allowed[other])
                    group[other] = root(node.name)
            room = floor(MANTISSA - log2(max(largest(bounds[node.name]), 1.0)))
            limit(node.name, max(room, 0))
    grids = {name: allowed[root(name)] for name in group}
    for node in graph.integrators:
        source = node.inputs[0]
        grids[node.name] = grids[source] if source in group else _own_grid(node, bits)
    return grids


def _own_grid(node: Fire | MaxPool | Output, bits: int) -> int:
    """Return the coarsest grid of what reads whole spikes: that of its own parameters."""
    if not isinstance(node, Fire):
        return 0
    parameters = (node.neuron.threshold, node.neuron.initial_potential)
    for grid in range(bits):
        if all(bool((t == to_grid(t, grid)).all()) for t in parameters):
            return grid
    return bits
