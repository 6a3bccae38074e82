import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_cli import ok, refused

from spiking_resnet import ann
from spiking_resnet.ann.checkpoint import CheckpointError
from spiking_resnet.ann.train import accuracy
from spiking_resnet.cli.networks import network
from spiking_resnet.records import InputError
from spiking_resnet.report import markdown
from spiking_resnet.report.models import card, parameters

CARDS = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_table_lists_every_network_that_comes_with_the_package():
    shown = ok("models")
    for name in ann.pretrained_names():
        assert name in shown


def test_accuracy_is_measured_again(tmp_path):
    shown = ok("models", "digits_resnet8", "--measure", "--json", tmp_path / "facts.json")
    assert "digits_resnet8: measured 99.60 % of 497 test images" in shown
    facts = json.loads((tmp_path / "facts.json").read_text())["digits_resnet8"]
    assert facts["measured"] == {"accuracy": facts["accuracy"], "images": 497}


@pytest.mark.parametrize("name", ann.pretrained_names())
def test_shipped_networks_are_as_good_as_they_say(real_data, name):
    """On some of the test images: within three standard errors of what the file says of all."""
    found = ann.pretrained(name)
    dataset = found.metadata["dataset"]
    if dataset != "digits" and not (real_data / dataset).is_dir():
        pytest.skip(f"{real_data / dataset} is not there")
    test = ann.load_dataset(dataset, "test", data=real_data)
    some = replace(test, normalisation=found.normalisation).subset(1000, seed=1)
    stated = found.metadata["accuracy"]
    error = (stated * (1 - stated) / len(some)) ** 0.5
    assert abs(accuracy(found.model, some, torch.device("cpu")) - stated) < 3 * error


@pytest.mark.slow
def test_shipped_networks_are_as_good_as_they_say_on_all_images(real_data, tmp_path):
    ok("models", "--measure", "--data", real_data, "--json", tmp_path / "facts.json")
    for facts in json.loads((tmp_path / "facts.json").read_text()).values():
        stated = facts["accuracy"]  # another processor may round an image away
        assert facts["measured"]["accuracy"] == pytest.approx(stated, abs=3e-4)


def test_documented_cards_are_what_the_files_say(tmp_path):
    ok("models", "--cards", tmp_path / "models.md")
    assert CARDS.read_text() == (tmp_path / "models.md").read_text()


@pytest.mark.parametrize("name", ann.pretrained_names())
def test_a_card_says_how_to_make_the_network_again(name):
    found = ann.pretrained(name)
    text = markdown.text(card(name, found))
    assert f"{100 * found.metadata['accuracy']:.2f} %" in text
    assert f"{sum(value.numel() for value in found.model.parameters()):,} parameters" in text
    commands = re.search(r"```\n((?:spiking-resnet train .*\n)+)```", text).group(1).splitlines()
    assert commands[-1] == found.metadata["command"]
    before, own = 0, found.metadata
    while own := own.get("from"):
        before += 1
    assert len(commands) == 1 + before  # what it began with is made first
    seconds = re.search(r"\| time \| ([\d,+ ]+) s\b", text).group(1).split(" + ")
    assert len(seconds) == len(commands)
    assert seconds[-1] == f"{found.metadata['seconds']:,.0f}"
    assert f"--model resnet{found.config.depth}" in commands[-1]
    for command in commands:
        assert "--model resnet" in command  # a deeper network may begin as a shallower one
        assert f"--dataset {found.metadata['dataset']}" in command
        assert not re.search(r"/(work|tmp|home|root)\b", command)
    assert parameters(found) > 0
    assert found.metadata["finished"]


def test_weights_by_architecture_and_data_set():
    found = network("resnet8", "pretrained", dataset="digits")
    assert found.weights == ann.pretrained_file("digits_resnet8")
    assert found.dataset == "digits"
    state = ann.pretrained("resnet8", "digits").model.state_dict()
    assert all((value == state[key]).all() for key, value in found.model.state_dict().items())
    with pytest.raises(InputError, match=r"no resnet8 for cifar100"):
        network("resnet8", "pretrained", dataset="cifar100")
    with pytest.raises(CheckpointError, match=r"mnist_resnet1001.*digits_resnet8"):
        ann.pretrained("resnet1001", "mnist")


def test_what_is_asked_for_must_be_there(tmp_path):
    out = tmp_path / "snn.safetensors"
    assert "resnet14" in refused("convert", "resnet14", "--weights", "pretrained", "--out", out)
    assert "pretrained" in refused("convert", "resnet14", "--out", out)
    assert "resnet15" in refused("models", "resnet15")
