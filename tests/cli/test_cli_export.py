"""The command `export`."""

import json

import pytest
import torch
from test_cli import ok, refused

import spiking_resnet as sr
from spiking_resnet import simulate
from zoo import images, network


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "snn.safetensors"
    graph = sr.convert(network("identity"), images("identity", 20), sr.methods.hu2021(steps=16))
    sr.save(graph, path)
    return path


def test_export_writes_a_program(snn, tmp_path):
    out, facts = tmp_path / "snn.pt2", tmp_path / "facts.json"
    text = ok("export", snn, "--to", "torch", "--steps", 2, "--out", out, "--json", facts)
    assert f"wrote {out}" in text
    graph, batch = sr.load(snn), images("identity", 3)
    found = torch.export.load(out).module()(batch)
    assert torch.equal(found, simulate(graph, batch, 2).logits[-1])
    assert json.loads(facts.read_text())["format"] == "torch"


def test_export_refuses_before_any_work(snn, tmp_path, monkeypatch):
    monkeypatch.setattr(sr, "load", None)  # never reached
    out = ("--out", tmp_path / "snn.pt2")
    assert "there is no format 'tflite'" in refused("export", snn, "--to", "tflite", *out)
    assert "does not honour --bits" in refused("export", snn, "--to", "torch", "--bits", 4, *out)
    assert "not honour --golden" in refused("export", snn, "--to", "torch", "--golden", 2, *out)
    assert "--steps is 0" in refused("export", snn, "--to", "torch", "--steps", 0, *out)
    assert "name another file" in refused("export", snn, "--to", "torch", "--out", snn)


def test_export_writes_a_c_program_of_so_many_bits(snn, tmp_path):
    out = tmp_path / "2nd net.c"
    options = ("--bits", 4, "--per-layer", "--potential-bits", 16)
    text = ok("export", snn, "--to", "c", *options, "--out", out)
    assert "bytes of weights" in text
    assert "_2nd_net_step" in out.with_suffix(".h").read_text()
    assert "weights of 4 bits" in out.with_suffix(".h").read_text()
    assert "bits is 40" in refused("export", snn, "--to", "c", "--bits", 40, "--out", out)
    assert "end it in .c" in refused("export", snn, "--to", "c", "--out", tmp_path / "net.txt")


def test_the_header_replaces_no_file_of_others(snn, tmp_path):
    out = tmp_path / "net.c"
    facts = ("--json", tmp_path / "net.h")
    assert "name two files" in refused("export", snn, "--to", "c", "--out", out, *facts)
    (tmp_path / "net.h").write_text("mine")
    assert "written by others" in refused("export", snn, "--to", "c", "--out", out)
    assert (tmp_path / "net.h").read_text() == "mine"
    assert not out.exists()
    assert "is a folder" in refused("export", snn, "--to", "c", "--out", ".")


@pytest.mark.parametrize(("form", "told"), [("nir", "presents"), ("c", "no integer form")])
def test_what_differential_networks_can_be_written_as_is_said(form, told, tmp_path):
    path = tmp_path / "snn.safetensors"
    made = sr.convert(network("identity"), images("identity", 20), "differential-4", steps=4)
    sr.save(made, path)
    text = refused("export", path, "--to", form)
    assert told in text
    assert "such as hu2021 or calibrated, or export to ONNX" in text
    ok("export", path, "--to", "onnx", "--steps", 4)


def test_a_file_that_nobody_named_is_not_replaced_in_silence(snn):
    assert "replaces" not in ok("export", snn, "--to", "c")
    assert f"wrote {snn.with_suffix('.c')}, which replaces" in ok("export", snn, "--to", "c")
    named = ("--out", snn.with_suffix(".c"))
    assert "replaces" not in ok("export", snn, "--to", "c", *named)


def test_a_network_that_hardly_decides_as_before_is_warned_of(tmp_path):
    path, out = tmp_path / "snn.safetensors", tmp_path / "snn.nir"
    asked = ("--to", "nir", "--profile", "norse", "--steps", 32, "--golden", 20, "--out", out)
    ok("convert", "digits_resnet8", "--calibration-images", 60, "--out", path)
    text = ok("export", path, *asked)
    assert "warning: after 32 steps it decides as the network did on" in text
    assert "--reset zero --compensation" in text
    factor = ("--reset", "zero", "--compensation", "1.3")
    ok("convert", "digits_resnet8", "--calibration-images", 60, *factor, "--out", path)
    assert "warning" not in ok("export", path, *asked)
