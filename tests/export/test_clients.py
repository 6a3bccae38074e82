"""Other simulators fire our spikes: run with the environments of `make interop`.

INTEROP is the folder that they are in (.interop in the repository unless it is set); a client that
is in none of them, nor in the running Python, is skipped.
"""

import os
from functools import cache
from pathlib import Path

import pytest
import torch

import zoo
from spiking_resnet import ann, convert, simulate, verify
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.export.nir import clients
from spiking_resnet.export.nir.profiles import PROFILES
from spiking_resnet.export.nir.write import exported, to_nir

pytest.importorskip("nir")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("INTEROP", ROOT / ".interop"))
PYTHONS = tuple(str(path) for path in sorted(FOLDER.glob("*/bin/python")))
DATA = os.environ.get("SPIKING_RESNET_DATA", "")
PROFILE_OF = {client.name: client.profile for client in clients.CLIENTS}
PLAIN = ["norse", "spikingjelly", "sinabs-single"]  # those that fire 0 or 1 spike a step


@cache
def there():
    return {client.name: python for client, python in clients.installed(PYTHONS)}


def python_of(name):
    if name not in there():
        pytest.skip(f"{name} is in no Python of {FOLDER}: make interop, or set INTEROP")
    return there()[name]


def reading(name, graph, images, steps, path):
    """What a client makes of a file for it, every shortcut and reset included."""
    to_nir(graph, path, profile=PROFILE_OF[name], steps=steps)
    found = verify(path, images, steps, client_pythons=[python_of(name)])
    assert found.sound
    return next(each for each in found.readings if each.reader == name)


@pytest.mark.parametrize("client", PLAIN)
@pytest.mark.parametrize("network", ["option_a", "projection", "three_blocks", "mlp"])
def test_toys_fire_the_same_spikes_everywhere(network, client, tmp_path):
    graph, images = zoo.spiking(network), zoo.images(network, 4)
    found = reading(client, graph, images, 16, tmp_path / "snn.nir")
    assert found.problem == ""
    assert found.exact, f"{found.different} differ from step {found.step} in {found.layer}"


def test_as_sinabs_reads_a_file_several_spikes_and_a_clamp_explain_every_difference(tmp_path):
    graph, images = zoo.spiking("three_blocks"), zoo.images("three_blocks", 4)
    found = reading("sinabs", graph, images, 16, tmp_path / "snn.nir")
    assert found.different
    assert found.explained
    assert "several spikes a step" in found.why


@cache
def resnet20():
    """The shipped ResNet-20, one threshold a stage, and 20 test images, for 64 steps."""
    if not Path(DATA, "cifar10", "test.npz").is_file():
        pytest.skip("SPIKING_RESNET_DATA holds no cifar10/test.npz and train.npz")
    loaded = ann.pretrained("cifar10_resnet20")

    def images(split, count):
        data = ann.load_dataset("cifar10", split, data=DATA)
        return torch.cat(
            [x for x, _ in data.loader(count, limit=count, normalisation=loaded.normalisation)]
        )

    method = hu2021(steps=64, shared_scale="stage")
    return convert(loaded.model, images("train", 200), method), images("test", 20)


@pytest.mark.parametrize("client", PLAIN)
def test_resnet20_fires_the_same_spikes_on_real_images(client, tmp_path):
    graph, images = resnet20()
    found = reading(client, graph, images, 64, tmp_path / "snn.nir")
    assert found.problem == ""
    assert found.exact, f"{found.different} differ from step {found.step} in {found.layer}"


def test_where_a_client_subtracts_resnet20_decides_as_it_did():
    graph, images = resnet20()
    made = exported(graph, PROFILES["sinabs"], 64).graph
    before, after = (simulate(each, images, 64).logits[-1].argmax(1) for each in (graph, made))
    assert int((before == after).sum()) >= 17
