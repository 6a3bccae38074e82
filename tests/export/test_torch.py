"""A network as a torch module: the interpreter's logits and states, compiled and recorded."""

import pytest
import torch

import spiking_resnet as sr
from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import calibrated, dcgs, differential, hu2021
from spiking_resnet.conversion.presets import RECIPES
from spiking_resnet.export.format import Asked, ExportError
from spiking_resnet.export.formats import format_named
from spiking_resnet.export.torch import recorded
from spiking_resnet.records import InputError
from zoo import NAMES, images, network, quantised, spiking

STEPS = 6


def made(of="option_a", method=None):
    batch = images(of, 20)
    return convert(network(of), batch, method or hu2021(steps=32)), batch[:3]


def the_same_in_both_forms(graph, batch, steps):
    expected = simulate(graph, batch, steps, engine="interpreter", keep_state=True)
    module = sr.to_torch(graph, steps)
    assert torch.equal(module(batch), expected.logits[-1])  # with a surrogate gradient beside it
    with torch.no_grad():
        assert torch.equal(module(batch), expected.logits[-1])
        state = module.initial_state(len(batch))
        for _ in range(steps):
            found, state = module.step(batch, state)
    assert torch.equal(found, expected.logits[-1])
    assert int(state["time"]) == steps
    for name, kept in expected.state.memory.items():
        assert torch.equal(state[name], kept)
        assert state[name].dtype == kept.dtype


@pytest.mark.parametrize("of", NAMES)
def test_every_network_is_the_same(of):
    the_same_in_both_forms(spiking(of), images(of, 2), STEPS)


@pytest.mark.parametrize("name", RECIPES)
def test_every_method_is_the_same(name):
    method = RECIPES[name].make(STEPS)
    if method.name == "qcfs":
        graph, batch = (
            convert(quantised(), images("identity", 20), method),
            images("identity", 2),
        )
    else:
        graph, batch = made("stem_max_pool", method)
    the_same_in_both_forms(graph, batch[:2], graph.made_for or STEPS)


def test_frames_are_one_image_for_each_step():
    graph, batch = made()
    frames = torch.stack([batch, batch.flip(0), batch * 0.5])
    expected = simulate(graph, frames, engine="interpreter").logits[-1]
    assert torch.equal(sr.to_torch(graph)(frames), expected)
    with pytest.raises(InputError, match="3 frames"):
        sr.to_torch(graph)(frames, 4)
    with pytest.raises(InputError, match="images have shape"):
        sr.to_torch(graph)(batch[:, :1])


@pytest.mark.slow  # as torch.compile reads Python
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_can_be_compiled(backend):
    graph, batch = made("one_relu")
    module = sr.to_torch(graph, 2)
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    assert torch.equal(compiled(batch), simulate(graph, batch, 2).logits[-1])


@pytest.mark.parametrize("steps", [None, 2])
def test_the_file_runs_without_the_network(tmp_path, steps):
    graph, batch = made("one_relu")
    told = format_named("torch").export(graph, tmp_path / "snn.pt2", Asked(steps=steps))
    assert told
    program = torch.export.load(tmp_path / "snn.pt2").module()
    expected = simulate(graph, batch, 2).logits[-1]
    if steps:
        found = program(batch)
    else:
        state = sr.to_torch(graph).initial_state(len(batch))
        for _ in range(2):
            found, state = program(batch, state)
    assert torch.equal(found, expected)


OTHERS = {
    "levels": calibrated(steps=2, compensation="none", weights=False, levels=3, signed=True),
    "differential": differential(steps=2, images=4),
    "dcgs": dcgs(steps=2),
    "layer-serial": calibrated(steps=2, waits=True, compensation="none", weights=False),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_programs_of_other_neurons(name, strict):
    graph, batch = made("one_relu", OTHERS[name])
    steps = graph.made_for or 2
    program = torch.export.export(sr.to_torch(graph, steps), (batch,), strict=strict).module()
    assert torch.equal(program(batch), simulate(graph, batch, steps).logits[-1])


def test_what_cannot_be_recorded_is_refused_by_name():
    random, _ = made("identity", hu2021(input_coding="poisson"))
    with pytest.raises(ExportError, match="draws random spikes"):
        recorded(sr.to_torch(random), 2)
    changing, _ = made("identity", differential(steps=4, images=4))
    with pytest.raises(ExportError, match="say how many steps"):
        recorded(sr.to_torch(changing), None)


def test_a_format_refuses_what_it_does_not_know(tmp_path):
    graph, _ = made("identity")
    with pytest.raises(InputError, match="does not honour --bits"):
        format_named("torch").export(graph, tmp_path / "x", Asked(bits=8))
    with pytest.raises(InputError, match="there is no format 'tensorflow'"):
        format_named("tensorflow")
    with pytest.raises(InputError, match="one of triangle"):
        sr.to_torch(graph, surrogate="sigmoid")
    with pytest.raises(InputError, match="width is 0"):
        sr.to_torch(graph, width=0)
    with pytest.raises(InputError, match="convert it first"):
        sr.to_torch(graph.ann)


def test_a_module_refuses_what_it_cannot_run():
    graph, batch = spiking("one_relu"), images("one_relu", 3)
    module = sr.to_torch(graph)
    state = module.initial_state(3)
    for what, match in (
        (lambda: module(batch, 0), "steps is 0"),
        (lambda: module(batch, -1), "steps is -1"),
        (lambda: module(batch, 2.5), "steps is 2.5"),
        (lambda: module(batch.expand(0, *batch.shape)), "steps is 0"),
        (lambda: module(batch.numpy()), "give one tensor"),
        (lambda: module(batch.to(torch.uint8)), "normalise them"),
        (lambda: module.step(batch, {}), "begin with initial_state"),
        (lambda: module.step(batch, {**state, "nobody": batch}), "begin with initial_state"),
        (lambda: module.step(batch[:2], state), "state is of 3 images"),
    ):
        with pytest.raises(InputError, match=match):
            what()
