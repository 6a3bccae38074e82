"""The interpreter: computes a graph node by node, the reference for ANNs and spiking networks.

What a kind of node computes stands with the kind, in `graph.nodes`. `step` advances a network by
one time step. With ReLU nodes that is the ANN; with Fire nodes it is the spiking one. Every engine
is tested against this file. State is an argument and a result, never hidden, so that a user can
also stream frames step by step.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from spiking_resnet.graph import Graph, Input, Node
from spiking_resnet.shown import Short


@dataclass(frozen=True, eq=False)
class State(Short):
    """The state of a network between two time steps.

    time: steps done. memory: membrane potentials (Fire), cumulative inputs (MaxPool) and the summed
    read-out (Output), [N, ...] by node name; of neurons that remember more than their potential
    also that (`nodes.base.emitted_by`), and of a delayed read-out the sum over the steps it leaves
    out (`nodes.base.left_out`).
    """

    time: int = 0
    memory: Mapping[str, Tensor] = field(default_factory=dict)


def at_step(node: Node, once: bool, time: int) -> Node:
    """Return the node as it computes at step `time`: where constants enter `once`, then without."""
    return node.without_constants() if once and time > 0 else node


def constants(graph: Graph) -> set[str]:
    """Return the names of the nodes whose value is the same at every step: no spike arrives."""
    return unreached(graph) if graph.input.encoding == "constant" else set()


def unreached(graph: Graph) -> set[str]:
    """Return the names of the nodes that no spike reaches: the image and the constants alone decide
    their values.
    """
    if graph.input.carries_spikes(()):
        return set()
    found: set[str] = set()
    for node in graph.nodes:
        if not node.integrates and all(name in found for name in node.inputs):
            found.add(node.name)
    return found


def last_readers(nodes: Iterable[Node]) -> dict[str, str]:
    """Return, for each value, the name of the last node that reads it: then it can be freed."""
    return {name: node.name for node in nodes for name in node.inputs}


def walk(
    nodes: Iterable[Node],
    images: Tensor,
    memory: dict[str, Tensor],
    time: int = 0,
    given: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[Node, Tensor]]:
    """Yield (node, its value [N, ...]) through one time step, updating `memory` on the way.

    given: values known beforehand, not computed again. A value is freed after its last reader.
    """
    nodes = tuple(nodes)
    given = given or {}
    values: dict[str, Tensor] = {}
    readers = last_readers(nodes)
    once = any(isinstance(node, Input) and node.encoding == "once" for node in nodes)
    for node in (at_step(node, once, time) for node in nodes):
        if node.name in given:
            value = given[node.name]
        else:
            value = node.advance([values[name] for name in node.inputs] or [images], memory, time)
        if node.name in readers:
            values[node.name] = value
        for name in set(node.inputs) & values.keys():
            if readers[name] == node.name:
                del values[name]
        yield node, value


def step(
    graph: Graph,
    images: Tensor,
    state: State | None = None,
    given: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, State]:
    """Advance a network by one step; return (what reaches the read-out [N, K], the new state).

    images: [N, C, H, W], normalised as the network expects; a stream may pass others at each step.
    state: None before the first step. given: the `constant_values` of a constant image.
    """
    state = state or State()
    memory = dict(state.memory)
    value = last(walk(varying(graph, given), images, memory, state.time, given))
    return value, State(state.time + 1, memory)


def last(walked: Iterable[tuple[Node, Tensor]]) -> Tensor:
    """Return the value of the last node of a walk, without keeping the others."""
    ((_, value),) = deque(walked, maxlen=1)
    return value


def varying(graph: Graph, given: Mapping[str, Tensor] | None) -> tuple[Node, ...]:
    """Return the nodes left to run where the values in `given` are known: all that spikes reach."""
    if not given:
        return graph.nodes
    fixed = constants(graph)
    return tuple(n for n in graph.nodes if n.name in given or n.name not in fixed)


def constant_values(graph: Graph, images: Tensor) -> dict[str, Tensor]:
    """Return the constant values that spiking nodes read, computed once for all time steps."""
    fixed = constants(graph)
    nodes = [node for node in graph.nodes if node.name in fixed]
    return {
        node.name: value
        for node, value in walk(nodes, images, {})
        if any(reader.name not in fixed for reader in graph.consumers[node.name])
    }


def readout(graph: Graph, state: State) -> Tensor:
    """Return the logits [N, K] after the steps done so far, in the ANN's units."""
    if state.time < 1:
        raise ValueError("no time step was run: there is nothing to read out")
    return graph.output.logits(state.memory, state.time)


def values(graph: Graph, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
    """Return the values [N, ...] of the named nodes in one pass of an ANN."""
    return {node.name: v for node, v in walk(graph.nodes, images, {}) if node.name in names}


def logits(graph: Graph, images: Tensor) -> Tensor:
    """Return the logits [N, K] of an ANN (of a spiking network: after one step)."""
    return readout(graph, step(graph, images)[1])
