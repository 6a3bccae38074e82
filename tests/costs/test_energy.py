"""Joules: published sums, closed forms of the break-even, and files of cost models."""

import json

import pytest
import torch
from torch import nn

from spiking_resnet import InputError, convert, count_events, energy
from spiking_resnet.costs import energy as priced
from spiking_resnet.costs.energy import Account
from spiking_resnet.costs.models import BySize, Model, known, model
from spiking_resnet.costs.work import KINDS, MEMORY, Work
from zoo import images, spiking

NAME = "option_a"


def account(models=None, steps=6):
    graph = spiking(NAME)
    return energy(graph, count_events(graph, [images(NAME, 3)], steps), models)


def cost_of(name, work):
    return sum(priced._parts(model(name), work).values())


def test_published_sums_come_out():
    """65.28 G synaptic operations and 118 M multiply-adds: 59.3 mJ, or 5.03 mJ as it was before."""
    work = Work("all", "Conv2d", accumulations=65.28e9, image_macs=118e6)
    assert cost_of("horowitz-fp32", work) == pytest.approx(59.3e-3, rel=1e-3)
    assert cost_of("pj2019", work) == pytest.approx(5.03e-3, rel=1e-3)


def test_joules_are_the_sum_of_their_parts():
    found = account()
    assert {each.model for each in found.priced} == set(known())
    for each in found.priced:
        assert each.joules == pytest.approx(sum(each.parts.values()))
        assert each.joules == pytest.approx(sum(each.layers.values()))
        assert 0 <= each.silent <= each.joules <= each.each_step
        covered = {*each.parts, *each.uncounted, *model(each.model).includes}
        assert {kind for kind in (*KINDS, *MEMORY) if found.totals[kind]} <= covered


@pytest.mark.parametrize(
    ("steps", "bits", "percent"),
    [(4, 3, 9.4), (8, 4, 6.3), (16, 5, 3.9), (32, 6, 2.3), (64, 7, 1.4)],
)
def test_break_even_of_weights_alone(steps, bits, percent):
    """8-bit weights read for every spike, q-bit ones for every synapse: q / (8 T), as published."""
    synapses, rate = 1000, 0.2
    joules, twin = rate * steps * synapses * 8, synapses * bits
    found = rate * priced._share(twin, joules, 0.0)
    assert found == pytest.approx(bits / (8 * steps))
    assert 100 * found == pytest.approx(percent, abs=0.051)
    assert account(["yan2024"], steps).priced[0].twins[-1].bits == bits


def test_break_even_of_one_layer_in_closed_form(tmp_path):
    """The rate at which as many bits of weights are read as by the ANN, the image's layer too."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64),
        nn.ReLU(), nn.Linear(64, 4)
    )  # fmt: skip
    batch = torch.rand(64, 3, 2, 2)
    graph = convert(net, batch)
    path = tmp_path / "one.json"
    reads = {"source": "DRAM", "pj": 1.0, "each": "bit"}
    path.write_text(
        json.dumps({"title": "t", "source": "s", "operations": {}, "memory": {
            "weight_reads": reads}, "ann": {"quantised": {"pj": 0, "source": "s"}}})
    )  # fmt: skip
    events = count_events(graph, [batch], 8)
    found = energy(graph, events, [path])
    work = {each.name: each for each in found.work}
    read = sum(each.accumulations * each.weight_bits for each in found.work)
    fixed = sum(each.image_macs * each.weight_bits for each in found.work)
    macs = 12 * 4 + 4 * 64 + 64 * 64 + 64 * 4
    (twin,) = [each for each in found.priced[0].twins if each.name == "quantised"]
    assert twin.joules == pytest.approx(macs * 4e-12)
    assert twin.break_even == pytest.approx(found.rate * (macs * 4 - fixed) / read)
    assert sum(each.weights for each in work.values()) == macs


def test_memories_by_size():
    rule = BySize(32, (8.0, 32.0, 1024.0), (10.0, 20.0, 100.0), "Lemaire et al.")
    for kib, pj in ((1, 10), (8, 10), (20, 15), (32, 20), (528, 60), (1024, 100), (2016, 180)):
        assert rule.joules(kib, 32) == rule.joules(kib, 8) == pytest.approx(pj * 1e-12), kib
        assert rule.joules(kib, 33) == pytest.approx(2 * pj * 1e-12), kib


def test_an_account_is_json():
    found = account(["lemaire2022"])
    assert Account.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert "lemaire2022" in str(found)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("title = 'a'", "source is missing"),
        ("title = 'a'\nsource = 'b'\n[operations]\nspikes = { pj = 1, source = 'c' }", "spikes"),
        ("title = 'a'\nsource = 'b'\n[operations]\nresets = { pj = -1, source = 'c' }", "from 0"),
        ("title = 'a'\nsource = 'b'\n[operations]\nresets = { pj = 1 }", "source is missing"),
        ("title = 'a'\nsource = 'b'\n[operations]\n[memory]\nmoved = 'by size'", "by_size"),
        ("title = ", "cannot be read|that can be read"),
    ],
)
def test_damaged_models_are_refused(tmp_path, text, word):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=word) as error:
        model(path)
    assert "own.toml" in str(error.value)


def test_unknown_models_are_named():
    with pytest.raises(InputError, match=r"no cost model 'loihi2'.*loihi1"):
        model("loihi2")


def test_every_model_names_its_sources():
    for each in known().values():
        assert isinstance(each, Model)
        assert each.source
        priced_by = [*each.operations.values(), *each.addressing.values(), *each.ann.values()]
        assert priced_by
        assert all(price.source for price in priced_by)
