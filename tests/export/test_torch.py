"""A network as a torch module: the interpreter's logits and states, recorded and read back."""

import pytest
import torch

import spiking_resnet as sr
from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.export.format import Asked
from spiking_resnet.export.formats import format_named
from spiking_resnet.records import InputError
from zoo import images, network

STEPS = 6


def made(of="option_a", method=None):
    batch = images(of, 20)
    return convert(network(of), batch, method or hu2021(steps=32)), batch[:3]


def test_both_forms_give_the_interpreters_logits():
    graph, batch = made()
    module = sr.to_torch(graph)
    state = module.initial_state(len(batch))
    for steps in range(1, STEPS + 1):
        expected = simulate(graph, batch, steps, engine="interpreter", keep_state=True)
        found, state = module.step(batch, state)
        assert torch.equal(found, expected.logits[-1])
        assert torch.equal(module(batch, steps), expected.logits[-1])
        assert int(state.pop("time")) == steps
        assert state.keys() == expected.state.memory.keys()
        assert all(torch.equal(state[name], kept) for name, kept in expected.state.memory.items())
        state["time"] = torch.tensor(steps)


@pytest.mark.parametrize("steps", [None, 2])
def test_the_file_runs_without_the_network(tmp_path, steps):
    graph, batch = made("identity")
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


def test_a_format_refuses_what_it_does_not_know(tmp_path):
    graph, _ = made("identity")
    with pytest.raises(InputError, match="does not honour 'bits'"):
        format_named("torch").export(graph, tmp_path / "x", Asked(bits=8))
    with pytest.raises(InputError, match="there is no format 'tensorflow'"):
        format_named("tensorflow")
