"""A spiking network beside its ANN, layer by layer, on the same images.

Methods that look at spikes go through both in the order of the network: every population is
settled (corrected, or its amplitudes chosen) with the spikes that the settled ones before it fire,
and run over all images and steps before the next one is settled.
"""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from spiking_resnet.graph import Conv2d, Fire, Graph, Input, Linear, Node
from spiking_resnet.progress import note
from spiking_resnet.surroundings import undisturbed

Weighted = Conv2d | Linear
AT_ONCE = 2**22  # values of the widest layer of the ANN that are computed at once


class LayerByLayer:
    """A spiking network and its ANN; a subclass settles populations and layers with weights.

    nodes: by name, settled so far. ann_values: what stations are in the ANN, [N, ...], as long as
    later nodes are computed from them. Stations are the populations, and `streams`: sums that
    several nodes read, which are computed once. Every ReLU of `ann` is a population of that name
    in `graph`, which is in the units of `ann`.
    """

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, steps: int) -> None:
        self.ann, self.graph, self.images, self.steps = ann, graph, images, steps
        self.nodes: dict[str, Node] = dict(graph.by_name)
        self.ann_values: dict[str, Tensor] = {}
        self.settled: set[str] = set()
        self.streams = _streams(graph) & ann.by_name.keys()
        self.stations = {node.name for node in graph.of(Fire)} | self.streams
        self.behind = behind(graph, self.stations)
        self.last = last_reached(graph, self.behind)

    def walk(self) -> None:
        """Settle every node in order."""
        with undisturbed():
            for node in self.graph.nodes:
                self.visit(node)
                for name in self.behind[node.name]:
                    if self.last.get(name) == node.name:
                        self.ann_values.pop(name, None)
                self.forget(node)

    def visit(self, node: Node) -> None:
        """Settle `node`; a station is also computed, in both networks."""
        if isinstance(node, Weighted) and self._hears_spikes(node):
            self.weigh(node)
        if node.name in self.stations:
            note(f"layer {len(self.settled) + 1} of {len(self.stations)}")
            self.settled.add(node.name)
            parts = (self.activation(node, part) for part in self._parts(node))
            self.ann_values[node.name] = torch.cat(list(parts))
            if isinstance(node, Fire):
                self.fire(node)
            else:
                self.add_up(node)

    def weigh(self, node: Weighted) -> None:
        """Do nothing; a subclass may change a layer that spikes reach, in `nodes`."""

    def fire(self, node: Fire) -> None:
        """Settle a population, in `nodes`, and run it."""
        raise NotImplementedError

    def add_up(self, node: Node) -> None:
        """Do nothing; a subclass may compute what a stream is in the spiking network."""

    def forget(self, node: Node) -> None:
        """Do nothing; a subclass gives back what nobody needs after `node`."""

    def activation(self, node: Node, part: slice) -> Tensor:
        """Return the value [n, ...] of the ANN's node of this name."""
        own = self.ann[node.name]
        return own.value(*(self._in_ann(node, part)[name] for name in node.inputs))

    def wanted(self, node: Node, part: slice) -> Tensor:
        """Return the (first) input of the node of this name in the ANN, [n, ...]."""
        return self._in_ann(node, part)[node.inputs[0]]

    def _in_ann(self, node: Node, part: slice) -> dict[str, Tensor]:
        """Return the ANN's values that the node of this name is computed from."""
        values: dict[str, Tensor] = {}
        for name in between(self.graph, node, self.stations):
            if name in self.ann_values:
                values[name] = self.ann_values[name][part]
            elif name not in self.ann.by_name:  # a current that only the spiking network has
                values[name] = values[self.graph[name].inputs[0]]
            elif isinstance(self.ann[name], Input):
                values[name] = self.images[part]
            else:
                inputs = [values[each] for each in self.ann[name].inputs]
                values[name] = self.ann[name].value(*inputs)
        return values

    def _hears_spikes(self, node: Node) -> bool:
        return any(not isinstance(self.graph[name], Input) for name in self.behind[node.name])

    def _parts(self, node: Node) -> list[slice]:
        """Return slices of images in whose values of one step AT_ONCE are not exceeded."""
        names = (*between(self.graph, node, self.stations), node.name)
        widest = max(numbers(self.graph[name]) for name in names)
        return portions(len(self.images), AT_ONCE // widest)


def numbers(node: Node) -> int:
    """Return how many numbers the node's value is for one image."""
    return torch.Size(node.shape).numel()


def portions(images: int, size: int) -> list[slice]:
    """Return slices of so many images, at least one in each."""
    size = max(1, size)
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


def between(graph: Graph, node: Node, stations: Collection[str]) -> list[str]:
    """Return what `node` is computed from in one step, back to stations or the image, in order."""
    needed: set[str] = set()
    waiting = list(node.inputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            if name not in stations:
                waiting += graph[name].inputs
    return [each.name for each in graph.nodes if each.name in needed]


def behind(graph: Graph, stations: Collection[str]) -> dict[str, Collection[str]]:
    """Return, for every node, the stations that it is computed from in one step, or the image."""
    found: dict[str, Collection[str]] = {}
    for node in graph.nodes:
        reached: set[str] = set()
        for name in node.inputs:
            own = name in stations or isinstance(graph[name], Input)
            reached |= {name} if own else set(found[name])
        found[node.name] = reached
    return found


def last_reached(graph: Graph, behind: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return, for every station, the last node that is computed from it in one step."""
    return {name: node.name for node in graph.nodes for name in behind[node.name]}


def _streams(graph: Graph) -> set[str]:
    """Return the nodes that several others read, computed from spikes with weights."""
    populations = {node.name for node in graph.of(Fire)}
    spikes = behind(graph, populations)
    weighed: dict[str, bool] = {}  # since the last population
    for node in graph.nodes:
        before = any(weighed[name] for name in node.inputs)
        weighed[node.name] = not node.is_population and (before or node.has_synapses)
    return {
        name
        for name, own in weighed.items()
        if own and len(graph.consumers[name]) > 1 and populations & set(spikes[name])
    }
