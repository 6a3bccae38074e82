import json
from dataclasses import replace

import pytest
import torch

from spiking_resnet import diagnose, simulate
from spiking_resnet.evaluation.diagnosis import CONTRIBUTIONS, OWN
from spiking_resnet.graph import Fire, ReLU, interpret
from spiking_resnet.records import InputError
from zoo import NAMES, ann, images, spiking

STEPS = 12
OPTIONS = {
    "default": {},
    "channel": {"per_channel": True, "readout": "membrane", "percentile": 90.0},
    "zero": {"reset": "zero", "pool_neurons": False, "compensation": 1.1},
    "poisson": {"input_coding": "poisson"},
}
CASES = [(name, "default") for name in NAMES]
CASES += [(name, option) for name in ("relu6", "stem_max_pool", "average_of_4", "signed_stream")
          for option in ("channel", "zero", "poisson")]  # fmt: skip


def batches(name, count=9):
    """Two batches of unequal size, with the ANN's decisions as labels."""
    batch = images(name, count)
    labels = interpret.logits(ann(name), batch).argmax(1)
    return [(batch[:4], labels[:4]), (batch[4:], labels[4:])]


@pytest.mark.parametrize(("name", "option"), CASES)
def test_contributions_add_up_to_the_error_and_to_the_loss(name, option):
    graph, loader = spiking(name, **OPTIONS[option]), batches(name)
    found = diagnose(graph, loader, STEPS)
    run = simulate(graph, images(name, 9), STEPS)
    agreement = float(
        (run.logits[-1].argmax(1) == torch.cat([y for _, y in loader])).double().mean()
    )
    assert found.agreement == pytest.approx(agreement)
    assert (found.accuracy, found.ann_accuracy) == (pytest.approx(agreement), 1.0)
    assert sum(found.lost(by) for by in OWN) == pytest.approx(1 - agreement)
    populations = [node.name for node in graph.of(Fire)]
    last = [] if graph.output.readout != "mean" else ["output"]
    assert [layer.name for layer in found.layers] == populations + last
    before = 1.0
    for layer in found.layers:
        assert tuple(layer.parts) == CONTRIBUTIONS
        assert layer.mean == pytest.approx(sum(part.mean for part in layer.parts.values()))
        if layer.rms > 0:
            assert sum(part.share for part in layer.parts.values()) == pytest.approx(1)
        assert layer.agreement == pytest.approx(before - layer.lost)
        before = layer.agreement
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ["identity", "inner_max_pool", "dense"])
def test_means_are_those_of_rates_and_activations(name):
    graph, batch = spiking(name, per_channel=True), images(name, 9)
    found = {layer.name: layer for layer in diagnose(graph, batches(name), STEPS).layers}
    run = simulate(graph, batch, STEPS, neurons=graph.neurons)
    relus = [node.name for node in graph.ann.of(ReLU)]
    activations = interpret.values(graph.ann, batch, relus)
    for relu, activation in activations.items():
        height = torch.tensor(graph.notes["thresholds"][relu])
        rates = run.neuron_spikes[relu] / STEPS * height.view(-1, 1, 1)
        error = (rates - activation).double()
        layer = found[relu]
        assert layer.mean == pytest.approx(float(error.mean()), rel=1e-4, abs=1e-7)
        assert layer.activation == pytest.approx(float(activation.square().mean()) ** 0.5, rel=1e-5)
        relative = float(error.square().mean()) ** 0.5 / layer.activation
        assert layer.rms == pytest.approx(relative, rel=1e-4)


def test_the_first_population_inherits_nothing_and_hears_an_even_current():
    """Its input is the same at every step: nothing is uneven, and what it reads is the image."""
    first = diagnose(spiking("three_blocks"), batches("three_blocks"), STEPS).layers[0]
    assert first.parts["inherited"].rms == 0
    assert first.parts["unevenness"].rms == 0
    assert first.parts["weights"].rms < 1e-2  # the grid's
    assert first.parts["quantisation"].rms > 0


def test_each_cause_is_seen_where_it_was_made():
    graph, loader = spiking("three_blocks"), batches("three_blocks")
    usual = diagnose(graph, loader, 16).layers
    low = diagnose(spiking("three_blocks", percentile=70.0), loader, 16).layers
    assert low[0].parts["clipping"].rms > 3 * usual[0].parts["clipping"].rms
    assert low[0].parts["clipping"].mean < 0
    long = diagnose(graph, loader, 320).layers
    for by in ("quantisation", "unevenness"):
        errors = [sum(layer.parts[by].rms for layer in layers) for layers in (usual, long)]
        assert errors[1] < errors[0] / 3
    early = diagnose(spiking("three_blocks", initial_potential=0.0), loader, 16).layers
    assert early[0].parts["quantisation"].mean < 0  # floor instead of round
    stronger = diagnose(spiking("three_blocks", compensation=1.2), loader, 16).layers
    assert stronger[0].parts["weights"].rms > 0.05 > usual[0].parts["weights"].rms


@pytest.mark.parametrize("option", ["default", "channel"])
def test_neither_batching_nor_engine_matters(option):
    graph = spiking("projection", **OPTIONS[option])
    one = [(images("projection", 9), torch.cat([y for _, y in batches("projection")]))]
    expected = diagnose(graph, batches("projection"), STEPS).to_json()
    found = diagnose(graph, one, STEPS, engine="interpreter").to_json()
    for a, b in zip(expected["layers"], found["layers"], strict=True):
        for by in CONTRIBUTIONS:
            assert a["parts"][by] == pytest.approx(b["parts"][by], rel=1e-4, abs=1e-7)
    assert expected["agreement"] == found["agreement"]


def test_the_costliest_is_the_worst_place_of_the_worst_cause():
    found = diagnose(spiking("wide", percentile=60.0), batches("wide", 60), 4)
    name, by = found.costliest
    assert found.lost(by) == max(found.lost(other) for other in OWN)
    layer = {layer.name: layer for layer in found.layers}[name]
    assert layer.parts[by].lost == max(other.parts[by].lost for other in found.layers)
    name, by = found.largest
    assert by in OWN
    everything = [layer.parts[one].rms for layer in found.layers for one in OWN]
    assert {layer.name: layer for layer in found.layers}[name].parts[by].rms == max(everything)


def test_a_silent_layer_is_no_division_by_zero():
    found = diagnose(spiking("dead"), batches("dead"), STEPS)
    silent = [layer for layer in found.layers if layer.activation == 0]
    assert silent
    assert all(layer.rms == 0 for layer in silent)


def test_bad_requests_name_the_remedy():
    graph = spiking("identity")
    with pytest.raises(InputError, match="no images"):
        diagnose(graph, [], STEPS)
    with pytest.raises(InputError, match="convert it again"):
        diagnose(replace(graph, ann=None), batches("identity"), STEPS)
    with pytest.raises(InputError, match="labels"):
        diagnose(graph, [images("identity", 2)], STEPS)
