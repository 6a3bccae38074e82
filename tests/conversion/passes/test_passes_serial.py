from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet import convert, save, simulate
from spiking_resnet.conversion.methods import calibrated
from spiking_resnet.conversion.presets import chosen
from spiking_resnet.evaluation.compare import compare
from spiking_resnet.evaluation.conditions import facts
from spiking_resnet.graph import Fire
from spiking_resnet.graph.claims import claimed
from spiking_resnet.graph.exactness import LONGEST, exact_steps
from spiking_resnet.neurons import Serial, State
from spiking_resnet.store import digest, load
from zoo import NAMES, images, in_float64, network

PLAIN = {"compensation": "none", "weights": False, "grid": None}


@settings(deadline=None, max_examples=200)
@given(
    currents=st.lists(st.integers(-30, 30), min_size=1, max_size=8),
    window=st.integers(1, 8),
    threshold=st.integers(1, 9),
)
def test_the_count_is_that_of_the_whole_input_in_any_order(currents, window, threshold):
    """clip(floor((v0 + total) / threshold), 0, window), and the charge is kept."""
    neuron = Serial(
        threshold=torch.tensor(float(threshold)),
        initial_potential=torch.tensor(threshold / 2),
        amplitude=torch.tensor(1.0),
        start=len(currents) - 1,
        window=window,
    )
    state, fired = State(torch.full((1,), threshold / 2)), []
    for t in range(len(currents) + window + 2):
        now = torch.tensor([float(currents[t])]) if t < len(currents) else torch.zeros(1)
        s, state = neuron.step(state, now, t)
        fired.append(int(s))
    whole = threshold / 2 + sum(currents)
    assert sum(fired) == min(max(int(whole // threshold), 0), window)
    assert not any(fired[: neuron.start])
    assert not any(fired[neuron.start + window :])
    assert float(state.potential) == whole - threshold * sum(fired)


@pytest.mark.parametrize("name", NAMES)
def test_layer_serial_firing_is_the_network_of_as_many_levels_in_one_step(name):
    window, frames = 5, images(name, 6, seed=3)
    waiting = convert(
        network(name), images(name, 12), calibrated(steps=window, waits=True, **PLAIN)
    )
    levels = calibrated(steps=1, levels=window, delay=0, **PLAIN)
    quantised = convert(network(name), images(name, 12), levels)
    once = simulate(quantised, frames, 1, engine="interpreter")
    for engine in ("interpreter", "layerwise"):
        run = simulate(waiting, frames, waiting.latency, engine=engine)
        assert torch.allclose(run.logits[-1], once.logits[-1], atol=1e-4)
        for population, counted in once.spikes.items():
            assert torch.equal(run.spikes[population].spikes[-1], counted.spikes[-1])


@pytest.mark.parametrize("name", ["stem_max_pool", "signed_stream", "max_pool_of_image", "mlp"])
def test_on_its_grid_no_sum_of_any_number_of_steps_is_rounded(name):
    """A source brings something in `window` steps alone, so the bounds of as many hold for ever."""
    graph = convert(network(name), images(name, 12), calibrated(steps=5, waits=True, images=8))
    assert graph.arriving_steps == 5
    assert exact_steps(graph) == LONGEST
    assert claimed(graph).nodes == graph.nodes
    frames = images(name, 4, seed=3).clamp(-graph.input.limit, graph.input.limit)
    trains = list(graph.neurons)
    expected = simulate(graph, frames, engine="interpreter", trains=trains)
    found = simulate(in_float64(graph), frames, engine="layerwise", trains=trains)
    assert expected.exact
    assert found.exact
    assert torch.equal(found.logits, expected.logits)
    assert all(torch.equal(found.trains[n], train) for n, train in expected.trains.items())


def test_what_enters_once_makes_no_grid_coarser():
    """The bits of a step's sums are those of spikes, of which none reach the first population."""
    graph = convert(network("mlp"), images("mlp", 8), calibrated(steps=2, waits=True, images=8))
    first, *others = graph.of(Fire)
    assert first.grid == 14 > others[0].grid


def test_pixels_that_enter_once_are_rounded_as_constant_ones():
    graph = convert(network("mlp"), images("mlp", 8), calibrated(steps=2, waits=True, images=8))
    frames, node = images("mlp", 2, seed=1), graph.input
    constant = replace(node, encoding="constant")
    assert torch.equal(node.present(frames, 0), constant.present(frames, 0))
    assert not node.present(frames, 1).any()
    assert torch.equal(replace(node, grid=None).present(frames, 0), frames)


def test_latency_grows_with_depth_and_is_one_step_for_one_spike():
    one = convert(network("identity"), images("identity", 8), calibrated(steps=1, waits=True))
    assert one.latency == 1
    four = convert(network("identity"), images("identity", 8), calibrated(steps=4, waits=True))
    starts = [node.neuron.start for node in four.of(Fire)]
    assert starts == sorted(starts)
    assert four.latency == starts[-1] + 4 > 4
    assert facts(four).waits


def test_it_is_stored_and_loaded(tmp_path):
    made = convert(network("identity"), images("identity", 8), calibrated(steps=3, waits=True))
    save(made, tmp_path / "s.safetensors")
    read = load(tmp_path / "s.safetensors")
    assert digest(read) == digest(made)
    assert read.latency == made.latency


def test_a_comparison_names_the_steps_of_a_layer():
    frames = images("identity", 8, seed=7)
    found = compare(
        network("identity"), images("identity", 12), frames, chosen("layer-serial"), (2, 4)
    )
    assert sorted(found.rows[0].readings) == [2, 4]
    assert found.rows[0].facts.waits


@pytest.mark.parametrize("options", [{"levels": 2}, {"signed": True}, {"delay": 1}])
def test_waiting_neurons_fire_zero_or_one(options):
    with pytest.raises(ValueError, match="layer-serial"):
        calibrated(waits=True, **options)
