"""How large a network is: parameters, neurons, synapses and multiply-accumulates of every node.

One rule for each, in this file alone. A convolution has

    dense MACs = output positions x output channels x input channels of a group x kernel positions

and a synapse for each of these products whose input exists: padding has no neurons, so positions at
the border have fewer synapses.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.codec import Record
from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Linear,
    MaxPool,
    Node,
    ReLU,
    Round,
    interpret,
    tensors,
)
from spiking_resnet.graph.structure import PASSING
from spiking_resnet.surroundings import undisturbed


@dataclass(frozen=True)
class Size(Record):
    """One node, for one image.

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
        exists[node.name] = _existing(node, inputs)
        found[node.name] = Size(
            parameters=parameters(node),
            neurons=prod(node.shape) if isinstance(node, ReLU | Fire) else 0,
            macs=_macs(node),
            synapses=_synapses(node, inputs),
        )
    return found


def parameters(node: Node) -> int:
    """The number of weights, biases, gains and shifts of a node; thresholds are not among them."""
    own = tensors(node).items()
    return sum(tensor.numel() for name, tensor in own if not name.startswith("neuron."))


def _macs(node: Node) -> int:
    if isinstance(node, Conv2d | Linear):
        return prod(node.shape) * node.weight[0].numel()
    return prod(node.shape) if isinstance(node, Affine) else 0


def _synapses(node: Node, inputs: list[Tensor]) -> int:
    """The connections of a node to inputs that exist; 0 for what has none of its own."""
    if isinstance(node, Conv2d | Linear | Affine | AvgPool):
        return round(float(connections(node, inputs[0])))
    return 0


def connections(node: Conv2d | Linear | Affine | AvgPool, x: Tensor) -> Tensor:
    """The number [] of products that a node makes of `x` [1, ...], float64: 1 where something is.

    It is linear in x, so its derivative is the fan-out of every entry.
    """
    if isinstance(node, Conv2d):
        ones = torch.ones(node.groups, *node.weight.shape[1:], dtype=torch.float64)
        taps = F.conv2d(x, ones, None, node.stride, node.padding, node.dilation, node.groups)
        return taps.sum() * (node.weight.shape[0] // node.groups)
    if isinstance(node, Linear):
        return x.sum() * node.weight.shape[0]
    if isinstance(node, Affine):
        return x.sum()
    return interpret.average_pool(node, x).sum() * node.divisor


def _existing(node: Node, inputs: list[Tensor]) -> Tensor:
    """1 where a node's value can differ from 0, else 0, as float64 [1, ...]."""
    if isinstance(node, MaxPool):
        return interpret.max_pool(node, inputs[0])
    if isinstance(node, (*PASSING, Concat, Add)):
        return interpret.STATELESS[type(node)](node, *inputs).sign()
    silent = isinstance(node, Affine) and node.shift is None
    if silent or isinstance(node, ReLU | Fire | Round):
        return inputs[0]
    return torch.ones(1, *node.shape, dtype=torch.float64)
