"""Layer by layer through a network in its ANN's units, simulated in float32 off any grid."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from spiking_resnet.conversion.layer_by_layer import LayerByLayer, between, numbers, portions
from spiking_resnet.graph import Fire, Graph, Input, MaxPool, Node, interpret
from spiking_resnet.neurons import Neuron

AT_ONCE = 2**22  # values of the widest layer, over its images and steps, that are computed at once
HELD = 2**27  # currents of one layer that are kept; more are computed again (2^29 bytes)

Currents = Callable[[], Iterator[tuple[slice, Tensor]]]  # of portions of images, [T or 1, n, ...]


class Simulated(LayerByLayer):
    """What reaches the populations of a network whose image enters constantly, or once.

    sent: the spikes of settled populations, and streams over time. Spikes are held for all images
    and steps, one byte each (more for many sizes), streams in four.
    """

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, steps: int) -> None:
        super().__init__(ann, graph, images, steps)
        self.once = graph.input.encoding == "once"
        self.sent: dict[str, _Sent] = {}

    def add_up(self, node: Node) -> None:
        """Compute what a stream is at every step."""
        found = [self._computed(node, part) for part in self.portions(node)]
        self.sent[node.name] = _Sent(torch.cat(found, 1), None)

    def forget(self, node: Node) -> None:
        """Give back what nobody needs after `node`."""
        for name in self.behind[node.name]:
            if self.last[name] == node.name:
                self.sent.pop(name, None)

    def keep(self, node: Fire, sizes: list[Tensor]) -> None:
        """Keep a settled population and the sizes [T, n, ...] of its spikes, by portions."""
        self.sent[node.name] = _Sent(torch.cat(sizes, 1), node.neuron)
        self.nodes[node.name] = node

    def portions(self, node: Node) -> list[slice]:
        """Return slices of images in whose values over all steps AT_ONCE are not exceeded."""
        names = (*between(self.graph, node, self.stations), node.name)
        widest = max(numbers(self.graph[name]) for name in names)
        return portions(len(self.images), AT_ONCE // (widest * self.steps))

    def currents(self, node: Fire) -> Currents:
        """Return what yields the currents of a population, computed once if they can be held."""

        def computed() -> Iterator[tuple[slice, Tensor]]:
            for part in self.portions(node):
                yield part, self._values(node, part)[node.inputs[0]]

        if numbers(node) * len(self.images) * self.steps > HELD:
            return computed
        held = list(computed())
        return lambda: iter(held)

    def over_time(self, value: Tensor, steps: int) -> Tensor:
        """Return a value [T, n, ...], given [T or 1, n, ...]: of one step where it enters once."""
        if len(value) == steps:
            return value
        if not self.once:
            return value.expand(steps, *value.shape[1:])
        return torch.cat([value, value.new_zeros(steps - 1, *value.shape[1:])])

    def _values(self, node: Node, part: slice) -> dict[str, Tensor]:
        """Return what `node` is computed from: [T, n, ...], or [1, n, ...] where no spike arrives:
        then it is the same at every step, or enters at the first one alone.
        """
        values: dict[str, Tensor] = {}
        for name in between(self.graph, node, self.stations):
            source = self.nodes[name]
            if name in self.sent:
                values[name] = self.sent[name].values(part)
            elif isinstance(source, Input):
                values[name] = source.present(self.images[part], 0)[None]
            else:
                values[name] = self._through(source, [values[each] for each in source.inputs])
        return values

    def _computed(self, node: Node, part: slice) -> Tensor:
        values = self._values(node, part)
        return self._through(self.nodes[node.name], [values[name] for name in node.inputs])

    def _through(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """Return a node's value over all steps, [T or 1, n, ...]."""
        widest = max(len(value) for value in inputs)
        inputs = [self.over_time(value, widest) for value in inputs]
        if isinstance(node, MaxPool) and node.integrates:
            sums = self.over_time(inputs[0], self.steps).cumsum(0)
            pooled = node.value(sums.flatten(0, 1)).unflatten(0, (len(sums), -1))
            return torch.cat([pooled[:1], pooled.diff(dim=0)])
        ends = [0, 1, widest] if self.once and widest > 1 else [0, widest]
        made = []
        for start, stop in pairwise(ends):
            flat = [value[start:stop].flatten(0, 1) for value in inputs]
            now = interpret.at_step(node, self.once, start)
            made.append(now.value(*flat).unflatten(0, (stop - start, -1)))
        return torch.cat(made) if len(made) > 1 else made[0]


@dataclass(frozen=True, eq=False)
class _Sent:
    """The values of a station over time: sizes [T, N, ...] of a population's spikes, or, without
    neurons, the values themselves.
    """

    numbers: Tensor
    neuron: Neuron | None

    def values(self, part: slice) -> Tensor:
        """Return the values [T, n, ...] for some of the images."""
        found = self.numbers[:, part].float()
        return found if self.neuron is None else found.mul_(self.neuron.unit(found))


def smallest(largest: int) -> torch.dtype:
    """Return the smallest integer dtype that holds sizes of spikes up to `largest`."""
    kinds = (torch.int8, torch.int16, torch.int32)
    return next(kind for kind in kinds if largest <= torch.iinfo(kind).max)
