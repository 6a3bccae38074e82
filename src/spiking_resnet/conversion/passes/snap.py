"""Weights, biases, gains and thresholds on a grid 2^-k, so that simulation is exact.

Sums of multiples of 2^-k below 2^24 of them are exact in float32 in whatever order they are added.
The interpreter, every engine, any number of threads, any batch size and any device then give the
same spikes, bit for bit, over all time steps. k is chosen for every population from the bounds of
its currents (interval arithmetic) over the number of steps the network is made for.

Spikes of differential neurons are whole numbers of 2^-s, with s the bits of their finest amplitude.
Currents and potentials lie on a grid 2^-k then, weights on 2^-(k - s) or coarser: a spike of step t
brings w * size * m(t), integers all. k is chosen so that one step fits 32 bits, of which an engine
can watch the rest; the graph computes such sums in float64, exactly as well (`Summing.wide`).

What reads whole spikes is computed in float32 on the grid. What reads anything else is computed in
float64, where its sums are exact too, and rounded back to the grid: the image, and signed streams,
which are rounded to numbers of 16 bits first (`numbers`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, floor, log2
from typing import TYPE_CHECKING, Any

import torch

from spiking_resnet import moved
from spiking_resnet.conversion.passes.numbers import WEIGHT_GRID, number_grids, reading_numbers
from spiking_resnet.graph import (
    Fire,
    Graph,
    Input,
    Node,
    Output,
    Round,
    tensors,
    with_tensors,
)
from spiking_resnet.graph.exactness import bounded, bounds_of, largest
from spiking_resnet.graph.grids import MANTISSA, WIDE_MANTISSA, to_grid
from spiking_resnet.graph.nodes import Bounds, Weighted
from spiking_resnet.graph.nodes.base import MOST_BITS, Summing
from spiking_resnet.graph.structure import carries_spikes

INPUT_GRID = 20  # pixels below 2^INPUT_REACH are rounded to 2^-20; of larger ones as many bits
INPUT_REACH = 12
SHORT_BITS = 15  # of weights that engines multiply 16 bits by 16 bits: of 16 with sign
READ_OUT_BITS = 20  # of the read-out's weights, where spikes are no whole numbers
FEWEST_BITS = 10  # accuracy suffers below; longer runs are watched instead
FEWEST_FINE = 6  # the same where spikes are no whole numbers, for whose potentials 32 bits are few
POTENTIAL_BITS = 30  # of potentials that spikes which are no whole numbers change: of 32 with sign


def single(graph: Graph) -> Graph:
    """Return `graph` off the grid, with float32 tensors: for simulation without exactness."""
    return graph.with_nodes(
        with_tensors(node, {name: t.float() for name, t in tensors(node).items()})
        for node in graph.nodes
    )


def snapped(graph: Graph, steps: int, bits: int | None, sum_bits: int = 16) -> Graph:
    """Return a normalised `graph` as `snap` does, or off the grid where `bits` is None."""
    return single(graph) if bits is None else snap(graph, steps, bits, sum_bits)


def snap(graph: Graph, steps: int, bits: int = 14, sum_bits: int = 16) -> Graph:
    """Return a normalised `graph` on grids of at most `bits` bits, exact for `steps` time steps.

    sum_bits: what a population receives in one step fits into so many bits (sign included): 16, so
    that an engine can add 32 numbers at once, or more (up to 24) for a finer grid. Where spikes are
    no whole numbers (differential neurons) weights have at most `bits` bits, and potentials as many
    as 32-bit integers hold, whatever `sum_bits` is.
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
    spike_grids = _spike_grids(graph, spikes, bounds)
    later = bounds_of(_after_the_first(graph))
    grids = _grids(graph, spikes, spike_grids, bounds, later, steps, bits, sum_bits)
    own_bits = {name: grid.bits for name, grid in grids.items()}
    numbers = number_grids(graph, spikes, bounds, own_bits)
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for original in graph.nodes:
        node = original
        reads_pixels = isinstance(node, Weighted) and node.inputs == (graph.input.name,)
        if not reads_pixels:
            node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        fed_by_spikes = all(spikes[name] for name in original.inputs)
        grid = grids.get(node.name, _Grid(0))
        if isinstance(node, Input) and node.encoding != "poisson":
            node = replace(node, grid=pixels)
        elif isinstance(node, Weighted) and original.inputs[0] in numbers:
            stream = original.inputs[0]
            rounding = _round(graph, stream, node.inputs[0], "numbers", numbers[stream])
            nodes[rounding.name] = rounding
            node = reading_numbers(node, numbers[stream], bounds)
            node = replace(node, inputs=(rounding.name,))
        elif isinstance(node, Weighted) and not fed_by_spikes:
            node = _snapped_wide(node, bounds[node.name], pixels if reads_pixels else INPUT_GRID)
        elif isinstance(node, Weighted):
            node = _snapped_weights(node, grid, spike_grids[original.inputs[0]])
        else:
            node = _snapped(node, grid)
        nodes[node.name] = node
        if _leaves_grid(graph, original, fed_by_spikes):
            fine = max(min(grid.bits, _room(bounds[node.name], MANTISSA)), 0)
            rounding = _round(graph, node.name, node.name, "round", fine)
            nodes[rounding.name] = rounding
            renamed[node.name] = rounding.name
    return bounded(graph.with_nodes(nodes.values()))


