"""The contract of neurons, for every class of the registry, on awkward inputs."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import spiking_resnet
from spiking_resnet import neurons
from spiking_resnet.engines.simulate import ENGINES, simulate
from spiking_resnet.graph import Conv2d, Fire, Flatten, Graph, GraphError, Input, Output
from spiking_resnet.graph.plain import arrays, build, describe
from spiking_resnet.neurons import NEURONS, State, per_channel
from spiking_resnet.records import InputError

ROOT = Path(spiking_resnet.__file__).parent
STEPS, CHANNELS = 6, 3
OWN = {  # by class: the settings that only it has, each of which is tried
    "IntegrateAndFire": ({}, {"reset": "zero"}, {"levels": 3}, {"levels": 2, "signed": True}),
    "Differential": ({"levels": 1}, {"levels": 3, "ceiling": torch.tensor([1.0, 2.0, 0.5])}),
    "Dcgs": ({"levels": 1, "caution": 0.5}, {"levels": 3}),
    "Serial": ({"start": 2, "window": 3}, {"start": 0, "window": 1}),
    "Saturating": ({"limit": 4.0}, {"limit": 3.0, "levels": 2}, {"limit": 2.5, "reset": "zero"}),
    "Gated": ({"pre_steps": 3, "gate": "srp"}, {"pre_steps": 2, "gate": "cos"}),
}
assert OWN.keys() == NEURONS.keys(), "give every class of NEURONS its settings in OWN"
HEIGHTS = {"heights": 2.0 ** -torch.arange(STEPS, dtype=torch.float32)}
THRESHOLDS = (torch.tensor(1.0), torch.tensor([0.5, 1.0, 2.0]))  # powers of two: nothing rounds


def population(name, settings, threshold=THRESHOLDS[1]):
    kind = NEURONS[name]
    heights = HEIGHTS if "heights" in kind.TENSORS else {}
    return kind(
        threshold=threshold,
        initial_potential=threshold / 2 if kind.free_start else torch.zeros(()),
        amplitude=threshold,
        **heights,
        **settings,
    )


CASES = [
    pytest.param(population(name, settings, threshold), id=f"{name}-{i}-{threshold.ndim}")
    for name in NEURONS
    for i, settings in enumerate(OWN[name])
    for threshold in THRESHOLDS[min(i, 1) :]  # one for all channels, and one for each
]
SHAPES = [(2, CHANNELS), (2, CHANNELS, 2, 3)]


def awkward(shape, seed=0):
    """Currents [STEPS, *shape]: multiples of 1/8, negative, zero, thresholds exactly, large."""
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randint(-16, 24, (STEPS, *shape), generator=generator) / 8
    for index, value in enumerate((0.0, 0.25, 0.5, 1.0, 100.0, -100.0)):
        currents.view(STEPS, -1)[:, index % currents[0].numel()] = value
    return currents


def stepped(neuron, currents):
    """(spikes [T, ...], the states after every step)."""
    state, spikes, states = neuron.initial_state(currents[0]), [], []
    for time, current in enumerate(currents):
        fired, state = neuron.step(state, current, time)
        spikes.append(fired)
        states.append(state)
    return torch.stack(spikes), states


def same(one, other):
    """Whether two states are the same."""
    if (one.memory is None) != (other.memory is None):
        return False
    alike = torch.equal(one.potential, other.potential)
    return alike and (one.memory is None or torch.equal(one.memory, other.memory))


def test_every_class_is_registered_by_its_name():
    assert all(kind.__name__ == name for name, kind in NEURONS.items())


def test_every_field_has_one_rule():
    for kind in NEURONS.values():
        assert {field.name for field in fields(kind)} == kind.RULES.keys() | kind.TENSORS.keys()
        assert not kind.RULES.keys() & kind.TENSORS.keys()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("neuron", CASES)
def test_a_step_is_pure_and_keeps_shapes(neuron, shape):
    currents = awkward(shape)
    state = neuron.initial_state(currents[0])
    assert state.potential.shape == shape
    assert state.memory is None
    for time, current in enumerate(currents):
        before = [part if part is None else part.clone() for part in (*state, current)]
        spikes, after = neuron.step(state, current, time)
        again, same_after = neuron.step(state, current, time)
        assert torch.equal(spikes, again)
        assert same(after, same_after)
        for kept, part in zip(before, (*state, current), strict=True):
            assert kept is part is None or torch.equal(kept, part)
        assert spikes.shape == after.potential.shape == shape
        assert spikes.dtype == after.potential.dtype == torch.float32
        state = after


@pytest.mark.parametrize("neuron", CASES)
def test_a_neuron_says_whether_it_remembers(neuron):
    _, states = stepped(neuron, awkward(SHAPES[0]))
    assert neuron.remembers == any(state.memory is not None for state in states)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("neuron", CASES)
def test_a_run_is_its_steps_whatever_windows_it_is_cut_into(neuron, shape):
    currents = awkward(shape)
    spikes, states = stepped(neuron, currents)
    for cut in (STEPS, 1, 4):
        state, found, seen = neuron.initial_state(currents[0]), [], []
        for first in range(0, STEPS, cut):
            part = currents[first : first + cut]
            fired, state = neuron.run(
                state, part, len(part), first, lambda v, seen=seen: seen.append(v.clone())
            )
            found.append(fired)
        assert torch.equal(torch.cat(found), spikes)
        assert same(state, states[-1])
        assert all(torch.equal(v, s.potential) for v, s in zip(seen, states, strict=True))
    constant, _ = neuron.run(neuron.initial_state(currents[0]), currents[:1], STEPS)
    assert torch.equal(constant, stepped(neuron, currents[:1].expand(STEPS, *shape))[0])


@pytest.mark.parametrize("neuron", CASES)
def test_neurons_change_at_their_turns_alone(neuron):
    currents, turns = awkward(SHAPES[1]), {0, *neuron.turns}
    spikes, states = stepped(neuron, currents)
    quiet, firing = torch.zeros(SHAPES[1]), None
    for time, (fired, state) in enumerate(zip(spikes, states, strict=True)):
        before = states[time - 1] if time else neuron.initial_state(currents[0])
        again = neuron.restarted(before, time)
        assert again is before or time in turns
        if time in turns:
            silent = neuron.silent(again, time)
            quiet = torch.zeros(SHAPES[1]) if silent is None else silent
            firing = neuron.may_fire(time)
        assert neuron.may_fire(time) == firing
        assert not fired.any() or firing
        assert not (fired * quiet).any()
        assert neuron.silences or not quiet.any()
        assert same(neuron.restarted(state, time + 1), state) or time + 1 in turns


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("neuron", CASES)
def test_charge_is_kept(neuron, shape):
    """v_T = v_0 + sum of I - threshold * sum of s, from the last time that it starts again."""
    if not neuron.keeps_charge:
        return
    currents = awkward(shape)
    spikes, states = stepped(neuron, currents)
    first = neuron.steps_before_counting
    start = neuron.initial_state(currents[0]).potential
    if first:
        start = neuron.restarted(states[first - 1], first).potential
    sent = spikes[first:].sum(0)  # a spike carries the threshold
    assert torch.equal(states[-1].potential, start + currents[first:].sum(0) - sent)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("neuron", CASES)
def test_counts_sizes_and_bounds_are_those_of_the_spikes(neuron, shape):
    spikes, _ = stepped(neuron, awkward(shape))
    sizes = neuron.sizes(spikes)
    assert torch.equal(sizes, sizes.round())
    assert torch.equal(neuron.decode(sizes), spikes)
    assert torch.equal(neuron.decode(sizes[2:4], 2), spikes[2:4])
    assert int(sizes.abs().max()) <= neuron.largest_size
    assert torch.equal(neuron.count(spikes) != 0, spikes != 0)
    assert bool((neuron.count(spikes) * spikes >= 0).all())
    low, high = (neurons.per_channel(end, spikes[0]) for end in neuron.bounds())
    assert bool((spikes >= low).all() and (spikes <= high).all())
    if not neuron.signed:
        assert bool((spikes >= 0).all())
    if neuron.binary:
        assert neuron.largest_size == 1
        assert set(neuron.count(spikes).unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("neuron", CASES)
def test_the_potential_stays_within_its_offset_and_the_currents(neuron):
    if neuron.reset == "zero":
        return
    currents = awkward((2, CHANNELS))
    _, states = stepped(neuron, currents)
    reach = currents.abs().cumsum(0) + neuron.potential_offset
    for state, most in zip(states, reach, strict=True):
        assert bool((state.potential.abs() <= most).all())


@pytest.mark.parametrize("neuron", CASES)
def test_rate_coded_neurons_fire_the_even_count_of_an_even_input(neuron):
    current = awkward((2, CHANNELS))[:1]
    if neuron.rate_coded:
        spikes, _ = neuron.run(neuron.initial_state(current[0]), current, STEPS)
        expected = neuron.even_count(current[0] * STEPS, STEPS)
        if neuron.signed or neuron.levels > 1 or neuron.reset == "zero":
            expected = expected.clamp(max=STEPS * neuron.levels)
        assert torch.equal(neuron.count(spikes).double().sum(0), expected)


@pytest.mark.parametrize("neuron", CASES)
def test_what_arrives_at_its_best_is_sent_as_is_said(neuron):
    total, steps = awkward((2, CHANNELS))[0], neuron.longest or STEPS
    if neuron.arrival == NEURONS["IntegrateAndFire"].arrival:
        return  # see the test before, of what arrives evenly
    first = torch.cat([total[None], torch.zeros_like(total).expand(steps - 1, *total.shape)])
    spikes, _ = neuron.run(neuron.initial_state(total), first, steps)
    sent = spikes.double().sum(0) / per_channel(neuron.amplitude, total)
    assert torch.allclose(neuron.best_sent(total, steps), sent, atol=1e-6)
    assert bool((sent <= per_channel(neuron.most_sent(steps), sent) + 1e-6).all())


@pytest.mark.parametrize("changed", [{"reset": "zero"}, {"levels": 2}, {"signed": True}], ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_settings_of_every_neuron_change_what_it_fires_or_are_refused(name, changed):
    plain, currents = population(name, OWN[name][0]), awkward(SHAPES[1])
    ((field, value),) = changed.items()
    if getattr(plain, field) == value or not NEURONS[name].RULES[field].holds(value):
        return
    try:
        other = population(name, {**OWN[name][0], **changed})
    except ValueError:
        return
    assert not torch.equal(stepped(other, currents)[0], stepped(plain, currents)[0])


def network(neuron, **sums):
    """Images straight to one population, and its spikes to the read-out."""
    shape, grid = (CHANNELS, 1, 1), sums.get("grid")
    weight = torch.eye(CHANNELS).view(CHANNELS, CHANNELS, 1, 1)
    nodes = (
        Input(name="x", inputs=(), shape=shape),
        Conv2d(name="conv", inputs=("x",), shape=shape, weight=weight, bias=None, grid=grid),
        Fire(name="fire", inputs=("conv",), shape=shape, neuron=neuron, **sums),
        Flatten(name="flat", inputs=("fire",), shape=(CHANNELS,)),
        Output(name="out", inputs=("flat",), shape=(CHANNELS,), **sums),
    )
    return Graph(nodes)


@pytest.mark.parametrize("neuron", CASES)
def test_a_file_keeps_it(neuron):
    graph = network(neuron)
    back = build(describe(graph), arrays(graph)).of(Fire)[0].neuron
    assert type(back) is type(neuron)
    for field in fields(neuron):
        one, other = getattr(neuron, field.name), getattr(back, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("name", NEURONS)
def test_settings_out_of_range_are_refused_by_name(name):
    kind, settings = NEURONS[name], OWN[name][-1]
    description = describe(network(population(name, settings)))
    fire = next(node for node in description["nodes"] if node["kind"] == "Fire")
    tensors = arrays(network(population(name, settings)))
    for field in kind.RULES:
        kept, fire["neuron"][field] = fire["neuron"][field], "strange"
        with pytest.raises(GraphError, match="fire"):
            build(description, tensors)
        fire["neuron"][field] = kept
    for field in kind.TENSORS:
        wrong = {**tensors, f"fire/neuron.{field}": torch.zeros(7, 7)}
        with pytest.raises(GraphError, match=field):
            build(description, wrong)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("neuron", CASES)
def test_every_engine_fires_its_spikes_or_refuses_it(neuron, engine):
    graph = network(neuron)
    images = awkward((4, CHANNELS, 1, 1))[3]
    if reasons := ENGINES[engine].unsupported(graph):
        assert any("fire" in reason for reason in reasons)
        with pytest.raises(InputError, match="fire"):
            simulate(graph, images, STEPS, engine=engine)
        return
    run = simulate(graph, images, STEPS, engine=engine, neurons=("fire",))
    spikes, _ = stepped(neuron, images.expand(STEPS, *images.shape))
    assert torch.equal(run.neuron_spikes["fire"].float(), neuron.count(spikes).float().sum(0))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "settings"),
    [pytest.param(name, own, id=f"{name}-{own}") for name in NEURONS for own in OWN[name]],
)
def test_on_a_grid_every_engine_fires_its_spikes(name, settings, engine):
    neuron = population(name, settings, torch.ones(()))
    graph, images = network(neuron, grid=STEPS, step_bound=100.0), awkward((4, CHANNELS, 1, 1))[3]
    spikes, states = stepped(neuron, images.expand(STEPS, *images.shape))
    if name == "Saturating" and engine == "cpu":
        assert neuron.trait in ENGINES[engine].unsupported(graph)[0]
        return
    assert not ENGINES[engine].unsupported(graph)
    run = simulate(graph, images, STEPS, engine=engine, neurons=("fire",), keep_state=True)
    assert torch.equal(run.neuron_spikes["fire"].float(), neuron.count(spikes).float().sum(0))
    assert torch.equal(run.state.memory["fire"], states[-1].potential)


def asked(tree):
    """Names whose class is asked for by isinstance or issubclass."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "isinstance",
            "issubclass",
        ):
            for name in ast.walk(node.args[1]):
                yield getattr(name, "id", getattr(name, "attr", ""))


def test_nobody_else_asks_for_the_class_of_a_neuron():
    for path in sorted(ROOT.rglob("*.py")):
        if path.parent.name != "neurons":
            found = NEURONS.keys() & set(asked(ast.parse(path.read_text())))
            assert not found, f"{path.name} asks whether a neuron is {', '.join(found)}"


def test_a_state_is_a_potential_and_perhaps_more():
    assert State(torch.zeros(1)).memory is None
