"""Calibration layer by layer, through the spiking layers before: corrects uneven arrival.

Spikes reach a deep layer late and unevenly, so its rate differs from the activation it stands for,
layer after layer. SNN Calibration (Li et al., ICML 2021; IJCV 2024) measures that on training
images, in the order of the network, through the layers already corrected, and corrects each layer
for what the ones before it do. `calibrate` is that on graphs, with r a layer's mean output over T
steps, a its activation in the ANN and E a mean over images:

    bias (light):         b_c  <- b_c + E[a_c - r_c]         (also over the places of a map)
    potential (advanced): v0_i <- v0_i + T * E[a_i - r_i]    (for every neuron)

repeated, because r answers in whole spikes. For neurons of one step and many levels (the
layer-serial ones) there are also the offsets of distribution-aware QCFS (Hao et al.,
"Faster and Stronger: When ANN-SNN Conversion Meets Parallel Spiking Calculation", ICML 2025). A
channel of range theta and T levels sends

    (theta + phi) * clip(floor((z + psi) T / theta + 1/2) / T, 0, 1)

with psi the mean error of its input z, phi that of its output, both against the ANN
whose ReLUs are clipped at theta. There both are running averages (0.99) while the two networks see
batch after batch; here they are the means over all images at once, layer by layer, which is where
such averages settle, whatever the order of images and batches.

The weights, which "advanced" fits by gradients, have a
closed form here, a ridge regression for every layer, bias included:

    min over W', b' of  E |W' x + b' - z|^2 + ridge * |W' - W|^2

with x the mean input the layer receives over T steps (the classifier: over the steps that are read
out), z what the ANN's own layer gives on its own input.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.conversion.layer_by_layer import LayerByLayer
from spiking_resnet.graph import Affine, Conv2d, Fire, Graph, Linear, Node
from spiking_resnet.graph.structure import bias_before, bias_carrier, bias_name, with_bias
from spiking_resnet.neurons import Neuron, per_channel

Weighted = Conv2d | Linear
Currents = Callable[[], Iterable[tuple[slice, Tensor]]]  # portions of images, [T or 1, n, ...]

LOWEST_AMPLITUDE = 1e-3  # of a spike that offsets make lower, in its own
HELD = 2**28  # currents of one layer that are kept between rounds; more are computed again


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The corrections that `calibrate` makes.

    steps: T. delay: the first of them, which the read-out leaves out. compensation: "none", "bias"
    of every channel, initial "potential" of every neuron, or "offsets" of every channel before and
    after its neurons (of one step, T levels). rounds: how often bias or potential are measured and
    corrected. weights: whether they are fitted. ridge: how strongly they are held to what they
    were, as a share of their inputs' mean square.
    """

    steps: int
    delay: int = 0
    compensation: Literal["none", "bias", "potential", "offsets"] = "potential"
    rounds: int = 3
    weights: bool = True
    ridge: float = 1e-3


