"""The demo: three ways on shipped images."""

import json

import pytest
from typer.testing import CliRunner

import spiking_resnet as sr
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.pixels import MissingDataError
from spiking_resnet.cli import app, demo


def test_demo_tries_three_ways_and_writes_three_files(tmp_path, monkeypatch):
    monkeypatch.delenv("SPIKING_RESNET_DATA", raising=False)
    folder = tmp_path / "new" / "demo"
    arguments = ["--dataset", "digits", "--out", str(folder), "--steps", "8,16", "--limit", "50"]
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "accuracy.png", "results.json", "snn.safetensors"
    ]  # fmt: skip
    results = json.loads((folder / "results.json").read_text())
    paper, ablation, few = results["ways"].values()
    assert [point["steps"] for point in paper["snn"]] == [8, 16]
    assert [point["steps"] for point in few["snn"]] == [4]
    assert paper["notes"]["options"]["shortcut_conversion"]
    assert not ablation["notes"]["options"]["shortcut_conversion"]
    assert results["images"] == 50
    assert paper["snn"][-1]["accuracy"] > 0.9
    for expected in ("1. ", "2. ", "3. ", "4. ", "the ANN", "n = 50", "Next:"):
        assert expected in result.output
    images = load_dataset("digits", "test").subset(50).loader(50)
    curve = sr.evaluate(sr.load(folder / "snn.safetensors"), images, steps=(4,))
    assert curve.points[0].spikes_per_image == few["snn"][0]["spikes_per_image"]


def test_demo_takes_photographs_where_there_is_no_cifar10(tmp_path, monkeypatch):
    monkeypatch.delenv("SPIKING_RESNET_DATA", raising=False)
    name, source, training, test = demo._subject(None, None, None)
    assert (name, source.spec, len(training), len(test)) == (
        "photographs", "cifar10_resnet20", 48, 96
    )  # fmt: skip
    with pytest.raises(MissingDataError, match="cifar10"):
        demo._subject(None, tmp_path, None)
    with pytest.raises(sr.InputError, match="photographs, cifar10, digits"):
        demo._subject("cats", None, None)
