"""The integer form: whole numbers of the stated widths, the spikes of whatever engine runs it."""

from dataclasses import replace

import pytest
import torch

import spiking_resnet as sr
from spiking_resnet.conversion.methods import calibrated, differential
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.export.format import ExportError
from spiking_resnet.export.widths import widths
from spiking_resnet.graph import Add, Conv2d, Fire, Flatten, Graph, Input, Output, tensors
from spiking_resnet.graph.nodes import Mixing
from spiking_resnet.neurons import IntegrateAndFire
from zoo import ZOO, images, network, spiking

STREAMS = {  # networks in which currents are weighed again
    "preactivation", "two_users", "two_thresholds", "max_pool_of_currents", "max_pool_of_image",
    "dense", "doubled", "signed_stream", "scaled", "shuffle", "split", "leaky", "arithmetic",
}  # fmt: skip
WHOLE = [name for name, _, _ in ZOO if name not in STREAMS]
STEPS = 12


def units(node, name, tensor):
    """A tensor of a node as integers: float64 times 2^grid of what it adds up to."""
    return tensor.double() * 2.0 ** (getattr(node, "grid", None) or 0)


@pytest.mark.parametrize("name", WHOLE)
def test_every_engine_gives_the_interpreters_spikes(name):
    graph, batch = sr.to_integers(spiking(name)), images(name, 3)
    expected = sr.simulate(graph, batch, STEPS, engine="interpreter", trains=list(graph.neurons))
    assert expected.exact, expected.remark
    for engine in ENGINES:
        assert not ENGINES[engine].unsupported(graph)
        found = sr.simulate(graph, batch, STEPS, engine=engine, trains=list(graph.neurons))
        assert torch.equal(found.logits, expected.logits)
        for layer, train in expected.trains.items():
            assert torch.equal(found.trains[layer], train), (engine, layer)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", ["identity", "projection", "grouped", "inception"])
def test_weights_are_integers_of_so_many_bits(name, per_channel, bits):
    graph = sr.to_integers(spiking(name), bits, per_channel, end_bits=bits)
    for node in graph.nodes:
        for field, tensor in tensors(node).items():
            whole = units(node, field, tensor)
            if node.name == "output.fire" and "amplitude" in field:
                continue
            assert torch.equal(whole, whole.round()), (node.name, field)
        if isinstance(node, Mixing):
            rows = units(node, "weight", node.weight).flatten(1).long()
            for row in rows if per_channel else [rows]:
                while not bool((row % 2).any()) and bool(row.any()):
                    row = row // 2  # the shift
                assert int(row.abs().max()) <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize("per_channel", [True, False])
def test_thresholds_have_so_many_bits_and_one_scale_for_all_that_meets(per_channel):
    before = spiking("projection", readout="membrane")
    graph = sr.to_integers(before, 8, per_channel, threshold_bits=10)
    for node in graph.of(Fire):
        threshold = node.neuron.threshold
        assert threshold.ndim == (1 if per_channel else 0) or not threshold.ndim
        if before[node.name].neuron.threshold.max() == 1:
            assert bool(((threshold > 512) & (threshold <= 1024)).all())
        for name in node.inputs:
            _same_within(graph[name], before.by_name.get(name), threshold)


def _same_within(node, before, threshold):
    """A convolution's weights over the thresholds are those before, within half a step."""
    if not isinstance(node, Conv2d) or before is None:
        return
    scale = threshold.double().expand(len(node.weight)).view(-1, 1, 1, 1)
    largest = before.weight.double().abs().amax()
    error = (node.weight.double() / scale - before.weight.double()).abs().max()
    assert float(error) <= float(largest) / 64  # an eighth of a bit of 8, and clipping


def test_closed_form_of_one_neuron():
    """A weight of 1/2 and a bias of 1/4, threshold 4: 2 and 1, and what they make."""
    graph = tiny(weight=0.5, bias=0.25)
    whole = sr.to_integers(graph, 8, threshold_bits=2, potential_bits=8)
    assert float(whole["fire"].neuron.threshold) == 4
    assert whole["second"].weight.flatten().tolist() == [2.0]
    assert whole["second"].bias.tolist() == [1.0]
    assert float(whole["fire"].neuron.initial_potential) == 2
    run = sr.simulate(whole, torch.ones(1, 1, 1, 1), 4, trains=["first", "fire"])
    assert run.trains["first"].flatten().tolist() == [1, 1, 1, 1]  # I = 1 = threshold
    assert run.trains["fire"].flatten().tolist() == [1, 1, 0, 1]  # 5, 4, 3, 6: 1, 0, 3, 2


