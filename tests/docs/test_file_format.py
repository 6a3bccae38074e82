"""A reader made of numpy, safetensors and json reads what `save` wrote, spike for spike."""

import hashlib
import json
import re
import runpy
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import spiking_resnet as sr
from fuzz import LIMIT, Drawn
from spiking_resnet import ann
from spiking_resnet.graph import KINDS, Fire, Input
from spiking_resnet.graph.notes import KNOWN
from spiking_resnet.neurons import NEURONS, Gated
from spiking_resnet.store import CHECKSUM, KEY, VERSION

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "file_format.md").read_text()
READER = runpy.run_path(str(ROOT / "examples" / "reader" / "reader.py"))
STEPS = 8
METHODS = {
    "hu2021": sr.methods.hu2021(),
    "hu2021, reset to zero": sr.methods.hu2021(reset="zero", shared_scale="stage"),
    "hu2021, signed, membrane": sr.methods.hu2021(levels=3, signed=True, readout="membrane"),
    "calibrated": sr.methods.calibrated(steps=STEPS),
    "calibrated, layer-serial": sr.methods.calibrated(steps=STEPS, waits=True),
    "differential": sr.methods.differential(steps=STEPS, levels=3),
    "dcgs": sr.methods.dcgs(steps=STEPS, levels=2),
}


def equal(graph, images, steps, path):
    """The reader's spikes are `simulate`'s, and so are its logits but for a softmax's rounding."""
    sr.save(graph, path)
    run = sr.simulate(graph, images, steps, trains=list(graph.neurons))
    logits, spikes = READER["simulate"](*READER["read"](path), images.numpy(), steps)
    assert spikes.keys() == run.trains.keys()
    for name, fired in spikes.items():
        told = graph[name].neuron.decode(run.trains[name].double())
        assert torch.equal(torch.from_numpy(fired), told), name
    torch.testing.assert_close(torch.from_numpy(logits).float(), run.logits[-1])
    return run


@pytest.fixture(scope="module")
def digits():
    loader = ann.load_dataset("digits", "train").loader(100, limit=100)
    images, _ = next(iter(ann.load_dataset("digits", "test").loader(2)))
    return ann.pretrained("digits_resnet8").model, loader, images


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_stranger_fires_the_spikes_of_simulate(digits, method, tmp_path):
    network, loader, images = digits
    snn = sr.convert(network, loader, method=method)
    steps = snn.made_for if snn.latency else STEPS
    run = equal(snn, images, steps, tmp_path / "snn.safetensors")
    assert sum(float(spikes.abs().sum()) for spikes in run.trains.values()) > 0


@pytest.mark.parametrize("gate", ["srp", "cos"])
def test_a_stranger_fires_the_spikes_of_gated_neurons(digits, gate, tmp_path):
    network, loader, images = digits
    snn = sr.convert(network, loader)

    def gated(node):
        if not isinstance(node, Fire):
            return node
        own = {name: getattr(node.neuron, name) for name in ("threshold", "initial_potential")}
        amplitude = node.neuron.amplitude
        return replace(node, neuron=Gated(pre_steps=3, gate=gate, amplitude=amplitude, **own))

    equal(snn.with_nodes(map(gated, snn.nodes)), images, STEPS, tmp_path / "snn.safetensors")


def test_a_stranger_fires_the_spikes_of_an_integer_form(digits, tmp_path):
    network, loader, images = digits
    whole = sr.to_integers(sr.convert(network, loader), bits=6, potential_bits=16)
    equal(whole, images, 16, tmp_path / "whole.safetensors")


@pytest.mark.parametrize("seed", range(12))
def test_a_stranger_reads_every_kind_of_node(seed, tmp_path):
    graph = Drawn(1000 + seed, small=True).graph()
    if graph.of(Input)[0].encoding == "poisson":
        pytest.skip("random input spikes are torch's own")
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, *graph.input.shape, generator=generator, dtype=torch.float32)
    equal(graph, (2 * images - 1) * LIMIT, 6, tmp_path / "drawn.safetensors")


def test_the_checksum_is_what_the_page_says(digits, tmp_path):
    network, loader, _ = digits
    path = tmp_path / "snn.safetensors"
    sr.save(sr.convert(network, loader), path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        content = hashlib.blake2b(metadata[KEY].encode(), digest_size=16)
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            content.update(repr((name, f"torch.{tensor.dtype}", tensor.shape)).encode())
            content.update(tensor.tobytes())
    assert json.loads(metadata[KEY])["checksum"] == "blake2b"
    assert metadata[CHECKSUM] == content.hexdigest()


def section(title):
    """The part of the page below a heading."""
    return re.split(r"^#", PAGE.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]


@pytest.mark.whole
@pytest.mark.parametrize("kind", [*KINDS.values(), *NEURONS.values()], ids=lambda k: k.__name__)
def test_the_page_names_every_field(kind):
    told = set(re.findall(r"`(\w+)`", section(kind.__name__)))
    common = set(re.findall(r"`(\w+)`", section("Nodes") + section("Neurons")))
    names = {field.name for field in fields(kind)}
    assert names <= told | common, names - told - common


def test_the_page_is_of_this_version():
    assert f"format version {VERSION}" in PAGE
    assert {name for name in KNOWN if f"`{name}`" not in section("Notes")} == set()


def test_the_reader_says_how_it_is_called():
    program = ROOT / "examples" / "reader" / "reader.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "usage: python reader.py snn.safetensors images.npy STEPS" in done.stderr
    assert "Traceback" not in done.stderr
