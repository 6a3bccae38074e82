"""The offsets of distribution-aware QCFS, against the formula computed without the package."""

import pytest
import torch
from torch import nn

from spiking_resnet import convert, save, simulate
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.methods import calibrated, named
from spiking_resnet.conversion.passes.calibrate import Correction, calibrate
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.evaluation.conditions import facts
from spiking_resnet.graph import Fire, ReLU, interpret
from spiking_resnet.store import digest, load
from zoo import NAMES, images, network

LEVELS = 4


def channels(values):
    return values.mean((0, 2, 3), keepdim=True)


def quantised(z, theta, psi, phi):
    count = torch.floor((z + psi) * LEVELS / theta + 0.5).clamp(0, LEVELS)
    return (theta + phi) * count / LEVELS


def two_layers():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU())
    return net, nn.Sequential(*net, nn.Flatten(), nn.Linear(3 * 36, 2)), torch.randn(64, 2, 6, 6)


def test_offsets_are_the_mean_errors_of_input_and_output_layer_by_layer():
    """(theta + phi) clip(floor((z + psi) T / theta + 1/2) / T, 0, 1), its copy clipped at theta."""
    (conv1, _, conv2, _), module, frames = two_layers()
    ann = fold_bn(trace(module, (2, 6, 6)))
    names = [node.name for node in ann.of(ReLU)]
    thetas = [torch.tensor([0.5, 0.8, 1.0, 1.2]), torch.tensor([0.3, 0.5, 0.7])]
    thresholds = {n: theta / LEVELS for n, theta in zip(names, thetas, strict=True)}
    graph = fire(ann, thresholds, Kind(levels=LEVELS))
    correction = Correction(steps=1, compensation="offsets", weights=False)
    found = calibrate(ann, graph, frames, correction)
    given = {node.name: v for node, v in interpret.walk(found.nodes, frames, {})}
    exact = copy = frames
    for conv, theta, name in zip((conv1, conv2), thetas, names, strict=True):
        theta = theta.view(1, -1, 1, 1)
        z, seen = conv(exact).detach(), conv(copy).detach()
        psi = channels(z - seen)
        exact = torch.minimum(z.clamp(min=0), theta)
        phi = channels(exact - quantised(seen, theta, psi, 0.0))
        copy = quantised(seen, theta, psi, phi)
        height = found[name].neuron.amplitude * LEVELS
        assert torch.allclose(height.view(1, -1, 1, 1), theta + phi, atol=1e-5)
        differing = ((given[name] - copy).abs() > 1e-4).float().mean()
        assert float(differing) < 0.002  # a tie may fall the other way
    assert float(psi.abs().max()) > 1e-3
    assert float(phi.abs().max()) > 1e-4


def test_with_offsets_the_mean_input_is_the_artificial_networks():
    (_, _, _, _), module, frames = two_layers()
    ann = fold_bn(trace(module, (2, 6, 6)))
    thresholds = {node.name: torch.tensor(0.9 / LEVELS) for node in ann.of(ReLU)}
    graph = fire(ann, thresholds, Kind(levels=LEVELS))
    second = graph.of(Fire)[1].inputs[0]
    limited = [torch.minimum(v, torch.tensor(0.9)) for v in (
        interpret.values(ann, frames, [ann.of(ReLU)[0].name]).values()
    )]  # fmt: skip
    wanted = channels(nn.functional.conv2d(limited[0], ann[second].weight, ann[second].bias))
    errors = []
    for compensation in ("none", "offsets"):
        correction = Correction(steps=1, compensation=compensation, weights=False)
        made = calibrate(ann, graph, frames, correction)
        value = dict((n.name, v) for n, v in interpret.walk(made.nodes, frames, {}))[second]
        errors.append(float((channels(value) - wanted).abs().max()))
    assert errors[1] < 1e-4 < errors[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_serial_network_is_its_quantised_copy(name):
    """T spikes of a neuron that waits are one step of T levels, offsets included."""
    frames = images(name, 12)
    graph = convert(network(name), frames, named("da-qcfs", steps=3))
    runs = [
        simulate(graph, frames[:4], graph.latency, engine=each)
        for each in ("interpreter", "layerwise")
    ]
    assert torch.allclose(runs[0].logits, runs[1].logits, atol=1e-3)
    assert facts(graph).waits
    assert facts(graph).binary


def test_offsets_depend_on_no_order_of_images():
    frames = images("identity", 24)
    one, two = (
        convert(network("identity"), source, named("da-qcfs", steps=4))
        for source in (frames, frames.flip(0).split(7))
    )
    for before, after in zip(one.nodes, two.nodes, strict=True):
        if hasattr(before, "weight"):
            assert torch.allclose(before.weight, after.weight, rtol=1e-4, atol=1e-6)


def test_the_file_keeps_it(tmp_path):
    graph = convert(network("identity"), images("identity", 12), named("da-qcfs", steps=3))
    save(graph, tmp_path / "snn.safetensors")
    assert digest(load(tmp_path / "snn.safetensors")) == digest(graph)


def test_offsets_are_for_neurons_that_wait():
    with pytest.raises(ValueError, match="waits=True"):
        calibrated(compensation="offsets")
