"""Sizes of a network: parameters, neurons, synapses and multiply-accumulates of every node.

One rule for each, in this file alone. A convolution has

    dense MACs = output positions x output channels x input channels of a group x kernel positions

and a synapse for each of these products whose input exists: padding has no neurons, so positions at
the border have fewer synapses.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from torch import Tensor

from spiking_resnet.codec import Record
from spiking_resnet.graph import Node, tensors
from spiking_resnet.surroundings import undisturbed


@dataclass(frozen=True)
class Size(Record):
    """The size of one node, for one image.

    parameters: weights, biases, gains. neurons: of a ReLU or a population. macs: dense, zeros of
    the padding included, of what has weights (Conv2d, Linear, Affine). synapses: connections
    between values that exist; an average pool has them too, one for each entry of a window. An
    identity that enters a sum without a gain is not counted.
    """

    parameters: int = 0
    neurons: int = 0
    macs: int = 0
    synapses: int = 0


@undisturbed()
def sizes(nodes: Iterable[Node]) -> dict[str, Size]:
    """The Size of every node, by name. nodes: those of a graph, or its beginning, in order."""
    exists: dict[str, Tensor] = {}  # 1 where a value can differ from 0, [1, ...] by name
    found: dict[str, Size] = {}
    for node in nodes:
        inputs = [exists[name] for name in node.inputs]
        exists[node.name] = node.existing(*inputs)
        made = node.connections(inputs[0]) if node.has_synapses else 0.0
        found[node.name] = Size(
            parameters=parameters(node),
            neurons=prod(node.shape) if node.is_population else 0,
            macs=node.macs(),
            synapses=round(float(made)),
        )
    return found


def parameters(node: Node) -> int:
    """Return the number of a node's weights, biases, gains and shifts, without thresholds."""
    own = tensors(node).items()
    return sum(tensor.numel() for name, tensor in own if not name.startswith("neuron."))
