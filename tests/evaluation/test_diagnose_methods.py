"""Diagnosis of networks whose spikes are no rates: differential, of a mean, layer-serial, gated."""

from functools import cache

import pytest
import torch
from torch import nn

from spiking_resnet import InputError, convert, diagnose, simulate
from spiking_resnet.ann.activation import QCFS
from spiking_resnet.conversion.methods import calibrated, dcgs, differential, hu2021, qcfs
from spiking_resnet.evaluation.diagnosis import CONTRIBUTIONS, OWN
from spiking_resnet.evaluation.rates import counterparts, divisor, summed_currents
from spiking_resnet.evaluation.sent import sent
from spiking_resnet.graph import Fire, interpret
from spiking_resnet.neurons import per_channel
from zoo import images, network, random_weights

METHODS = {
    "differential": differential(levels=2, steps=8, first=1.0, last=0.05),
    "differential-4": differential(levels=4, steps=4, images=8),
    "dcgs-1": dcgs(levels=1, steps=8),
    "dcgs-4": dcgs(levels=4, steps=6, thresholds="percentile"),
    "layer-serial": calibrated(waits=True, steps=6),
    "signed": calibrated(signed=True, delay=0, steps=8),
    "burst": hu2021(levels=5, per_channel=True, percentile=95, readout="membrane",
                    pool_neurons=False),
}  # fmt: skip
CASES = [
    *(("projection", method) for method in METHODS),
    *((name, method) for name in ("average_of_4", "stem_max_pool", "relu6")
      for method in ("differential", "layer-serial")),
]  # fmt: skip


@cache
def spiking(name, method):
    return convert(network(name), images(name, 12), METHODS[method])


def batches(graph, name):
    batch = images(name, 9)
    labels = interpret.logits(graph.ann, batch).argmax(1)
    return [(batch[:4], labels[:4]), (batch[4:], labels[4:])]


def steps_of(graph):
    return graph.made_for or 12


@pytest.mark.parametrize(("name", "method"), CASES)
def test_contributions_add_up_to_the_error_and_to_the_loss(name, method):
    graph = spiking(name, method)
    loader, steps = batches(graph, name), steps_of(graph)
    found = diagnose(graph, loader, steps)
    labels = torch.cat([each for _, each in loader])
    chosen = simulate(graph, images(name, 9), steps).logits[-1].argmax(1)
    assert found.agreement == pytest.approx(float((chosen == labels).double().mean()))
    assert sum(found.lost(by) for by in OWN) == pytest.approx(1 - found.agreement)
    assert [layer.name for layer in found.layers] == [n.name for n in graph.of(Fire)] + ["output"]
    for layer in found.layers:
        assert tuple(layer.parts) == CONTRIBUTIONS
        assert layer.mean == pytest.approx(sum(part.mean for part in layer.parts.values()))
        assert 0 <= layer.alone <= 1
    assert found.layers[0].parts["inherited"].rms == 0
    again = diagnose(graph, loader, steps, engine="interpreter")
    assert [one.agreement for one in again.layers] == [one.agreement for one in found.layers]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_what_was_sent_tells_the_summed_currents(name, method):
    graph, batch = spiking(name, method), images(name, 3)
    steps, memory = steps_of(graph), {}
    totals, spikes = (dict.fromkeys(graph.neurons, 0.0) for _ in range(2))
    with torch.inference_mode():
        for time in range(steps):
            values = {n.name: v for n, v in interpret.walk(graph.nodes, batch, memory, time)}
            for node in graph.of(Fire):
                totals[node.name] = totals[node.name] + values[node.inputs[0]].double()
                spikes[node.name] = spikes[node.name] + values[node.name].double()
    found = sent(graph, batch, steps)
    for node, total in summed_currents(graph, batch, found.sums, steps):
        assert torch.equal(found.sums[node.name], spikes[node.name])
        assert torch.equal(total, totals[node.name])


@pytest.mark.parametrize("method", ["differential-4", "dcgs-4", "layer-serial"])
def test_what_is_decoded_approaches_the_activations(method):
    graph, batch = spiking("projection", method), images("projection", 9)
    over = divisor(graph, steps_of(graph))
    found = sent(graph, batch, steps_of(graph))
    twins = {each.twin.name for each in counterparts(graph)}
    wanted = interpret.values(graph.ann, batch, twins)
    for each in counterparts(graph)[:-1]:
        decoded = each.activations(found.sums[each.name], over)
        error = (decoded - wanted[each.twin.name]).square().mean().sqrt()
        assert error < 0.35 * wanted[each.twin.name].square().mean().sqrt(), each.name