@dataclass(frozen=True)
class _Grid:
    """What values are multiples of, 2^-bits.

    spikes: the bits of the grid of the finest spikes that bring them (0: whole numbers). weights:
    the most bits of the weights that bring them. wide: whether what they sum up to over time needs
    float64.
    """

    bits: int
    spikes: int = 0
    weights: int = MOST_BITS
    wide: bool = False


def _spike_grids(
    graph: Graph, spikes: Mapping[str, bool], bounds: Mapping[str, Bounds]
) -> dict[str, int]:
    """Return the bits of the grid that spikes lie on, 0 for whole numbers, by name."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if spikes[node.name]:
            inputs = [found.get(name, 0) for name in node.inputs]
            found[node.name] = node.value_grid(inputs, bounds[node.name]) or 0
    return found


def _round(graph: Graph, name: str, read: str, suffix: str, bits: int) -> Round:
    """Return what rounds the value called `name`, now that of `read`, to the grid 2^-bits."""
    return Round(name=f"{name}.{suffix}", inputs=(read,), shape=graph[name].shape, bits=bits)


def _leaves_grid(graph: Graph, node: Node, fed_by_spikes: bool) -> bool:
    """Return whether a node's values must be rounded to the grid before others read them."""
    if isinstance(node, Input):
        readers = graph.consumers[node.name]
        return node.encoding != "poisson" and not all(isinstance(r, Weighted) for r in readers)
    return node.has_synapses and not fed_by_spikes


def _pixel_grid(node: Input) -> int:
    """Return the grid of pixels: coarser where they are so large that weights must be small."""
    return INPUT_GRID - max(0, floor(log2(max(node.limit, 1.0))) - INPUT_REACH)


def _snapped_weights(node: Weighted, grid: _Grid, spikes: int) -> Node:
    """Return a node that spikes on 2^-spikes reach, with weights whose products are on the grid."""
    own, dtype = grid.bits, torch.float64 if grid.wide else torch.float32
    found = tensors(node)
    if grid.spikes:
        weights = [each for name, each in found.items() if name != node.ADDED]
        short = _short_bits(weights, least=2.0**-MOST_BITS)
        own = max(min(grid.weights, grid.bits - spikes, max(short, FEWEST_BITS)), 0)
    new = {name: to_grid(tensor, own).to(dtype) for name, tensor in found.items()}
    return replace(with_tensors(node, new), grid=own)  # type: ignore[call-arg]


def _short_bits(weights: Iterable[torch.Tensor], least: float) -> int:
    """Return the bits behind the point that weights of 16 bits have, the largest being `least`
    or more.
    """
    largest = max(float(each.abs().max()) for each in weights)
    return floor(SHORT_BITS - log2(max(1.01 * largest, least)))


def _snapped(node: Node, grid: _Grid) -> Node:
    """Return one node without weights, with float32 tensors on the grid."""
    if isinstance(node, Fire):
        new = {name: to_grid(tensor, grid.bits).float() for name, tensor in tensors(node).items()}
        if "neuron.ceiling" in new:  # none above all that can arrive is ever reached
            most = 2.0 ** (POTENTIAL_BITS - grid.bits)
            new["neuron.ceiling"] = new["neuron.ceiling"].clamp(max=most)
        node = with_tensors(node, new)
    if isinstance(node, Summing) and node.integrates:
        own: Any = {"grid": grid.bits, "step_bound": 0.0, "wide": grid.wide}
        return replace(node, **own)  # `bounded` finds what weights on the grid imply
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


def _after_the_first(graph: Graph) -> Graph:
    """Return `graph` as it computes after the first step: where constants enter once, with none."""
    if graph.input.encoding != "once":
        return graph
    dark = replace(graph.input, limit=0.0, grid=None)
    return graph.with_nodes(
        dark if node is graph.input else node.without_constants() for node in graph.nodes
    )


