"""Calibration through the layers that are spiking already: what uneven arrival costs, given back.

Spikes reach a deep layer late and unevenly, so its rate differs from the activation it stands for,
layer after layer. SNN Calibration (Li et al., ICML 2021; IJCV 2024) measures that on training
images, in the order of the network, through the layers already corrected, and corrects each layer
for what the ones before it do. `calibrate` is that on graphs, with r a layer's mean output over T
steps, a its activation in the artificial network and E a mean over images:

    bias (light):         b_c  <- b_c + E[a_c - r_c]         (also over the places of a map)
    potential (advanced): v0_i <- v0_i + T * E[a_i - r_i]    (for every neuron)

repeated, because r answers in whole spikes. For neurons of one step and many levels (those that
wait for their whole input) there are also the offsets of distribution-aware QCFS (Hao et al.,
"Faster and Stronger: When ANN-SNN Conversion Meets Parallel Spiking Calculation", ICML 2025). A
channel of range theta and T levels says

    (theta + phi) * clip(floor((z + psi) T / theta + 1/2) / T, 0, 1)

with psi the mean error of its input z, phi that of its output, both against the artificial network
whose ReLUs are clipped at theta. There both are running averages (0.99) while the two networks see
batch after batch; here they are the means over all images at once, layer by layer, which is where
such averages settle, whatever the order of images and batches.

The weights, which "advanced" fits by gradients, have a
closed form here, a ridge regression for every layer, bias included:

    min over W', b' of  E |W' x + b' - z|^2 + ridge * |W' - W|^2

with x the mean input the layer receives over T steps, z what the artificial network's own layer
gives on its own input.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet import interpret, neurons
from spiking_resnet.graph import (
    Affine,
    Conv2d,
    Fire,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
)
from spiking_resnet.neurons import Differential, IntegrateAndFire
from spiking_resnet.structure import bias_before, bias_carrier, with_bias

Weighted = Conv2d | Linear
Currents = Callable[[], Iterable[tuple[slice, Tensor]]]  # portions of images, [T or 1, n, ...]

LOWEST_HEIGHT = 1e-3  # of a spike that offsets make lower, in its own
NUMBERS = 2**22  # values of one layer worked on at once, over its images and steps
HELD = 2**28  # currents of one layer that are kept between rounds; more are computed again


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What `calibrate` corrects.

    steps: T. compensation: "none", "bias" of every channel, initial "potential" of every neuron, or
    "offsets" of every channel before and after its neurons (of one step, T levels). rounds: how
    often bias or potential are measured and corrected. weights: whether they are fitted. ridge: how
    strongly they are held to what they were, as a share of their inputs' mean square.
    """

    steps: int
    compensation: Literal["none", "bias", "potential", "offsets"] = "potential"
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
    with torch.inference_mode():
        for node in graph.nodes:
            work.visit(node)
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += [work.before[node.name]] if node.name in work.before else []
        nodes.append(work.nodes[node.name])
    return graph.with_nodes(nodes)


