"""Graphs as plain data (JSON) and named tensors, and back: what files hold."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spiking_resnet.graph import KINDS, Fire, Graph, GraphError, Node, tensors
from spiking_resnet.graph.nodes import field_names
from spiking_resnet.neurons import NEURONS, Neuron
from spiking_resnet.rules import shown


def arrays(graph: Graph) -> dict[str, Tensor]:
    """Return copies of a graph's tensors, named "node/field" and "node/neuron.field"."""
    return {
        f"{node.name}/{name}": tensor.detach().cpu().contiguous().clone()
        for node in graph.nodes
        for name, tensor in tensors(node).items()
    }


def describe(graph: Graph) -> dict[str, Any]:
    """Return everything of a graph that is not a tensor, as plain data."""
    nodes = []
    for node in graph.nodes:
        plain = {"kind": type(node).__name__, **_plain(node)}
        if isinstance(node, Fire):
            plain["neuron"] = {"kind": type(node.neuron).__name__, **_plain(node.neuron)}
        nodes.append(plain)
    return {"nodes": nodes, "notes": dict(graph.notes)}


def _plain(holder: Node | Neuron) -> dict[str, Any]:
    """Return the fields of a node or a neuron that are neither tensors nor neurons."""
    return {
        name: value
        for name in field_names(type(holder))
        if not isinstance(value := getattr(holder, name), Tensor | Neuron)
    }


def build(description: Any, found: Mapping[str, Tensor], ann: Graph | None = None) -> Graph:
    """Return the graph from what `describe` and `arrays` gave; GraphError for anything else."""
    _has(description, "a network", {"nodes": list, "notes": dict})
    by_node: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for path, tensor in found.items():
        name, _, field = path.rpartition("/")
        by_node[name][field] = tensor
    nodes = tuple(_node(entry, by_node) for entry in description["nodes"])
    if by_node:
        raise GraphError(f"there are tensors of {next(iter(by_node))!r}, which no node is called")
    return Graph(nodes, description["notes"], ann)


def _node(entry: Any, by_node: dict[str, dict[str, Tensor]]) -> Node:
    """Return one node from its description and its tensors, which are removed from `by_node`."""
    _has(entry, "a node", {"kind": str, "name": str})
    kind, where = _kind(KINDS, entry, "node", entry["name"]), repr(entry["name"])
    own = by_node.pop(entry["name"], {})
    settings = {name: _tuples(value) for name, value in entry.items() if name != "kind"}
    if issubclass(kind, Fire):
        _has(entry, f"{where}, a Fire,", {"neuron": dict})
        parts = {name.removeprefix("neuron."): tensor for name, tensor in own.items()}
        settings["neuron"] = _made(
            _kind(NEURONS, {"kind": "IntegrateAndFire", **entry["neuron"]}, "neuron", where),
            {name: value for name, value in settings["neuron"].items() if name != "kind"},
            parts,
            where,
        )
        own = {}
    made: Node = _made(kind, settings, own, where)
    return made


def _kind(kinds: Mapping[str, Any], entry: Mapping[str, Any], what: str, where: str) -> Any:
    name = entry["kind"]
    if not isinstance(name, str) or name not in kinds:
        raise GraphError(f"{where}: there is no kind of {what} {shown(name)}")
    return kinds[name]


def _made(kind: Any, settings: Mapping[str, Any], own: Mapping[str, Tensor], where: str) -> Any:
    """Return a node or a neuron from its fields, each of which must be known and given once."""
    known = field_names(kind)
    for name in (*settings, *own):
        if name not in known or (name in settings and name in own):
            raise GraphError(f"{where}: a {kind.__name__} has no field {shown(name)} beside others")
    try:
        return kind(**settings, **own)
    except (TypeError, ValueError) as error:  # a field is missing, or of a wrong type
        raise GraphError(f"{where}: {error}") from error


def _has(value: Any, what: str, entries: Mapping[str, type]) -> None:
    """Raise GraphError unless `value` is a dictionary with these entries."""
    if not isinstance(value, dict):
        raise GraphError(f"{what} is {shown(value)}; it must be a dictionary")
    for name, kind in entries.items():
        if not isinstance(value.get(name), kind):
            raise GraphError(f"{what} has no {name!r}, or one that is no {kind.__name__}")


def _tuples(value: Any) -> Any:
    """Return JSON's lists as the tuples they were."""
    if not isinstance(value, list):
        return value
    return tuple([_tuples(entry) if isinstance(entry, list) else entry for entry in value])
