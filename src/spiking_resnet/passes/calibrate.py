"""Calibration through the layers that are spiking already: what uneven arrival costs, given back.

Spikes reach a deep layer late and unevenly, so its rate differs from the activation it stands for,
layer after layer. SNN Calibration (Li et al., ICML 2021; IJCV 2024) measures that on training
images, in the order of the network, through the layers already corrected, and corrects each layer
for what the ones before it do. `calibrate` is that on graphs, with r a layer's mean output over T
steps, a its activation in the artificial network and E a mean over images:

    bias (light):         b_c  <- b_c + E[a_c - r_c]         (also over the places of a map)
    potential (advanced): v0_i <- v0_i + T * E[a_i - r_i]    (for every neuron)

repeated, because r answers in whole spikes. The weights, which "advanced" fits by gradients, have a
closed form here, a ridge regression for every layer, bias included:

    min over W', b' of  E |W' x + b' - z|^2 + ridge * |W' - W|^2

with x the mean input the layer receives over T steps (the classifier: over the steps that are read
out), z what the artificial network's own layer gives on its own input.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet import neurons
from spiking_resnet.graph import Add, Affine, Conv2d, Fire, Graph, Linear, Node
from spiking_resnet.neurons import Differential
from spiking_resnet.pair import Pair

Weighted = Conv2d | Linear

HELD = 2**28  # currents of one layer that are kept between rounds; more are computed again


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What `calibrate` corrects.

    steps: T. delay: the first of them, which the read-out leaves out. compensation: "none", "bias"
    of every channel, or initial "potential" of every neuron. rounds: how often it is measured and
    corrected. weights: whether they are fitted. ridge: how strongly they are held to what they
    were, as a share of their inputs' mean square.
    """

    steps: int
    delay: int = 0
    compensation: Literal["none", "bias", "potential"] = "potential"
    rounds: int = 3
    weights: bool = True
    ridge: float = 1e-3


def calibrate(ann: Graph, graph: Graph, images: Tensor, correction: Correction) -> Graph:
    """`graph`, spiking in the units of `ann`, corrected layer by layer for T steps.

    images: calibration images [N, C, H, W]. Every ReLU of `ann` is a population of that name in
    `graph`. Spikes of the layers that later ones read are held for all images and steps, one byte
    each. Differential neurons have no initial potential: their biases are corrected.
    """
    work = _Work(ann, graph, images, correction)
    work.walk()
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += [work.before[node.name]] if node.name in work.before else []
        nodes.append(work.nodes[node.name])
    return graph.with_nodes(nodes)


