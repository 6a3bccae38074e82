"""Trained networks come back from NIR and fire, on real images, what they fired before."""

import os
from pathlib import Path

import pytest
import torch

from spiking_resnet import ann, convert, from_nir, simulate, to_nir
from spiking_resnet.conversion.methods import hu2021

pytest.importorskip("nir")

DATA = os.environ.get("SPIKING_RESNET_DATA", "")


def real(name, dataset, calibration, count, steps):
    """A shipped network as the paper converts it, and so many test images."""
    loaded = ann.pretrained(name)

    def images(split, number):
        data = ann.load_dataset(dataset, split, data=DATA or None)
        batches = data.loader(number, limit=number, normalisation=loaded.normalisation)
        return torch.cat([each for each, _ in batches])

    graph = convert(loaded.model, images("train", calibration), hu2021(steps=steps))
    return graph, images("test", count)


def fired(graph, images, steps, engine):
    run = simulate(graph, images, steps, trains=list(graph.neurons), engine=engine)
    return {name: run.trains[name] for name in run.trains}, run.logits


def check_round_trip(graph, images, steps, path, engines):
    to_nir(graph, path, steps=steps)
    back = from_nir(path)
    before, logits = fired(graph, images, steps, engines[0])
    after, found = fired(back, images, steps, engines[1])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(bool(train.any()) for train in before.values()), "every layer fires"
    assert torch.equal(logits, found)


def test_the_digits_network_fires_the_same_spikes_on_real_images(tmp_path):
    graph, images = real("digits_resnet8", "digits", 100, 8, 32)
    check_round_trip(graph, images, 32, tmp_path / "snn.nir", ("interpreter", "auto"))


@pytest.mark.slow
def test_resnet20_fires_the_same_spikes_on_real_images(tmp_path):
    if not Path(DATA, "cifar10", "test.npz").is_file():
        pytest.skip("SPIKING_RESNET_DATA holds no cifar10/test.npz and train.npz")
    graph, images = real("cifar10_resnet20", "cifar10", 200, 20, 64)
    check_round_trip(graph, images, 64, tmp_path / "snn.nir", ("auto", "auto"))
