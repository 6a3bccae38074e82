"""Shortcuts through relay neurons, for readers that compute nodes depth first.

Such a reader follows one branch of a residual block to its end, and what the other one brings is a
step late, or missing. So a shortcut with weights W travels with the branch: its spikes x take
channels of their own through every population there, neurons that fire when x does, in the same
step (a spike brings their threshold), and the last convolution of the branch reads them with W.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spiking_resnet.graph import Add, Conv2d, Fire, Graph, Node
from spiking_resnet.neurons import Neuron


@dataclass(frozen=True)
class _Way:
    """The branch beside a shortcut: its convolutions in order, and the populations between them."""

    convolutions: tuple[Conv2d, ...]
    populations: tuple[Fire, ...]


def with_relays(graph: Graph) -> tuple[Graph, str]:
    """Return `graph` with its shortcuts of 1x1 convolutions carried by relays, and how many.

    Shortcuts without weights stay as they are, and so do those beside which no plain branch
    (convolutions, and populations that nobody else reads) comes from the same spikes.
    """
    before = sum(graph.neurons.values())
    for node in graph.of(Add):
        for name in node.inputs:
            carried = _carried(graph, graph[node.name], name)
            graph = graph if carried is None else carried
    added = sum(graph.neurons.values()) - before
    told = (
        f"{added:,} relay neurons more carry the spikes of shortcuts that have weights"
        if added
        else ""
    )
    return graph, told


def _carried(graph: Graph, total: Node, name: str) -> Graph | None:
    """Return the graph in which this input of a sum is carried by another one; None if none can."""
    shortcut = graph[name]
    if not isinstance(shortcut, Conv2d) or len(graph.consumers[name]) > 1:
        return None
    plain = tuple(shortcut.weight.shape[2:]) == (1, 1) and shortcut.padding == (0, 0)
    if not plain or not isinstance(graph[shortcut.inputs[0]], Fire):
        return None
    for other in total.inputs:
        way = _way(graph, other, shortcut) if other != name else None
        if way is not None:
            return _widened(graph, total, shortcut, way)
    return None


def _way(graph: Graph, last: str, shortcut: Conv2d) -> _Way | None:
    """Return the branch that ends with `last`, if it takes the same spikes as far."""
    convolutions: list[Conv2d] = []
    populations: list[Fire] = []
    rows = columns = 1
    name = last
    while True:
        node = graph[name]
        if not isinstance(node, Conv2d) or _tap(node) is None or len(graph.consumers[name]) > 1:
            return None
        convolutions.insert(0, node)
        rows, columns = rows * node.stride[0], columns * node.stride[1]
        source = graph[node.inputs[0]]
        if source.name == shortcut.inputs[0]:
            found = _Way(tuple(convolutions), tuple(populations))
            return found if (rows, columns) == shortcut.stride else None
        if not isinstance(source, Fire) or len(graph.consumers[source.name]) > 1:
            return None
        populations.insert(0, source)
        name = source.inputs[0]


def _tap(node: Conv2d) -> tuple[int, int] | None:
    """Return the place in a kernel that reads entry stride * i for output i; None without one."""
    taps = []
    for padding, dilation, size in zip(
        node.padding, node.dilation, node.weight.shape[2:], strict=True
    ):
        if padding % dilation or padding // dilation >= size:
            return None
        taps.append(padding // dilation)
    return taps[0], taps[1]


def _widened(graph: Graph, total: Node, shortcut: Conv2d, way: _Way) -> Graph:
    used = shortcut.weight[:, :, 0, 0].abs().sum(0).nonzero().flatten()
    new: dict[str, Node] = {}
    channels: Sequence[int] = used.tolist()
    for convolution, population in zip(way.convolutions, way.populations, strict=False):
        relayed = _relaying(convolution, population, channels, convolution is way.convolutions[0])
        own = convolution.shape[0]
        channels = range(own, own + len(used))
        new[convolution.name] = relayed
        new[population.name] = _with_relays(population, len(used))
    last = way.convolutions[-1]
    new[last.name] = _reading(last, shortcut, used, bool(way.populations))
    left = tuple(name for name in total.inputs if name != shortcut.name)
    new[total.name] = replace(total, inputs=left)
    return graph.with_nodes(
        new.get(node.name, node) for node in graph.nodes if node.name != shortcut.name
    )


def _relaying(node: Conv2d, population: Fire, channels: Sequence[int], first: bool) -> Conv2d:
    """Return a convolution whose last outputs are the spikes of some channels, as thresholds."""
    tap = _tap(node)
    assert tap is not None
    outputs, inputs, *kernel = node.weight.shape
    more = len(channels)
    weight = node.weight.new_zeros(outputs + more, inputs if first else inputs + more, *kernel)
    weight[:outputs, :inputs] = node.weight
    firing = float(population.neuron.threshold.max())
    for row, channel in enumerate(channels):
        weight[outputs + row, channel, tap[0], tap[1]] = firing
    bias = node.bias
    if bias is not None:
        bias = torch.cat([bias, bias.new_zeros(more)])
    shape = (outputs + more, *node.shape[1:])
    return replace(node, weight=weight, bias=bias, shape=shape)


def _with_relays(node: Fire, more: int) -> Fire:
    """Return a population with so many channels more, which fire when their threshold arrives."""
    neuron: Neuron = node.neuron
    firing = neuron.threshold.max()
    widened = replace(
        neuron,
        threshold=_longer(neuron.threshold, more, firing),
        initial_potential=_longer(neuron.initial_potential, more, firing * 0),
        amplitude=_longer(neuron.amplitude, more, neuron.amplitude.max()),
    )
    shape = (node.shape[0] + more, *node.shape[1:])
    bound = max(node.step_bound, float(firing))
    return replace(node, neuron=widened, shape=shape, step_bound=bound)


def _longer(values: Tensor, more: int, filler: Tensor) -> Tensor:
    """Return a neuron's parameter with a value for so many channels more; one for all stays."""
    if values.ndim == 0:
        return values
    return torch.cat([values, filler.expand(more, *values.shape[1:])])


def _reading(node: Conv2d, shortcut: Conv2d, used: Tensor, relayed: bool) -> Conv2d:
    """Return the last convolution, which reads with the weights of the shortcut, too: the relays,
    or the spikes themselves where no population lies between.
    """
    tap = _tap(node)
    assert tap is not None
    outputs, inputs, *kernel = node.weight.shape
    weight = node.weight.new_zeros(outputs, inputs + (len(used) if relayed else 0), *kernel)
    weight[:, :inputs] = node.weight
    channels = list(range(inputs, weight.shape[1])) if relayed else used.tolist()
    weight[:, channels, tap[0], tap[1]] += shortcut.weight[:, used, 0, 0].to(weight.dtype)
    biases = [each for each in (node.bias, shortcut.bias) if each is not None]
    bias = None if not biases else torch.stack([each.to(weight.dtype) for each in biases]).sum(0)
    known = [grid for grid in (node.grid, shortcut.grid) if grid is not None]
    grid = max(known) if len(known) == 2 else None
    return replace(node, weight=weight, bias=bias, grid=grid)
