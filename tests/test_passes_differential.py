import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet import convert, interpret, neurons, save, simulate
from spiking_resnet.graph import AvgPool, Fire
from spiking_resnet.methods import differential
from spiking_resnet.neurons import Differential
from spiking_resnet.passes.differential import geometric
from spiking_resnet.rates import stands
from spiking_resnet.records import InputError
from spiking_resnet.store import digest, load
from zoo import NAMES, ann, images, network

STEPS = 24
METHOD = differential(steps=STEPS, first=0.4, last=0.01, percentile=100)


def spiking(name, method=METHOD):
    return convert(network(name), images(name, 12), method)


def neuron(heights, levels=1, threshold=1.0, caution=0.5):
    return Differential(
        threshold=torch.tensor(threshold),
        initial_potential=torch.tensor(0.0),
        amplitude=torch.tensor(threshold),
        heights=torch.as_tensor(heights),
        levels=levels,
        caution=caution,
    )


def followed(population, currents):
    """(what was sent [T], potentials [T]) of one neuron for currents [T]."""
    potential, emitted = torch.zeros(1), torch.zeros(1)
    sent, rest = [], []
    for time, current in enumerate(currents):
        spikes, potential = neurons.step(population, potential, current[None], emitted, time)
        emitted = emitted + neurons.sent(population, spikes)
        sent.append(spikes)
        rest.append(potential)
    return torch.cat(sent), torch.cat(rest)


@settings(deadline=None, max_examples=200)
@given(
    currents=st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=20),
    levels=st.integers(1, 4),
    threshold=st.floats(0.25, 4, width=32),
)
def test_spikes_are_sizes_times_the_steps_height_and_charge_is_kept(currents, levels, threshold):
    currents = torch.tensor(currents)
    heights = geometric(0.5, 0.01, len(currents))
    sent, rest = followed(neuron(heights, levels, threshold), currents)
    sizes = (sent / (heights * threshold)).abs()
    allowed = torch.tensor([0.0, *(2.0**level for level in range(levels))])
    assert float((sizes[:, None] - allowed).abs().amin(1).max()) < 1e-4
    charge = currents.cumsum(0) - sent.cumsum(0)
    assert torch.allclose(rest, charge, atol=1e-4)


@settings(deadline=None, max_examples=200)
@given(activation=st.floats(-2, 1, width=32), levels=st.integers(1, 3))
def test_a_constant_input_is_reached_within_half_a_height(activation, levels):
    """Heights that shrink by less than half can always make up for what is left."""
    heights = geometric(0.5, 0.004, 12)
    currents = torch.tensor([activation, *[0.0] * 11])
    sent, _ = followed(neuron(heights, levels), currents)
    assert abs(float(sent.sum()) - max(activation, 0.0)) <= 0.5 * float(heights[-1]) + 1e-5


def test_what_was_sent_in_error_is_taken_back():
    heights = geometric(0.5, 0.004, 12)
    currents = torch.tensor([1.0, 0.0, 0.0, -3.0, *[0.0] * 8])
    sent, _ = followed(neuron(heights, levels=3), currents)
    assert float(sent[:3].sum()) > 0.9
    assert abs(float(sent.sum())) <= 0.5 * float(heights[-1])
    assert bool((sent < 0).any())


def test_caution_saves_spikes():
    heights = geometric(0.5, 0.004, 12)
    currents = torch.tensor([0.61, *[0.0] * 11])
    counts = [int((followed(neuron(heights, 1, 1.0, c), currents)[0] != 0).sum()) for c in (0.5, 1)]
    assert counts[1] < counts[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_reach_the_artificial_networks(name):
    graph, batch = spiking(name), images(name, 12)[:4]
    run = simulate(graph, batch, STEPS, (STEPS // 2,))
    expected = interpret.logits(ann(name), batch)
    early, late = (float((logits - expected).norm() / expected.norm()) for logits in run.logits)
    assert late < 0.1
    assert late < early


@pytest.mark.parametrize("name", NAMES)
def test_layerwise_agrees_with_the_interpreter(name):
    """Off the grid the order of additions may flip single spikes; what they stand for stays."""
    graph, batch = spiking(name), images(name, 3)
    expected, found = (
        simulate(graph, batch, STEPS, (1, 7), engine) for engine in ("interpreter", "layerwise")
    )
    scale = float(expected.logits.abs().max())
    assert float((found.logits - expected.logits).abs().max()) < 0.01 * scale
    assert not found.exact
    for layer, count in expected.spikes.items():
        assert torch.allclose(
            found.spikes[layer].spikes.float(), count.spikes.float(), rtol=0.02, atol=4
        )


def test_biases_and_images_enter_once():
    graph, batch = spiking("identity"), images("identity", 2)
    first, state = interpret.step(graph, batch)
    for conv in (node for node in graph.nodes if getattr(node, "bias", None) is not None):
        assert interpret.at_step(conv, True, 0) is conv
        assert interpret.at_step(conv, True, 1).bias is None
    assert torch.equal(interpret.present(graph.input, batch, 1), torch.zeros_like(batch))
    assert state.time == 1
    assert bool((first != 0).any())


def test_average_pools_stay_linear():
    graph = spiking("average_of_4")
    fired = {node.inputs[0] for node in graph.of(Fire)}
    assert not fired & {node.name for node in graph.of(AvgPool)}


def test_the_last_height_is_searched_on_calibration_images():
    graph = spiking("identity", differential(steps=8, levels=2))
    notes = graph.notes["heights"]
    best = min(notes["trials"], key=lambda trial: trial["distance"])
    assert notes["first"] == 0.5
    assert notes["last"] == pytest.approx(0.5 * best["factor"])
    assert len(notes["trials"]) > 3


def test_longer_runs_than_it_was_made_for_are_refused():
    with pytest.raises(InputError, match="convert with more steps"):
        simulate(spiking("identity"), images("identity", 2), STEPS + 1)


def test_the_file_keeps_it(tmp_path):
    graph = spiking("identity")
    save(graph, tmp_path / "snn.safetensors")
    back = load(tmp_path / "snn.safetensors")
    assert digest(back) == digest(graph)
    assert all(isinstance(node.neuron, Differential) for node in back.of(Fire))
    batch = images("identity", 2)
    assert torch.equal(simulate(back, batch, STEPS).logits, simulate(graph, batch, STEPS).logits)


def test_rates_are_refused():
    with pytest.raises(InputError, match="no one height"):
        stands(spiking("identity"))


@pytest.mark.parametrize(
    "options", [{"percentile": 0}, {"caution": 0.4}, {"levels": 0}, {"steps": 0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=r"must|start"):
        differential(**options)


def test_impossible_heights_are_refused():
    with pytest.raises(ValueError, match="heights"):
        geometric(0.1, 0.2, 4)
