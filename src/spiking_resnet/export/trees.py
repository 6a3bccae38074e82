"""What meets in one potential: for every population and the read-out, all that adds up to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spiking_resnet.export.format import ExportError
from spiking_resnet.graph import (
    Add,
    AvgPool,
    Fire,
    Graph,
    MaxPool,
    Node,
    Output,
    Round,
)
from spiking_resnet.graph.nodes import Mixing, Weighted
from spiking_resnet.graph.nodes.places import Moving
from spiking_resnet.graph.structure import carries_spikes

ALIKE = (Add, AvgPool, MaxPool, Round)  # kinds whose channels are those of what they read


@dataclass(frozen=True)
class Place:
    """Where a current goes: to the potentials of `root`, over average pools of divisor `over`."""

    root: str
    over: float


@dataclass(frozen=True)
class Tree:
    """The currents that meet in the potentials of the population, or in the read-out, `root`.

    nodes: their names in the order of computation, with the divisor of the average pools on the
    way to the root. alike: whether every one has the channels of the root, in that order.
    """

    root: Fire | Output
    nodes: Mapping[str, float]
    alike: bool


def pixels(graph: Graph) -> set[str]:
    """Return the names of the image, unless spikes encode it, and of what moves or rounds it."""
    if graph.input.carries_spikes(()):
        return set()
    found = {graph.input.name}
    for node in graph.nodes:
        if isinstance(node, Moving | Round) and all(name in found for name in node.inputs):
            found.add(node.name)
    return found


def trees(graph: Graph) -> dict[str, Tree]:
    """Return, by the name of the root, the trees of a normalised spiking network.

    Roots that read spikes alone have none. Raises ExportError, with the node's name, where a
    current is weighed again or reaches several roots.
    """
    places = dict(_places(graph))
    found: dict[str, Tree] = {}
    roots: tuple[Fire | Output, ...] = (*graph.of(Fire), graph.output)
    for root in roots:
        own = {
            node.name: places[node.name].over
            for node in graph.nodes
            if node.name in places and places[node.name].root == root.name
        }
        if own:
            inner = [node for name in own if not isinstance(node := graph[name], Weighted)]
            alike = all(isinstance(node, ALIKE) for node in inner)
            found[root.name] = Tree(root, own, alike)
    return found


def _places(graph: Graph) -> Iterator[tuple[str, Place]]:
    """Yield every current's name and place; what nobody reads has none."""
    spikes, image = carries_spikes(graph), pixels(graph)
    places: dict[str, Place] = {}
    for node in reversed(graph.nodes):
        if spikes[node.name] or node.name in image or isinstance(node, Output):
            continue
        found = {_place(node, reader, places) for reader in graph.consumers[node.name]} - {None}
        if len(found) > 1:
            names = sorted({place.root for place in found if place})
            raise ExportError(
                f"{node.name!r} is a signed stream that reaches {', '.join(map(repr, names))}: "
                "the integer form has one scale for each population's potentials, and currents "
                "that several read have none"
            )
        for place in found:
            assert place is not None
            places[node.name] = place
            yield node.name, place


def _place(node: Node, reader: Node, places: Mapping[str, Place]) -> Place | None:
    """Return where a current goes by way of one reader."""
    if isinstance(reader, Fire | Output):
        return Place(reader.name, 1.0)
    if isinstance(reader, Weighted):
        what = "weighed" if isinstance(reader, Mixing) else "scaled"
        raise ExportError(
            f"{node.name!r} is a signed stream, which {reader.name!r} reads: currents that are "
            f"{what} again have no integer form; only what neurons fire, and the image, has"
        )
    if reader.name not in places:
        return None  # read by nobody
    over = reader.divisor if isinstance(reader, AvgPool) else 1.0
    place = places[reader.name]
    return Place(place.root, place.over * over)
