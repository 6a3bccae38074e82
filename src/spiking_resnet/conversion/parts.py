"""Single populations of a network, run on the spikes that reach them: exactly, on their grids.

A part of a network is a population with what leads to it from the populations before, whose spikes
are known. It is normalised and snapped as the whole network will be, so its spikes are those that
the network will fire, whatever engine runs it and with however many threads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from spiking_resnet.conversion.layer_by_layer import between
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.snap import snap
from spiking_resnet.engines.parts import Part
from spiking_resnet.graph import Fire, Graph, Input, Node, Output
from spiking_resnet.neurons import IntegrateAndFire, Neuron


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What parts are snapped for: arguments of `snap`."""

    steps: int
    bits: int = 14
    sum_bits: int = 16


class _Unchecked(Graph):
    """A graph whose populations at the beginning read the image, whatever their shape is."""

    def __post_init__(self) -> None:
        pass


def part_of(graph: Graph, nodes: Mapping[str, Node], name: str, grid: Grid) -> Part:
    """Return a population of `graph`, ready to be run on the spikes of those before it.

    graph: in the units of its ANN. nodes: what stands in the place of its nodes, by name, and a
    node that is put before the population.
    """
    node = nodes[name]
    populations = {each.name for each in graph.of(Fire)}
    made = _Unchecked(
        (
            graph.input,
            *_leading(graph, nodes, node, populations),
            node,
            Output(name=graph.output.name, inputs=(graph.input.name,), shape=graph.input.shape),
        )
    )
    return Part(snap(normalise(made, 1.0), grid.steps, grid.bits, grid.sum_bits), name)


def _leading(
    graph: Graph, nodes: Mapping[str, Node], node: Node, populations: set[str]
) -> Iterator[Node]:
    """Yield what leads to a population, in order, without the image."""
    (read,) = node.inputs
    own = [read] if read not in graph.by_name else []
    first = nodes[read] if own else node
    for name in between(graph, first, populations):
        if name in populations:
            yield _known(graph, nodes[name])
        elif not isinstance(graph[name], Input):
            yield nodes[name]
    yield from (nodes[name] for name in own)


def _known(graph: Graph, node: Node) -> Fire:
    """Return a population in the place of one whose spikes are known."""
    assert isinstance(node, Fire)
    neuron: Neuron = IntegrateAndFire(
        threshold=torch.ones((), dtype=torch.float32),
        initial_potential=torch.zeros((), dtype=torch.float32),
        amplitude=node.neuron.amplitude,
        levels=node.neuron.levels,
        signed=node.neuron.signed,
    )
    return replace(node, inputs=(graph.input.name,), neuron=neuron)