class _Work:
    """One calibration under way.

    nodes: by name, corrected as far as it went. before: what to put before populations. spiking and
    artificial: what stations (nodes with memory, and the image) hand on in either network, as long
    as later nodes need it.
    """

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, correction: Correction) -> None:
        self.ann, self.graph, self.images, self.correction = ann, graph, images, correction
        self.nodes: dict[str, Node] = dict(graph.by_name)
        self.before: dict[str, Affine] = {}
        self.once = graph.input.encoding == "once"
        self.spiking: dict[str, _Sent] = {}
        self.artificial: dict[str, Tensor] = {}
        self.behind = _behind(graph)
        self.last = {
            source: node.name
            for node in graph.nodes
            if interpret.is_stateful(node) or isinstance(node, Weighted)
            for source in self.behind[node.name]
        }

    def visit(self, node: Node) -> None:
        """Corrects `node` and, if it has memory, runs it over all images and steps."""
        reached = any(not isinstance(self.graph[name], Input) for name in self.behind[node.name])
        if isinstance(node, Weighted) and self.correction.weights and reached:
            self.nodes[node.name] = self._fitted(node)
        elif isinstance(node, Fire):
            self._fire(node)
        elif isinstance(node, MaxPool) and interpret.is_stateful(node):
            self._pool(node)
        for source in self.behind[node.name]:
            if self.last.get(source) == node.name:
                self.spiking.pop(source, None)
                self.artificial.pop(source, None)

    def _parts(self, *nodes: Node) -> Iterator[slice]:
        """Images in portions that keep every value on the way to `nodes` within NUMBERS."""
        names = {name for node in nodes for name in (*_between(self.graph, node), node.name)}
        largest = max(torch.Size(self.graph[name].shape).numel() for name in names)
        size = max(1, NUMBERS // (largest * self.correction.steps))
        for start in range(0, len(self.images), size):
            yield slice(start, start + size)

    def _received(self, node: Node, part: slice) -> Tensor:
        """What the spiking network brings to `node`: [T, n, ...], [1, n, ...] where constant."""
        values: dict[str, Tensor] = {}
        for name in _between(self.graph, node):
            source = self.graph[name]
            if name in self.spiking:
                values[name] = self.spiking[name].values(part)
            elif isinstance(source, Input):
                values[name] = self._presented(source, part)
            else:
                inputs = [values[each] for each in source.inputs]
                values[name] = self._through(self.nodes[name], inputs)
        return values[node.inputs[0]]

    def _presented(self, node: Input, part: slice) -> Tensor:
        images = self.images[part]
        if node.encoding == "constant":
            return images[None]
        return torch.stack(
            [interpret.present(node, images, t) for t in range(self.correction.steps)]
        )

    def _through(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """A stateless node's value over all steps, [T or 1, n, ...]."""
        widest = max(len(value) for value in inputs)
        inputs = [value.expand(widest, *value.shape[1:]) for value in inputs]
        ends = [0, 1, widest] if self.once and widest > 1 else [0, widest]
        made = []
        for start, stop in pairwise(ends):
            flat = [value[start:stop].flatten(0, 1) for value in inputs]
            now = interpret.at_step(node, self.once, start)
            made.append(_value(now, flat).unflatten(0, (stop - start, -1)))
        return torch.cat(made)

    def _wanted(self, node: Node, part: slice) -> Tensor:
        """What the artificial network brings to the node of this name, [n, ...]."""
        values: dict[str, Tensor] = {}
        for name in _between(self.graph, node):
            source = self.ann[name]
            if name in self.artificial:
                values[name] = self.artificial[name][part]
            elif isinstance(source, Input):
                values[name] = self.images[part]
            else:
                inputs = [values[each] for each in source.inputs]
                values[name] = _value(source, inputs)
        return values[node.inputs[0]]

    def _mean(self, value: Tensor) -> Tensor:
        """What values [T or 1, n, ...] amount to as an activation [n, ...]."""
        return value.sum(0) if self.once else value.mean(0)

    def _fire(self, node: Fire) -> None:
        """Corrects a population, and keeps what it and its ReLU hand on."""
        self.artificial[node.name] = torch.cat(
            [self._activation(node, part) for part in self._parts(node)]
        )
        currents = self._currents(node)
        if self.correction.compensation == "offsets":
            neuron, shift = self._offset(node, currents)
        else:
            neuron, shift = self._compensated(node, currents)
        sent = [_Sent.of(neuron, self._run(neuron, each, shift)) for _, each in currents()]
        numbers = torch.cat([each.numbers for each in sent], 1)
        self.spiking[node.name] = replace(sent[0], numbers=numbers)
        self.nodes[node.name] = replace(node, neuron=neuron)
        if bool(shift.any()):
            self._shift(node, shift)

    def _activation(self, node: Fire, part: slice) -> Tensor:
        """What the artificial network's ReLU hands on, [n, ...]; with offsets, clipped."""
        relu = self.ann[node.name]
        value = interpret.STATELESS[type(relu)](relu, self._wanted(node, part))
        if self.correction.compensation != "offsets":
            return value
        most = node.neuron.levels * node.neuron.threshold
        return torch.minimum(value, neurons.per_channel(most, value))

    def _compensated(self, node: Fire, currents: Currents) -> tuple[IntegrateAndFire, Tensor]:
        """The population with other initial potentials, and a bias [C] more for it."""
        neuron, shift = node.neuron, torch.zeros(node.shape[0])
        for _ in range(self.correction.rounds if self.correction.compensation != "none" else 0):
            total = torch.zeros(node.shape)
            for part, current in currents():
                rate = self._mean(self._run(neuron, current, shift))
                total += (self.artificial[node.name][part] - rate).sum(0)
            error = total / len(self.images)
            if self.correction.compensation == "bias" or isinstance(neuron, Differential):
                shift = shift + error.flatten(1).mean(1)
            else:
                initial = neurons.per_channel(neuron.initial_potential, error[None])
                later = initial + self.correction.steps * error
                neuron = replace(neuron, initial_potential=later)
        return neuron, shift

    def _offset(self, node: Fire, currents: Currents) -> tuple[IntegrateAndFire, Tensor]:
        """The population with spikes of other heights, (theta + phi) / levels, and psi [C]."""
        neuron = node.neuron
        before = self._over_places(
            self._wanted(node, part) - self._mean(current) for part, current in currents()
        )
        after = self._over_places(
            self.artificial[node.name][part] - self._mean(self._run(neuron, current, before))
            for part, current in currents()
        )
        height = neuron.amplitude + after / neuron.levels
        height = height.clamp(min=LOWEST_HEIGHT * neuron.amplitude)
        return replace(neuron, amplitude=height), before

    def _over_places(self, parts: Iterable[Tensor]) -> Tensor:
        """The mean [C] over all images and places of values [n, C, ...], portion by portion."""
        total, count = torch.zeros((), dtype=torch.float64), 0
        for part in parts:
            table = part.transpose(0, 1).flatten(1)
            total, count = total + table.double().sum(1), count + table.shape[1]
        return (total / count).float()

    def _currents(self, node: Fire) -> Currents:
        """The currents of a population, before corrections of its own, portion by portion."""

        def computed() -> Iterator[tuple[slice, Tensor]]:
            for part in self._parts(node):
                yield part, self._received(node, part)

        count = torch.Size(node.shape).numel() * len(self.images) * self.correction.steps
        if count > HELD:
            return computed
        held = list(computed())
        return lambda: held

    def _run(self, neuron: IntegrateAndFire, current: Tensor, shift: Tensor) -> Tensor:
        """The spikes [T, n, ...] of a population, of their heights, for a current [T or 1, n, ...]
        and a further bias [C].
        """
        steps = self.correction.steps
        potential = neurons.start(neuron, current[0])
        shift = neurons.per_channel(shift, potential)
        spikes = torch.empty(steps, *potential.shape)
        emitted: Tensor = torch.zeros(())
        for t in range(steps):
            now = current[t if len(current) > 1 else 0]
            if t == 0 or not self.once:
                now = now + shift
            spikes[t], potential = neurons.step(neuron, potential, now, emitted, t)
            if neuron.signed:
                emitted = emitted + neurons.sent(neuron, spikes[t])
        return spikes

    def _shift(self, node: Fire, shift: Tensor) -> None:
        """Adds a bias [C] to what a population receives: to that of a layer that only it reads, or
        in a node of its own.
        """
        name = bias_carrier(self.graph, node)
        if name is None:
            current, shape = self.nodes[node.name], self.graph[node.inputs[0]].shape
            assert isinstance(current, Fire)
            self.before[node.name], self.nodes[node.name] = bias_before(current, shape, shift)
            return
        layer = self.nodes[name]
        assert isinstance(layer, Weighted)
        self.nodes[name] = with_bias(layer, shift)

    def _pool(self, node: MaxPool) -> None:
        """Keeps what a max pool hands on in either network."""
        relu, values = self.ann[node.name], []
        assert isinstance(relu, MaxPool)
        for part in self._parts(node):
            received = self._received(node, part)
            sums = received.expand(self.correction.steps, *received.shape[1:]).cumsum(0)
            pooled = interpret.max_pool(node, sums.flatten(0, 1)).unflatten(0, (len(sums), -1))
            values.append(torch.cat([pooled[:1], pooled.diff(dim=0)]))
        self.spiking[node.name] = _Sent(torch.cat(values, 1), torch.ones(()), None)
        self.artificial[node.name] = torch.cat(
            [interpret.max_pool(relu, self._wanted(node, part)) for part in self._parts(node)]
        )

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
        for part in self._parts(node):
            x = _columns(node, self._mean(self._received(node, part)), groups)  # [G, M, K + 1]
            z = _columns(node, self._wanted(node, part), groups) @ before.transpose(1, 2)
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


@dataclass(frozen=True, eq=False)
class _Sent:
    """What a station handed on: numbers [T, N, ...] times amplitude ([] or [C]), times the height
    of the step if there are heights [T].
    """

    numbers: Tensor
    amplitude: Tensor
    heights: Tensor | None

    @classmethod
    def of(cls, neuron: IntegrateAndFire, spikes: Tensor) -> "_Sent":
        """Of a population's spikes [T, n, ...], which are of their heights."""
        heights = neuron.heights[: len(spikes)] if isinstance(neuron, Differential) else None
        one = cls(torch.ones((), dtype=torch.int8), neuron.amplitude, heights)
        unit = one._scale(spikes)
        small = torch.int8 if neuron.levels < 2**7 else torch.int16
        return cls(torch.round(spikes / unit).to(small), neuron.amplitude, heights)

    def values(self, part: slice) -> Tensor:
        """The values [T, n, ...] of some of the images."""
        numbers = self.numbers[:, part].float()
        return numbers * self._scale(numbers)

    def _scale(self, like: Tensor) -> Tensor:
        scale = neurons.per_channel(self.amplitude, like[0])
        if self.heights is None:
            return scale
        return scale * self.heights.view(-1, *([1] * (like.ndim - 1)))


def _value(node: Node, inputs: list[Tensor]) -> Tensor:
    """What a node without memory makes of its inputs [n, ...]."""
    if isinstance(node, MaxPool):
        return interpret.max_pool(node, inputs[0])
    return interpret.STATELESS[type(node)](node, *inputs)


def _between(graph: Graph, node: Node) -> list[str]:
    """The nodes whose values `node` comes of in one step, back to stations, in order."""
    needed: set[str] = set()
    waiting = list(node.inputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            if not interpret.is_stateful(graph[name]):
                waiting += graph[name].inputs
    return [each.name for each in graph.nodes if each.name in needed]


def _behind(graph: Graph) -> dict[str, Collection[str]]:
    """For every node, the stations that its value comes of in one step."""
    found: dict[str, Collection[str]] = {}
    for node in graph.nodes:
        stations: set[str] = set()
        for name in node.inputs:
            source = graph[name]
            own = interpret.is_stateful(source) or isinstance(source, Input)
            stations |= {name} if own else set(found[name])
        found[node.name] = stations
    return found


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