class _Work(Pair):
    """One calibration under way. before: what to put before populations, by their names."""

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, correction: Correction) -> None:
        super().__init__(ann, graph, images, correction.steps)
        self.correction = correction
        self.before: dict[str, Affine] = {}

    def weigh(self, node: Weighted) -> None:
        """Fits the layer, if that is asked for."""
        if self.correction.weights:
            self.nodes[node.name] = self._fitted(node)

    def _mean(self, value: Tensor) -> Tensor:
        """What values [T or 1, n, ...] amount to as an activation [n, ...]."""
        return value.sum(0) if self.once else value.mean(0)

    def fire(self, node: Fire) -> None:
        """Corrects a population."""
        currents = self._currents(node)
        neuron, shift = node.neuron, torch.zeros(node.shape[0])
        for _ in range(self.correction.rounds if self.correction.compensation != "none" else 0):
            total = torch.zeros(node.shape)
            for part, current in currents():
                rate = self._mean(self.run(neuron, current, shift))
                total += (self.artificial[node.name][part] - rate).sum(0)
            error = total / len(self.images)
            if self.correction.compensation == "bias" or isinstance(neuron, Differential):
                shift = shift + error.flatten(1).mean(1)
            else:
                initial = neurons.per_channel(neuron.initial_potential, error[None])
                later = initial + self.steps * error
                neuron = replace(neuron, initial_potential=later)
        spikes = (self.run(neuron, each, shift) for _, each in currents())
        self.keep(replace(node, neuron=neuron), spikes)
        if bool(shift.any()):
            self._shift(node, shift)

    def _currents(self, node: Fire) -> Callable[[], Iterable[tuple[slice, Tensor]]]:
        """The currents of a population, before corrections of its own, portion by portion."""

        def computed() -> Iterator[tuple[slice, Tensor]]:
            for part in self.parts(node):
                yield part, self.received(node, part)

        count = torch.Size(node.shape).numel() * len(self.images) * self.steps
        if count > HELD:
            return computed
        held = list(computed())
        return lambda: held

    def _shift(self, node: Fire, shift: Tensor) -> None:
        """Adds a bias [C] to what a population receives: to that of a layer that only it reads, or
        in a node of its own.
        """
        source = self.nodes[node.inputs[0]]
        while isinstance(source, Add) and len(self.graph.consumers[source.name]) == 1:
            own = (self.nodes[name] for name in source.inputs if self._has_bias(name))
            source = next(own, self.nodes[source.inputs[0]])
        if self._has_bias(source.name):
            assert isinstance(source, Weighted)
            bias = shift if source.bias is None else source.bias + shift
            self.nodes[source.name] = replace(source, bias=bias)
            return
        name, shape = f"{node.name}.bias", self.graph[node.inputs[0]].shape
        self.before[node.name] = Affine(
            name=name, inputs=node.inputs, shape=shape, scale=torch.ones(()), shift=shift
        )
        self.nodes[node.name] = replace(self.nodes[node.name], inputs=(name,))

    def _has_bias(self, name: str) -> bool:
        """Whether a node has a bias that only one other node reads."""
        return isinstance(self.graph[name], Weighted) and len(self.graph.consumers[name]) == 1

    def _fitted(self, node: Weighted) -> Weighted:
        """The node with weights and bias of the ridge regression."""
        weight, bias, groups = _table(node)
        full = torch.cat([weight, bias[..., None]], 2).double()  # [G, out / G, K + 1]
        square: Tensor | float = 0.0
        cross: Tensor | float = 0.0
        rows = 0
        own = self.ann[node.name]
        assert isinstance(own, Weighted)
        before = torch.cat(
            [part[..., None] if part.ndim == 2 else part for part in _table(own)[:2]], 2
        )
        first = self.correction.delay if node.name in self.read_out else 0
        for part in self.parts(node):
            received = self.received(node, part)
            x = _columns(
                node, self._mean(received[min(first, len(received) - 1) :]), groups
            )  # [G, M, K + 1]
            z = _columns(node, self.wanted(node, part), groups) @ before.transpose(1, 2)
            square = square + (x.transpose(1, 2) @ x).double()
            cross = cross + (x.transpose(1, 2) @ z).double()
            rows += x.shape[1]
        assert isinstance(square, Tensor)
        assert isinstance(cross, Tensor)
        hold = self.correction.ridge * square.diagonal(dim1=1, dim2=2).mean(1)
        hold = torch.diag_embed(hold.clamp(min=1e-12 * rows)[:, None].expand(-1, full.shape[2]))
        found = torch.linalg.solve(square + hold, cross + hold @ full.transpose(1, 2))
        found = found.transpose(1, 2).float()
        return replace(
            node,
            weight=found[..., :-1].reshape(node.weight.shape).contiguous(),
            bias=found[..., -1].flatten().contiguous(),
        )


def _table(node: Weighted) -> tuple[Tensor, Tensor, int]:
    """Weights [groups, out / groups, K], biases [groups, out / groups], and the groups."""
    groups = node.groups if isinstance(node, Conv2d) else 1
    weight = node.weight.unflatten(0, (groups, -1)).flatten(2)
    bias = torch.zeros(node.weight.shape[0]) if node.bias is None else node.bias
    return weight, bias.unflatten(0, (groups, -1)), groups


def _columns(node: Weighted, x: Tensor, groups: int) -> Tensor:
    """What every output sees of x [n, ...], and a 1 for its bias: [groups, M, K + 1]."""
    if isinstance(node, Linear):
        table = x[None]
    else:
        size = node.weight.shape[2:]
        table = F.unfold(x, size, node.dilation, node.padding, node.stride)  # [n, C * taps, places]
        table = table.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    return F.pad(table, (0, 1), value=1.0)
