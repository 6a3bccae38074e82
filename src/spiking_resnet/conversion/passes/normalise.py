"""Normalisation to the paper's form: thresholds 1, spikes 0 or 1, weights W * theta_in / theta_out.

While methods work on a network, a spike carries its layer's threshold. This pass divides every
value by the scale it arrives on: spikes by their amplitude, currents by the threshold of the
neurons they reach. Identity shortcuts then need the gain theta_in / theta_out, which becomes a node
of its own; so does the gain of a current that reaches populations of different thresholds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import floor, log2

import torch
from torch import Tensor

from spiking_resnet.graph import Fire, Graph, GraphError, Input, Node, Output, ReLU
from spiking_resnet.graph.exactness import bounds_of, largest
from spiking_resnet.graph.structure import carries_spikes, scale_input, shapes_read, spike_scale

REACH = 16.0  # what the read-out can receive in a step, at least, and less than twice that
ONE = torch.ones((), dtype=torch.float64)


def normalise(graph: Graph, logits_unit: float | None = None) -> Graph:
    """Return `graph` with unit spikes and unit thresholds; it fires the same spikes.

    Only a population that reads pooled spikes directly keeps another threshold: pools become sums,
    and its threshold the pool's divisor (not of differential neurons: a gain comes before them).
    Weights are float64 afterwards, for `snap` or `single`.
    logits_unit: what the classifier's output is divided by; the read-out multiplies it back. None:
    the power of two by which the most that can arrive in a step lies in 16 ... 32, so that a grid
    is as fine for small logits as for large ones.
    """
    if relus := graph.of(ReLU):
        raise GraphError(f"{relus[0].name!r} is a ReLU: give it neurons before normalising")
    spikes = carries_spikes(graph)
    if logits_unit is None:
        logits_unit = _read_out_unit(normalise(graph, 1.0))
    work = _Work(graph, spikes, _wanted(graph, spikes, logits_unit))
    for node in graph.nodes:
        work.add(node)
    return graph.with_nodes(work.nodes.values())


def _read_out_unit(graph: Graph) -> float:
    """Return the power of two that brings what a read-out can receive in a step to REACH."""
    most = largest(bounds_of(graph)[graph.output.inputs[0]])
    return 2.0 ** floor(log2(most / REACH)) if most > 0 else 1.0


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two scales ([] or [C]) are equal in every channel."""
    return bool((a == b).all())


def _divide(value: Tensor, scale: Tensor) -> Tensor:
    """Return a neuron's parameter ([], [C] or [C, H, W]) over a scale ([] or [C]).

    Rounded to 2^-24, so that a 7x7 pool's threshold, theta / (theta / 49), is 49 and not nearly 49.
    """
    value = value.double()
    units = value / (scale.view(-1, 1, 1) if value.ndim == 3 and scale.ndim == 1 else scale)
    return torch.round(units * 2.0**24) * 2.0**-24


def _wanted(graph: Graph, spikes: Mapping[str, bool], unit: float) -> dict[str, Tensor]:
    """Return, for every node that carries currents, its readers' scale, or 1 where they differ."""
    scales: dict[str, Tensor] = {}
    for node in reversed(graph.nodes):
        if spikes[node.name] or isinstance(node, Input):
            continue
        if isinstance(node, Output):
            scales[node.name] = ONE * unit
            continue
        demands = [
            demand
            for reader in graph.consumers[node.name]
            for position, name in enumerate(reader.inputs)
            if name == node.name
            and (demand := _demand(graph, reader, position, scales)) is not None
        ]
        agreed = bool(demands) and all(_same(demands[0], other) for other in demands[1:])
        scales[node.name] = demands[0] if agreed else ONE
        places = range(len(node.inputs))
        wanted = (_demand(graph, node, position, scales) for position in places)
        if not node.takes_any_scale and any(scale is None for scale in wanted):
            scales[node.name] = ONE
    return scales


def _demand(
    graph: Graph, reader: Node, position: int, scales: Mapping[str, Tensor]
) -> Tensor | None:
    """Return the scale of a current that `reader` needs at an input; None if any will do."""
    own = scales.get(reader.name, ONE)  # neurons want their threshold's, whatever they send
    return reader.input_scale(own, position, shapes_read(graph, reader))


@dataclass
class _Work:
    """The normalised nodes so far, and the scale by which each one's value was divided."""

    graph: Graph
    spikes: Mapping[str, bool]
    wanted: Mapping[str, Tensor]
    nodes: dict[str, Node] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Normalise one node."""
        made, scale = self._made(node)
        self.nodes[node.name] = made
        self.scales[node.name] = scale

    def _made(self, node: Node) -> tuple[Node, Tensor]:
        if isinstance(node, Fire):
            return self._fire(node)
        if isinstance(node, Output):
            return self._output(node)
        if self.spikes[node.name] or isinstance(node, Input):
            return node.with_unit_spikes(), spike_scale(self.graph, node, self.scales)
        scale = self.wanted[node.name]
        if node.takes_any_scale:
            return node.scaled(self.scales[node.inputs[0]], scale), scale
        made = node
        for position in range(len(node.inputs)):
            target = _demand(self.graph, node, position, self.wanted)
            assert target is not None  # _wanted gave this node a scale that can be pulled back
            made = self._bring(made, position, target)
        return made, scale

    def _bring(self, node: Node, position: int, target: Tensor) -> Node:
        """Return `node` with one of its inputs brought to the scale `target`."""
        have = self.scales[node.inputs[position]]
        if _same(have, target):
            return node
        brought = scale_input(self.graph, self.nodes, node, position, have / target, "gain")
        self.scales[brought.inputs[position]] = target
        return brought

    def _fire(self, node: Fire) -> tuple[Node, Tensor]:
        neuron = node.neuron
        unit = neuron.threshold.double()
        if self.spikes[node.inputs[0]] and neuron.counts_spikes:
            unit = self.scales[node.inputs[0]]  # the threshold is counted in whole spikes
        else:
            node = self._bring(node, 0, unit)  # type: ignore[assignment]
        neuron = replace(
            neuron,
            threshold=_divide(neuron.threshold, unit),
            initial_potential=_divide(neuron.initial_potential, unit),
            amplitude=torch.ones((), dtype=torch.float32),
        )
        return replace(node, neuron=neuron), node.neuron.amplitude.double()

    def _output(self, node: Output) -> tuple[Node, Tensor]:
        incoming = self.scales[node.inputs[0]]
        if incoming.ndim:
            node = self._bring(node, 0, ONE)  # type: ignore[assignment]
            incoming = ONE
        return replace(node, scale=node.scale * float(incoming)), ONE
