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
from spiking_resnet.neurons import Serial, State
from spiking_resnet.store import digest, load
from zoo import NAMES, images, network

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
