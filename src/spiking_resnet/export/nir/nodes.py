"""A graph as the nodes and edges of NIR: one NIR node for each node but sums, which are edges.

What NIR has no field for stands in a node's metadata: its name here, the grid of its values, and of
populations their reset, their start and, where the file's are lower, their thresholds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from keyword import iskeyword
from math import prod
from re import sub
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.export.format import ExportError, needed
from spiking_resnet.export.nir.profiles import Profile
from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Output,
    Round,
    Shape,
)
from spiking_resnet.graph.interpret import unreached
from spiking_resnet.neurons import per_channel

_REMEDIES: Mapping[str, str] = {
    "once": "convert by a method of 0/1 integrate-and-fire neurons, such as hu2021 or calibrated, "
    "or export to ONNX (--to onnx)",
    "poisson": "convert with input_coding='constant'",
}
_TAKEN = frozenset(dir(torch.nn.ModuleDict())) | {"graph", "state", "input_data"}


def refuse(graph: Graph) -> None:
    """Raise ExportError for what NIR cannot express, with the node's name."""
    if problem := next(_problems(graph), None):
        raise ExportError(problem)


def _problems(graph: Graph) -> Iterator[str]:
    constant = unreached(graph)
    for node in graph.nodes:
        if "\0" in node.name:
            yield f"{node.name!r} has a NUL in its name, which no text in an NIR file can"
        if isinstance(node, Input) and node.encoding != "constant":
            yield (
                f"{node.name!r} presents the image in the way {node.encoding!r}: an NIR file is "
                f"for an image that is the same current at every step; {_REMEDIES[node.encoding]}"
            )
        if isinstance(node, MaxPool):
            yield (
                f"{node.name!r} is a max pool, which NIR does not have: train with average pools, "
                "or with strided convolutions"
            )
        if isinstance(node, Round) and node.name not in constant:
            yield (
                f"{node.name!r} rounds a signed stream, and NIR has no rounding: convert off the "
                "grid (grid=None)"
            )
        if isinstance(node, Fire) and node.neuron.trait:
            yield f"{node.name!r} {node.neuron.trait}, and NIR's neurons are integrate-and-fire"
        if isinstance(node, Fire) and not node.neuron.binary:
            what = "negative spikes" if node.neuron.signed else "several spikes in a step"
            yield (
                f"{node.name!r} may fire {what}, and NIR's neurons fire 0 or 1: convert with "
                "levels=1 and signed=False"
            )
        if isinstance(node, Fire) and bool((node.neuron.amplitude != 1).any()):
            yield f"{node.name!r} fires spikes of another amplitude than 1: normalise the network"
        if isinstance(node, Output) and node.readout == "sum":
            yield f"{node.name!r} sums up what differential neurons send: NIR has none"


@dataclass
class Drawing:
    """NIR's nodes and edges as they come to be.

    sources: for the name of each node of the graph, the NIR nodes whose sum is its value.
    """

    graph: Graph
    profile: Profile
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    sources: dict[str, list[str]] = field(default_factory=dict)

    @property
    def maps(self) -> bool:
        """Whether vectors, here only what is read out, are maps of one place."""
        return self.profile.is_client


