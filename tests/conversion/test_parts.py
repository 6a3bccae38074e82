"""Populations run one by one: what methods that settle a network layer by layer build on."""

import pytest
import torch

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import calibrated
from spiking_resnet.conversion.parts import Grid, part_of
from spiking_resnet.conversion.passes.encode import with_input_limit
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.pools import cumulative_pools
from spiking_resnet.conversion.passes.snap import snap
from spiking_resnet.conversion.passes.thresholds import percentile_thresholds
from spiking_resnet.conversion.statistics import measure
from spiking_resnet.engines.cpu.engine import NativeCpu
from spiking_resnet.engines.parts import counted
from spiking_resnet.graph import Fire
from spiking_resnet.store import digest
from zoo import ann, images, network

STEPS = 9
CHAINS = ["identity", "projection"]  # every current is of one population, so grids are the whole's


@pytest.fixture(params=["cpu", "layerwise"])
def engine(request, monkeypatch):
    """Parts run on this engine."""
    if request.param == "layerwise":
        monkeypatch.setattr(NativeCpu, "unsupported", lambda *_: ["not here"])
    return request.param


def spiking(name, kind):
    """A spiking network in the units of its ANN."""
    graph = ann(name)
    statistics = measure(graph, Calibration(images(name, 12)), True)
    thresholds = percentile_thresholds(graph, statistics, 99)
    return cumulative_pools(fire(with_input_limit(graph, statistics.input_limit), thresholds, kind))


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("kind", [Kind(), Kind(levels=3, signed=True)])
def test_a_part_fires_the_spikes_of_the_whole_network(name, kind, engine):
    graph, frames = spiking(name, kind), images(name, 5)
    whole = snap(normalise(graph), STEPS)
    trains = simulate(whole, frames, STEPS, engine="interpreter", trains=list(graph.neurons)).trains
    known = {key: train.to(torch.int8) for key, train in trains.items()}
    for node in graph.of(Fire):
        part = part_of(graph, graph.by_name, node.name, Grid(steps=STEPS))
        found = part.spikes(frames, {key: known[key] for key in part.known}, STEPS)
        for start, stop in ((0, STEPS), (2, 5)):
            expected = known[node.name][start:stop].sum(0, dtype=torch.int64)
            assert torch.equal(counted(found, start, stop), expected)


def made(name, method):
    return digest(convert(network(name), images(name, 12), method))


@pytest.mark.parametrize("name", CHAINS)
def test_engines_and_threads_change_no_calibration(name, monkeypatch):
    method, threads = calibrated(steps=6, images=12), torch.get_num_threads()
    expected = made(name, method)
    assert made(name, method) == expected
    try:
        torch.set_num_threads(3)
        assert made(name, method) == expected
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(NativeCpu, "unsupported", lambda *_: ["not here"])
    assert made(name, method) == expected


def test_portions_of_the_images_change_no_calibration(monkeypatch):
    method = calibrated(steps=6, images=12)
    expected = convert(network("identity"), images("identity", 12), method)
    monkeypatch.setattr("spiking_resnet.conversion.passes.received.MOST", 5)
    found = convert(network("identity"), images("identity", 12), method)
    probe = images("identity", 4)
    logits = [simulate(graph, probe, 6).logits[-1] for graph in (expected, found)]
    assert torch.allclose(*logits, atol=0.05 * float(logits[0].abs().max()))
