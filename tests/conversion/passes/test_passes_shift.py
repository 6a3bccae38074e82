"""Bias shift: half a threshold as a current, and what it is the same as."""

from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import calibrated, named
from spiking_resnet.conversion.passes.shift import shift_currents
from spiking_resnet.graph import Conv2d, Fire, Linear, interpret
from spiking_resnet.neurons import IntegrateAndFire, State, per_channel
from zoo import NAMES, images, network


def counts(start, threshold, current, steps):
    """Spikes up to every step of one neuron with a constant current."""
    neuron = IntegrateAndFire(
        threshold=torch.tensor(float(threshold)),
        initial_potential=torch.tensor(float(start)),
        amplitude=torch.tensor(1.0),
    )
    state, fired = State(torch.full((1,), float(start))), []
    for _ in range(steps):
        spikes, state = neuron.step(state, torch.tensor([float(current)]))
        fired.append(int(spikes))
    return torch.tensor(fired).cumsum(0).tolist()


@settings(deadline=None, max_examples=200)
@given(share=st.integers(1, 20), steps=st.integers(1, 32), part=st.floats(-0.5, 1.5))
def test_a_constant_input_has_the_final_count_of_half_a_threshold_but_later(share, steps, part):
    """In whole units theta / (2 T), so that nothing is rounded."""
    threshold = 2 * steps * share
    current = floor(part * threshold)
    early = counts(threshold // 2, threshold, current, steps)
    shifted = counts(0, threshold, current + share, steps)
    assert shifted[-1] == early[-1]
    assert all(late <= soon for late, soon in zip(shifted, early, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_every_population_receives_its_own_shift_and_nothing_else_changes(name):
    options = {"thresholds": "percentile", "compensation": "none", "weights": False, "grid": None}
    graph = convert(network(name), images(name, 12), calibrated(**options, steps=8))
    wanted = {
        node.name: torch.linspace(0.1, 0.9, node.shape[0]) + index
        for index, node in enumerate(graph.of(Fire))
    }
    shifted, frames = shift_currents(graph, wanted), images(name, 2)
    spikes = {node.name: torch.rand(2, *node.shape).round() for node in graph.of(Fire)}

    def received(one):
        walked = interpret.walk(one.nodes, frames, {}, 0, spikes)
        values = {node.name: value for node, value in walked}
        named = {node.name: values[node.inputs[0]] for node in one.of(Fire)}
        return named, values[one.output.name]

    (before, logits), (after, same) = received(graph), received(shifted)
    assert torch.allclose(logits, same)
    for population, shift in wanted.items():
        expected = before[population] + per_channel(shift, before[population])
        assert torch.allclose(after[population], expected, atol=1e-4), population
    layers = [node.name for node in graph.nodes if isinstance(node, Conv2d | Linear)]
    assert [n.name for n in shifted.nodes if isinstance(n, Conv2d | Linear)] == layers


def test_the_first_layer_of_a_network_fires_what_the_optimal_potential_does():
    frames = images("identity", 16)
    runs = [
        simulate(convert(network("identity"), frames, named(name, steps=16)), frames, 16)
        for name in ("optimal-potential", "bias-shift")
    ]
    first = next(iter(runs[0].spikes))
    totals = [run.spikes[first].spikes[-1].sum().item() for run in runs]
    assert totals[1] == pytest.approx(totals[0], rel=0.005)  # its grid rounds theta / (2 T)


def test_neurons_start_at_zero_with_the_shift_in_their_current():
    plain, shifted = (
        convert(network("identity"), images("identity", 12), named(name, steps=8, grid=None))
        for name in ("optimal-potential", "bias-shift")
    )
    assert all(float(node.neuron.initial_potential.abs().max()) == 0 for node in shifted.of(Fire))
    assert all(float(node.neuron.initial_potential.min()) == 0.5 for node in plain.of(Fire))
    first = [graph.of(Conv2d)[0].bias for graph in (plain, shifted)]
    assert torch.allclose(first[1] - first[0], torch.tensor(0.5 / 8), atol=1e-6)


@pytest.mark.parametrize("compensation", ["bias", "potential"])
@pytest.mark.parametrize("name", ["preactivation", "leaky", "mlp", "ends_in_relu"])
def test_shifted_networks_are_calibrated_too(name, compensation):
    """Currents in nodes of their own, and populations without places."""
    options = {"bias_shift": True, "compensation": compensation, "images": 8, "rounds": 1}
    graph = convert(network(name), images(name, 12), calibrated(steps=64, delay=0, **options))
    batch = images(name, 12)
    with torch.inference_mode():
        expected = interpret.logits(graph.ann, batch)
    found = simulate(graph, batch, 64).logits[-1]
    assert float((found - expected).norm() / expected.norm()) < 0.3