def calibrate(ann: Graph, graph: Graph, images: Tensor, correction: Correction) -> Graph:
    """Return `graph`, in the units of `ann`, corrected layer by layer for T steps.

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


class _Work(LayerByLayer):
    """One calibration under way. before: what to put before populations, by their names."""

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, correction: Correction) -> None:
        super().__init__(ann, graph, images, correction.steps)
        self.correction = correction
        self.before: dict[str, Affine] = {}

    def weigh(self, node: Weighted) -> None:
        """Fit the layer's weights, if that is asked for."""
        if self.correction.weights:
            self.nodes[node.name] = self._fitted(node)

    def _mean(self, value: Tensor) -> Tensor:
        """Return the activation [n, ...] that values [T or 1, n, ...] amount to."""
        return value.sum(0) if self.once else value.mean(0)

    def activation(self, node: Fire, part: slice) -> Tensor:
        """Return the value [n, ...] of the ANN's ReLU; with offsets, clipped."""
        value = super().activation(node, part)
        if self.correction.compensation != "offsets":
            return value
        most = node.neuron.levels * node.neuron.threshold
        return torch.minimum(value, per_channel(most, value))

    def fire(self, node: Fire) -> None:
        """Correct a population."""
        currents = self._currents(node)
        if self.correction.compensation == "offsets":
            neuron, shift = self._offset(node, currents)
        else:
            neuron, shift = self._compensated(node, currents)
        spikes = (self.run(neuron, each, shift) for _, each in currents())
        self.keep(replace(node, neuron=neuron), spikes)
        if bool(shift.any()):
            self._shift(node, shift)

    def _compensated(self, node: Fire, currents: Currents) -> tuple[Neuron, Tensor]:
        """Return the population with corrected initial potentials, and a bias [C] to add."""
        neuron, shift = node.neuron, torch.zeros(node.shape[0], dtype=torch.float32)
        for _ in range(self.correction.rounds if self.correction.compensation != "none" else 0):
            total = torch.zeros(node.shape, dtype=torch.float32)
            for part, current in currents():
                rate = self._mean(self.run(neuron, current, shift))
                total += (self.ann_values[node.name][part] - rate).sum(0)
            error = total / len(self.images)
            if self.correction.compensation == "bias" or not neuron.free_start:
                shift = shift + error.reshape(len(error), -1).mean(1)
            else:
                initial = per_channel(neuron.initial_potential, error[None])
                later = initial + self.steps * error
                neuron = replace(neuron, initial_potential=later)
        return neuron, shift

    def _offset(self, node: Fire, currents: Currents) -> tuple[Neuron, Tensor]:
        """Return the population with spikes of amplitude (theta + phi) / levels, and psi [C]."""
        neuron = node.neuron
        before = self._over_places(
            self.wanted(node, part) - self._mean(current) for part, current in currents()
        )
        after = self._over_places(
            self.ann_values[node.name][part] - self._mean(self.run(neuron, current, before))
            for part, current in currents()
        )
        amplitude = neuron.amplitude + after / neuron.levels
        amplitude = amplitude.clamp(min=LOWEST_AMPLITUDE * neuron.amplitude)
        return replace(neuron, amplitude=amplitude), before

    def _over_places(self, parts: Iterable[Tensor]) -> Tensor:
        """Return the mean [C] over images and places of values [n, C, ...], portion by portion."""
        total, count = torch.zeros((), dtype=torch.float64), 0
        for part in parts:
            table = part.transpose(0, 1).flatten(1)
            total, count = total + table.double().sum(1), count + table.shape[1]
        return (total / count).float()

    def _currents(self, node: Fire) -> Currents:
        """Yield the currents of a population, before its own corrections, portion by portion."""

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
        name, own = bias_carrier(self.graph, node), self.nodes[node.inputs[0]]
        if name is None and isinstance(own, Affine) and own.name == bias_name(node):
            before = 0.0 if own.shift is None else own.shift  # an earlier pass put it there
            self.nodes[own.name] = replace(own, shift=before + shift)
            return
        if name is None:
            current, shape = self.nodes[node.name], self.graph[node.inputs[0]].shape
            assert isinstance(current, Fire)
            self.before[node.name], self.nodes[node.name] = bias_before(current, shape, shift)
            return
        layer = self.nodes[name]
        assert isinstance(layer, Weighted)
        self.nodes[name] = with_bias(layer, shift)

    def _fitted(self, node: Weighted) -> Weighted:
        """Return the node with weights and bias of the ridge regression."""
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
    """Return weights [groups, out / groups, K], biases [groups, out / groups], and the groups."""
    groups = node.groups if isinstance(node, Conv2d) else 1
    weight = node.weight.unflatten(0, (groups, -1)).flatten(2)
    bias = (
        torch.zeros(node.weight.shape[0], dtype=torch.float32) if node.bias is None else node.bias
    )
    return weight, bias.unflatten(0, (groups, -1)), groups


def _columns(node: Weighted, x: Tensor, groups: int) -> Tensor:
    """Return the inputs of every output from x [n, ...], and a 1: [groups, M, K + 1]."""
    if isinstance(node, Linear):
        table = x[None]
    else:
        size = node.weight.shape[2:]
        table = F.unfold(x, size, node.dilation, node.padding, node.stride)  # [n, C * taps, places]
        table = table.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    return F.pad(table, (0, 1), value=1.0)