@pytest.mark.parametrize("name", ["projection", "relu6"])
def test_nothing_is_uneven_where_neurons_wait_for_their_whole_input(name):
    graph = spiking(name, "layer-serial")
    found = diagnose(graph, batches(graph, name))
    assert found.arrival == "before it fires"
    assert all(layer.parts["unevenness"].rms == 0 for layer in found.layers)
    assert found.lost("unevenness") == 0
    assert any(layer.parts["quantisation"].rms > 0 for layer in found.layers)


def toy():
    """The activation of one neuron is its pixel."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(1, 2))
    model = random_weights(model)
    model[0].weight.data.fill_(1.0)
    return model


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_differential_neuron_is_as_far_off_as_its_amplitudes_say(steps):
    """Halves of halves: after T steps e is x to the nearest of the sums of +-2^-t, or of 0."""
    pixels = torch.linspace(-0.5, 1.0, 25).view(-1, 1, 1, 1)
    method = differential(
        levels=1, steps=steps, first=1.0, last=2.0 ** (1 - steps), percentile=100.0, images=25
    )
    graph = convert(toy(), pixels, method)
    labels = torch.zeros(25, dtype=torch.int64)
    first = diagnose(graph, [(pixels, labels)], steps).layers[0]
    expected = []
    for x in pixels.flatten().tolist():
        own, e = max(x, 0.0), 0.0
        for t in range(steps):
            want = max(x - e, -e)
            e += 0.0 if abs(want) < 2.0**-t / 2 else 2.0**-t * (1 if want > 0 else -1)
        expected.append(e - own)
    square = sum(error * error for error in expected) / 25
    own = pixels.clamp(min=0).square().mean().sqrt()
    assert first.mean == pytest.approx(sum(expected) / 25, abs=1e-4)
    assert first.rms * first.activation == pytest.approx(square**0.5, abs=1e-4)
    assert first.activation == pytest.approx(float(own))
    assert first.parts["quantisation"].mean == pytest.approx(first.mean, abs=1e-4)
    assert first.parts["unevenness"].rms == first.parts["clipping"].rms == 0


def test_gated_neurons_are_judged_after_their_pre_steps():
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), QCFS(8), nn.Conv2d(3, 3, 3, padding=1), QCFS(8),
        nn.Flatten(), nn.Linear(192, 4),
    )  # fmt: skip
    batch = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    for gate in ("srp", "cos"):
        graph = convert(random_weights(model), batch, qcfs(gate=gate, pre_steps=4, steps=12))
        labels = interpret.logits(graph.ann, batch).argmax(1)
        found = diagnose(graph, [(batch, labels)], 16)
        chosen = simulate(graph, batch, 16).logits[-1].argmax(1)
        assert found.steps == 16
        assert found.agreement == pytest.approx(float((chosen == labels).double().mean()))
        assert sum(found.lost(by) for by in OWN) == pytest.approx(1 - found.agreement)
        with pytest.raises(InputError, match="the first 4 precede the counted ones"):
            diagnose(graph, [(batch, labels)], 4)


def test_several_sizes_of_spikes_are_clipped_where_they_end():
    graph = spiking("projection", "burst")
    found = diagnose(graph, batches(graph, "projection"), 12)
    for each, layer in zip(counterparts(graph)[:-1], found.layers, strict=False):
        most = each.amplitude * each.fire.neuron.most_sent(12) / 12
        five = 5 * torch.tensor(graph.notes["thresholds"][layer.name])
        assert torch.allclose(most, five.double())


def test_old_files_of_scheduled_amplitudes_are_refused():
    graph = spiking("projection", "differential-4")
    notes = {name: note for name, note in graph.notes.items() if name != "amplitudes"}
    with pytest.raises(InputError, match="convert it again"):
        counterparts(type(graph)(graph.nodes, notes=notes, ann=graph.ann))
    like = torch.zeros(1, *graph.of(Fire)[0].shape)
    assert per_channel(counterparts(graph)[0].amplitude, like).ndim in (0, 3)
