import pytest
import torch
from torch import nn

import spiking_resnet as sr
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.passes.thresholds import LOWEST, percentile_thresholds
from spiking_resnet.conversion.statistics import measure
from spiking_resnet.graph import Conv2d, Flatten, Graph, Input, Output, ReLU, interpret
from zoo import NAMES, ann, images


def measured(name, per_channel=False):
    return measure(ann(name), Calibration(images(name, 40)), per_channel)


def activations(name):
    """The values of every ReLU and the logits, [N, C, ...], by name."""
    graph = ann(name)
    names = [*(node.name for node in graph.of(ReLU)), "output"]
    return interpret.values(graph, images(name, 40), names)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_100th_percentile_is_the_maximum(name, per_channel):
    thresholds = percentile_thresholds(ann(name), measured(name, per_channel), 100)
    for layer, value in activations(name).items():
        whole = not per_channel or layer == "output"
        rows = value.transpose(0, 1).flatten(1)
        largest = rows.max() if whole else rows.amax(1)
        fires = largest > 0
        assert thresholds[layer].shape == largest.shape
        expected = largest.clamp(min=float(largest.max()) * LOWEST)
        assert torch.allclose(thresholds[layer][fires], expected[fires], rtol=1e-5)
        assert bool((thresholds[layer] > 0).all())


@pytest.mark.parametrize("percentile", [99.9, 99.0, 90.0])
def test_percentiles_count_zeros_too(percentile):
    thresholds = percentile_thresholds(ann("identity"), measured("identity"), percentile)
    for layer, value in activations("identity").items():
        expected = value.clamp(min=0).flatten().quantile(percentile / 100)
        assert float(thresholds[layer]) == pytest.approx(float(expected), rel=0.02)


def test_a_dead_layer_has_a_threshold_of_its_own():
    for per_channel in (False, True):
        thresholds = percentile_thresholds(ann("dead"), measured("dead", per_channel), 99.9)
        dead = next(n for n, v in activations("dead").items() if float(v.max()) == 0)
        assert bool((thresholds[dead] == 1).all())


def test_a_silent_channel_takes_the_layers_largest():
    thresholds = percentile_thresholds(ann("dead"), measured("dead", True), 99.9)
    layer = [node.name for node in ann("dead").of(ReLU)][-1]
    assert float(activations("dead")[layer][:, 2].max()) == 0
    assert thresholds[layer][2] == thresholds[layer].max()


def test_a_ceiling_is_never_exceeded():
    statistics = measured("two_thresholds")
    thresholds = percentile_thresholds(ann("two_thresholds"), statistics, 100)
    ceilings = {n.name: n.ceiling for n in ann("two_thresholds").of(ReLU) if n.ceiling}
    assert {float(thresholds[layer]) for layer in ceilings} == set(ceilings.values())


def test_a_percentile_where_nothing_fires_falls_back_to_the_maximum():
    statistics = measured("identity")
    thresholds = percentile_thresholds(ann("identity"), statistics, 0.01)
    for layer, histogram in statistics.layers.items():
        assert float(thresholds[layer]) == float(histogram.maximum)


@pytest.mark.parametrize("percentile", [0, -1, 100.1, float("nan")])
def test_percentiles_outside_their_range_are_refused(percentile):
    with pytest.raises(ValueError, match=r"\(0, 100\]"):
        percentile_thresholds(ann("identity"), measured("identity"), percentile)


def test_a_channel_that_hardly_fires_does_not_coarsen_the_grid_of_its_layer():
    """Its weights over its threshold would be the largest of the layer, on which all share."""
    weight = torch.tensor([[1.0], [1e-5]]).view(2, 1, 1, 1)
    shape = {"name": "conv", "inputs": ("input",), "shape": (2, 1, 1)}
    image = Input(name="input", inputs=(), shape=(1, 1, 1))
    relu = ReLU(name="relu", inputs=("conv",), shape=(2, 1, 1))
    flat = Flatten(name="flat", inputs=("relu",), shape=(2,))
    output = Output(name="output", inputs=("flat",), shape=(2,))
    graph = Graph((image, Conv2d(**shape, weight=weight, bias=None), relu, flat, output))
    statistics = measure(graph, Calibration(torch.linspace(-1, 1, 9).view(9, 1, 1, 1)), True)
    found = percentile_thresholds(graph, statistics, 100)["relu"]
    assert found.tolist() == [1.0, LOWEST]


@pytest.mark.parametrize("method", ["burst", "hu2021", "multi-threshold-4", "signed"])
def test_spikes_of_one_step_do_not_exceed_a_ceiling(method):
    """Neurons of several spikes a step handed on several times the ceiling."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU6(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[20.0, 0.0], [0.0, 5.0]]))
        module[2].weight.copy_(torch.eye(2))
    frames = torch.rand(200, 2)
    options = {"levels": 5, "readout": "membrane"} if method == "hu2021" else {}
    found = sr.simulate(sr.convert(module.eval(), frames, method, **options), frames, 64)
    with torch.no_grad():
        torch.testing.assert_close(found.logits[-1], module(frames), atol=0.2, rtol=0)
