"""What layers of a network receive while it is calibrated: sums of spikes that were sent before."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spiking_resnet.conversion.layer_by_layer import (
    LayerByLayer,
    Weighted,
    behind,
    between,
    last_reached,
    numbers,
    portions,
)
from spiking_resnet.engines.parts import Spikes, counted
from spiking_resnet.graph import Fire, Graph, Input, MaxPool, Node
from spiking_resnet.neurons import per_channel

SPIKES = 2**28  # neurons times steps, of one layer, that are run at once: 2^25 bytes of bits
MOST = 64  # images that are run at once


class Receiving(LayerByLayer):
    """A spiking network and its ANN, with the spikes of populations that are settled.

    portions: slices of the images that are run at once, at least so many as there are `parts`, as
    far as there are images. sent: the spikes of populations, one of each portion, as long as later
    nodes hear them.
    """

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, steps: int, parts: int) -> None:
        super().__init__(ann, graph, images, steps)
        self.sent: dict[str, list[Spikes]] = {}
        self.populations = {node.name for node in graph.of(Fire)}
        widest = max((numbers(node) for node in graph.of(Fire)), default=1)
        most = min(MOST, SPIKES // (widest * steps), -(-len(images) // parts))
        self.portions = portions(len(images), most)
        self.spikes_behind = behind(graph, self.populations)
        self.last_heard = last_reached(graph, self.spikes_behind)

    def forget(self, node: Node) -> None:
        """Give back the spikes that nobody needs after `node`."""
        for name in self.spikes_behind[node.name]:
            if self.last_heard[name] == node.name:
                self.sent.pop(name, None)

    def received(
        self, node: Node, part: slice, index: int, first: int = 0, but: str = ""
    ) -> Tensor:
        """Return the mean input [n, ...] of a node over the steps from `first` on, float64; without
        what the node of the name `but` brings.
        """
        total = self._summed(node, part, index, self.steps, but)
        if first:
            total = total - self._summed(node, part, index, first, but)
        return total / (self.steps - first)

    def _summed(self, node: Node, part: slice, index: int, steps: int, but: str) -> Tensor:
        """Return the sum [n, ...] of what a node receives in the first steps, float64.

        All that lies between is linear over time, or a pool of sums; a pool of instants is not.
        """
        names = between(self.graph, node, {*self.populations, but})
        if not any(_instant(self.graph[name]) for name in names):
            sent = {
                name: counted(self.sent[name][index], 0, steps) for name in self._sending(names)
            }
            return self._value(names, node, self.images[part], sent, steps, but)
        total = torch.zeros((), dtype=torch.float64)
        for now in range(steps):
            sent = {
                name: counted(self.sent[name][index], now, now + 1) for name in self._sending(names)
            }
            total = total + self._value(names, node, self.images[part], sent, 1, but)
        return total

    def _sending(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self.populations]

    def _value(
        self,
        names: Sequence[str],
        node: Node,
        images: Tensor,
        sent: Mapping[str, Tensor],
        steps: int,
        but: str,
    ) -> Tensor:
        """Return what a node receives in `steps` steps, computed through `names` from images and
        the number of spikes [n, ...] of populations; the node `but` counts for nothing.
        """
        values: dict[str, Tensor] = {}
        for name in names:
            own = self.nodes[name]
            if name == but:
                values[name] = torch.zeros((len(images), *own.shape), dtype=torch.float64)
            elif isinstance(own, Fire):
                values[name] = sent[name] * per_channel(own.neuron.amplitude.double(), sent[name])
            elif isinstance(own, Input):
                values[name] = images.double() * steps
            else:
                values[name] = own.summed(steps).value(*(values[each] for each in own.inputs))
        return values[node.inputs[0]]

    def heard(self, node: Weighted, part: slice, index: int, first: int) -> tuple[Tensor, Tensor]:
        """Return the mean input of a layer over the steps from `first` on, as numbers [n, C, ...]
        and what 1 of each channel stands for, float64 [C]: numbers of spikes, where it hears those
        of one population alone.
        """
        own = self.nodes[node.inputs[0]]
        if isinstance(own, Fire):
            counts = counted(self.sent[own.name][index], first, self.steps)
            unit = own.neuron.amplitude.double().expand(own.shape[0]) / (self.steps - first)
            return counts, unit
        received = self.received(node, part, index, first)
        return received, torch.ones(received.shape[1], dtype=torch.float64)


def _instant(node: Node) -> bool:
    """Return whether the node is a pool of what its inputs are at an instant."""
    return isinstance(node, MaxPool) and not node.integrates