def tiny(weight, bias, neuron=None):
    """An image of one pixel, a neuron that fires for it, and one that it reaches by a weight."""
    one = torch.ones(())
    neuron = neuron or IntegrateAndFire(threshold=one, initial_potential=one / 2, amplitude=one)
    shape = (1, 1, 1)

    def conv(name, source, value, added):
        kernel = torch.full((1, 1, 1, 1), value)
        shift = None if added is None else torch.tensor([added])
        return Conv2d(name=name, inputs=(source,), shape=shape, weight=kernel, bias=shift)

    return Graph(
        (
            Input(name="input", inputs=(), shape=shape, limit=1.0),
            conv("image", "input", 1.0, None),
            Fire(name="first", inputs=("image",), shape=shape, neuron=neuron),
            conv("second", "first", weight, bias),
            Fire(name="fire", inputs=("second",), shape=shape, neuron=neuron),
            Flatten(name="flat", inputs=("fire",), shape=(1,)),
            Output(name="output", inputs=("flat",), shape=(1,)),
        )
    )


def test_potentials_saturate_where_the_spec_says():
    """-1 - 7/16 of a threshold each step, in 8 bits: v stays at -127 once it is there."""
    graph = sr.to_integers(tiny(weight=-1.4375, bias=0.0), 8, threshold_bits=4, potential_bits=8)
    run = sr.simulate(graph, torch.ones(1, 1, 1, 1), 12, keep_state=True)
    weight, start = float(graph["second"].weight), float(graph["fire"].neuron.initial_potential)
    assert start + 12 * weight < -127
    assert float(run.state.memory["fire"]) == -127
    wide = sr.to_integers(tiny(weight=-1.4375, bias=0.0), 8, threshold_bits=4)
    run = sr.simulate(wide, torch.ones(1, 1, 1, 1), 12, keep_state=True)
    assert float(run.state.memory["fire"]) == start + 12 * weight


@pytest.mark.parametrize("name", ["three_blocks", "stem_max_pool", "average_of_49"])
def test_potentials_of_16_bits_fire_as_wide_ones_while_they_fit(name):
    batch = images(name, 3)
    wide = sr.to_integers(spiking(name))
    narrow = sr.to_integers(spiking(name), potential_bits=16)
    one, other = (
        sr.simulate(graph, batch, 4, trains=list(graph.neurons)) for graph in (wide, narrow)
    )
    for layer, train in one.trains.items():
        assert torch.equal(other.trains[layer], train)


@pytest.mark.parametrize(
    "options", [{"reset": "zero"}, {"levels": 3}, {"levels": 2, "signed": True}]
)
def test_resets_levels_and_signs_stay(options):
    before = spiking("projection", **options)
    graph, batch = sr.to_integers(before), images("projection", 4)
    runs = [sr.simulate(graph, batch, STEPS, engine=engine) for engine in ENGINES]
    assert all(torch.equal(run.logits, runs[0].logits) for run in runs)
    for node in graph.of(Fire):
        own = before[node.name].neuron
        same = (own.reset, own.levels, own.signed)
        assert (node.neuron.reset, node.neuron.levels, node.neuron.signed) == same


def test_sixteen_bits_decide_as_the_grid_does():
    graph, batch = spiking("wide", readout="membrane"), images("wide", 12)
    whole = sr.to_integers(graph, 16)
    one, other = (sr.simulate(each, batch, 128).logits[-1] for each in (graph, whole))
    assert torch.allclose(one, other, atol=0.05 * float(one.abs().max()))


def test_calibration_makes_up_for_what_rounding_changes_on_average():
    graph, batch = spiking("wide", readout="membrane"), images("wide", 24)
    exact = sr.simulate(graph, batch, 64).logits[-1]

    def error(**options):
        whole = sr.to_integers(graph, 3, end_bits=3, **options)
        return float((sr.simulate(whole, batch, 64).logits[-1] - exact).square().mean())

    assert error(images=batch) < error()


