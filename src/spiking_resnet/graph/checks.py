"""The checks that every graph passes: after them an engine can rely on every field of every node.

`fields` checks plain fields, `values` tensors, by the rules of each kind. Here stands what concerns
several nodes: shapes that follow from one another, and names.
"""

from math import prod
from typing import Any
from weakref import WeakSet

from spiking_resnet.graph import fields, notes, values
from spiking_resnet.graph.nodes import Fire, GraphError, Input, Node, Output, Shape

MOST_ENTRIES = 2**31 - 1  # of a value for one image

_SOUND: WeakSet[Node] = WeakSet()  # nodes are frozen: what was found sound need not be read again


def check(nodes: tuple[Node, ...]) -> None:
    """Raise GraphError unless the nodes form one well-shaped network."""
    found: dict[str, Node] = {}
    for node in nodes:
        if node not in _SOUND:
            check_node(node)
            _SOUND.add(node)
        if node.name in found:
            raise GraphError(f"two nodes are called {node.name!r}: names must be unique")
        for name in node.inputs:
            if name not in found:
                raise GraphError(f"{node.name!r} reads {name!r}, which no earlier node is called")
        inputs = [found[name] for name in node.inputs]
        check_shape(node, [tuple(source.shape) for source in inputs])
        _check_readout(node, inputs)
        found[node.name] = node
    for kind in (Input, Output):
        count = sum(isinstance(node, kind) for node in nodes)
        if count != 1:
            raise GraphError(f"a graph has exactly one {kind.__name__} node, this one has {count}")


def check_node(node: Node) -> None:
    """Raise GraphError unless every field of one node holds what it may."""
    for table in (fields, values):
        if problem := next(table.problems(node), None):
            raise GraphError(f"{node.name!r}: {problem}")


def check_shape(node: Node, inputs: list[Shape]) -> None:
    """Raise GraphError unless the node's own shape follows from its inputs'."""
    arity = node.ARITY
    if (arity is None and not inputs) or (arity is not None and len(inputs) != arity):
        raise GraphError(f"{node.name!r}: {type(node).__name__} cannot have {len(inputs)} inputs")
    expected = node.output_shape(*inputs)
    if tuple(node.shape) != expected:
        raise GraphError(f"{node.name!r}: shape {tuple(node.shape)} should be {expected}")
    if prod(expected) > MOST_ENTRIES:
        raise GraphError(
            f"{node.name!r}: shape {expected} has more than {MOST_ENTRIES:,} entries for one image"
        )


def check_facts(noted: Any, nodes: tuple[Node, ...], ann: tuple[Node, ...] | None) -> None:
    """Raise GraphError for notes of unknown form, and for an ANN of other images or classes than
    the nodes'.
    """
    if problem := next(notes.problems(noted), None):
        raise GraphError(problem)
    for kind in (Input, Output) if ann is not None else ():
        own, other = (
            next(tuple(node.shape) for node in each if isinstance(node, kind))
            for each in (nodes, ann or ())
        )
        if own != other:
            raise GraphError(
                f"{kind.__name__} of the spiking network has shape {own}, that of the ANN it "
                f"came from {other}"
            )


def _check_readout(node: Node, inputs: list[Node]) -> None:
    reads_membrane = isinstance(node, Output) and node.readout == "spikes+membrane"
    if reads_membrane and not isinstance(inputs[0], Fire):
        raise GraphError(
            f"{node.name!r} reads a membrane, and {inputs[0].name!r} is a "
            f"{type(inputs[0]).__name__}, not a population of spiking neurons"
        )
