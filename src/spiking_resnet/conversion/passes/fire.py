"""Spiking neurons in the place of ReLUs; values stay in the ANN's units.

A spike of a layer carries the layer's threshold, x(t) = theta * s(t). Branch, identity and
projection currents of a residual block then add correctly without any gains (METHODS: "the same
thing, simpler"); the paper's gains appear when `normalise` divides every layer by its threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spiking_resnet.graph import AvgPool, Fire, Graph, Node, ReLU, rename_inputs
from spiking_resnet.graph.structure import spike_scale
from spiking_resnet.neurons import IntegrateAndFire, Reset


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What neurons to make: initial potential as a fraction of the threshold, the rest as in
    `IntegrateAndFire`.
    """

    initial_potential: float = 0.5
    reset: Reset = "subtract"
    levels: int = 1
    signed: bool = False

    def population(self, threshold: Tensor) -> IntegrateAndFire:
        """Return neurons whose spikes carry their threshold, [] or [C]."""
        return IntegrateAndFire(
            threshold=threshold,
            initial_potential=threshold * self.initial_potential,
            amplitude=threshold,
            reset=self.reset,
            levels=self.levels,
            signed=self.signed,
        )


def fire(graph: Graph, thresholds: Mapping[str, Tensor], kind: Kind) -> Graph:
    """Return `graph` with every ReLU replaced by a population of integrate-and-fire neurons.

    thresholds: by ReLU name, [] or [C].
    """

    def spiking(node: Node) -> Node:
        if not isinstance(node, ReLU):
            return node
        neuron = kind.population(thresholds[node.name])
        return Fire(
            name=node.name, inputs=node.inputs, shape=node.shape, source=node.source, neuron=neuron
        )

    return graph.with_nodes(spiking(node) for node in graph.nodes)


def fire_after_pools(graph: Graph, kind: Kind) -> Graph:
    """Return `graph` with a population after every average pool that reads spikes.

    Its threshold is the most that the pool can hand on, so it stands for the identity there: that
    of the spikes it pools, theta, for a mean (the paper; threshold unchanged), k^2 * theta for the
    sum of a window.
    """
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    scales: dict[str, Tensor] = {}  # amplitudes of spikes, by the names in `graph`
    for node in graph.nodes:
        nodes.append(rename_inputs(node, renamed))
        if isinstance(node, Fire):
            scales[node.name] = node.neuron.amplitude
        elif node.hands_on and all(n in scales for n in node.inputs):
            if not isinstance(node, AvgPool):
                scales[node.name] = spike_scale(graph, node, scales)
                continue
            share = node.kernel[0] * node.kernel[1] / node.divisor
            neuron = kind.population(scales[node.inputs[0]] * share)
            name = f"{node.name}.fire"
            nodes.append(Fire(name=name, inputs=(node.name,), shape=node.shape, neuron=neuron))
            renamed[node.name] = name
            scales[node.name] = neuron.amplitude
    return graph.with_nodes(nodes)


def fire_at_output(graph: Graph, thresholds: Mapping[str, Tensor], kind: Kind) -> Graph:
    """Return `graph` with neurons on the logits, read out as spike count + softmax(membrane)."""
    *inner, output = graph.nodes
    threshold = thresholds[output.name]
    neuron = replace(kind.population(threshold), amplitude=torch.ones((), dtype=torch.float32))
    population_node = Fire(
        name="output.fire", inputs=output.inputs, shape=output.shape, neuron=neuron
    )
    read = replace(
        graph.output,
        inputs=(population_node.name,),
        readout="spikes+membrane",
        scale=float(threshold),
    )
    return graph.with_nodes([*inner, population_node, read])
