"""The summary of a network: its layers, their sizes, thresholds and rates."""

from dataclasses import fields

import pytest
import torch
from torch import nn

import spiking_resnet as sr
from spiking_resnet.costs.sizes import Size, sizes

pytestmark = pytest.mark.whole
SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    body = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(4)
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(64, 5))
    model[-1].bias.data += 1
    return model.eval()


@pytest.fixture(scope="module")
def graph(network):
    return sr.convert(network, torch.rand(8, *SHAPE))


def total(found):
    return {each.name: getattr(found.total, each.name) for each in fields(Size)}


def test_the_layers_have_all_there_is(graph):
    found = sr.summary(graph)
    known = sizes(graph.nodes).values()
    own = {each.name: sum(getattr(size, each.name) for size in known) for each in fields(Size)}
    assert total(found) == own
    assert sum(layer.size.neurons for layer in found.layers) == sum(graph.neurons.values())
    assert {layer.name for layer in found.layers} >= set(graph.neurons)
    assert found.rate is None
    assert "rate" not in str(found)


def test_thresholds_are_in_the_units_of_the_ann(graph):
    known = {layer.name: layer.threshold for layer in sr.summary(graph).layers}
    name = next(iter(graph.neurons))
    assert known[name] == pytest.approx((graph.notes["thresholds"][name],) * 2)


def test_rates_are_those_of_a_run_or_a_curve(graph):
    images = torch.rand(6, *SHAPE)
    run = sr.simulate(graph, images, 16)
    curve = sr.evaluate(graph, (images, torch.arange(6) % 5), (8, 16), progress=False)
    found, other = sr.summary(graph, run=run), sr.summary(graph, run=curve)
    rates = [layer.rate for layer in found.layers]
    assert rates == pytest.approx([layer.rate for layer in other.layers])
    fired = sum(float(each.spikes[-1].double().mean()) for each in run.spikes.values())
    assert found.rate == pytest.approx(fired / (16 * sum(graph.neurons.values())))
    assert "6 images at T = 16" in str(found)
    drawn = found.plot().patches
    assert [bar.get_width() for bar in drawn] == [100 * rate for rate in rates if rate is not None]
    with pytest.raises(sr.InputError, match="has no chart"):
        sr.summary(graph).plot()


def test_modules_and_files_have_summaries(network, graph, tmp_path):
    found = sr.summary(network, SHAPE)
    assert found.method == ""
    assert found.total.parameters == sum(each.numel() for each in network.parameters())
    assert "artificial network" in str(found)
    sr.save(graph, tmp_path / "snn.safetensors")
    assert sr.summary(tmp_path / "snn.safetensors") == sr.summary(graph)
    with pytest.raises(sr.InputError, match="shape is missing"):
        sr.summary(network)


def test_what_does_not_belong_together_is_refused(graph):
    other = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.ReLU(), nn.Linear(4, 5))
    other[-1].bias.data += 1
    images = torch.rand(4, *SHAPE)
    run = sr.simulate(sr.convert(other, images), images, 4)
    with pytest.raises(sr.InputError, match="run is of another network"):
        sr.summary(graph, run=run)
    with pytest.raises(sr.InputError, match="simulate or evaluate"):
        sr.summary(graph, run=5)
    with pytest.raises(sr.InputError, match="a Graph, a module"):
        sr.summary(5)
