"""Bias shift: a constant current in the place of an initial potential.

Deng and Gu, "Optimal Conversion of Conventional Artificial Neural Networks to Spiking Neural
Networks", ICLR 2021: potentials start at 0, and every step's input current is theta / (2 T) higher.
For a constant input x the count over T steps is that of v0 = theta / 2 and no shift,

    clip(floor(T (x + theta / (2 T)) / theta), 0, T) = clip(floor((theta / 2 + T x) / theta), 0, T)

but the half threshold has arrived at the end of the T steps only, so spikes come later.
"""

from collections.abc import Mapping

from torch import Tensor

from spiking_resnet.graph import Conv2d, Fire, Graph, Linear, Node
from spiking_resnet.graph.structure import bias_before, bias_carrier, with_bias


def shift_currents(graph: Graph, shifts: Mapping[str, Tensor]) -> Graph:
    """Return `graph` whose populations receive a constant current more at every step.

    shifts: by the population's name, [] or [C], in the unit of its input. Each is added to the bias
    of a layer that only this population reads, or in a node of its own.
    """
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        nodes[node.name] = node
        if not isinstance(node, Fire) or node.name not in shifts:
            continue
        shift = shifts[node.name].expand(node.shape[0])
        name = bias_carrier(graph, node)
        if name is None:
            shape = graph[node.inputs[0]].shape
            own, reading = bias_before(node, shape, shift)
            del nodes[node.name]
            nodes |= {own.name: own, node.name: reading}
            continue
        layer = nodes[name]
        assert isinstance(layer, Conv2d | Linear)
        nodes[name] = with_bias(layer, shift)
    return graph.with_nodes(nodes.values())
