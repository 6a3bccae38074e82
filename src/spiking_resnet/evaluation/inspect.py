"""Inspect a network: its nodes and their sizes, and all that keeps it from being converted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet.capture.calls import TraceError
from spiking_resnet.capture.module import trace
from spiking_resnet.capture.onnx.translate import trace_onnx
from spiking_resnet.capture.problems import Cause
from spiking_resnet.codec import FIELDS, Record, same
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.costs.sizes import Size, sizes
from spiking_resnet.graph import (
    Affine,
    AvgPool,
    Fire,
    Graph,
    Input,
    Node,
    ReLU,
    remarks_of,
)
from spiking_resnet.graph.exactness import exact_steps, exact_steps_of
from spiking_resnet.graph.structure import carries_spikes
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed

Range = tuple[float, float]  # the lowest and the highest

# Remarks.
FOLDED = "folded"
OWN_NEURONS = "own neurons"
SIGNED = "signed input"


@dataclass(frozen=True)
class NodeFacts(Record):
    """What an inspection says of one node of a graph.

    size: for one image; of a BatchNorm that is folded into another node, its parameters alone.
    source: the user's line of code. remark: what conversion makes of it, where that is not obvious.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    size: Size
    source: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Population(Record):
    """What an inspection says of one population of a spiking network.

    scale: the threshold calibration found, in the ANN's units (None where it took
    another's). threshold: in units of the spikes that come in. synapses: those that end at it.
    grid: bits, or None. exact_steps: for how long its sums are certain to be exact.
    """

    name: str
    shape: tuple[int, ...]
    neurons: int
    synapses: int
    scale: Range | None
    threshold: Range
    reset: str
    grid: int | None
    exact_steps: int


@dataclass(frozen=True)
class Inspection(Record):
    """The result of an inspection: a network's nodes in order, and why it cannot be converted.

    problems: each names node, source line and remedy; what follows a problem may be missing from
    `nodes`. causes: the same problems by cause, those of most places first. populations: of a
    spiking network; empty for an ANN. remarks: what a user should know of its conversion, in
    sentences.
    """

    nodes: tuple[NodeFacts, ...]
    problems: tuple[str, ...] = ()
    populations: tuple[Population, ...] = ()
    exact_steps: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()

    layout = (*same("converts", "total"), *FIELDS)

    @property
    def total(self) -> Size:
        """The sums over all nodes."""
        names = [entry.name for entry in fields(Size)]
        return Size(**{n: sum(getattr(node.size, n) for node in self.nodes) for n in names})

    @property
    def converts(self) -> bool:
        """Whether the network can be converted."""
        return not self.problems


@undisturbed()
def inspect_model(model: nn.Module | Path, shape: Sequence[int] | None = None) -> Inspection:
    """Inspect a module on images of `shape` (C, H, W): its nodes, and all that cannot be converted.

    model: or the path of an ONNX file, which needs a shape only where it leaves it open.

    Never raises for a network that cannot be converted: `problems` says why. Nodes are those of
    the traced graph, BatchNorms among them.
    """
    try:
        graph = _traced(model, shape)
    except TraceError as error:
        problems = error.problems or (str(error),)
        return Inspection(_facts(error.nodes, {}), problems, causes=error.causes)
    return Inspection(_facts(graph.nodes, _remarks(graph)), remarks=remarks_of(graph))


def _traced(model: nn.Module | Path, shape: Sequence[int] | None) -> Graph:
    """The graph of a module or an ONNX file."""
    if isinstance(model, Path):
        return trace_onnx(model, shape)
    if shape is None:
        raise InputError("shape is missing: a module does not say how large its images are")
    return trace(model, shape)


@undisturbed()
def inspect_graph(graph: Graph) -> Inspection:
    """Inspect a converted network: its nodes and populations."""
    nodes = _facts(graph.nodes, {})
    own, spikes = {node.name: node.size for node in nodes}, carries_spikes(graph)
    return Inspection(
        nodes=nodes,
        populations=tuple(_population(graph, node, own, spikes) for node in graph.of(Fire)),
        exact_steps=exact_steps(graph),
        notes=graph.notes,
        remarks=remarks_of(graph),
    )


def _facts(nodes: Sequence[Node], remarks: Mapping[str, str]) -> tuple[NodeFacts, ...]:
    found = sizes(nodes)
    return tuple(
        NodeFacts(
            name=node.name,
            kind=_kind(node, nodes[0]),
            inputs=node.inputs,
            shape=node.shape,
            size=_counted(found[node.name], remarks.get(node.name, "")),
            source=node.source,
            remark=remarks.get(node.name, ""),
        )
        for node in nodes
    )


def _kind(node: Node, first: Node) -> str:
    """The kind of a node; an Input that is not the first stands in for what was refused."""
    return "refused" if isinstance(node, Input) and node is not first else type(node).__name__


def _counted(size: Size, remark: str) -> Size:
    """The size that counts towards the totals: none for a BatchNorm that is folded away."""
    return Size(parameters=size.parameters) if remark == FOLDED else size


def _remarks(graph: Graph) -> dict[str, str]:
    """What conversion makes of the nodes of a traced graph, where that is not obvious."""
    folded = fold_bn(graph)
    found = {node.name: FOLDED for node in graph.of(Affine) if node.name not in folded.by_name}
    ones = {node.name: torch.ones((), dtype=torch.float32) for node in folded.of(ReLU)}
    spiking = fire(folded, ones, Kind(initial_potential=0.0))
    spikes, fixed = carries_spikes(spiking), _before_neurons(spiking)
    for node in spiking.nodes:
        if not node.inputs or all(spikes[n] or n in fixed for n in node.inputs):
            if isinstance(node, AvgPool) and spikes[node.name]:
                found[node.name] = OWN_NEURONS
        elif node.has_weights:
            found[node.name] = SIGNED
    return found


def _before_neurons(graph: Graph) -> set[str]:
    """The nodes that no population comes before."""
    found: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node, Fire) and all(name in found for name in node.inputs):
            found.add(node.name)
    return found


def _population(
    graph: Graph, node: Fire, own: Mapping[str, Size], spikes: Mapping[str, bool]
) -> Population:
    last = node.name in graph.output.inputs and graph.output.readout != "mean"
    thresholds = graph.notes.get("thresholds", {})
    scale = thresholds.get(graph.output.name if last else node.name)
    return Population(
        name=node.name,
        shape=node.shape,
        neurons=own[node.name].neurons,
        synapses=sum(own[name].synapses for name in _feeding(graph, node, spikes)),
        scale=None if scale is None else _range(torch.tensor(scale, dtype=torch.float32)),
        threshold=_range(node.neuron.threshold),
        reset=node.neuron.reset,
        grid=node.grid,
        exact_steps=exact_steps_of(node),
    )


def _feeding(graph: Graph, node: Fire, spikes: Mapping[str, bool]) -> set[str]:
    """The nodes with synapses whose currents reach a population without other synapses between.

    A gain between such a node and the population is part of its synapses.
    """
    found: set[str] = set()
    waiting = list(node.inputs)
    while waiting:
        before = graph[waiting.pop()]
        gain = isinstance(before, Affine) and not spikes[before.inputs[0]]
        if before.has_synapses and not gain:
            found.add(before.name)
        elif not isinstance(before, Fire):
            waiting += before.inputs
    return found


def _range(values: Tensor) -> Range:
    return float(values.min()), float(values.max())
