"""Simpler forms of a network for NIR: without dead ends, chains of moves, or vectors."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import torch

from spiking_resnet.export.format import ExportError
from spiking_resnet.graph import Conv2d, Fire, Flatten, Graph, Linear, Node


def without_dead_ends(graph: Graph) -> Graph:
    """Return `graph` without what the read-out does not depend on: NIR would add outputs there."""
    needed = {graph.output.name}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return graph.with_nodes(node for node in graph.nodes if node.name in needed)


def merged(graph: Graph) -> Graph:
    """Return `graph` with one 1x1 convolution in the place of two, where the first only moves."""
    while pair := next(_pairs(graph), None):
        first, second = pair
        weight = second.weight.flatten(1) @ first.weight.flatten(1).to(second.weight.dtype)
        rows, columns = (
            one * other for one, other in zip(first.stride, second.stride, strict=True)
        )
        both = replace(
            second, inputs=first.inputs, weight=weight[:, :, None, None], stride=(rows, columns)
        )
        graph = graph.with_nodes(
            both if node is second else node for node in graph.nodes if node is not first
        )
    return graph


def _pairs(graph: Graph) -> Iterator[tuple[Conv2d, Conv2d]]:
    for second in graph.of(Conv2d):
        first = graph[second.inputs[0]]
        if not isinstance(first, Conv2d) or len(graph.consumers[first.name]) > 1:
            continue
        moves = first.bias is None and first.grid == 0
        if moves and _is_pointwise(first) and _is_pointwise(second):
            yield first, second


def _is_pointwise(node: Conv2d) -> bool:
    return tuple(node.weight.shape[2:]) == (1, 1) and node.padding == (0, 0)


def with_maps(graph: Graph) -> Graph:
    """Return `graph` with maps of one place for vectors, and convolutions of a whole map for
    matrices; only what is read out stays a vector.

    Readers disagree about Flatten. Raises ExportError where something else than a matrix reads a
    map as a vector, or a matrix one that is not square.
    """
    ends = {graph.output.name, *_last(graph)}
    nodes: list[Node] = []
    read: dict[str, str] = {}
    for node in graph.nodes:
        inputs = tuple(read.get(name, name) for name in node.inputs)
        if isinstance(node, Flatten):
            _check_flatten(graph, node)
            read[node.name] = inputs[0]
            continue
        if isinstance(node, Linear):
            made: Node = _over_a_map(graph, node, inputs)
        elif len(node.shape) == 1 and node.name not in ends:
            made = replace(node, inputs=inputs, shape=(*node.shape, 1, 1))
        else:
            made = replace(node, inputs=inputs)
        if node.name in ends and len(_shape(nodes, inputs[0])) == 3 and len(node.shape) == 1:
            flat = Flatten(name=f"{node.name}.flat", inputs=inputs[:1], shape=node.shape)
            nodes.append(flat)
            made = replace(made, inputs=(flat.name,))
        nodes.append(made)
    return graph.with_nodes(nodes)


def _last(graph: Graph) -> list[str]:
    """Return the population that is read out, if one is."""
    name = graph.output.inputs[0]
    alone = len(graph.consumers[name]) == 1
    return [name] if isinstance(graph[name], Fire) and alone else []


def _shape(nodes: list[Node], name: str) -> Any:
    return next(node.shape for node in nodes if node.name == name)


def _check_flatten(graph: Graph, node: Flatten) -> None:
    shape = graph[node.inputs[0]].shape
    others = [r for r in graph.consumers[node.name] if not isinstance(r, Linear)]
    if prod(shape[1:]) > 1 and others:
        raise ExportError(
            f"{node.name!r} makes a vector of a map of {shape}, which {others[0].name!r} reads, "
            "and readers of NIR disagree about Flatten: export with profile 'plain'"
        )


def _over_a_map(graph: Graph, node: Linear, inputs: tuple[str, ...]) -> Conv2d:
    """Return the convolution with one window that a matrix is."""
    source = graph[node.inputs[0]]
    shape = graph[source.inputs[0]].shape if isinstance(source, Flatten) else source.shape
    channels, *size = shape if len(shape) == 3 else (*shape, 1, 1)
    if size[0] != size[1]:
        raise ExportError(
            f"{node.name!r} reads a whole map of {shape}, and NIR takes kernels for square: pool "
            "to a square map before"
        )
    weight = node.weight.reshape(len(node.weight), channels, *size)
    return Conv2d(
        name=node.name, inputs=inputs, shape=(len(weight), 1, 1), source=node.source,
        weight=weight.contiguous(memory_format=torch.contiguous_format), bias=node.bias,
        grid=node.grid,
    )  # fmt: skip