def test_it_is_saved_and_loaded(tmp_path):
    graph, batch = (
        sr.to_integers(spiking("projection"), 6, potential_bits=16),
        images("projection", 2),
    )
    sr.save(graph, tmp_path / "whole.safetensors")
    loaded = sr.load(tmp_path / "whole.safetensors")
    assert loaded.notes["integer_form"]["bits"] == 6
    one, other = (sr.simulate(each, batch, STEPS).logits for each in (graph, loaded))
    assert torch.equal(one, other)


def test_a_shortcut_without_weights_gets_the_gain_of_its_threshold():
    graph = tiny(weight=0.5, bias=0.25)
    *before, fire, flat, output = graph.nodes
    added = Add(name="add", inputs=("second", "first"), shape=fire.shape)
    fire = replace(fire, inputs=("add",))
    whole = sr.to_integers(graph.with_nodes([*before, added, fire, flat, output]))
    assert torch.equal(whole["add.gain1"].scale, whole["fire"].neuron.threshold)


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_signed_streams_are_refused_by_name(name):
    with pytest.raises(ExportError, match="signed stream"):
        sr.to_integers(spiking(name))


def test_what_has_no_integer_form_is_refused():
    batch = images("identity", 8)
    serial = sr.convert(network("identity"), batch, calibrated(steps=4, waits=True))
    with pytest.raises(ExportError, match="Serial neurons"):
        sr.to_integers(serial)
    once = sr.convert(network("identity"), batch, differential(steps=4, images=8))
    with pytest.raises(ExportError, match="Differential neurons"):
        sr.to_integers(once)
    with pytest.raises(ExportError, match="no spiking neurons"):
        sr.to_integers(once.ann)
    with pytest.raises(ExportError, match="already"):
        sr.to_integers(sr.to_integers(spiking("identity")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 1}, "bits is 1"),
        ({"bits": 17}, "bits is 17"),
        ({"bits": "8"}, "whole number"),
        ({"end_bits": 1}, "end_bits is 1"),
        ({"threshold_bits": 20}, "threshold_bits is 20"),
        ({"potential_bits": 33}, "potential_bits is 33"),
        ({"potential_bits": 12}, "two bits more"),
        ({"images": torch.zeros(0, 3, 8, 8)}, "empty"),
    ],
)
def test_bad_arguments_are_refused(options, words):
    with pytest.raises(sr.InputError, match=words):
        sr.to_integers(spiking("identity"), **options)


@pytest.mark.parametrize("form", [{}, {"potential_bits": 14}])
@pytest.mark.parametrize("name", ["projection", "average_of_49", "stem_max_pool"])
def test_no_number_leaves_its_stated_width(name, form):
    graph, batch = sr.to_integers(spiking(name, readout="membrane"), **form), images(name, 4)
    told = {each.name: each for each in widths(graph, STEPS)}
    assert told.keys() == {*graph.neurons, "output"}
    for node in graph.of(Fire):
        assert told[node.name].threshold <= 14  # 2^12 itself has 13 bits, and a sign
        assert told[node.name].weights <= 8
    for steps in (1, STEPS // 2, STEPS):
        run = sr.simulate(graph, batch, steps, keep_state=True)
        for name, width in told.items():
            unit = 2.0 ** (graph[name].grid or 0)
            reached = float(run.state.memory[name].abs().max()) * unit
            assert reached <= 2 ** (width.potential - 1) - 1


def test_registers_too_narrow_for_a_start_are_refused():
    graph = spiking("identity")
    fire = graph.of(Fire)[1]
    high = replace(fire.neuron, initial_potential=torch.tensor(4.0))
    nodes = [replace(node, neuron=high) if node is fire else node for node in graph.nodes]
    with pytest.raises(ExportError, match=f"{fire.name}.* allow wider potentials"):
        sr.to_integers(graph.with_nodes(nodes), potential_bits=14)


def test_widths_are_those_of_an_integer_form():
    with pytest.raises(ExportError, match="no integer form"):
        widths(spiking("identity"), 8)
