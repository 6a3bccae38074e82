"""The paper's form: firing thresholds 1, spikes 0 or 1, weights W * theta_in / theta_out.

While methods work on a network, a spike carries its layer's threshold. This pass divides every
value by the scale it arrives on: spikes by their height, currents by the threshold of the neurons
they reach. Identity shortcuts then need the gain theta_in / theta_out, which becomes a node of its
own; so does the gain of a current that reaches populations of different thresholds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from spiking_resnet.graph import (
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    GraphError,
    Input,
    Linear,
    Node,
    Output,
    Pad,
    ReLU,
    Select,
    Slice,
)
from spiking_resnet.graph.structure import carries_spikes, scale_input, spike_scale

ONE = torch.ones((), dtype=torch.float64)


def normalise(graph: Graph, logits_unit: float = 1.0) -> Graph:
    """`graph` with unit spikes and unit thresholds; it fires the same spikes.

    Only a population that reads pooled spikes directly keeps another threshold: pools become sums,
    and its threshold the pool's divisor. Weights are float64 afterwards, for `snap` or `single`.
    logits_unit: what the classifier's output is divided by; the read-out multiplies it back.
    """
    if relus := graph.of(ReLU):
        raise GraphError(f"{relus[0].name!r} is a ReLU: give it neurons before normalising")
    spikes = carries_spikes(graph)
    work = _Work(graph, spikes, _wanted(graph, spikes, logits_unit))
    for node in graph.nodes:
        work.add(node)
    return graph.with_nodes(work.nodes.values())


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two scales ([] or [C]) are equal in every channel."""
    return bool((a == b).all())


def _divide(value: Tensor, scale: Tensor) -> Tensor:
    """A neuron's parameter ([], [C] or [C, H, W]) over a scale ([] or [C]).

    Rounded to 2^-24, so that a 7x7 pool's threshold, theta / (theta / 49), is 49 and not nearly 49.
    """
    value = value.double()
    units = value / (scale.view(-1, 1, 1) if value.ndim == 3 and scale.ndim == 1 else scale)
    return torch.round(units * 2.0**24) * 2.0**-24


def _wanted(graph: Graph, spikes: Mapping[str, bool], unit: float) -> dict[str, Tensor]:
    """For every node that carries currents: the scale its readers want, or 1 where they differ."""
    scales: dict[str, Tensor] = {}
    for node in reversed(graph.nodes):
        if spikes[node.name] or isinstance(node, Input):
            continue
        demands = [
            demand
            for reader in graph.consumers[node.name]
            for position, name in enumerate(reader.inputs)
            if name == node.name
            and (demand := _demand(graph, reader, position, scales, unit)) is not None
        ]
        agreed = bool(demands) and all(_same(demands[0], other) for other in demands[1:])
        scales[node.name] = demands[0] if agreed else ONE
        moves = isinstance(node, (Slice, Select, Pad, Flatten))
        if moves and _pulled(graph, node, scales[node.name]) is None:
            scales[node.name] = ONE
    return scales


def _demand(
    graph: Graph, reader: Node, position: int, scales: Mapping[str, Tensor], unit: float
) -> Tensor | None:
    """The scale on which `reader` wants a current at one of its inputs; None if any will do."""
    if isinstance(reader, Fire):
        return reader.neuron.threshold.double()
    if isinstance(reader, Output):
        return ONE * unit
    if isinstance(reader, Conv2d | Linear | Affine):
        return None
    scale = scales[reader.name]
    if isinstance(reader, Concat) and scale.ndim:
        sizes = [graph[name].shape[0] for name in reader.inputs]
        return scale.split(sizes)[position]
    return _pulled(graph, reader, scale)


def _pulled(graph: Graph, node: Node, scale: Tensor) -> Tensor | None:
    """The scale of a node's input that makes its own `scale`; None where there is none."""
    if scale.ndim == 0 or not isinstance(node, Slice | Select | Pad | Flatten):
        return scale
    if isinstance(node, Select) and node.axis == 0:
        return _gathered(list(node.index), scale, graph[node.inputs[0]].shape[0])
    if isinstance(node, Pad):
        before, after = node.padding[0]
        return scale[before : len(scale) - after]
    return scale if isinstance(node, Slice | Select) and node.axis != 0 else None


