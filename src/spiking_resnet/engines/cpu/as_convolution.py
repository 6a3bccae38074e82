"""What kernels know no other way, as convolutions of the spikes themselves: pools, zeros, moves."""

from dataclasses import replace

import torch

from spiking_resnet.engines.cpu.streams import Weighing
from spiking_resnet.graph import Affine, AvgPool, Conv2d, Graph, Node, Pad, Slice

LARGEST_POOL = 16  # inputs of an average pool that is computed as synapses


def pool_as_convolution(graph: Graph, node: Node, grid: int) -> Node:
    """A small average pool as a depthwise convolution, if its weights lie on the grid."""
    if not isinstance(node, AvgPool) or node.kernel[0] * node.kernel[1] > LARGEST_POOL:
        return node
    weight = 1 / node.divisor
    if (weight * 2.0**grid) % 1:
        return node
    channels = node.shape[0]
    return Conv2d(
        name=node.name,
        inputs=node.inputs,
        shape=node.shape,
        weight=torch.full((channels, 1, *node.kernel), weight, dtype=torch.float32, device="cpu"),
        bias=None,
        stride=node.stride,
        padding=node.padding,
        groups=channels,
        grid=grid,
    )


def without_zeros(node: Node, graph: Graph) -> Node:
    """A convolution of zeros put around spikes as one of the spikes themselves; else the node.

    How many zeros there are below and on the right is in the shape of its value.
    """
    origin = graph[node.inputs[0]] if isinstance(node, Conv2d) else node
    if not isinstance(node, Conv2d) or not isinstance(origin, Pad) or any(origin.padding[0]):
        return node
    (above, _), (left, _) = origin.padding[1:]
    padding = (node.padding[0] + above, node.padding[1] + left)
    return replace(node, inputs=origin.inputs, padding=padding)


def without_moves(graph: Graph, node: Weighing) -> Weighing:
    """A gain of spikes cut out with strides and padded with channels (an option A shortcut) as a
    1x1 convolution of the spikes themselves; any other node as it is.
    """
    origin = graph[node.inputs[0]]
    if not isinstance(node, Affine) or not isinstance(origin, Slice | Pad):
        return node
    chain: list[Slice | Pad] = []
    while isinstance(origin, Slice | Pad):
        chain.append(origin)
        origin = graph[origin.inputs[0]]
    if len(origin.shape) != 3:
        return node
    channels = [*range(origin.shape[0])]  # of the spikes, by the place they end up at; -1: none
    first, stride = [0, 0], [1, 1]
    for move in reversed(chain):
        if isinstance(move, Pad):
            if any(sum(pair) for pair in move.padding[1:]):
                return node
            before, after = move.padding[0]
            channels = [-1] * before + channels + [-1] * after
        elif move.axis == 0:
            channels = channels[move.start : move.stop : move.step]
        else:
            first[move.axis - 1] += move.start * stride[move.axis - 1]
            stride[move.axis - 1] *= move.step
    gain = node.scale.expand(node.shape[0])
    size = (node.shape[0], origin.shape[0], 1, 1)
    weight = torch.zeros(size, dtype=torch.float32, device="cpu")
    for to, channel in enumerate(channels):
        if channel >= 0:
            weight[to, channel] = gain[to]
    return Conv2d(
        name=node.name,
        inputs=(origin.name,),
        shape=node.shape,
        weight=weight,
        bias=node.shift,
        stride=(stride[0], stride[1]),
        padding=(-first[0], -first[1]),
        grid=node.grid,
    )
