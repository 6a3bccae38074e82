import pytest
import torch

from spiking_resnet import methods, simulate
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.shortcuts import projections, unconverted
from spiking_resnet.graph import Add, Affine, AvgPool, Conv2d, Fire, ReLU
from spiking_resnet.graph.structure import (
    carries_spikes,
    scale_input,
    shortcuts,
    spiking_depth,
    weighted,
)
from zoo import NAMES, ann, images, logits, spiking, traced


def on_the_way(graph, name):
    """The gains on the way from the neurons (or a weight) to `name`, multiplied, and its start."""
    gain, node = torch.ones(()), graph[name]
    while isinstance(node, Affine):
        gain, node = gain * node.scale, graph[node.inputs[0]]
    return gain, node


def identity_gains(graph):
    """The gain of every identity input of every sum."""
    ways = (on_the_way(graph, name) for add in graph.of(Add) for name in add.inputs)
    return [gain for gain, start in ways if not isinstance(start, Conv2d)]


@pytest.mark.parametrize("name", ["identity", "three_blocks", "option_a", "in_place", "reordered"])
def test_without_conversion_identities_have_gain_one(name):
    gains = identity_gains(spiking(name, shortcut_conversion=False))
    assert gains
    assert all(bool((gain == 1).all()) for gain in gains)


def test_with_conversion_they_are_ratios_of_thresholds():
    gains = identity_gains(spiking("three_blocks"))
    assert len(gains) == 3
    assert all(float(gain) != 1 for gain in gains)


def test_projections_are_found():
    found = projections(ann("projection"))
    assert len(found) == 2  # of stride 2 in the first block, of stride 1 in the second
    assert all("shortcut" in name for name in found)


def test_identities_are_no_projections():
    assert projections(ann("three_blocks")) == []


def test_a_projection_is_normalised_by_its_own_lambda():
    graph = ann("projection")
    theta = {node.name: torch.tensor(2.0 + i) for i, node in enumerate(graph.of(ReLU))}
    own = {name: torch.tensor(7.0) for name in projections(graph)}
    spikes = fire(graph, theta, Kind())
    converted = normalise(spikes)
    plain = normalise(unconverted(spikes, own))
    starts = {i: on_the_way(plain, i) for add in plain.of(Add) for i in add.inputs}
    for name in own:
        gain = next(gain for gain, start in starts.values() if start.name == name)
        (add,) = graph.consumers[name]
        (after,) = graph.consumers[add.name]
        expected = converted[name].weight * theta[after.name] / 7.0
        assert torch.allclose(plain[name].weight * gain, expected)


def test_other_layers_are_as_they_were():
    graph = ann("identity")
    theta = {node.name: torch.tensor(2.0 + i) for i, node in enumerate(graph.of(ReLU))}
    spikes = fire(graph, theta, Kind())
    one, other = normalise(spikes), normalise(unconverted(spikes, {}))
    for node in one.of(Conv2d):
        assert torch.equal(node.weight, other[node.name].weight)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_can_be_ablated(name):
    graph = spiking(name, shortcut_conversion=False)
    run = simulate(graph, images(name, 4), 16)
    assert run.logits.isfinite().all()


def test_the_conversion_is_what_makes_it_right():
    """Shortcuts taken as they come are far from the network; converted ones approach it."""
    errors = {}
    for conversion in (True, False):
        graph = methods.hu2021(
            shortcut_conversion=conversion, percentile=100.0, readout="membrane", steps=400
        ).apply(traced("three_blocks"), Calibration(images("three_blocks", 40)))
        run = simulate(graph, images("three_blocks"), 400)
        expected = logits("three_blocks")
        errors[conversion] = float((run.logits[-1] - expected).norm() / expected.norm())
    assert errors[True] < 0.02
    assert errors[False] > 5 * errors[True]


def test_thresholds_per_channel_exclude_the_ablation():
    with pytest.raises(ValueError, match="one per layer"):
        methods.hu2021(shortcut_conversion=False, per_channel=True)


def spikes_of(name):
    theta = {node.name: torch.tensor(1.0) for node in ann(name).of(ReLU)}
    return fire(ann(name), theta, Kind())


def test_structure_of_a_block():
    graph = spikes_of("projection")
    first, second = graph.of(Add)
    depth, has_weights = spiking_depth(graph), weighted(graph)
    for add in (first, second):
        assert min(depth[name] for name in add.inputs) + 1 == depth[add.name]
        assert all(has_weights[name] for name in add.inputs)
        (position,) = shortcuts(graph)[add.name]
        assert "shortcut" in graph[add.inputs[position]].name


def test_what_carries_spikes():
    graph = spikes_of("average_of_4")
    spikes = carries_spikes(graph)
    for node in graph.nodes:
        if isinstance(node, Conv2d | Add):
            assert not spikes[node.name]
        if isinstance(node, Fire):
            assert spikes[node.name]
            pools = [r for r in graph.consumers[node.name] if isinstance(r, AvgPool)]
            assert all(spikes[pool.name] for pool in pools)
    assert not spikes["input"]


def test_scaling_an_input_leaves_the_others():
    graph = spikes_of("identity")
    (add,) = graph.of(Add)
    nodes = {node.name: node for node in graph.nodes}
    changed = scale_input(graph, nodes, add, 1, torch.tensor(2.0), "twice")
    assert changed.inputs[0] == add.inputs[0]
    assert nodes[changed.inputs[1]].inputs == (add.inputs[1],)