def _grids(
    graph: Graph,
    spikes: Mapping[str, bool],
    spike_grids: Mapping[str, int],
    bounds: Mapping[str, Bounds],
    later: Mapping[str, Bounds],
    steps: int,
    bits: int,
    sum_bits: int,
) -> dict[str, _Grid]:
    """Return the grid of every current, population and read-out.

    Currents that are added up, or handed on unweighted, share a grid: the coarsest that the
    populations and the read-out they reach need for `steps` steps of `sum_bits` bits. bounds: of
    any step. later: of those after the first, which `sum_bits` are for: what enters once is no sum
    of spikes.
    """
    groups = _Groups(graph, spikes, spike_grids)
    weights = {root: bits if root in groups.fired else READ_OUT_BITS for root in groups.fine}
    allowed = {root: (weights[root] if fine else bits) + fine for root, fine in groups.fine.items()}
    most = dict.fromkeys(groups.fine, 0.0)  # sums over all steps

    for node in graph.nodes:
        currents = [name for name in node.inputs if not spikes[name]]
        if currents and isinstance(node, Summing) and node.integrates:
            root = groups.root(currents[0])
            reach = largest(bounds[currents[0]])
            total = steps * reach + node.potential_offset
            most[root] = max(most[root], total)
            fine = groups.fine[root]
            if fine and isinstance(node, Output):
                fitting = floor(WIDE_MANTISSA - log2(max(total, 1.0)))
            elif fine:  # an engine of 32 bits may look at the potentials after every step
                fitting = floor(POTENTIAL_BITS - log2(max(reach + node.potential_offset, 1.0)))
            else:
                fitting = floor(MANTISSA - log2(max(total, 1.0)))
                every = largest(later[currents[0]])
                if isinstance(node, Fire):  # a little less than half: rounding to the grid may add
                    fitting = min(fitting, floor(sum_bits - 1 - log2(max(1.01 * every, 1.0))))
            fewest = min(bits, FEWEST_FINE if fine else FEWEST_BITS) + fine
            allowed[root] = min(allowed[root], max(fitting, fewest))
        if node.name in groups:
            root = groups.root(node.name)
            if root in groups.weighed and isinstance(node, Weighted) and spikes[node.inputs[0]]:
                short = _short_bits(tensors(node).values(), least=1.0)
                allowed[root] = min(allowed[root], max(short, min(bits, FEWEST_BITS)))
            mantissa = WIDE_MANTISSA if groups.fine[root] else MANTISSA
            allowed[root] = min(allowed[root], max(_room(bounds[node.name], mantissa), 0))
    found = {
        root: _Grid(
            allowed[root],
            fine,
            weights[root],
            fine > 0 and most[root] * 2.0 ** allowed[root] >= 2.0**MANTISSA,
        )
        for root, fine in groups.fine.items()
    }
    grids = {name: found[groups.root(name)] for name in groups}
    for node in graph.integrators:
        source = node.inputs[0]
        grids[node.name] = (
            grids[source] if source in groups else _Grid(_own_grid(node, bits, spike_grids[source]))
        )
    return grids


def _room(bound: Bounds, mantissa: int) -> int:
    """Return the bits behind the point of numbers within bounds that so many bits in all leave."""
    return floor(mantissa - log2(max(largest(bound), 1.0)))


class _Groups:
    """The currents that share a grid; found by the names of their nodes.

    fine: by each group's first name, the bits of the grid of the finest spikes that reach it, or
    that the populations it reaches compare with; 0 where all are whole numbers. fired: the first
    names of those that reach populations or pools, not the read-out alone. weighed: those of whole
    spikes that are read through weights (signed streams), which no population limits directly.
    """

    def __init__(
        self, graph: Graph, spikes: Mapping[str, bool], spike_grids: Mapping[str, int]
    ) -> None:
        self._first: dict[str, str] = {}  # union-find
        for node in graph.nodes:
            if spikes[node.name] or isinstance(node, Fire | Output):
                continue
            self._first[node.name] = node.name
            for name in node.inputs if node.shares_grid else ():
                if not spikes[name]:
                    self._first[self.root(name)] = self.root(node.name)
        self.fine = {self.root(name): 0 for name in self._first}
        self.fired = {
            self.root(name)
            for node in graph.nodes
            if isinstance(node, Summing) and not isinstance(node, Output)
            for name in node.inputs
            if name in self
        }
        for node in graph.nodes:
            for name in node.inputs:
                if name in self and isinstance(node, Fire):
                    self._refine(name, spike_grids[node.name])
                elif name in spike_grids and node.name in self:
                    self._refine(node.name, spike_grids[name])

        self.weighed = {
            self.root(name)
            for node in graph.nodes
            if isinstance(node, Weighted)
            for name in node.inputs
            if name in self and not self.fine[self.root(name)]
        }

    def _refine(self, name: str, bits: int) -> None:
        root = self.root(name)
        self.fine[root] = max(self.fine[root], bits)

    def root(self, name: str) -> str:
        """Return the first name of the group that this one is in."""
        while self._first[name] != name:
            self._first[name] = self._first[self._first[name]]  # long chains stay quick
            name = self._first[name]
        return name

    def __contains__(self, name: object) -> bool:
        return name in self._first

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)


def _own_grid(node: Summing, bits: int, spikes: int) -> int:
    """Return the coarsest grid of what reads spikes on 2^-spikes: that of its own parameters."""
    if not isinstance(node, Fire):
        return spikes
    parameters = (node.neuron.threshold, node.neuron.initial_potential)
    for grid in range(spikes, bits):
        if all(bool((t == to_grid(t, grid)).all()) for t in parameters):
            return grid
    return max(bits, spikes)


if not TYPE_CHECKING:
    __getattr__ = moved.elsewhere(__name__)
