"""A network as data: a frozen graph of nodes, checked when it is made.

A `Graph` describes what is computed for one image. Shapes have no batch axis; the engines put
images (and time) in front. With ReLU nodes a graph is an ANN, with Fire nodes a
spiking one; every other node is linear in the values it passes on (the max pool excepted).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from spiking_resnet.graph.checks import check, check_facts
from spiking_resnet.graph.nodes import Fire, Input, MaxPool, N, Node, Output, tensors, with_tensors
from spiking_resnet.printable import printable


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in the order of computation, from the one Input to the one Output.

    notes: JSON-able facts about its making (method, options, calibration, preprocessing, …);
        "remarks" are sentences for the user.
    ann: the ANN that a spiking network was converted from, BatchNorm folded (None otherwise).
    """

    nodes: tuple[Node, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    ann: "Graph | None" = None

    def __post_init__(self) -> None:
        check(self.nodes)
        check_facts(self.notes, self.nodes, None if self.ann is None else self.ann.nodes)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """For each node's name, the nodes that read it (twice if they read it twice)."""
        readers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def __repr__(self) -> str:
        made = self.notes.get("recipe", self.notes.get("method", "spiking"))
        kind = printable(str(made)) if self.of(Fire) else "artificial"
        if form := self.notes.get("integer_form"):
            kind = f"{kind} in integers of {form['bits']} bits"
        shapes = f"{self.input.shape} -> {self.output.shape}"
        return f"<Graph: {kind}, {shapes}, {len(self.nodes)} nodes, {len(self.of(Fire))} spiking>"

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    @cached_property
    def input(self) -> Input:
        """The one Input node."""
        return self.of(Input)[0]

    @cached_property
    def output(self) -> Output:
        """The one Output node."""
        return self.of(Output)[0]

    def of(self, kind: type[N]) -> tuple[N, ...]:
        """The nodes of one kind, in order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    @cached_property
    def integrators(self) -> tuple[Fire | MaxPool | Output, ...]:
        """The nodes that sum up over time: populations, cumulative max pools, the read-out."""
        pools = (node for node in self.of(MaxPool) if node.rule == "cumulative")
        return (*self.of(Fire), *pools, self.output)

    @cached_property
    def pre_steps(self) -> int:
        """The time steps before the counted ones, after which gated neurons start again."""
        return max((node.neuron.steps_before_counting for node in self.of(Fire)), default=0)

    @property
    def neurons(self) -> dict[str, int]:
        """The number of neurons of every spiking population, by its name."""
        return {node.name: torch.Size(node.shape).numel() for node in self.of(Fire)}

    @cached_property
    def longest(self) -> int | None:
        """The most time steps that the network can run for, which its differential neurons limit;
        None without a limit.
        """
        longest = (node.neuron.longest for node in self.of(Fire))
        return min((each for each in longest if each is not None), default=None)

    @cached_property
    def latency(self) -> int | None:
        """The time steps until the last layer-serial neuron has fired all its spikes; None where
        neurons fire as they go.
        """
        latency = (node.neuron.latency for node in self.of(Fire))
        return max((each for each in latency if each is not None), default=None)

    @cached_property
    def arriving_steps(self) -> int | None:
        """The most time steps in which any one source (a population, the image) brings anything;
        None without a limit.
        """
        steps = [node.neuron.firing_steps for node in self.of(Fire)]
        known = [each for each in steps if each is not None]
        limited = self.input.encoding == "once" and len(known) == len(steps)
        return max(known, default=1) if limited else None

    @property
    def made_for(self) -> int | None:
        """The one number of time steps that the network was made for; None if it serves any."""
        noted = self.notes.get("made_for")
        return self.longest or self.latency or (noted if isinstance(noted, int) else None)

    def with_nodes(self, nodes: Iterable[Node]) -> "Graph":
        """Return this graph with other nodes; notes and the ANN stay."""
        return replace(self, nodes=tuple(nodes))

    def with_notes(self, notes: Mapping[str, Any]) -> "Graph":
        """Return this graph with `notes` added to its own."""
        return replace(self, notes={**self.notes, **notes})

    @cached_property
    def devices(self) -> frozenset[torch.device]:
        """The devices that hold the graph's tensors."""
        return frozenset(t.device for node in self.nodes for t in tensors(node).values())

    def to(self, device: torch.device | str) -> "Graph":
        """Return this graph with all tensors on `device` (itself when they are there already)."""
        device = torch.device(device)
        if self.devices <= {device}:
            return self
        return self.with_nodes(
            with_tensors(node, {name: t.to(device) for name, t in tensors(node).items()})
            for node in self.nodes
        )


def with_remark(graph: Graph, remark: str) -> Graph:
    """Return `graph` with one more sentence for the user among its notes."""
    return graph.with_notes({"remarks": [*graph.notes.get("remarks", ()), remark]})


def remarks_of(graph: Graph) -> tuple[str, ...]:
    """Return the sentences in the notes of `graph` that a user should read."""
    exported = graph.notes.get("onnx", {}).get("remarks", ())
    return (*exported, *graph.notes.get("remarks", ()))
