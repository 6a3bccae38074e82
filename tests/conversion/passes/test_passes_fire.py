import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.fire import Kind, fire, fire_after_pools, fire_at_output
from spiking_resnet.graph import AvgPool, Fire, MaxPool, ReLU
from zoo import NAMES, ann, images, logits, spiking


def fired(name, threshold=None, initial=0.5, reset="subtract"):
    graph = ann(name)
    threshold = torch.tensor(2.0) if threshold is None else threshold
    thresholds = {node.name: threshold for node in graph.of(ReLU)}
    return fire(graph, thresholds, Kind(initial_potential=initial, reset=reset))


@pytest.mark.parametrize("name", NAMES)
def test_every_relu_becomes_a_population(name):
    graph = fired(name)
    assert not graph.of(ReLU)
    assert [n.name for n in graph.of(Fire)] == [n.name for n in ann(name).of(ReLU)]
    assert [n.source for n in graph.of(Fire)] == [n.source for n in ann(name).of(ReLU)]


def test_spikes_carry_their_threshold():
    for node in fired("identity", torch.tensor([1.0, 2.0, 3.0, 4.0]), 0.25, "zero").of(Fire):
        assert node.neuron.threshold.tolist() == [1, 2, 3, 4]
        assert node.neuron.amplitude.tolist() == [1, 2, 3, 4]
        assert node.neuron.initial_potential.tolist() == [0.25, 0.5, 0.75, 1]
        assert node.neuron.reset == "zero"


def test_an_average_pool_gets_neurons_of_the_spikes_it_pools():
    graph = fire_after_pools(fired("average_of_49", torch.tensor(3.0)), Kind())
    (pool,) = graph.of(AvgPool)
    population = graph[f"{pool.name}.fire"]
    assert population.inputs == (pool.name,)
    assert float(population.neuron.threshold) == 3
    assert all(isinstance(n, Fire) for n in graph.consumers[pool.name])


class Summed(nn.Module):
    """A pool that divides by something else than the size of its windows."""

    def __init__(self, divisor):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(24, 5)
        self.divisor = divisor

    def forward(self, x):
        pooled = F.avg_pool2d(torch.relu(self.conv(x)), 4, divisor_override=self.divisor)
        return self.fc(pooled.flatten(1))


@pytest.mark.parametrize("divisor", [16, 8, 1, -4])
def test_neurons_after_a_pool_reach_as_far_as_it_does(divisor):
    net, frames = Summed(divisor).eval(), torch.randn(40, 3, 8, 8)
    options = {"percentile": 100.0, "readout": "membrane", "steps": 1000}
    graph = convert(net, frames, hu2021(**options))
    (pool,) = graph.of(AvgPool)
    assert float(graph[f"{pool.name}.fire"].neuron.threshold) == 16  # spikes of its window
    with torch.inference_mode():
        expected = net(frames)
    found = simulate(graph, frames, 1000).logits[-1]
    assert float((found - expected).norm() / expected.norm()) < 0.01


def test_pools_of_pools_and_of_max_pools_get_theirs():
    for name in ("average_of_4", "stem_max_pool", "mixed_block", "inner_max_pool"):
        graph = fire_after_pools(fired(name), Kind())
        for pool in graph.of(AvgPool):
            assert [n.name for n in graph.consumers[pool.name]] == [f"{pool.name}.fire"]
        for pool in graph.of(MaxPool):
            assert f"{pool.name}.fire" not in graph.by_name


def test_a_pool_of_currents_gets_none():
    graph = fire_after_pools(fired("average_of_currents"), Kind())
    first = graph.of(AvgPool)[0]
    assert f"{first.name}.fire" not in graph.by_name


def test_a_pool_of_joined_spikes_gets_neurons():
    graph = fire_after_pools(fired("inception"), Kind())
    assert all(f"{pool.name}.fire" in graph.by_name for pool in graph.of(AvgPool))


def test_neurons_on_the_logits_count():
    graph = fired("identity")
    thresholds = {"output": torch.tensor(4.0)}
    made = fire_at_output(graph, thresholds, Kind())
    population = made["output.fire"]
    assert population.inputs == graph.output.inputs
    assert (float(population.neuron.threshold), float(population.neuron.amplitude)) == (4, 1)
    assert (made.output.readout, made.output.scale) == ("spikes+membrane", 4)


# How far the spiking logits stay from the network's after T = 512: 1.1 % at most where measured.
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
def test_spiking_logits_approach_the_networks(name, per_channel):
    options = {"percentile": 100.0, "per_channel": per_channel, "steps": 512}
    graph = spiking(name, readout="membrane", **options)
    run = simulate(graph, images(name), 512, record=(64,))
    expected = logits(name)
    early, late = (float((found - expected).norm() / expected.norm()) for found in run.logits)
    assert late < 0.02
    assert late < early / 3  # the error falls like 1 / T


@pytest.mark.parametrize("name", NAMES)
def test_so_do_spikes_counted_on_positive_logits(name):
    graph = spiking(name, percentile=100.0, steps=512)
    run = simulate(graph, images(name), 512)
    expected = logits(name).clamp(min=0)
    largest = float(logits(name, 40).max())  # neurons on the logits resolve this / T
    assert float((run.logits[-1] - expected).abs().max()) < 0.05 * largest
