"""Joules: published sums, closed forms of the break-even, and files of cost models."""

import json
from dataclasses import replace

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
HEAD = "title = 'a'\nsource = 'b'\n"


def sized(table):
    """A model whose memories are by size."""
    uses = "[operations]\n[memory]\nmoved = 'by size'\n[by_size]\nsource = 'c'\n"
    return f"{HEAD}{uses}{table}"


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
        (f"{HEAD}[operations]\nresets = {{ pj = 1, source = 'c', each = 'bit' }}", "no bits"),
        (f"{HEAD}[operations]\n[addressing]\nspike = {{pj=1, source='c', each='bit'}}", "no bits"),
        (f"{HEAD}[operations]\nresets = {{ pj = 1{'0' * 400}, source = 'c' }}", "from 0"),
        (f"{HEAD}[operations]\nresets = {{ pj = nan, source = 'c' }}", "from 0"),
        (f"{HEAD}includes = ['resets']\n[operations]\nresets = {{pj=1, source='c'}}", "its own"),
        (f"name = ' '\n{HEAD}[operations]", "name is empty"),
        (sized("word_bits = 0\nkib = [1, 2]\npj = [1, 2]"), "word_bits is 0"),
        (sized("word_bits = 8\nkib = [1, 2]\npj = [2, 1]"), "none less"),
        (sized("word_bits = 8\nkib = [1, 2]\npj = [-2, 1]"), "from 0"),
        (sized("word_bits = 8\nkib = [1, 2]\npj = [nan, 1]"), "from 0"),
        (sized("word_bits = 8\nkib = [1, inf]\npj = [1, 2]"), "ascending"),
        ("a = " + 10**5 * "[", "that can be read"),
    ],
)
def test_damaged_models_are_refused(tmp_path, text, word):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=word) as error:
        model(path)
    assert "own.toml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (10**5 * "[", "can be read"),
        ('{"title": "a", "source": "b", "operations": {}, "title": "c"}', "stands twice"),
    ],
)
def test_damaged_json_is_refused(tmp_path, text, word):
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(InputError, match=word):
        model(path)


def test_models_are_not_taken_for_one_another(tmp_path):
    path = tmp_path / "yan2024.toml"
    path.write_text(f"{HEAD}[operations]")
    other = tmp_path / "other.json"
    other.write_text('\ufeff{"title": "a", "source": "b", "operations": {}, "name": "loihi1"}')
    for models, word in (
        ([path], "as another one"), (f"all,{other}", "two cost models"), ("loihi1,loihi1", "two"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=word):
            account(models)
    assert len(account("all").priced) == len(known())
    assert [each.model for each in account("loihi1, truenorth").priced] == ["loihi1", "truenorth"]
    for wrong in (5, [None], b"loihi1", {"loihi1": 1}):
        with pytest.raises(InputError, match="models is"):
            account(wrong)


def test_what_takes_nothing_is_said(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(f"{HEAD}[operations]\n[ann]\nint8 = {{ pj = 0, source = 'free' }}")
    assert "takes what the ANN with int8 numbers does" in str(account([path]))
    path.write_text(f"{path.read_text()}\nfp32 = {{ pj = 1, source = 'c' }}")
    assert "takes what the ANN" in str(account([path]))
    path.write_text(f"{HEAD}[operations]\n[ann]\nfp32 = {{ pj = 1, source = 'c' }}")
    assert "less, namely nothing, than the ANN with fp32" in str(account([path]))
    path.write_text(
        f"{HEAD}[operations]\nupdates = {{ pj = 1, source = 'c' }}\n"
        "[ann]\nint8 = { pj = 0, source = 'free' }"
    )
    assert "int8 numbers takes" in str(account([path]))


def test_events_of_another_network_are_refused():
    events = count_events(spiking(NAME), [images(NAME, 2)], 2)
    with pytest.raises(InputError, match="another network"):
        energy(spiking("mlp"), events)
    with pytest.raises(InputError, match="another network"):
        energy(spiking("inner_max_pool"), events)


@pytest.mark.parametrize("name", ["option_a", "max_pool_of_image"])
def test_break_even_of_an_image_as_spikes(name):
    """Neurons fire more or less, the image as before: at the rate said both take the same."""
    graph = spiking(name, input_coding="poisson")
    events = count_events(graph, [images(name, 3)], 6)
    found = energy(graph, events)
    neurons = sum(graph.neurons.values())
    assert found.rate == pytest.approx(
        sum(float(events.fired[each].sum()) for each in graph.neurons) / (3 * 6 * neurons)
    )
    compared = 0
    for each in found.priced:
        for twin in each.twins:
            if twin.break_even:
                factor, compared = twin.break_even / found.rate, compared + 1
                scaled = {
                    one: map_ * (factor if one in graph.neurons else 1)
                    for one, map_ in events.fired.items()
                }
                even = energy(graph, replace(events, fired=scaled, repeated=scaled), each.model)
                assert even.priced[0].joules == pytest.approx(twin.joules)
                assert even.rate == pytest.approx(twin.break_even)
                assert even.per_synapse == pytest.approx(twin.per_synapse)
    assert compared


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
