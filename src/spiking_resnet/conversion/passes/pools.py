"""Max pools in the form that spikes can compute."""

from dataclasses import replace

from spiking_resnet.graph import Graph, MaxPool, Node, ReLU
from spiking_resnet.graph.structure import spiking_depth


def relu_first(graph: Graph) -> Graph:
    """Return the network with `ReLU(MaxPool(x))` written as `MaxPool(ReLU(x))`, which is equal.

    The spiking max pool compares spike counts, so it must read neurons. The pair is exchanged where
    the ReLU is the pool's only reader.
    """
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        before = nodes.get(node.inputs[0]) if node.inputs else None
        pooled = isinstance(node, ReLU) and isinstance(before, MaxPool)
        if before is not None and pooled and len(graph.consumers[before.name]) == 1:
            source = nodes[before.inputs[0]]
            del nodes[before.name]
            nodes[node.name] = replace(node, inputs=(source.name,), shape=source.shape)
            nodes[before.name] = replace(before, inputs=(node.name,))
            renamed[node.name] = before.name
        else:
            nodes[node.name] = node
    return graph.with_nodes(nodes.values())


def cumulative_pools(graph: Graph) -> Graph:
    """Return `graph` with the paper's spiking max pool: the largest spike count decides.

    A pool of what is the same at every step (the image itself) stays as it was.
    """
    constant = graph.input.encoding == "constant"
    depth = spiking_depth(graph)
    return graph.with_nodes(
        replace(node, rule="cumulative")
        if isinstance(node, MaxPool) and not (constant and depth[node.name] == 0)
        else node
        for node in graph.nodes
    )