def _gathered(index: list[int], scale: Tensor, channels: int) -> Tensor | None:
    """The scale of `channels` channels of which those of `index` have `scale`, the others any.

    None where two copies of one channel are wanted on different scales.
    """
    found = torch.ones(channels, dtype=scale.dtype)
    found[index] = scale
    return found if _same(found[index], scale) else None


@dataclass
class _Work:
    """The normalised nodes so far, and the scale by which each one's value was divided."""

    graph: Graph
    spikes: Mapping[str, bool]
    wanted: Mapping[str, Tensor]
    nodes: dict[str, Node] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Normalises one node."""
        made, scale = self._made(node)
        self.nodes[node.name] = made
        self.scales[node.name] = scale

    def _made(self, node: Node) -> tuple[Node, Tensor]:
        if isinstance(node, Input):
            return replace(node, amplitude=1.0), ONE * node.amplitude
        incoming = self.scales[node.inputs[0]]
        if isinstance(node, Fire):
            return self._fire(node, incoming)
        if isinstance(node, Output):
            return self._output(node, incoming)
        if self.spikes[node.name]:
            pushed = spike_scale(self.graph, node, self.scales)
            return (replace(node, divisor=1.0) if isinstance(node, AvgPool) else node), pushed
        scale = self.wanted[node.name]
        if isinstance(node, Conv2d | Linear):
            return _weights(node, incoming, scale), scale
        if isinstance(node, Affine):
            shift = None if node.shift is None else node.shift.double() / scale
            return replace(node, scale=node.scale.double() * incoming / scale, shift=shift), scale
        made = node
        for position in range(len(node.inputs)):
            target = _demand(self.graph, node, position, self.wanted, 1.0)
            assert target is not None  # _wanted gave this node a scale that can be pulled back
            made = self._bring(made, position, target)
        return made, scale

    def _bring(self, node: Node, position: int, target: Tensor) -> Node:
        """`node` with one of its inputs brought to the scale `target`."""
        have = self.scales[node.inputs[position]]
        if _same(have, target):
            return node
        brought = scale_input(self.graph, self.nodes, node, position, have / target, "gain")
        self.scales[brought.inputs[position]] = target
        return brought

    def _fire(self, node: Fire, incoming: Tensor) -> tuple[Node, Tensor]:
        neuron = node.neuron
        unit = neuron.threshold.double()
        if self.spikes[node.inputs[0]]:
            unit = incoming  # whole spikes come in: the threshold is counted in them
        else:
            node = self._bring(node, 0, unit)  # type: ignore[assignment]
        neuron = replace(
            neuron,
            threshold=_divide(neuron.threshold, unit),
            initial_potential=_divide(neuron.initial_potential, unit),
            amplitude=torch.ones((), dtype=torch.float32),
        )
        return replace(node, neuron=neuron), node.neuron.amplitude.double()

    def _output(self, node: Output, incoming: Tensor) -> tuple[Node, Tensor]:
        if incoming.ndim:
            node = self._bring(node, 0, ONE)  # type: ignore[assignment]
            incoming = ONE
        return replace(node, scale=node.scale * float(incoming)), ONE


def _weights(node: Conv2d | Linear, incoming: Tensor, outgoing: Tensor) -> Conv2d | Linear:
    """W * theta_in / theta_out and b / theta_out, in float64."""
    weight = node.weight.double()
    out = [-1] + [1] * (weight.ndim - 1)
    if incoming.ndim and isinstance(node, Conv2d):  # in-channels of each output channel's group
        groups = incoming.view(node.groups, -1).repeat_interleave(weight.shape[0] // node.groups, 0)
        weight = weight * groups.view(*groups.shape, 1, 1)
    else:
        weight = weight * incoming
    bias = None if node.bias is None else node.bias.double() / outgoing
    return replace(node, weight=weight / outgoing.view(out if outgoing.ndim else []), bias=bias)
