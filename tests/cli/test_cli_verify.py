"""The command `verify`, and what other commands make of NIR files."""

import json

import numpy as np
import pytest
from test_cli import ok, refused

import spiking_resnet as sr
from zoo import images, network

pytest.importorskip("nir")


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("verify") / "snn.safetensors"
    graph = sr.convert(network("identity"), images("identity", 20), sr.methods.hu2021(steps=12))
    sr.save(graph, path)
    return path


@pytest.fixture(scope="module")
def data(snn):
    path = snn.parent / "test.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    np.savez(path, images=pixels, labels=np.array([0, 1, 2, 3, 4, 0]))
    return path


def test_a_network_is_exported_and_verified(snn, data, tmp_path):
    out, facts = tmp_path / "snn.nir", tmp_path / "facts.json"
    shown = ("--dataset", data, "--normalisation", "imagenet")
    text = ok("export", snn, "--to", "nir", "--profile", "norse", "--out", out)
    assert "reset to zero" in text
    text = ok("verify", out, *shown, "--images", 4, "--json", facts)
    assert "exact" in text
    told = json.loads(facts.read_text())
    assert told["readings"][0]["different"] == 0
    assert (told["images"], told["steps"], told["profile"]) == (4, 12, "norse")


def test_golden_spikes_need_no_data(snn, data, tmp_path):
    out = tmp_path / "snn.nir"
    shown = ("--dataset", data, "--normalisation", "imagenet")
    ok("export", snn, "--to", "nir", "--golden", 3, *shown, "--out", out)
    text = ok("verify", out)
    assert "golden spikes" in text


def test_what_cannot_be_verified_is_refused(snn, tmp_path):
    out = tmp_path / "snn.nir"
    out.write_bytes(b"nothing")
    assert "not a complete NIR file" in refused("verify", out)
    assert "--limit is 0" in refused("verify", out, "--limit", 0)
    ok("export", snn, "--to", "nir", "--out", out)
    assert "names no data set" in refused("verify", out)
    told = refused("verify", out, "--client-python", tmp_path / "no-python", "--dataset", "x.npz")
    assert "x.npz" in told


def test_other_commands_take_nir_files_as_spiking_networks(snn, data, tmp_path):
    out, facts = tmp_path / "snn.nir", [tmp_path / "one.json", tmp_path / "other.json"]
    ok("export", snn, "--to", "nir", "--out", out)
    shown = ("--dataset", data, "--normalisation", "imagenet", "--steps", "4,12")
    for path, written in zip((snn, out), facts, strict=True):
        ok("evaluate", path, *shown, "--json", written)
    one, other = (json.loads(path.read_text()) for path in facts)
    for mine, theirs in zip(one["snn"], other["snn"], strict=True):
        assert mine["accuracy"] == theirs["accuracy"]
        assert mine["spikes_per_image"] == theirs["spikes_per_image"]
    assert "exact" in ok("inspect", out)
    assert "spiking network already" in refused("convert", out)
