"""What the populations of a spiking network read, fire and spend, in the order of computation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spiking_resnet.codec import Record
from spiking_resnet.costs.operations import costs
from spiking_resnet.graph import Graph, Node
from spiking_resnet.graph.structure import shortcuts
from spiking_resnet.records import Point


@dataclass(frozen=True)
class Layer(Record):
    """The image, a population, or a read-out without neurons.

    by: the kinds of the nodes on its main way from what it reads. reads: the image or populations
    whose values arrive at it; shortcuts: those that arrive by shortcuts alone, and are not among
    `reads`. neurons: 0 of what has none. rate: spikes per neuron and step; spikes: of an image;
    operations: synaptic ones that its spikes cause in an image. error: of its rates, root mean
    square, relative to the activations; None where it is not known.
    """

    name: str
    shape: tuple[int, ...]
    by: tuple[str, ...]
    reads: tuple[str, ...]
    shortcuts: tuple[str, ...]
    neurons: int
    rate: float = 0.0
    spikes: float = 0.0
    operations: float = 0.0
    error: float | None = None


def layers(
    graph: Graph, point: Point, errors: Mapping[str, float] | None = None
) -> tuple[Layer, ...]:
    """The layers of a spiking network, with what they spent up to a point of its curve.

    errors: by name, where they are known.
    """
    spent, beside, found = costs(graph), shortcuts(graph), list[Layer]()
    arriving: dict[str, dict[str, bool]] = {}  # at each node: from where, and if by shortcuts alone
    for node in graph.nodes:
        arriving[node.name] = _arriving(node, arriving, beside)
        if not stands_alone(graph, node):
            continue
        neurons = spent.neurons.get(node.name, 0)
        rate = point.layers.get(node.name, 0.0)
        spikes = point.steps * rate * neurons
        reads, past = _ways(arriving[node.name], list(arriving))
        found.append(
            Layer(
                name=node.name,
                shape=node.shape,
                by=kinds(graph, node, beside),
                reads=reads,
                shortcuts=past,
                neurons=neurons,
                rate=rate,
                spikes=spikes,
                operations=spikes * spent.per_spike.get(node.name, 0.0),
                error=(errors or {}).get(node.name),
            )
        )
        arriving[node.name] = {node.name: False}
    return tuple(found)


def stands_alone(graph: Graph, node: Node) -> bool:
    """Whether a node is a layer: the image, a population, a read-out that reads no population."""
    if node is graph.output:
        return not graph[node.inputs[0]].is_population
    return node is graph.input or node.is_population


def _arriving(
    node: Node, arriving: Mapping[str, Mapping[str, bool]], beside: Mapping[str, list[int]]
) -> dict[str, bool]:
    """The layers whose values arrive at a node, and whether they do by shortcuts alone."""
    found: dict[str, bool] = {}
    for position, name in enumerate(node.inputs):
        past = position in beside.get(node.name, ())
        for layer, before in arriving[name].items():
            found[layer] = found.get(layer, True) and (before or past)
    return found


def _ways(arriving: Mapping[str, bool], order: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """(the layers that arrive on the main way, those that arrive by shortcuts alone).

    Where all do, the last one of them is on the main way.
    """
    reads = [name for name, past in arriving.items() if not past]
    if not reads:
        reads = [max(arriving, key=order.index)] if arriving else []
    return tuple(reads), tuple(name for name in arriving if name not in reads)


def kinds(graph: Graph, node: Node, beside: Mapping[str, list[int]]) -> tuple[str, ...]:
    """The kinds of the nodes between a layer and what it reads, on the main way."""
    found: list[str] = []
    while node.inputs:
        passed = beside.get(node.name, ())
        main = [name for place, name in enumerate(node.inputs) if place not in passed]
        node = graph[next(iter(main or node.inputs))]
        if stands_alone(graph, node):
            break
        found.append(type(node).__name__)
    return tuple(reversed(found))
