"""The structure of a graph: which values are spikes, which inputs of a sum are shortcuts."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from spiking_resnet.graph import Add, Affine, Conv2d, Fire, Graph, Linear, Node, Shape


def carries_spikes(graph: Graph) -> dict[str, bool]:
    """Return, for every node, whether its values are spikes or unweighted sums of spikes.

    Divided by the amplitude of one spike they are integers.
    """
    spikes: dict[str, bool] = {}
    for node in graph.nodes:
        spikes[node.name] = node.carries_spikes([spikes[name] for name in node.inputs])
    return spikes


def shapes_read(graph: Graph, node: Node) -> list[Shape]:
    """Return the shapes of a node's inputs."""
    return [graph[name].shape for name in node.inputs]


def spike_scale(graph: Graph, node: Node, scales: Mapping[str, Tensor]) -> Tensor:
    """Return the amplitude ([] or [C]) of the spikes that a node outputs, given its inputs'."""
    return node.spike_scale([scales[name] for name in node.inputs], shapes_read(graph, node))


def spiking_depth(graph: Graph) -> dict[str, int]:
    """Return, for every node, the most populations on any path to it from the image."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        before = max((depth[name] for name in node.inputs), default=0)
        depth[node.name] = before + node.is_population
    return depth


def layers_deep(graph: Graph) -> int:
    """Return the most convolutions and linear layers on any path through a network: its depth."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        before = max((depth[name] for name in node.inputs), default=0)
        depth[node.name] = before + node.has_weights
    return depth[graph.output.name]


def weighted(graph: Graph) -> dict[str, bool]:
    """Return, for every node, whether a Conv2d or Linear lies between it and its input neurons."""
    found: dict[str, bool] = {}
    for node in graph.nodes:
        own = node.has_weights
        before = not node.is_population and any(found[name] for name in node.inputs)
        found[node.name] = own or before
    return found


def shortcuts(graph: Graph) -> dict[str, list[int]]:
    """Return, for every Add, the positions of its shortcut inputs.

    A shortcut is an input with fewer populations behind it than another, or one without weights.
    """
    depth, has_weights = spiking_depth(graph), weighted(graph)
    found: dict[str, list[int]] = {}
    for node in graph.of(Add):
        deepest = max(depth[name] for name in node.inputs)
        found[node.name] = [
            position
            for position, name in enumerate(node.inputs)
            if depth[name] < deepest or not has_weights[name]
        ]
    return found


def bias_carrier(graph: Graph, node: Fire) -> str | None:
    """Return the name of a Conv2d or Linear whose bias reaches this population alone.

    None where there is none (what it reads others read too): a bias then needs a node of its own.
    """

    def alone(name: str) -> bool:
        return graph[name].has_weights and len(graph.consumers[name]) == 1

    name = node.inputs[0]
    while isinstance(graph[name], Add) and len(graph.consumers[name]) == 1:
        inputs = graph[name].inputs
        name = next((each for each in inputs if alone(each)), inputs[0])
    return name if alone(name) else None


def fed_by(graph: Graph, node: Node) -> Fire | None:
    """Return the population that alone reads a node, straight or through sums, or None."""
    readers = graph.consumers[node.name]
    while len(readers) == 1 and isinstance(readers[0], Add):
        readers = graph.consumers[readers[0].name]
    return readers[0] if len(readers) == 1 and isinstance(readers[0], Fire) else None


def with_bias(node: Conv2d | Linear, shift: Tensor) -> Conv2d | Linear:
    """Return `node` with `shift` [C] added to its bias."""
    return replace(node, bias=shift if node.bias is None else node.bias + shift)


def bias_name(node: Fire) -> str:
    """Return the name that `bias_before` gives to its node."""
    return f"{node.name}.bias"


def bias_before(node: Fire, shape: Shape, shift: Tensor) -> tuple[Affine, Fire]:
    """Return a node that adds `shift` [C] to the input of `node`, and `node` reading that."""
    name = bias_name(node)
    own = Affine(
        name=name,
        inputs=node.inputs,
        shape=shape,
        scale=torch.ones((), dtype=torch.float32),
        shift=shift,
    )
    return own, replace(node, inputs=(name,))


def scale_input(
    graph: Graph, nodes: dict[str, Node], node: Node, position: int, gain: Tensor, suffix: str
) -> Node:
    """Return `node` with input `position` read through an Affine of this gain, put into `nodes`.

    A gain of its own that it has already (nobody else in `graph` reads it) is multiplied, so that
    spikes pass one Affine at most.
    """
    source = nodes[node.inputs[position]]
    alone = len(graph.consumers.get(source.name, ())) <= 1
    own = source.name.startswith(f"{node.name}.")
    if own and alone and isinstance(source, Affine) and source.shift is None:
        nodes[source.name] = replace(source, scale=source.scale * gain)
        return node
    name = f"{node.name}.{suffix}{position}"
    nodes[name] = Affine(name=name, inputs=(source.name,), shape=source.shape, scale=gain)
    return replace(node, inputs=(*node.inputs[:position], name, *node.inputs[position + 1 :]))
