"""A run that goes on from a state is the rest of the run that was not interrupted."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from fuzz import LIMIT, drawn
from spiking_resnet import InputError, convert, simulate, to_integers
from spiking_resnet.conversion.methods import calibrated, dcgs, differential, qcfs
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import Fire, MaxPool, interpret
from spiking_resnet.graph.interpret import State
from spiking_resnet.neurons import NEURONS, IntegrateAndFire
from zoo import images, quantised, spiking

STEPS = 12
OPTIONS = {
    "plain": {},
    "membrane": {"readout": "membrane", "per_channel": True},
    "zero": {"reset": "zero", "compensation": 1.1},
    "poisson": {"input_coding": "poisson", "per_channel": True, "seed": 3},
    "signed": {"signed": True, "percentile": 90.0},
    "burst": {"levels": 5, "percentile": 50.0, "signed": True},
}


def run(graph, batch, steps, engine, **options):
    names = list(graph.neurons)
    return simulate(graph, batch, steps, engine=engine, trains=names, neurons=names, **options)


def able(graph):
    return [name for name, engine in ENGINES.items() if not engine.unsupported(graph)]


def check(graph, batch, steps=STEPS, cuts=(1, 5), engines=None):
    """Every pair of engines: one begins, the other ends; all at once is the same."""
    engines = engines or able(graph)
    whole = {name: run(graph, batch, steps, name, keep_state=True) for name in engines}
    others = all(each.exact for each in whole.values())  # engines round alike
    for cut in cuts:
        for first in engines:
            begun = run(graph, batch, cut, first, keep_state=True)
            before = {name: value.clone() for name, value in begun.state.memory.items()}
            for then in engines if others else [first]:
                ended = run(graph, batch, steps - cut, then, state=begun.state, keep_state=True)
                same_as_whole(whole[then], begun, ended, (cut, first, then))
            for name, value in begun.state.memory.items():
                assert torch.equal(value, before[name]), "a user's state is changed"


def same_as_whole(whole, begun, ended, what):
    assert ended.state.time == whole.state.time, what
    for name, train in whole.trains.items():
        joined = torch.cat([begun.trains[name], ended.trains[name]])
        assert torch.equal(joined, train), (what, name)
        summed = begun.neuron_spikes[name] + ended.neuron_spikes[name]
        assert torch.equal(summed, whole.neuron_spikes[name]), (what, name)
        counts = begun.spikes[name].spikes[-1] + ended.spikes[name].spikes[-1]
        assert torch.equal(counts, whole.spikes[name].spikes[-1]), (what, name)
    assert torch.equal(ended.logits[-1], whole.logits[-1]), what
    assert ended.exact == whole.exact, what
    assert whole.state.memory.keys() == ended.state.memory.keys(), what
    for name, value in whole.state.memory.items():
        assert torch.equal(ended.state.memory[name], value), (what, name)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", ["stem_max_pool", "identity"])
def test_the_zoo_goes_on(name, option):
    check(spiking(name, **OPTIONS[option]), images(name, 2), cuts=(5,))


@pytest.mark.parametrize("seed", range(16))
def test_random_graphs_go_on(seed):
    graph, rng = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(rng.randint(1, 3), *graph.input.shape, generator=generator)
    check(graph, batch.clamp(-LIMIT, LIMIT), cuts=(rng.randint(1, STEPS - 1),))


METHODS = {
    "layer-serial": calibrated(steps=4, waits=True),
    "differential": differential(steps=STEPS, images=8),
    "dcgs": dcgs(steps=STEPS, levels=2, images=8),
    "srp": qcfs(steps=8, gate="srp", pre_steps=4),
    "cos": qcfs(steps=8, gate="cos", pre_steps=4),
}


@pytest.mark.parametrize("name", [*METHODS, "saturating"])
def test_every_kind_of_neuron_goes_on(name):
    graph, frames = network(name), images("identity", 2)
    engines = able(graph) if graph.input.grid is not None else ["interpreter"]
    steps = min(graph.longest or graph.latency or STEPS, 24)
    check(graph, frames, steps, (1, 4, steps - 1), engines)


@cache
def network(name):
    """A spiking network by one of METHODS, or one whose potentials saturate."""
    if name == "saturating":
        return to_integers(convert(small(), images("identity", 8)), potential_bits=16)
    module = quantised() if name in ("srp", "cos") else small()
    return convert(module, images("identity", 8), METHODS[name])


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 4),
    ).eval()  # fmt: skip


def test_every_neuron_of_the_registry_is_checked():
    fired = {
        type(node.neuron) for name in (*METHODS, "saturating") for node in network(name).of(Fire)
    }
    assert fired | {IntegrateAndFire} == set(NEURONS.values())


@pytest.mark.parametrize("name", ["stem_max_pool", "identity"])
@pytest.mark.parametrize("coding", ["constant", "poisson"])
def test_every_step_may_have_its_own_frame(name, coding):
    graph = spiking(name, input_coding=coding, readout="membrane")
    stream = images(name, 3 * STEPS).unflatten(0, (STEPS, 3))
    state, total = None, 0
    for frame in stream:
        value, state = interpret.step(graph, frame, state)
        total = total + value
    logits = total / STEPS * graph.output.scale
    for engine in able(graph):
        whole = simulate(graph, stream, engine=engine, keep_state=True, window=5)
        assert whole.record == (STEPS,)
        assert torch.allclose(whole.logits[-1], logits)
        same = simulate(graph, stream[:1].expand(STEPS, -1, -1, -1, -1), engine=engine)
        assert torch.equal(same.logits, simulate(graph, stream[0], STEPS, engine=engine).logits)
        begun = simulate(graph, stream[:4], engine=engine, keep_state=True)
        for other in able(graph):
            ended = simulate(graph, stream[4:], engine=other, state=begun.state)
            assert torch.equal(ended.logits[-1], whole.logits[-1]), (engine, other)
        for key, value in state.memory.items():
            assert torch.equal(whole.state.memory[key], value), (engine, key)


def test_a_delayed_read_out_goes_on_before_and_after_its_delay():
    graph = spiking("identity", readout="membrane")
    graph = graph.with_nodes(
        replace(node, delay=5) if node is graph.output else node for node in graph.nodes
    )
    check(graph, images("identity", 2), cuts=(4, 5, 6))


def test_no_state_is_kept_unless_asked_for():
    graph, batch = spiking("identity"), images("identity", 2)
    for engine in able(graph):
        assert simulate(graph, batch, 3, engine=engine).state is None


def test_a_state_is_plain_numbers_of_every_integrator():
    graph, batch = spiking("stem_max_pool"), images("stem_max_pool", 2)
    for engine in able(graph):
        state = simulate(graph, batch, 3, engine=engine, keep_state=True).state
        assert state.time == 3
        assert state.memory.keys() == {node.name for node in graph.integrators}
        assert all(value.dtype == torch.float32 for value in state.memory.values())


def test_far_potentials_are_watched_and_told():
    graph, batch = spiking("identity"), images("identity", 1)
    state = simulate(graph, batch, 3, keep_state=True).state
    node = graph.of(Fire)[0]
    far = {**state.memory, node.name: state.memory[node.name] + 2.0 ** (24 - node.grid)}
    for engine in able(graph):
        assert "beyond" in simulate(graph, batch, 3, engine=engine, state=State(3, far)).remark
    away = {**state.memory, node.name: state.memory[node.name] + 2.0 ** (31 - node.grid)}
    assert simulate(graph, batch, 3, state=State(3, away)).engine != "cpu"


def test_far_counts_of_a_pool_are_told_whatever_their_sign():
    graph, batch = spiking("stem_max_pool"), images("stem_max_pool", 1)
    state = simulate(graph, batch, 3, keep_state=True).state
    pool = next(node for node in graph.integrators if isinstance(node, MaxPool))
    far = State(3, {**state.memory, pool.name: state.memory[pool.name] - 2.0**40})
    assert not simulate(graph, batch, 3, state=far).exact


def begun(steps=3, **options):
    return simulate(spiking("identity", **options), images("identity", 2), steps, keep_state=True)


def changed(**tensors):
    state = begun().state
    return State(state.time, {**state.memory, **tensors})


def lacking(name):
    state = begun().state
    return State(state.time, {key: v for key, v in state.memory.items() if key != name})


FIRST = spiking("identity").of(Fire)[0]
BAD = {
    "no state": ({"state": {"time": 3}}, "state is .*keep_state"),
    "no steps": ({"state": State()}, "after 0 steps"),
    "lacking": ({"state": lacking(FIRST.name)}, "has nothing for"),
    "unknown": ({"state": changed(nobody=torch.zeros(2))}, "knows 'nobody'"),
    "of other images": ({"images": images("identity", 3)}, r"\[2, .*\[3, .*as many images"),
    "nan": ({"state": changed(**{FIRST.name: torch.full((2, *FIRST.shape), torch.nan)})}, "finite"),
    "off the grid": (
        {"state": changed(**{FIRST.name: torch.full((2, *FIRST.shape), 0.1)})}, "off its grid"
    ),
    "no tensor": ({"state": changed(**{FIRST.name: 3})}, "is of type int: give a tensor"),
    "a time that is no number": ({"state": State("3", begun().state.memory)}, "state.time is '3'"),
    "half a step": ({"state": State(2.5, begun().state.memory)}, "state.time is 2.5"),
    "no memory": ({"state": State(4, None)}, "give the state of a Run"),
    "of another network": ({"graph": spiking("identity", readout="membrane")}, "another network"),
    "steps and frames": ({"images": images("identity", 2)[None]}, "4, .*1 frames"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case):
    changes, message = BAD[case]
    given = {"graph": spiking("identity"), "images": images("identity", 2), "steps": 4}
    with pytest.raises(InputError, match=message):
        simulate(**{"state": begun().state, **given, **changes})


def test_a_differential_network_knows_no_more_steps_and_no_frames():
    graph, frames = network("differential"), images("identity", 8)
    state = simulate(graph, frames, 8, keep_state=True).state
    assert simulate(graph, frames, state=state).record == (STEPS - 8,)
    with pytest.raises(InputError, match=f"steps is {STEPS + 1}"):
        simulate(graph, frames, STEPS - 7, state=state)
    with pytest.raises(InputError, match="takes no frames"):
        simulate(graph, frames[None])
