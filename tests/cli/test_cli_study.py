"""The command `reproduce study`: a user's own network on a user's own images, and refusals."""

import json
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import models
from typer.testing import CliRunner

from short_study import shorten
from spiking_resnet import ann
from spiking_resnet.cli import app

NETWORK = """
from spiking_resnet import ann

def digits():
    return ann.pretrained("digits_resnet8").model
"""


def run(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


@pytest.fixture
def images(tmp_path):
    """A folder with train.npz and test.npz."""
    folder = tmp_path / "images"
    folder.mkdir()
    for split, count in (("train", 60), ("test", 9)):
        found = ann.load_dataset("digits", split).subset(count)
        pixels = found.pixels(torch.arange(count)).permute(0, 2, 3, 1).numpy()
        np.savez(folder / f"{split}.npz", images=pixels, labels=found.labels.numpy())
    return folder


def test_own_networks_on_own_images(tmp_path, images, monkeypatch):
    shorten(monkeypatch)
    (tmp_path / "nets.py").write_text(NETWORK)
    own = "--calibrate", images, "--judge", images, "--normalisation", "digits"
    found = run(
        "study", "mnist", "--data", tmp_path, "--networks", f"mine={tmp_path}/nets.py:digits",
        *own, "--chapters", "few", "--calibration-images", 40, "--out", tmp_path / "out",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    (path,) = (tmp_path / "out").glob("*.json")
    assert path.name == "study_mnist_mine_few_40-9.json"
    written = json.loads(path.read_text())
    assert (written["network"], written["layers"]) == ("mine", 8)
    assert written["comparison"]["images"] == 9
    table = (tmp_path / "out" / "study_mnist.md").read_text()
    assert "reproduce study mnist --data DIR" in table
    assert str(tmp_path) not in table
    assert (tmp_path / "out" / "study_mnist_mine_few.png").stat().st_size > 10_000


def test_results_of_another_normalisation_are_refused(tmp_path, images, monkeypatch):
    shorten(monkeypatch)
    (tmp_path / "nets.py").write_text(NETWORK)

    def study(normalisation):
        return run(
            "study", "mnist", "--data", tmp_path, "--networks", f"mine={tmp_path}/nets.py:digits",
            "--calibrate", images, "--judge", images, "--normalisation", normalisation,
            "--chapters", "few", "--calibration-images", 40, "--out", tmp_path / "out",
        )  # fmt: skip

    assert study("digits").exit_code == 0
    assert study("digits").exit_code == 0
    other = study("none")
    assert other.exit_code == 2
    assert "has results of other weights, images or a normalisation" in " ".join(
        other.output.split()
    )


def test_weights_that_cannot_be_downloaded_are_named(tmp_path, images, monkeypatch):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(models, "get_model", unreachable)
    found = run(
        "study", "imagenet", "--data", tmp_path, "--networks", "torchvision:resnet18",
        "--calibrate", images, "--judge", images, "--out", tmp_path / "out",
    )  # fmt: skip
    told = " ".join(found.output.split())
    assert found.exit_code != 0
    assert "weights of torchvision:resnet18 could not be downloaded (no route to host)" in told
    assert "path/to/file.py:function" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("study", "mars"), "no study of 'mars'"),
        (("study", "--networks", "resnet20"), "say whose networks these are"),
        (("study", "mnist", "--networks", "resnet20"), "a network for cifar10, not for mnist"),
        (("study", "mnist", "--networks", "vgg"), "no network 'vgg'"),
        (("grid", "cifar10"), "of `reproduce study`, not of grid"),
        (("grid", "--chapters", "few"), "of `reproduce study`, not of grid"),
        (("study", "mnist", "--chapters", "last"), "no chapter or method 'last'"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, arguments, told):
    found = run(*arguments, "--data", tmp_path, "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert told in " ".join(found.output.split())
    assert not (tmp_path / "out").exists()
