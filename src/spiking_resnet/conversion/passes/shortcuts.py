"""A network without the paper's shortcut conversion, for the ablation.

The conversion brings both paths of a residual block to one scale: the identity gets the gain
lambda_in / lambda_out, the projection is normalised by the lambda of the ReLU after the sum. While
a spike carries its threshold both hold by construction; this pass undoes them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from spiking_resnet.graph import Add, Fire, Graph, Node
from spiking_resnet.graph.structure import scale_input, shortcuts, weighted


def projections(graph: Graph) -> list[str]:
    """Return the names of the values that enter sums as shortcuts with weights (projections)."""
    has_weights = weighted(graph)
    return [
        graph[add].inputs[position]
        for add, positions in shortcuts(graph).items()
        for position in positions
        if has_weights[graph[add].inputs[position]]
    ]


def unconverted(graph: Graph, own: Mapping[str, Tensor]) -> Graph:
    """Return `graph` with every layer normalised as a link of a chain, and sums taken as they come.

    An identity enters with gain 1 instead of lambda_in / lambda_out; a projection is normalised by
    the threshold of its own output (`own`, by name) instead of that of the ReLU after the sum.
    Thresholds must be one number a layer.
    """
    has_weights, found = weighted(graph), shortcuts(graph)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        after = next((n for n in graph.consumers[node.name] if isinstance(n, Fire)), None)
        if isinstance(node, Add) and after is not None:
            changed: Node = node
            for position in found[node.name]:
                name = node.inputs[position]
                unit = own[name] if has_weights[name] else _amplitude(graph, name)
                gain = after.neuron.threshold / unit
                changed = scale_input(graph, nodes, changed, position, gain, "unconverted")
            nodes[node.name] = changed
        else:
            nodes[node.name] = node
    return graph.with_nodes(nodes.values())


def _amplitude(graph: Graph, name: str) -> Tensor:
    """Return the amplitude of the spikes that reach an identity shortcut."""
    node = graph[name]
    while not isinstance(node, Fire):
        if not node.inputs:
            return torch.ones((), dtype=torch.float32)
        node = graph[node.inputs[0]]
    return node.neuron.amplitude
