"""Gated and layer-serial neurons, and what enters once, on every engine."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from test_engines import assert_same

from fuzz import LIMIT, drawn
from spiking_resnet import convert, simulate
from spiking_resnet.ann import load_dataset, pretrained
from spiking_resnet.conversion.methods import calibrated, differential, qcfs
from spiking_resnet.engines import plan
from spiking_resnet.engines.cpu import kernels, library, population, simulation
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import Fire, Input, interpret
from spiking_resnet.neurons import Gated, Serial
from zoo import images, network, quantised

cpu = ENGINES["cpu"]
compiled = pytest.mark.skipif(library.library() is None, reason="the kernels are not compiled")
KERNELS = [kernel.name for kernel in kernels.table()] if library.library() else []
PRE_STEPS = 4
GATES = {gate: qcfs(steps=6, gate=gate, pre_steps=PRE_STEPS) for gate in ("srp", "cos")}
SERIAL = ["stem_max_pool", "option_a", "signed_stream", "max_pool_of_image", "grouped", "dense"]
CASES = [*GATES, *SERIAL]


@cache
def converted(name):
    """A gated network, or the layer-serial one of one of the zoo's."""
    if name in GATES:
        return convert(quantised(), images("identity", 8), GATES[name])
    return convert(network(name), images(name, 8), calibrated(steps=3, images=8, waits=True))


def pictures(name):
    return images("identity" if name in GATES else name, 3, seed=5)


def length(graph):
    return graph.latency or 2 * PRE_STEPS + 1


def run(graph, batch, engine, steps, **options):
    names = list(graph.neurons)
    asked = {"trains": names, "neurons": names, "keep_state": True, **options}
    return simulate(graph, batch, steps, (1, steps - 1), engine, **asked)


def same(found, expected):
    """Spikes, logits, single neurons' counts and the state, bit for bit."""
    assert_same(found, expected)
    assert (found.exact, found.remark) == (expected.exact, expected.remark)
    for layer, counts in expected.neuron_spikes.items():
        assert torch.equal(found.neuron_spikes[layer], counts), (found.engine, layer)
    assert found.state.memory.keys() == expected.state.memory.keys()
    for name, values in expected.state.memory.items():
        assert torch.equal(found.state.memory[name], values), (found.engine, name)


def able(graph):
    return [name for name, engine in ENGINES.items() if not engine.unsupported(graph)]


@compiled
@pytest.mark.parametrize("name", CASES)
def test_the_native_engine_runs_it_whatever_the_window(name):
    graph, batch = converted(name), pictures(name)
    assert cpu.unsupported(graph) == []
    expected = run(graph, batch, "interpreter", length(graph))
    assert expected.exact
    assert any(0 < float(train.float().mean()) < 1 for train in expected.trains.values())
    for engine in able(graph):
        for window in (1, 3, 64):
            same(run(graph, batch, engine, length(graph), window=window), expected)


@compiled
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["srp", "cos", "option_a"])
def test_every_kernel_gives_the_interpreters_spikes(name, kernel, monkeypatch):
    graph, batch = converted(name), pictures(name)
    found = kernels.named(kernel)
    if found.instruction_set > library.kernels().machine_level():
        pytest.skip(f"this machine cannot run {kernel}")
    monkeypatch.setattr(library, "instruction_set", library.INSTRUCTION_SETS[found.instruction_set])
    monkeypatch.setattr(library, "kernel", kernel)
    expected = run(graph, batch, "interpreter", length(graph))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        same(run(graph, batch, "cpu", length(graph)), expected)


@pytest.mark.parametrize("name", ["srp", "cos", "option_a", "signed_stream"])
def test_a_run_goes_on_from_every_step(name):
    graph, batch = converted(name), pictures(name)[:2]
    steps = length(graph) + 1
    whole = run(graph, batch, "interpreter", steps)
    for cut in range(2, steps - 1):
        begun = {name: run(graph, batch, name, cut) for name in able(graph)}
        for first, then in zip(begun, reversed(begun), strict=True):
            before = begun[first]
            ended = run(graph, batch, then, steps - cut, state=before.state)
            for layer, train in whole.trains.items():
                joined = torch.cat([before.trains[layer], ended.trains[layer]])
                assert torch.equal(joined, train), (first, then, cut, layer)
            assert torch.equal(ended.logits[-1], whole.logits[-1])
            for key, values in whole.state.memory.items():
                assert torch.equal(ended.state.memory[key], values), (first, then, cut, key)


def test_silent_neurons_hide_no_potential_that_is_watched():
    """Kernels hold them lower than they are; beyond the exact range peaks are what is told."""
    graph, batch = converted("srp"), pictures("srp")
    watched = [node.name for node in graph.integrators]
    wanted = plan.Plan(batch, (2 * PRE_STEPS,), watch=watched)
    with torch.no_grad():
        peaks = {name: ENGINES[name].prepare(graph).run(wanted).peaks for name in able(graph)}
    assert all(each == peaks["interpreter"] for each in peaks.values())
    silent = run(graph, batch, "interpreter", 2 * PRE_STEPS).state.memory
    assert any(values.any() for name, values in silent.items() if name.endswith(":emitted"))


def spans(monkeypatch):
    """The windows of the simulations that follow, as they are run."""
    found, advance = [], simulation._Work.advance

    def noted(work, start, stop, known=None):
        found.append((start, stop))
        return advance(work, start, stop, known)

    monkeypatch.setattr(simulation._Work, "advance", noted)
    return found


