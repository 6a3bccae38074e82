import pytest
import torch

from spiking_resnet import evaluate, simulate
from spiking_resnet.costs.operations import costs
from spiking_resnet.evaluation.layers import layers
from spiking_resnet.evaluation.observe import NEURONS, observe, spread
from spiking_resnet.records import InputError, decisions
from zoo import NAMES, images, spiking

STEPS = 12


def labels(count):
    return torch.arange(count) % 5


@pytest.fixture(scope="module")
def seen():
    graph, batch = spiking("identity"), images("identity", 12)
    return graph, batch, observe(graph, batch, labels(12), STEPS, samples=12)


def test_decisions_are_those_of_the_run_at_every_step(seen):
    graph, batch, found = seen
    run = simulate(graph, batch, STEPS, range(1, STEPS + 1))
    decided = decisions(run.logits)  # [T, N]
    assert sorted(each.image for each in found.samples) == list(range(12))
    for sample in found.samples:
        own = decided[:, sample.image].tolist()
        assert sample.decision == own[-1]
        assert set(own[sample.settled - 1 :]) == {sample.decision}
        assert sample.settled == 1 or own[sample.settled - 2] != sample.decision
        assert sample.flips == tuple(t + 1 for t in range(1, STEPS) if own[t] != own[t - 1])
        for label, values in zip(sample.classes, sample.readout, strict=True):
            assert values == tuple(run.logits[:, sample.image, label].tolist())
        assert {sample.label, sample.decision} <= set(sample.classes)


def test_samples_go_from_the_first_to_settle_to_the_last(seen):
    graph, batch, every = seen
    settled = [each.settled for each in every.samples]
    assert settled == sorted(settled)
    few = observe(graph, batch, labels(12), STEPS, samples=3)
    assert [each.settled for each in few.samples] == [
        settled[0],
        few.samples[1].settled,
        settled[-1],
    ]


def test_rasters_are_spike_trains(seen):
    graph, batch, found = seen
    first = found.raster_image
    names = [raster.population for raster in found.rasters]
    assert len(names) == 3
    run = simulate(graph, batch[first : first + 1], STEPS, trains=names)
    for raster in found.rasters:
        spikes = run.trains[raster.population][:, 0].flatten(1)
        assert torch.equal(torch.tensor(raster.spikes).T, spikes[:, raster.shown].to(torch.int64))
        assert raster.activity == pytest.approx(spikes.double().mean(1).tolist())
        assert len(raster.shown) == min(NEURONS, raster.neurons)


def test_negative_spikes_and_several_at_once_are_kept():
    graph, batch = spiking("identity", levels=4, signed=True), images("identity", 4)
    found = observe(graph, batch, labels(4), STEPS, 2, list(graph.neurons))
    values = {value for raster in found.rasters for row in raster.spikes for value in row}
    assert max(values) > 1
    assert all(sum(raster.activity) > 0 for raster in found.rasters[:1])


def test_unknown_populations_are_refused(seen):
    graph, batch, _ = seen
    with pytest.raises(InputError, match=r"'nothing'.*choose of"):
        observe(graph, batch, labels(12), STEPS, populations=["nothing"])


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, [0]), (3, [0, 5, 9]), (20, range(10))]
)
def test_items_are_spread_from_first_to_last(count, expected):
    found = spread(range(10), count)
    assert len(found) == len(expected)
    assert found[:1] == list(expected)[:1]
    assert found[-1:] == list(expected)[-1:]


@pytest.mark.parametrize("name", NAMES)
def test_what_layers_spend_adds_up(name):
    graph, batch = spiking(name), images(name, 4)
    curve = evaluate(graph, [(batch, labels(4))], [STEPS])
    point, spent = curve.points[-1], costs(graph)
    found = layers(graph, point)
    total = sum(layer.operations for layer in found) + point.steps * spent.per_step
    assert total == pytest.approx(spent.operations(point))
    assert sum(layer.spikes for layer in found) == pytest.approx(point.spikes_per_image)
    known = {layer.name for layer in found}
    for layer in found[1:]:
        assert {*layer.reads, *layer.shortcuts} <= known
        assert layer.reads
        assert not set(layer.reads) & set(layer.shortcuts)


def test_shortcuts_are_told_from_the_main_way():
    found = {layer.name: layer for layer in layers(*_measured("identity"))}
    beside = [layer for layer in found.values() if layer.shortcuts]
    assert len(beside) == 1
    (last,) = beside
    (source,), (read,) = last.shortcuts, last.reads
    assert found[read].reads == (source,)
    assert last.by == ("Conv2d", "Add")


def _measured(name):
    graph = spiking(name)
    return graph, evaluate(graph, [(images(name, 4), labels(4))], [STEPS]).points[-1]