def drawn(graph: Graph, profile: Profile) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the NIR nodes by name, and the edges in an order that depth-first readers like.

    graph: lowered (`lowering`), and sound by `refuse`.
    """
    drawing = Drawing(graph, profile)
    for node in graph.nodes:
        _draw(drawing, node)
    place = {name: position for position, name in enumerate(drawing.nodes)}
    edges = sorted(drawing.edges, key=lambda edge: (place[edge[0]], place[edge[1]]))
    return drawing.nodes, edges


def _draw(drawing: Drawing, node: Node) -> None:
    read = [name for each in node.inputs for name in drawing.sources[each]]
    if isinstance(node, Add):
        drawing.sources[node.name] = read
        return
    if isinstance(node, Round):
        _note_rounding(drawing, node, read)
        drawing.sources[node.name] = read
        return
    if isinstance(node, Flatten) and drawing.maps:  # the last one: what is read out
        drawing.sources[node.name] = read
        return
    own = _safe(node.name, drawing.nodes)
    if repeated := [name for name, times in Counter(read).items() if times > 1]:
        raise ExportError(
            f"{node.name!r} reads the same value twice over two sums, and NIR's edges are a set: "
            f"give {repeated[0]!r} a layer of its own"
        )
    drawing.nodes[own] = _made(drawing, node)
    drawing.edges += [(name, own) for name in read]
    drawing.sources[node.name] = [own]


def _safe(name: str, taken: Mapping[str, Any]) -> str:
    """Return the name that a node has in the file: one that readers can call a module by."""
    found = sub(r"\W", "_", name)
    if not found.isidentifier() or iskeyword(found) or found in _TAKEN:
        found = f"node_{found}"
    while found in taken:
        found += "_"
    return found


def _note_rounding(drawing: Drawing, node: Round, read: list[str]) -> None:
    if len(read) != 1 or len(drawing.graph.consumers[node.inputs[0]]) > 1:
        raise ExportError(f"{node.name!r} rounds a sum that others read unrounded: NIR has none")
    drawing.nodes[read[0]].metadata["rounded_to_bits"] = node.bits


def _made(drawing: Drawing, node: Node) -> Any:
    """Return the NIR node of one node."""
    nir = needed("nir", "nir")
    shape = _shape(drawing, node.shape)
    known = {"metadata": {"name": node.name, **_claims(node)}}
    if isinstance(node, Input):
        return nir.Input(input_type={"input": np.array(shape)}, **known)
    if isinstance(node, Output):
        return nir.Output(output_type={"output": np.array(shape)}, **known)
    if isinstance(node, Fire):
        return _population(drawing, node, shape, known)
    if isinstance(node, Conv2d | Linear):
        return _synapses(drawing, node, known)
    if isinstance(node, Affine):
        like = torch.zeros(1, *node.shape, dtype=node.scale.dtype)
        return nir.Scale(scale=_array(per_channel(node.scale, like).expand_as(like)[0]), **known)
    if isinstance(node, Flatten):
        incoming = drawing.graph[node.inputs[0]].shape
        return nir.Flatten(input_type={"input": np.array(incoming)}, start_dim=0, **known)
    if isinstance(node, AvgPool):
        return _pool(node, known)
    raise ExportError(f"{node.name!r} is a {type(node).__name__}, which NIR cannot express")


def _shape(drawing: Drawing, shape: Shape) -> Shape:
    return (*shape, 1, 1) if drawing.maps and len(shape) == 1 else shape


def _claims(node: Node) -> dict[str, Any]:
    """Return what a node says of its grid."""
    names = ("grid", "step_bound")
    found = {name: getattr(node, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _population(drawing: Drawing, node: Fire, shape: Shape, known: dict[str, Any]) -> Any:
    nir = needed("nir", "nir")
    neuron, data = node.neuron, known["metadata"]
    data["reset"] = neuron.reset
    if bool((neuron.initial_potential != 0).any()):
        data["initial_potential"] = _array(_filled(neuron.initial_potential, node.shape), shape)
    threshold = _filled(neuron.threshold, node.shape)
    if drawing.profile.strict:
        data["threshold"] = _array(threshold, shape)
        below = torch.nextafter(threshold, torch.zeros_like(threshold))
        threshold = below if node.grid is None else threshold - 2.0 ** -(node.grid + 1)
    ones = np.ones(shape, dtype=np.float32)
    return nir.IF(
        r=ones, v_threshold=_array(threshold, shape), v_reset=np.zeros_like(ones), **known
    )


def _filled(values: Tensor, shape: Shape) -> Tensor:
    """Return a neuron's parameter for every neuron."""
    like = torch.empty(1, *shape, dtype=values.dtype)
    return per_channel(values, like).expand_as(like)[0]


def _array(values: Tensor, shape: Shape | None = None) -> Any:
    found = np.ascontiguousarray(values.detach().cpu().numpy())
    return found if shape is None else found.reshape(shape)


def _synapses(drawing: Drawing, node: Conv2d | Linear, known: dict[str, Any]) -> Any:
    nir = needed("nir", "nir")
    bias = node.weight.new_zeros(len(node.weight)) if node.bias is None else node.bias
    bias = bias.to(node.weight.dtype)
    if isinstance(node, Conv2d):
        size = drawing.graph[node.inputs[0]].shape[1:]
        return nir.Conv2d(
            input_shape=size, weight=_array(node.weight), stride=node.stride,
            padding=node.padding, dilation=node.dilation, groups=node.groups, bias=_array(bias),
            **known,
        )  # fmt: skip
    if node.bias is None:
        return nir.Linear(weight=_array(node.weight), **known)
    return nir.Affine(weight=_array(node.weight), bias=_array(bias), **known)


def _pool(node: AvgPool, known: dict[str, Any]) -> Any:
    nir = needed("nir", "nir")
    kinds = {1: nir.SumPool2d, prod(node.kernel): nir.AvgPool2d}
    if node.divisor not in kinds:
        raise ExportError(
            f"{node.name!r} divides the sum of {prod(node.kernel)} by {node.divisor:g}, and NIR's "
            "pools by 1 or the entries of a window: pool windows of equal size"
        )
    around = (np.array(each) for each in (node.kernel, node.stride, node.padding))
    kernel, stride, padding = around
    kind = kinds[int(node.divisor)]
    return kind(kernel_size=kernel, stride=stride, padding=padding, **known)


def late(nodes: Mapping[str, Any], edges: list[tuple[str, str]], first: str) -> str | None:
    """Return a node that a depth-first reader computes before one that it reads; None if none.

    Such a reader goes from `first` to the first node on its edges, and so on to the end, before it
    comes back to the other edges.
    """
    following: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        following[source].append(target)
    order: dict[str, int] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name not in order:
            order[name] = len(order)
            waiting += reversed(following[name])
    return next((to for source, to in edges if order.get(source, len(order)) > order[to]), None)
