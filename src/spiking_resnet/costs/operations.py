"""The synaptic operations (SynOps) that a spiking network spends on an image.

A spike is added to the potential of every neuron that its neuron has a synapse to: one
synaptic operation for each. Pools, slices and the like pass spikes on without weights; these are
counted where they arrive. Counts of spikes are known by population, not by neuron, so a spike costs
the mean fan-out of its population (neurons at a map's border have fewer synapses).

Spikes of several levels count as so many spikes, as in all counts of this package; a differential
neuron's spike counts as one, whatever its size. Behind a max pool spikes are counted as if it
handed on the mean of its window, which is the least it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.costs.sizes import sizes
from spiking_resnet.graph import Fire, Graph, Node, Output
from spiking_resnet.graph.structure import carries_spikes, spiking_depth
from spiking_resnet.records import Point
from spiking_resnet.surroundings import undisturbed


@dataclass(frozen=True)
class Costs:
    """What a spiking network spends on one image, by step and by spike.

    per_spike: the mean number of synapses that a spike of a population passes, by its name.
    neurons: of every population. per_step: multiply-accumulates, at every step, of layers that
    read currents instead of spikes (signed residual streams). image: multiply-accumulates of what
    the image alone decides; that is computed once.
    """

    per_spike: Mapping[str, float]
    neurons: Mapping[str, int]
    per_step: int = 0
    image: int = 0

    def operations(self, point: Point) -> float:
        """Return the SynOps of an image up to a point of a curve, without `image`."""
        spikes = {
            name: point.steps * rate * self.neurons[name] for name, rate in point.layers.items()
        }
        return self.spent(spikes, point.steps)

    def spent(self, spikes: Mapping[str, float], steps: float) -> float:
        """Return the SynOps of an image with so many spikes of each population in so many steps."""
        each = (count * self.per_spike[name] for name, count in spikes.items())
        return sum(each) + steps * self.per_step


def costs(graph: Graph) -> Costs:
    """Return what the spikes and steps of a spiking network cost."""
    spikes, depth, own = carries_spikes(graph), spiking_depth(graph), sizes(graph.nodes)
    weighted = [node for node in graph.nodes if node.has_weights and not spikes[node.inputs[0]]]
    neurons = graph.neurons
    return Costs(
        per_spike={name: float(fan.mean()) for name, fan in fan_out(graph).items()},
        neurons=neurons,
        per_step=sum(own[node.name].macs for node in weighted if depth[node.name] > 0),
        image=sum(own[node.name].macs for node in weighted if depth[node.name] == 0),
    )


def fan_out(graph: Graph) -> dict[str, Tensor]:
    """Return the synapses that lead on from every neuron, [C, ...] float64, by population.

    It is the derivative of all arriving spikes with respect to the spikes of a neuron. A synapse
    without a weight (an identity that enters a sum, an average pool's) is one too.
    """
    spikes = carries_spikes(graph)
    with undisturbed(), torch.enable_grad():
        fired = {
            node.name: torch.ones(1, *node.shape, dtype=torch.float64, requires_grad=True)
            for node in graph.of(Fire)
        }
        values: dict[str, Tensor] = {}  # of what carries spikes
        arriving = torch.zeros((), dtype=torch.float64)
        for node in graph.nodes:
            inputs = [values[name] for name in node.inputs if name in values]
            if isinstance(node, Fire):
                values[node.name] = fired[node.name]
            elif spikes[node.name] and len(inputs) == len(node.inputs) > 0:
                values[node.name] = node.handed_on(*inputs)
            arriving = arriving + sum(_arrivals(graph, node, value) for value in inputs)
        if not arriving.requires_grad:  # nothing reads spikes but the read-out's own neurons
            return {
                name: torch.zeros(ones.shape[1:], dtype=torch.float64)
                for name, ones in fired.items()
            }
        found = torch.autograd.grad(
            arriving, list(fired.values()), allow_unused=True, materialize_grads=True
        )
    return {name: each[0] for name, each in zip(fired, found, strict=True)}


def _arrivals(graph: Graph, node: Node, spikes: Tensor) -> Tensor | float:
    """Return the spikes that end in a node, once for each synapse; 0 if it passes them on."""
    if node.hands_on or (isinstance(node, Output) and isinstance(graph[node.inputs[0]], Fire)):
        return 0.0
    return node.connections(spikes) if node.has_synapses else spikes.sum()
