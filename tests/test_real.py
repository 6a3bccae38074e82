"""Real networks on real images: run with SPIKING_RESNET_DATA (cifar10/*.npz and weights/*.pt)."""

import os
from functools import cache
from pathlib import Path

import pytest
import torch

from spiking_resnet import ann, evaluate, simulate
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import interpret
from spiking_resnet.graph.exactness import exact_steps
from zoo import in_float64, spike_trains

ROOT = os.environ.get("SPIKING_RESNET_DATA", "")
WANTED = [Path(ROOT, "cifar10", "test.npz"), Path(ROOT, "cifar10", "train.npz")]
pytestmark = [
    pytest.mark.skipif(not ROOT, reason="SPIKING_RESNET_DATA is not set: no real data"),
    pytest.mark.skipif(
        bool(ROOT) and not (all(p.is_file() for p in WANTED) and Path(ROOT, "weights").is_dir()),
        reason="SPIKING_RESNET_DATA lacks cifar10/train.npz, cifar10/test.npz or weights/",
    ),
]
NETWORKS = {  # file: the normalisation it was trained with
    "cifar10_resnet20_akamaster": "imagenet",
    "cifar10_resnet20_karanchahal": "imagenet",  # signed residual streams, 2x2 average pool
    "cifar10_resnet56_akamaster": "imagenet",
}
SMALL = list(NETWORKS)[:2]


@cache
def model(name):
    path = Path(ROOT, "weights", f"{name}.pt")
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return ann.load(path).model


def loader(split, count, batch=50, name="cifar10_resnet20_akamaster"):
    data = ann.load_dataset("cifar10", split, data=ROOT)
    return data.loader(batch, limit=count, normalisation=NETWORKS[name])


@cache
def pictures(count, name="cifar10_resnet20_akamaster"):
    return torch.cat([images for images, _ in loader("test", count, name=name)])


@cache
def converted(name, steps=64, **options):
    """Calibrated on training images only."""
    batches = Calibration(loader("train", 400, name=name))
    return hu2021(steps=steps, **options).apply(trace(model(name), (3, 32, 32)), batches)


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)


@pytest.mark.sweep
@pytest.mark.parametrize("name", NETWORKS)
def test_traced_and_folded_it_computes_the_modules_logits(name, two_threads):
    images, graph = pictures(20 if "56" in name else 100), trace(model(name), (3, 32, 32))
    with torch.inference_mode():
        expected = model(name)(images)
        for found in (interpret.logits(graph, images), interpret.logits(fold_bn(graph), images)):
            assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4
            assert torch.equal(found.argmax(1), expected.argmax(1))


@pytest.mark.sweep
def test_after_64_steps_the_accuracy_is_the_networks_but_for_a_few_points(two_threads):
    graph = converted("cifar10_resnet20_akamaster")
    curve = evaluate(graph, loader("test", 100), (16, 32, 64))
    assert curve.exact
    assert curve.images == 100
    assert curve.ann_accuracy > 0.85
    late = curve.points[-1]
    assert late.accuracy > curve.ann_accuracy - 0.05
    assert late.agreement > 0.9
    assert curve.points[0].accuracy < late.accuracy + 0.02
    assert 0.02 < late.firing_rate < 0.2


def assert_same_run(found, expected):
    for layer, train in expected.trains.items():
        assert torch.equal(found.trains[layer], train), layer
    assert torch.equal(found.logits, expected.logits)


def run(graph, images, engine, steps, **options):
    return simulate(graph, images, steps, engine=engine, trains=list(graph.neurons), **options)


def assert_engines_agree(graph, images, steps):
    expected = run(graph, images, "interpreter", steps)
    assert expected.exact
    assert sum(int(train.sum()) for train in expected.trains.values()) > 50_000
    for engine, module in ENGINES.items():
        if engine != "interpreter" and not module.unsupported(graph):
            assert_same_run(run(graph, images, engine, steps), expected)


@pytest.mark.sweep
def test_every_engine_gives_the_same_spikes(two_threads):
    assert_engines_agree(converted("cifar10_resnet20_akamaster"), pictures(4), 64)


@pytest.mark.sweep
def test_so_it_is_per_channel_in_signed_streams(two_threads):
    graph = converted("cifar10_resnet20_karanchahal", per_channel=True)
    assert_engines_agree(graph, pictures(3), 24)


@pytest.mark.sweep
@pytest.mark.parametrize("name", SMALL)
def test_float64_gives_the_same_spikes(name, two_threads):
    graph, images = converted(name), pictures(1)
    expected = spike_trains(in_float64(graph), images, 32)
    found = run(graph, images, "auto", 32)
    assert all(torch.equal(found.trains[n].bool(), train) for n, train in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_is_the_same_over_all_350_steps(name, two_threads):
    graph = converted(name, steps=350)
    images = pictures(8)
    expected = run(graph, images, "layerwise", 350)
    assert expected.exact
    assert exact_steps(graph) > 0
    names = list(graph.neurons)
    counts = {n: expected.spikes[n].spikes[-1] for n in names}
    for engine, module in ENGINES.items():
        if module.unsupported(graph):
            continue
        assert_same_run(run(graph, images, engine, 350, window=7), expected)
    order = torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
    for threads, sizes in ((1, [1, 3, 4]), (2, [8])):
        torch.set_num_threads(threads)
        for engine in [e for e, module in ENGINES.items() if not module.unsupported(graph)][:2]:
            parts = [simulate(graph, part, 350, engine=engine) for part in
                     images[order].split(sizes)]  # fmt: skip
            assert torch.equal(torch.cat([p.logits for p in parts], 1), expected.logits[:, order])
            for n in names:
                joined = torch.cat([part.spikes[n].spikes[-1] for part in parts])
                assert torch.equal(joined, counts[n][order])
    torch.set_num_threads(2)
    wide = spike_trains(in_float64(graph), images[:2], 350)
    for n, train in wide.items():
        assert torch.equal(expected.trains[n][:, :2].bool(), train)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "accuracy"),
    [("cifar10_resnet20_akamaster", 0.9173), ("cifar10_resnet56_akamaster", 0.9339)],
)
def test_the_sources_accuracies_on_all_10000_images(name, accuracy, two_threads):
    graph = fold_bn(trace(model(name), (3, 32, 32)))
    right = 0
    with torch.inference_mode():
        for images, labels in loader("test", None, 250):
            right += int((interpret.logits(graph, images).argmax(1) == labels).sum())
    assert right / 10_000 == pytest.approx(accuracy, abs=5e-5)
