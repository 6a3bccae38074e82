"""Signed streams: read as numbers of 16 bits, and computed as integers by the native engine."""

from functools import cache

import pytest
import torch
from test_engines import assert_same, run
from torch import nn

from spiking_resnet import convert, load, save
from spiking_resnet.conversion.methods import differential, hu2021
from spiking_resnet.conversion.passes import snap
from spiking_resnet.engines.cpu import kernels, library
from spiking_resnet.engines.cpu.integers import Integers
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import Affine, Conv2d, Fire, Linear, Round, interpret, tensors
from spiking_resnet.graph.exactness import bounds_of, largest
from spiking_resnet.graph.grids import coarsest_grid

needs_kernels = pytest.mark.skipif(library.library() is None, reason="kernels are not compiled")


def conv(inputs, outputs, kernel=3, stride=1, **options):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, **options), nn.BatchNorm2d(outputs)
    )


class Linked(nn.Module):
    """A residual block without ReLU after its sum."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.first = conv(inputs, outputs, 3, stride)
        self.second = conv(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x):
        return self.second(torch.relu(self.first(x))) + self.shortcut(x)


class PreActivated(nn.Module):
    """BatchNorm, ReLU and convolution, twice, beside an identity."""

    def __init__(self, channels):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x):
        y = x
        for norm, weights in zip(self.norms, self.convs, strict=True):
            y = weights(torch.relu(norm(y)))
        return x + y


class Bottleneck(nn.Module):
    """An inverted residual: to more channels, each by itself, to fewer."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        inner = 3 * inputs
        self.layers = nn.Sequential(
            conv(inputs, inner, 1), nn.ReLU6(), conv(inner, inner, 3, stride, groups=inner),
            nn.ReLU6(), conv(inner, outputs, 1),
        )  # fmt: skip
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.layers(x)
        return x + y if self.shortcut else y


class Headed(nn.Module):
    def __init__(self, *blocks, features):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8), nn.ReLU())
        self.blocks, self.end = nn.Sequential(*blocks, nn.ReLU()), nn.Linear(features, 5)

    def forward(self, x):
        return self.end(self.blocks(self.stem(x)).mean((2, 3)))


NETWORKS = {
    "no ReLU after sums": lambda: Headed(
        Linked(8, 8), Linked(8, 8), Linked(8, 11, 2), Linked(11, 11), features=11
    ),
    "pre-activation": lambda: Headed(PreActivated(8), PreActivated(8), features=8),
    "linear bottlenecks": lambda: Headed(
        Bottleneck(8, 6), Bottleneck(6, 6), Bottleneck(6, 7, 2), Bottleneck(7, 7), features=7
    ),
}


def images(count):
    return torch.randn(count, 3, 9, 7, generator=torch.Generator().manual_seed(3))


