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

The weights, which "advanced" fits by gradients, have a closed form here, a ridge regression for
every layer, bias included (`regression.py`), with x the mean input the layer receives over T steps
(the classifier: over the steps that are read out), z what the ANN's own layer gives on its own
input, or better what the layer's population needs (`need.py`). How strongly weights are held to
the ANN's is found for every layer on images that it was not fitted to, a quarter of them that is
held out, for the classifier one at a time (`Regression.left_out`): wide last layers have more
weights than the images tell, and learn these by heart otherwise.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from spiking_resnet.conversion.layer_by_layer import Weighted, between
from spiking_resnet.conversion.parts import Grid, part_of
from spiking_resnet.conversion.passes.need import Need, put_there
from spiking_resnet.conversion.passes.received import Receiving
from spiking_resnet.conversion.passes.regression import Regression
from spiking_resnet.engines.parts import Spikes, counted
from spiking_resnet.graph import Affine, Fire, Graph, Input, Node, ReLU
from spiking_resnet.graph.structure import bias_before, bias_carrier, bias_name, fed_by, with_bias
from spiking_resnet.neurons import Neuron, per_channel

LOWEST_AMPLITUDE = 1e-3  # of a spike that offsets make lower, in its own
DELAYS = 16  # of the read-out, that are tried
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # that are tried; the second for few images
HELD_OUT = 4  # of so many images one tells how good a fit to the others is
REFITS = 1  # of a layer, after a fit to what its population receives in the ANN


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The corrections that `calibrate` makes.

    steps: T. delay: the first of them, which the read-out leaves out; None, where weights are
    fitted: those without which the classifier errs least. compensation: "none", "bias" of every
    channel, initial "potential" of every neuron, or "offsets" of every channel before and after
    its neurons (of one step, T levels). rounds: how often bias or potential are measured and
    corrected. weights: whether they are fitted, and fit_to: to what, the "layer" in the ANN or the
    need of its "population". ridge: how strongly they are held to what they were, as a share of
    their inputs' mean square; None: of some ridges a layer has the one that errs least on images
    it was not fitted to. grid, sum_bits: of the network while it is corrected, as for `snap`.
    """

    steps: int
    delay: int | None = 0
    compensation: Literal["none", "bias", "potential", "offsets"] = "potential"
    rounds: int = 3
    weights: bool = True
    fit_to: Literal["layer", "population"] = "population"
    ridge: float | None = None
    grid: int = 14
    sum_bits: int = 16


def calibrate(ann: Graph, graph: Graph, images: Tensor, correction: Correction) -> Graph:
    """Return `graph`, in the units of `ann`, corrected layer by layer for T steps.

    images: calibration images [N, C, H, W]. Every ReLU of `ann` is a population of that name in
    `graph`, of integrate-and-fire neurons. Held are, of the layers that later ones read, spikes for
    all images and steps, a bit each, and their activations in the ANN.
    """
    work = _Work(ann, graph, images, correction)
    work.walk()
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += [work.before[node.name]] if node.name in work.before else []
        nodes.append(work.nodes[node.name])
    return graph.with_nodes([*nodes[:-1], replace(graph.output, delay=work.delay or 0)])


class _Work(Receiving):
    """One calibration under way. before: what to put before populations, by their names."""

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, correction: Correction) -> None:
        super().__init__(ann, graph, images, correction.steps, HELD_OUT)
        self.correction, self.delay = correction, correction.delay
        self.before: dict[str, Affine] = {}
        self.grid = Grid(steps=correction.steps, bits=correction.grid, sum_bits=correction.sum_bits)
        self.ridges: dict[str, float] = {}
        *_, output = (node for node in graph.nodes if node.integrates)
        settled = {
            name for node in graph.of(Fire) for name in between(graph, node, self.populations)
        }
        self.read_out = set(between(graph, output, self.populations)) - settled

    def weigh(self, node: Weighted) -> None:
        """Fit the layer's weights, if that is asked for."""
        if not self.correction.weights:
            return
        unknown = self.delay is None or self.correction.ridge is None
        if unknown and node.name in self.read_out:
            self.delay, self.ridges[node.name] = self._best_read_out(node)
        self.nodes[node.name] = self._fitted(node)

    def activation(self, node: Node, part: slice) -> Tensor:
        """Return the value [n, ...] of the ANN's node; with offsets, ReLUs are clipped."""
        value = super().activation(node, part)
        if self.correction.compensation != "offsets" or not isinstance(node, Fire):
            return value
        most = node.neuron.levels * node.neuron.threshold
        return torch.minimum(value, per_channel(most, value))

    def fire(self, node: Fire) -> None:
        """Correct a population."""
        if self.correction.compensation == "offsets":
            neuron, shift = self._offset(node)
        else:
            neuron, shift = self._compensated(node)
        self.sent[node.name] = list(self._spikes(node, neuron, shift))
        self.nodes[node.name] = replace(node, neuron=neuron)
        if bool(shift.any()):
            changed, before = self._shifted(node, shift)
            self.nodes.update(changed)
            if before is not None:
                self.before[node.name] = before

    def _spikes(self, node: Fire, neuron: Neuron, shift: Tensor) -> Iterator[Spikes]:
        """Yield the spikes of a population, with such neurons and a bias [C] added to what it
        receives, portion by portion.
        """
        own = replace(node, neuron=neuron)
        nodes: dict[str, Node] = {**self.nodes, node.name: own}
        if bool(shift.any()):
            changed, before = self._shifted(own, shift)
            nodes.update(changed)
            if before is not None:
                nodes[before.name] = before
        part = part_of(self.graph, nodes, node.name, self.grid)
        for index, portion in enumerate(self.portions):
            known = {name: self.sent[name][index] for name in part.known}
            yield part.spikes(self.images[portion], known, self.steps)

    def _rates(self, neuron: Neuron, counts: Tensor) -> Tensor:
        """Return the mean outputs over T steps of neurons that sent so many spikes [n, ...]."""
        return counts.double() / self.steps * per_channel(neuron.amplitude.double(), counts)

    def _compensated(self, node: Fire) -> tuple[Neuron, Tensor]:
        """Return the population with corrected initial potentials, and a bias [C] to add."""
        neuron, shift = node.neuron, torch.zeros(node.shape[0], dtype=torch.float32)
        rounds = self.correction.rounds if self.correction.compensation != "none" else 0
        wanted = self.ann_values[node.name].sum(0, dtype=torch.float64)
        for _ in range(rounds):
            sent = sum(
                counted(spikes, 0, self.steps).sum(0, keepdim=True)
                for spikes in self._spikes(node, neuron, shift)
            )
            assert isinstance(sent, Tensor)
            error = ((wanted - self._rates(neuron, sent)[0]) / len(self.images)).float()
            if self.correction.compensation == "bias" or not neuron.free_start:
                shift = shift + error.reshape(len(error), -1).mean(1)
            else:
                initial = per_channel(neuron.initial_potential, error[None])
                neuron = replace(neuron, initial_potential=initial + self.steps * error)
        return neuron, shift

    def _offset(self, node: Fire) -> tuple[Neuron, Tensor]:
        """Return the population with spikes of amplitude (theta + phi) / levels, and psi [C]."""
        neuron = node.neuron
        before = self._over_places(
            self.wanted(node, part) - self.received(node, part, index)
            for index, part in enumerate(self.portions)
        )
        after = self._over_places(
            self.ann_values[node.name][part] - self._rates(neuron, counted(spikes, 0, self.steps))
            for part, spikes in zip(self.portions, self._spikes(node, neuron, before), strict=True)
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

    def _shifted(self, node: Fire, shift: Tensor) -> tuple[dict[str, Node], Affine | None]:
        """Return what changes where a bias [C] is added to what a population receives: the layer
        that only it reads, or a node of its own before it.
        """
        name, own = bias_carrier(self.graph, node), self.nodes[node.inputs[0]]
        if name is None and isinstance(own, Affine) and own.name == bias_name(node):
            before = 0.0 if own.shift is None else own.shift  # an earlier pass put it there
            return {own.name: replace(own, shift=before + shift)}, None
        if name is None:
            made, now = bias_before(node, self.graph[node.inputs[0]].shape, shift)
            return {node.name: now}, made
        layer = self.nodes[name]
        assert isinstance(layer, Weighted)
        return {name: with_bias(layer, shift)}, None

    def _fitted(self, node: Weighted) -> Weighted:
        """Return the node with weights and bias of the ridge regression."""
        fed, found, layer = self._fed(node), Regression(node), node
        first = (self.delay or 0) if node.name in self.read_out else 0
        ridge = self.correction.ridge or self.ridges.get(node.name)
        held_out = len(self.portions) - len(self.portions) // HELD_OUT
        for fit in range(1 if fed is None else 1 + REFITS):
            found = found.again() if fit else found
            for index, part in enumerate(self.portions):
                if ridge is None and index == held_out:
                    ridge = self._best_ridge(node, fed, found, index)
                received, unit = self.heard(node, part, index, first)
                need = self._need(node, fed, part, index)
                if fit:
                    found.once_more(received, need.near)
                else:
                    found.add(received, need.wanted - need.beside)
            layer = found.solved(unit, RIDGES[1] if ridge is None else ridge)
        return layer

    def _best_ridge(self, node: Weighted, fed: Fire | None, found: Regression, start: int) -> float:
        """Return the ridge with which a layer that knows the portions before `start` errs least on
        the others.
        """
        later = list(enumerate(self.portions))[start:]
        unit = self.heard(node, later[0][1], start, 0)[1]
        pairs = (
            (self.heard(node, part, i, 0)[0], self._need(node, fed, part, i).near)
            for i, part in later
        )
        errors = found.missed(pairs, unit, RIDGES)
        return RIDGES[errors.index(min(errors))]

    def _best_read_out(self, node: Weighted) -> tuple[int, float]:
        """Return how many first steps are best left out of what a layer that is read out hears, and
        with which ridge: those with which its fit to the others has the least error on images that
        it was not fitted to, one at a time.
        """
        known, delay = self.correction.ridge, self.delay
        every = max(1, self.steps // DELAYS)
        delays = range(0, self.steps, every) if delay is None else (delay,)
        errors = dict[tuple[int, float], float]()
        needs = [self._need(node, None, part, index) for index, part in enumerate(self.portions)]
        wanted = [need.wanted - need.beside for need in needs]
        for first in delays:
            heard = [self.heard(node, part, i, first) for i, part in enumerate(self.portions)]
            found, unit = Regression(node), heard[0][1]
            pairs = [(received, z) for (received, _), z in zip(heard, wanted, strict=True)]
            for received, z in pairs:
                found.add(received, z)
            for ridge in RIDGES if known is None else (known,):
                found.solved(unit, ridge)
                errors[first, ridge] = found.left_out(pairs, unit, ridge)
        return min(errors, key=errors.__getitem__)

    def _fed(self, node: Weighted) -> Fire | None:
        """Return the population that a layer is fitted for, or None: for its like in the ANN.

        What the population receives on other paths must be known. Of a block whose projection comes
        before the branch, only the branch's last layer is fitted for the population.
        """
        fed = fed_by(self.graph, node) if self.correction.fit_to == "population" else None
        if fed is None:
            return None
        images = {each.name for each in self.graph.of(Input)}
        return fed if {*self.behind[fed.name]} <= self.ann_values.keys() | images else None

    def _need(self, node: Weighted, fed: Fire | None, part: slice, index: int) -> Need:
        """Return what a population wants of a layer; without one, what the ANN has in its place."""
        own = self.ann[node.name]
        assert isinstance(own, Weighted)
        shift = put_there(node, own)  # which the layer is to bring as well
        if fed is None:
            wanted = own.value(self.wanted(node, part))
            return Need(wanted, -per_channel(shift, wanted))
        relu, wanted = self.ann[fed.name], self.wanted(fed, part)
        assert isinstance(relu, ReLU)
        beside = -per_channel(shift.double(), wanted)
        if fed.inputs[0] != node.name:
            beside = beside + self.received(fed, part, index, but=node.name)
        return Need(wanted, beside.float(), relu=True, ceiling=relu.ceiling)
