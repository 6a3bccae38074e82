"""A spiking network run beside its ANN, layer by layer, on the same images.

Methods that look at spikes go through both in the order of the network: every population is
settled (corrected, or its amplitudes chosen) with the spikes that the settled ones before it fire,
and run over all images and steps before the next one is settled.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from spiking_resnet.graph import Conv2d, Fire, Graph, Input, Linear, MaxPool, Node, interpret
from spiking_resnet.neurons import Neuron, per_channel
from spiking_resnet.surroundings import undisturbed

NUMBERS = 2**22  # values of one layer worked on at once, over its images and steps


class LayerByLayer:
    """A spiking network and its ANN; a subclass settles populations and layers with weights.

    nodes: by name, settled so far. spiking and ann_values: the values of stations (nodes with
    memory, and the image) in either network, as long as later nodes need them. Every ReLU of `ann`
    is a population of that name in `graph`, which is in the units of `ann`. Spikes are held for all
    images [N, C, H, W] and `steps`, one byte each (two for many levels).
    """

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, steps: int) -> None:
        self.ann, self.graph, self.images, self.steps = ann, graph, images, steps
        self.nodes: dict[str, Node] = dict(graph.by_name)
        self.once = graph.input.encoding == "once"
        self.spiking: dict[str, _Sent] = {}
        self.ann_values: dict[str, Tensor] = {}
        self.behind = _behind(graph)
        self.last = {
            source: node.name
            for node in graph.nodes
            if node.integrates or isinstance(node, Conv2d | Linear)
            for source in self.behind[node.name]
        }
        stations = (node for node in graph.nodes if node.integrates)
        *before, output = stations
        settled = {name for node in before for name in _between(graph, node)}
        self.read_out = set(_between(graph, output)) - settled  # what the read-out alone reads

    def walk(self) -> None:
        """Settle every node in order."""
        with undisturbed():
            for node in self.graph.nodes:
                self.visit(node)

    def visit(self, node: Node) -> None:
        """Settle `node` and, if it has memory, run it over all images and steps."""
        reached = any(not isinstance(self.graph[name], Input) for name in self.behind[node.name])
        if isinstance(node, Conv2d | Linear) and reached:
            self.weigh(node)
        elif isinstance(node, Fire):
            self.ann_values[node.name] = torch.cat(
                [self.activation(node, part) for part in self.parts(node)]
            )
            self.fire(node)
        elif isinstance(node, MaxPool) and node.integrates:
            self._pool(node)
        for source in self.behind[node.name]:
            if self.last.get(source) == node.name:
                self.spiking.pop(source, None)
                self.ann_values.pop(source, None)

    def weigh(self, node: Conv2d | Linear) -> None:
        """Do nothing; a subclass may change a layer that spikes reach, in `nodes`."""

    def activation(self, node: Fire, part: slice) -> Tensor:
        """Return the value [n, ...] of the ANN's ReLU of this name."""
        return self.ann[node.name].value(self.wanted(node, part))

    def fire(self, node: Fire) -> None:
        """Do nothing; a subclass settles a population and calls `keep`."""
        raise NotImplementedError

    def keep(self, node: Fire, spikes: Iterable[Tensor]) -> None:
        """Keep a settled node and its spikes [T, n, ...], given portion by portion."""
        neuron, kept = node.neuron, _smallest(node.neuron.largest_size)
        sizes = torch.cat([neuron.sizes(part).to(kept) for part in spikes], 1)
        self.spiking[node.name] = _Sent(sizes, neuron)
        self.nodes[node.name] = node

    def parts(self, *nodes: Node) -> Iterator[slice]:
        """Yield slices of images that keep every value up to `nodes` within NUMBERS."""
        names = {name for node in nodes for name in (*_between(self.graph, node), node.name)}
        largest = max(torch.Size(self.graph[name].shape).numel() for name in names)
        size = max(1, NUMBERS // (largest * self.steps))
        for start in range(0, len(self.images), size):
            yield slice(start, start + size)

    def received(self, node: Node, part: slice) -> Tensor:
        """Return the input of `node` in the spiking network: [T, n, ...], or [1, n, ...] if
        constant.
        """
        values: dict[str, Tensor] = {}
        for name in _between(self.graph, node):
            source = self.graph[name]
            if name in self.spiking:
                values[name] = self.spiking[name].values(part)
            elif isinstance(source, Input):
                values[name] = self._presented(source, part)
            else:
                inputs = [values[each] for each in source.inputs]
                values[name] = self._through(self.nodes[name], inputs)
        return values[node.inputs[0]]

    def _presented(self, node: Input, part: slice) -> Tensor:
        images = self.images[part]
        if node.encoding == "constant":
            return images[None]
        return torch.stack([node.present(images, t) for t in range(self.steps)])

    def _through(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """Return a stateless node's value over all steps, [T or 1, n, ...]."""
        widest = max(len(value) for value in inputs)
        inputs = [value.expand(widest, *value.shape[1:]) for value in inputs]
        ends = [0, 1, widest] if self.once and widest > 1 else [0, widest]
        made = []
        for start, stop in pairwise(ends):
            flat = [value[start:stop].flatten(0, 1) for value in inputs]
            now = interpret.at_step(node, self.once, start)
            made.append(now.value(*flat).unflatten(0, (stop - start, -1)))
        return torch.cat(made)

    def wanted(self, node: Node, part: slice) -> Tensor:
        """Return the input of the node of this name in the ANN, [n, ...]."""
        values: dict[str, Tensor] = {}
        for name in _between(self.graph, node):
            if name not in self.ann.by_name:  # a current that only the spiking network has
                values[name] = values[self.graph[name].inputs[0]]
                continue
            source = self.ann[name]
            if name in self.ann_values:
                values[name] = self.ann_values[name][part]
            elif isinstance(source, Input):
                values[name] = self.images[part]
            else:
                inputs = [values[each] for each in source.inputs]
                values[name] = source.value(*inputs)
        return values[node.inputs[0]]

    def _pool(self, node: MaxPool) -> None:
        """Keep the values of a max pool in both networks."""
        relu, values = self.ann[node.name], []
        assert isinstance(relu, MaxPool)
        for part in self.parts(node):
            received = self.received(node, part)
            sums = received.expand(self.steps, *received.shape[1:]).cumsum(0)
            pooled = node.value(sums.flatten(0, 1)).unflatten(0, (len(sums), -1))
            values.append(torch.cat([pooled[:1], pooled.diff(dim=0)]))
        self.spiking[node.name] = _Sent(torch.cat(values, 1), None)
        self.ann_values[node.name] = torch.cat(
            [relu.value(self.wanted(node, part)) for part in self.parts(node)]
        )

    def run(self, neuron: Neuron, current: Tensor, shift: Tensor) -> Tensor:
        """Return the spikes [T, n, ...] of a population for a current [T or 1, n, ...] and a bias
        [C] added to it.
        """
        if bool(shift.any()):
            current = self._shifted(current, per_channel(shift, current[0]))
        spikes, _ = neuron.run(neuron.initial_state(current[0]), current, self.steps)
        return spikes.contiguous()

    def _shifted(self, current: Tensor, shift: Tensor) -> Tensor:
        """Return the current with a bias that enters at every step, or once."""
        if not self.once:
            return current + shift
        current = current.expand(self.steps, *current.shape[1:]).clone()
        current[0] += shift
        return current


@dataclass(frozen=True, eq=False)
class _Sent:
    """The values of a station over time: sizes [T, N, ...] of a population's spikes, or, without
    neurons, the values themselves.
    """

    sizes: Tensor
    neuron: Neuron | None

    def values(self, part: slice) -> Tensor:
        """Return the values [T, n, ...] for some of the images."""
        sizes = self.sizes[:, part].float()
        return sizes if self.neuron is None else self.neuron.decode(sizes)


def _smallest(largest: int) -> torch.dtype:
    """Return the smallest integer dtype that holds sizes of spikes up to `largest`."""
    kinds = (torch.int8, torch.int16, torch.int32)
    return next(kind for kind in kinds if largest <= torch.iinfo(kind).max)


def _between(graph: Graph, node: Node) -> list[str]:
    """Return the nodes that `node` is computed from in one step, back to stations, in order."""
    needed: set[str] = set()
    waiting = list(node.inputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            if not graph[name].integrates:
                waiting += graph[name].inputs
    return [each.name for each in graph.nodes if each.name in needed]


def _behind(graph: Graph) -> dict[str, Collection[str]]:
    """Return, for every node, the stations that its value is computed from in one step."""
    found: dict[str, Collection[str]] = {}
    for node in graph.nodes:
        stations: set[str] = set()
        for name in node.inputs:
            source = graph[name]
            own = source.integrates or isinstance(source, Input)
            stations |= {name} if own else set(found[name])
        found[node.name] = stations
    return found
