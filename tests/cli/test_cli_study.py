"""The command `reproduce study`: a user's own network on a user's own images, and refusals."""

import json
import re
from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import models
from typer.testing import CliRunner

from short_study import four_levels_fail, shorten
from spiking_resnet import ann
from spiking_resnet.cli import app
from spiking_resnet.cli import study as cli_study

NETWORK = """
from spiking_resnet import ann

import sys
import torch
from torch import nn

def digits():
    return ann.pretrained("digits_resnet8").model

def small(logits, *more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, logits), *more)

def wide():
    return small(12)

def narrow():
    return small(3)

def odd():
    return small(10, nn.SiLU())

def empty():
    return digits().to("meta")

def leaves():
    sys.exit(3)
"""


def run(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def said(found):
    return " ".join(found.output.split())


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


def mine(tmp_path, *more, networks=None, chapters="few"):
    """A short study of the network of NETWORK on the digits."""
    (tmp_path / "nets.py").write_text(NETWORK)
    return run(
        "study", "mnist", "--data", tmp_path, "--networks",
        networks or f"mine={tmp_path}/nets.py:digits", "--calibrate", "digits", "--judge", "digits",
        "--normalisation", "digits", "--chapters", chapters, "--calibration-images", 40,
        "--images", 40, "--out", tmp_path / "out", *more,
    )  # fmt: skip


@pytest.fixture
def classes(monkeypatch):
    """Digits whose classes have names, of which the judged ones are of five classes alone."""
    names = tuple(f"digit {label}" for label in range(10))

    def load(name, split, data):
        found = ann.load_dataset("digits", split)
        if split == "train":
            return replace(found, class_names=names)
        some = found.select((found.labels > 4).nonzero()[:, 0])
        return replace(some, labels=some.labels - 5, classes=5, class_names=names[5:])

    monkeypatch.setattr(cli_study, "load_dataset", load)


def test_labels_go_by_the_names_of_classes(tmp_path, classes, monkeypatch):
    shorten(monkeypatch)
    found = mine(tmp_path)
    assert found.exit_code == 0, found.output
    (path,) = (tmp_path / "out").glob("*.json")
    written = json.loads(path.read_text())
    assert written["comparison"]["ann"]["accuracy"] > 0.9
    assert written["classes"] == 10
    assert "labels go by the network's own order of classes" in said(found)


def test_images_of_fewer_classes_than_logits_are_told(tmp_path, monkeypatch):
    shorten(monkeypatch)
    found = mine(tmp_path, networks=f"wide={tmp_path}/nets.py:wide")
    assert found.exit_code == 0, found.output
    assert "wide knows 12 classes, digits has 10" in said(found)
    (path,) = (tmp_path / "out").glob("*.json")
    assert json.loads(path.read_text())["classes"] == 12
    narrow = mine(tmp_path, networks=f"narrow={tmp_path}/nets.py:narrow")
    assert narrow.exit_code == 2
    assert "narrow knows 3 classes, digits has 10: evaluate it on the data set" in said(narrow)


def test_failed_methods_end_a_study_with_an_error(tmp_path, monkeypatch):
    shorten(monkeypatch)
    with four_levels_fail(monkeypatch):
        found = mine(tmp_path)
    assert found.exit_code == 2
    assert "1 of 3 methods failed" in said(found)
    assert "differential-4 failed: T = 2: it ran away" in said(found)
    assert (tmp_path / "out" / "study_mnist.md").is_file()
    again = mine(tmp_path)
    assert again.exit_code == 0, again.output
    assert "warning" not in again.output


def test_comparisons_end_with_the_same_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKING_RESNET_CACHE", str(tmp_path))
    few = ["compare", "digits_resnet8", "--steps", "2", "--limit", "9"]
    found = CliRunner().invoke(app, [*few, "--methods", "hu2021,qcfs"])
    assert found.exit_code == 2
    assert "1 of 2 methods failed, see the warnings above" in said(found)
    assert "what was done is kept; go on with: spiking-resnet compare" in said(found)
    assert len(list((tmp_path / "progress").glob("compare-*.json"))) == 1
    found = CliRunner().invoke(app, [*few, "--engine", "cpuu"])
    assert found.exit_code == 2
    assert said(found).startswith("error: there is no engine 'cpuu'")


def test_networks_are_looked_at_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(cli_study, "run", None)
    good = f"good={tmp_path}/nets.py:digits"
    for name, told in (
        ("odd", "odd cannot be converted: "),
        ("empty", "empty cannot be converted: .* device 'meta'"),
        ("leaves", r"leaves\(\) failed: SystemExit: 3"),
    ):
        found = mine(tmp_path, networks=f"{good},{name}={tmp_path}/nets.py:{name}")
        assert found.exit_code == 2, found.output
        assert re.search(f"error: {told}", said(found)), found.output


def test_what_was_found_before_an_error_is_written(tmp_path, monkeypatch):
    shorten(monkeypatch)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study_mnist_mine_paper_40-40.json").write_text("[")
    found = mine(tmp_path, chapters="few,paper")
    assert found.exit_code == 2
    assert "paper_40-40.json is damaged" in said(found)
    assert "differential-1" in (tmp_path / "out" / "study_mnist.md").read_text()


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
    assert "has results of something else: normalisation was {" in said(other)


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
        (("study", "mnist", "--engine", "cpuu"), "no engine 'cpuu'"),
        (("grid", "--engine", "cpuu"), "no engine 'cpuu'"),
        (("study", "mnist", "--networks", ""), "--networks names no networks"),
        (("study", "mnist", "--networks", " , "), "--networks names no networks"),
        (("study", "mnist", "--networks", "=nets.py:f"), "a network is called ''"),
        (("study", "mnist", "--networks", f"{'n' * 250}=nets.py:f"), "80 at most (NAME=MODEL)"),
        (("study", "mnist", "--networks", "a b=n.py:f,a/b=n.py:g"), "called 'a b' and 'a/b'"),
        (("study", "mnist", "--networks", "a=n.py:f,a=n.py:g"), "two networks are called"),
        (("foo",), "no study 'foo': use one of study, shortcuts"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, arguments, told):
    found = run(*arguments, "--data", tmp_path, "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert told in " ".join(found.output.split())
    assert not (tmp_path / "out").exists()
