"""Folding of BatchNorm into the convolution before it.

W' = gamma / sigma * W and b' = beta - gamma * mu / sigma (+ gamma / sigma * b).
"""

from dataclasses import replace

from spiking_resnet.graph import Affine, Conv2d, Graph, Linear, Node, tensors, with_tensors


def fold_bn(graph: Graph) -> Graph:
    """Return the same network with every Affine that alone reads a Conv2d or Linear merged into it.

    Exact but for rounding: products are formed in float64. What cannot be merged (a BatchNorm
    before its convolution, or after a convolution with another reader) stays, in float32.
    """
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        before = nodes.get(node.inputs[0]) if node.inputs else None
        if isinstance(node, Affine):
            alone = before is not None and len(graph.consumers[graph[node.name].inputs[0]]) == 1
            if alone and isinstance(before, Conv2d | Linear):
                nodes[before.name] = _merged(before, node)
                renamed[node.name] = before.name
                continue
            node = with_tensors(node, {name: t.float() for name, t in tensors(node).items()})
        nodes[node.name] = node
    return graph.with_nodes(nodes.values())


def _merged(node: Conv2d | Linear, affine: Affine) -> Conv2d | Linear:
    """Return `node` followed by `affine`, as one node."""
    gain = affine.scale.double().expand(node.weight.shape[0])
    weight = node.weight.double() * gain.view(-1, *([1] * (node.weight.ndim - 1)))
    bias = None if node.bias is None else node.bias.double() * gain
    if affine.shift is not None:
        bias = affine.shift.double() + (0 if bias is None else bias)
    return replace(node, weight=weight.float(), bias=None if bias is None else bias.float())
