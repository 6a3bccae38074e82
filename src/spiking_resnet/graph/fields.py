"""Checks of the fields of nodes and neurons, tensors aside, by the rules of their kinds."""

from collections.abc import Iterator

from spiking_resnet.graph.nodes import KINDS, Fire, Node
from spiking_resnet.neurons import NEURONS, Neuron
from spiking_resnet.rules import Rules, broken, shown


def problems(node: Node) -> Iterator[str]:
    """Yield what is wrong with the fields of a node and its neuron, tensors aside."""
    kind = type(node)
    if KINDS.get(kind.__name__) is not kind:
        yield f"there is no kind of node {kind.__name__!r}"
        return
    yield from broken(_rules(kind), node)
    if isinstance(node, Fire):
        neuron = type(node.neuron)
        if neuron in NEURONS.values():
            yield from broken(neuron.RULES, node.neuron, "neuron.")
        elif issubclass(neuron, Neuron):
            yield f"there is no kind of neuron {shown(neuron.__name__)}"


_RULES: dict[type, Rules] = {}


def _rules(kind: type[Node]) -> Rules:
    """The rules of a kind, looked up once."""
    if kind not in _RULES:
        _RULES[kind] = {**Node.RULES, **kind.RULES}
    return _RULES[kind]
