"""Gated neurons: pre-steps whose residual potentials correct the counted steps (neurons/gated.py).

All populations run the pre-steps at once, and start again at once. (COS as published calibrates one
layer after the other, each on the corrected output of the one before.)
"""

from dataclasses import replace

from spiking_resnet.graph import Fire, Graph, MaxPool, Node, Output
from spiking_resnet.neurons import Gate, Gated
from spiking_resnet.records import InputError


def gate_neurons(graph: Graph, kind: Gate, pre_steps: int) -> Graph:
    """Return `graph` with gated neurons, and a read-out that leaves the pre-steps out.

    Raises InputError for max pools of spikes, whose counts would go on from the pre-steps.
    """
    pools = [node for node in graph.of(MaxPool) if node.rule == "cumulative"]
    if pools:
        raise InputError(
            f"{pools[0].name!r} is a max pool of spikes, and pre-steps need a network that can "
            "start again: train it with average pools, or convert it without a gate"
        )

    def gated(node: Node) -> Node:
        if isinstance(node, Output):
            return replace(node, delay=pre_steps)
        if not isinstance(node, Fire):
            return node
        neuron = Gated(
            threshold=node.neuron.threshold,
            initial_potential=node.neuron.initial_potential,
            amplitude=node.neuron.amplitude,
            pre_steps=pre_steps,
            gate=kind,
        )
        return replace(node, neuron=neuron)

    return graph.with_nodes(gated(node) for node in graph.nodes)
