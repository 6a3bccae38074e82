"""Layer-serial firing: a population fires only after all that it reads has fired.

What arrives is then complete, whatever its order, so nothing is left of uneven arrival: a network
of one-step neurons with T levels and the layer-serial one of T spikes hand on the same sums (the
"parallel" neuron of Hao et al., ICML 2025). The price is latency, which grows with depth.
"""

from dataclasses import replace

from spiking_resnet.graph import Fire, Graph, Input, Node, Output
from spiking_resnet.neurons import Serial


def fire_serially(graph: Graph, window: int) -> Graph:
    """Return `graph`, made for one step with `window` levels, with layer-serial neurons instead.

    Image and biases enter once, and the read-out sums up. A population starts at the step in which
    the last of what it reads may fire, since spikes arrive within their step: with `window` 1 all
    is done in one.
    """
    nodes: list[Node] = []
    arrived: dict[str, int] = {}  # by node: the last step in which anything can arrive from it
    for node in graph.nodes:
        begin = max((arrived[name] for name in node.inputs), default=0)
        arrived[node.name] = begin
        if isinstance(node, Input):
            node = replace(node, encoding="once")
        elif isinstance(node, Output):
            node = replace(node, readout="sum")
        elif isinstance(node, Fire):
            neuron = Serial(
                threshold=node.neuron.threshold,
                initial_potential=node.neuron.initial_potential,
                amplitude=node.neuron.amplitude,
                start=begin,
                window=window,
            )
            node = replace(node, neuron=neuron)
            arrived[node.name] = begin + window - 1
        nodes.append(node)
    return graph.with_nodes(nodes)