def network(name):
    """A network with the BatchNorm statistics of its images."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            nn.init.normal_(layer.weight, 0.0, 1.0)  # gains of both signs
    with torch.no_grad():
        model.train()(images(40))
    return model.eval()


@cache
def converted(name, **options):
    return convert(network(name), images(40), hu2021(steps=24, compensation=1.0, **options))


@pytest.fixture(params=list(NETWORKS))
def name(request):
    return request.param


def of_streams(graph):
    """The nodes that weigh numbers, by the nodes that round them."""
    return [
        (graph[node.inputs[0]], node)
        for node in graph.nodes
        if isinstance(node, Conv2d | Linear | Affine) and node.inputs[0].endswith(".numbers")
    ]


@pytest.mark.parametrize("per_channel", [False, True])
def test_numbers_and_weights_fit_16_bits_and_their_sums_32(name, per_channel):
    graph = converted(name, per_channel=per_channel)
    bounds, found = bounds_of(graph), of_streams(graph)
    assert found
    for rounding, node in found:
        assert isinstance(rounding, Round)
        assert largest(bounds[rounding.name]) * 2.0**rounding.bits < 2**15
        weights = next(iter(tensors(node).values()))
        grid = coarsest_grid(weights)
        assert float(weights.abs().max()) * 2.0**grid < 2**15
        assert largest(bounds[node.name]) * 2.0 ** (grid + rounding.bits) < 2**31


def test_weights_that_bring_spikes_to_streams_fit_16_bits(name):
    """Where streams go through weights, populations do not limit them to so few."""
    graph = converted(name, per_channel=True)
    for rounding, _ in of_streams(graph):
        for node in spiking_summands(graph, rounding.inputs[0]):
            weights = next(iter(tensors(node).values()))
            assert float(weights.abs().max()) * 2.0 ** coarsest_grid(weights) < 2**15


def spiking_summands(graph, name):
    """The convolutions that bring spikes to a sum."""
    node = graph[name]
    if isinstance(node, Conv2d):
        return [node] if isinstance(graph[node.inputs[0]], Fire) else []
    return [each for one in node.inputs for each in spiking_summands(graph, one)]


@needs_kernels
def test_every_engine_gives_the_same_spikes(name):
    graph, batch = converted(name), images(3)
    expected = run(graph, batch, "interpreter", 24)
    assert expected.exact
    for window in (None, 1, 5):
        assert_same(run(graph, batch, "cpu", 24, window=window), expected)
    assert_same(run(graph, batch, "layerwise", 24), expected)


@needs_kernels
@pytest.mark.parametrize("kernel", [k.name for k in kernels.table()] if library.library() else [])
def test_every_kernel_gives_the_same_spikes(name, kernel, monkeypatch):
    graph, batch = converted(name, per_channel=True), images(2)
    monkeypatch.setattr(library, "kernel", kernel)
    assert_same(run(graph, batch, "cpu", 12), run(graph, batch, "interpreter", 12))


@needs_kernels
def test_differential_neurons_give_the_same_spikes(name):
    method = differential(steps=4, levels=4, images=4)
    graph, batch = convert(network(name), images(40), method), images(3)
    expected = run(graph, batch, "interpreter", 4)
    assert of_streams(graph)
    for engine in ENGINES:
        assert_same(run(graph, batch, engine, 4), expected)


@needs_kernels
def test_no_weights_of_streams_are_left_to_torch(name):
    graph = converted(name)
    made = ENGINES["cpu"].prepare(graph)
    left = {node.name for node in made.nodes} - set(made.sums)
    assert not left & {node.name for pair in of_streams(graph) for node in pair}


@needs_kernels
def test_a_run_goes_on_elsewhere(name):
    graph, batch = converted(name), images(2)
    expected = interpret_from(graph, batch, "interpreter", "interpreter")
    for first, second in (("cpu", "interpreter"), ("interpreter", "cpu"), ("cpu", "layerwise")):
        assert_same(interpret_from(graph, batch, first, second), expected)


def interpret_from(graph, batch, first, second):
    """The second of two runs of 8 steps, by two engines."""
    state = run(graph, batch, first, 8, keep_state=True).state
    return run(graph, batch, second, 8, state=state)


@needs_kernels
def test_files_without_numbers_run_as_they_did(name, monkeypatch, tmp_path):
    """Streams read as they are, by weights in float64."""
    monkeypatch.setattr(snap, "number_grids", lambda *_: {})
    graph, batch = converted.__wrapped__(name), images(2)
    monkeypatch.undo()
    save(graph, tmp_path / "old.safetensors")
    graph = load(tmp_path / "old.safetensors")
    assert not of_streams(graph)
    assert_same(run(graph, batch, "cpu", 12), run(graph, batch, "interpreter", 12))


def test_rounding_streams_loses_nothing(name, monkeypatch):
    graph, batch = converted(name, readout="membrane"), images(8)
    monkeypatch.setattr(snap, "number_grids", lambda *_: {})
    fine = converted.__wrapped__(name, readout="membrane")
    logits = network(name)(batch)
    found, expected = (run(g, batch, "auto", 256).logits[-1] for g in (graph, fine))
    assert (found - expected).norm() < 0.5 * (expected - logits).norm() + 0.01 * logits.norm()


def test_populations_fire():
    for name in NETWORKS:
        graph = converted(name)
        found = run(graph, images(4), "auto", 24)
        assert all(int(found.spikes[node.name].spikes[-1].sum()) for node in graph.of(Fire))
        assert interpret.constants(graph)


def test_integers_beyond_float32_are_handed_on_whole():
    """What a wide read-out sums up: float32 would round it."""
    units = torch.tensor([[[[2**24 + 1, -(2**30) - 1]]]], dtype=torch.int32)
    values = Integers(units, (2,), 3).floats()
    assert values.flatten().tolist() == [(2**24 + 1) / 8, -(2**30 + 1) / 8]