@compiled
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    ("name", "expected_spans"),
    [
        ("option_a", [(0, 5)]),
        ("mlp", [(0, 5)]),  # a read-out of sums, with biases that enter once
        ("average_of_currents", [(0, 5)]),  # a stream of them
        ("signed_stream", [(0, 1), (1, 5)]),  # others than neurons read what enters
        (
            "inner_max_pool",
            [(step, step + 1) for step in range(5)],
        ),  # 32 bits hold no more for sure
    ],
)
def test_what_enters_once_may_share_a_window_with_later_steps(
    name, expected_spans, watched, monkeypatch
):
    """It is part of the first potentials: any window gives the same spikes, states and peaks."""
    steps = 5
    graph = convert(network(name), images(name, 8), differential(levels=4, steps=steps))
    batch = images(name, 3, seed=5) * (3 if watched else 1)
    states = {
        begun: simulate(graph, batch, begun, engine="interpreter", keep_state=True).state
        for begun in (1, 2)
    }
    expected = run(graph, batch, "interpreter", steps)
    done = spans(monkeypatch)
    for window in (1, 2, 4, None):
        same(run(graph, batch, "cpu", steps, window=window), expected)
        for begun, state in states.items():
            rest = simulate(graph, batch, steps - begun, engine="cpu", window=window, state=state)
            assert torch.equal(rest.logits[-1], expected.logits[-1])
    done.clear()
    simulate(graph, batch, steps, engine="cpu")
    assert done == expected_spans


@compiled
def test_few_steps_of_the_shipped_network_are_one_window(monkeypatch):
    """No potential is written to memory between them."""
    calibration, test = (load_dataset("photographs", split) for split in ("train", "test"))
    images, _ = next(iter(test.loader(2)))
    model = pretrained("cifar10_resnet20").model
    graph = convert(model, calibration.loader(48), differential(levels=4, steps=4))
    done = spans(monkeypatch)
    found = simulate(graph, images, 4, engine="cpu")
    assert done == [(0, 4)]
    assert_same(found, simulate(graph, images, 4, engine="interpreter"))


@compiled
def test_a_first_window_that_32_bits_may_not_hold_has_one_step(monkeypatch):
    graph = convert(network("option_a"), images("option_a", 8), differential(levels=4, steps=5))
    batch = images("option_a", 3, seed=5)
    expected = simulate(graph, batch, 5, engine="interpreter")
    monkeypatch.setattr(population.Population, "holds", lambda own, steps: steps < 3)
    done = spans(monkeypatch)
    assert_same(simulate(graph, batch, 5, engine="cpu"), expected)
    assert_same(simulate(graph, batch, 5, engine="cpu", window=2), expected)
    assert done == [(0, 1), (1, 5), (0, 2), (2, 4), (4, 5)]


@compiled
def test_too_bright_an_image_leaves_the_range_of_silent_neurons():
    graph, batch = converted("srp"), 3e3 * pictures("srp")
    expected = run(graph, batch, "interpreter", 2 * PRE_STEPS)
    found = run(graph, batch, "auto", 2 * PRE_STEPS)
    assert not expected.exact
    assert_same(found, expected)


def turned(seed, kind):
    """A random graph with such neurons in the place of plain ones, and random images of it."""
    graph, rng = drawn(seed)
    generator = torch.Generator().manual_seed(seed)

    def changed(node):
        if isinstance(node, Input) and kind == "once" and node.encoding == "constant":
            return replace(node, encoding="once")
        if not isinstance(node, Fire) or not node.neuron.binary or kind == "once":
            return node
        if node.neuron.reset == "zero" or rng.random() < 0.2:
            return node
        old = node.neuron
        fields = (old.threshold, old.initial_potential, old.amplitude)
        own = dict(zip(("threshold", "initial_potential", "amplitude"), fields, strict=True))
        if kind == "serial":
            neuron = Serial(**own, start=rng.randint(0, 4), window=rng.randint(1, 4))
        else:
            gate = "srp" if kind == "srp" else "cos"
            neuron = Gated(**own, pre_steps=rng.randint(1, 5), gate=gate)
        return replace(node, neuron=neuron)

    made = graph.with_nodes(changed(node) for node in graph.nodes)
    if kind == "serial" and rng.random() < 0.7 and made.input.encoding == "constant":
        once = replace(made.input, encoding="once")
        made = made.with_nodes([once, *made.nodes[1:]])
    batch = torch.randn(2, *graph.input.shape, generator=generator).clamp(-LIMIT, LIMIT)
    return made, batch


@pytest.mark.parametrize("kind", ["once", "serial", "srp", "cos"])
@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_give_the_interpreters_spikes(kind, seed):
    graph, batch = turned(seed, kind)
    expected = run(graph, batch, "interpreter", 9)
    for engine in able(graph):
        same(run(graph, batch, engine, 9), expected)


@pytest.mark.parametrize("name", ["stem_max_pool", "max_pool_of_image", "signed_stream"])
def test_old_networks_off_the_grid_run_as_they_did(name):
    """Their image has no grid, nor have their neurons: the definition's own spikes, not exact."""
    method = calibrated(steps=3, images=8, waits=True, grid=None)
    graph, batch = convert(network(name), images(name, 8), method), pictures(name)
    assert graph.input.grid is None
    found = simulate(graph, batch, engine="interpreter", trains=list(graph.neurons))
    assert not found.exact
    memory = {}
    for time in range(graph.latency):
        for node, value in interpret.walk(graph.nodes, batch, memory, time):
            if isinstance(node, Fire):
                assert torch.equal(found.trains[node.name][time].bool(), value.bool())
