"""Counts of spikes and operations, against brute force: every synapse enumerated, every step."""

from dataclasses import replace
from math import prod

import pytest
import torch

from fuzz import LIMIT, drawn
from spiking_resnet import InputError, convert, count_events, energy, simulate
from spiking_resnet.conversion.presets import RECIPES
from spiking_resnet.costs.work import work
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.evaluation import energy as counting
from spiking_resnet.graph import Fire, interpret, tensors, with_tensors
from spiking_resnet.graph.structure import carries_spikes, spiking_depth
from zoo import NAMES, images, network, quantised, spiking

STEPS = 5


def values(graph, batch, steps):
    """Every node's values [T, N, ...], by the definition of nodes and neurons."""
    memory, found = {}, {node.name: [] for node in graph.nodes}
    with torch.inference_mode():
        for time in range(steps):
            for node, value in interpret.walk(graph.nodes, batch, memory, time):
                found[node.name].append(value)
    return {name: torch.stack(each) for name, each in found.items()}


def targets(node, shape):
    """Of every entry of a node's input, how many outputs it has a synapse to: one by one."""
    ones = {name: torch.ones_like(t) for name, t in tensors(node).items() if name != node.ADDED}
    bare = replace(with_tensors(node, ones), **({node.ADDED: None} if node.ADDED else {}))
    each = torch.eye(prod(shape)).view(-1, *shape)
    return (bare.value(each) != 0).flatten(1).sum(1).view(shape)


def passing(graph, name):
    """Whether a value is spikes of single neurons, moved about but not summed."""
    node = graph[name]
    if isinstance(node, Fire):
        return True
    moved = node.hands_on and not node.has_synapses and not node.choices
    return moved and all(passing(graph, each) for each in node.inputs)


def enumerated(graph, batch, steps):
    """(accumulations, identities) of every node that reads spikes of single neurons."""
    spikes, found = carries_spikes(graph), {}
    every = values(graph, batch, steps)
    for node in graph.nodes:
        arriving = 0.0
        if node.hands_on or not node.inputs or node is graph.output:
            continue
        if not all(passing(graph, name) for name in node.inputs if spikes[name]):
            continue
        for name in node.inputs:
            if spikes[name]:
                fired = (every[name] != 0).sum((0, 1))
                shape = graph[name].shape
                reach = targets(node, shape) if node.has_synapses else torch.ones(shape)
                arriving += float((fired * reach).sum()) / len(batch)
        found[node.name] = arriving
    return found


def by_node(graph, events):
    return {each.name: each for each in work(graph, events)}


def same_arrivals(graph, batch, steps, engine="auto"):
    events = count_events(graph, [batch], steps, engine)
    found = by_node(graph, events)
    seen = 0
    for name, arriving in enumerated(graph, batch, steps).items():
        own = found.get(name)
        count = 0.0 if own is None else own.accumulations + own.identities
        assert count == pytest.approx(arriving, rel=1e-12), name
        seen += arriving > 0
    return events, seen


@pytest.mark.parametrize("name", NAMES)
def test_every_synapse_of_the_zoo(name):
    graph, batch = spiking(name), images(name, 2)
    events, _ = same_arrivals(graph, batch, STEPS)
    every = values(graph, batch, STEPS)
    for node in graph.of(Fire):
        assert torch.equal(events.fired[node.name], (every[node.name] != 0).sum((0, 1)).double())


@pytest.mark.parametrize("seed", range(25))
def test_every_synapse_of_random_graphs(seed):
    graph, rng = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(2, *graph.input.shape, generator=generator).clamp(-LIMIT, LIMIT)
    same_arrivals(graph, batch, rng.randint(1, 6))


@pytest.mark.parametrize("name", RECIPES)
def test_spikes_of_every_method_at_their_sizes(name):
    method = RECIPES[name].make(4)
    if method.name == "qcfs":
        model, batch = quantised(), images("identity", 20)
    else:
        model, batch = network("option_a"), images("option_a", 20)
    graph = convert(model, batch, method)
    steps = graph.made_for or 6
    events, seen = same_arrivals(graph, batch[:2], steps)
    assert seen >= 3
    every = values(graph, batch[:2], steps)
    for node in graph.of(Fire):
        sizes = node.neuron.sizes(every[node.name])
        assert torch.equal(events.repeated[node.name], sizes.abs().double().sum((0, 1)))
        assert bool((events.repeated[node.name] >= events.fired[node.name]).all())


@pytest.mark.parametrize("name", ["option_a", "stem_max_pool", "average_of_4"])
def test_totals_depend_on_no_engine_batch_or_window(name, monkeypatch):
    graph, batch = spiking(name, levels=3, signed=True), images(name, 6)
    whole = energy(graph, count_events(graph, [batch], 7))
    for engine in ENGINES:
        monkeypatch.setattr(counting, "ENTRIES", 2 * sum(graph.neurons.values()))
        parts = [(batch[:1], None), (batch[1:3], None), (batch[3:], None)]
        found = energy(graph, count_events(graph, parts, 7, engine))
        assert found == whole


def test_a_run_has_what_it_needs_or_says_that_it_is_not_exact():
    graph, batch = spiking("option_a"), images("option_a", 4)
    exact = energy(graph, count_events(graph, [batch], 9), ["horowitz-fp32"])
    names = list(graph.neurons)
    assert energy(graph, simulate(graph, batch, 9, neurons=names), ["horowitz-fp32"]) == exact
    assert energy(graph, simulate(graph, batch, 9, trains=names), ["horowitz-fp32"]) == exact
    rough = energy(graph, simulate(graph, batch, 9), ["horowitz-fp32"])
    assert exact.exact
    assert not rough.exact
    assert rough.totals["spikes"] == exact.totals["spikes"]
    off = rough.totals["accumulations"] / exact.totals["accumulations"]
    assert off != 1.0
    assert abs(off - 1) < 0.2


def test_a_pools_spikes_are_those_it_passes_on():
    graph, batch = spiking("stem_max_pool"), images("stem_max_pool", 3)
    (pool,) = [node for node in graph.nodes if node.choices]
    events = count_events(graph, [batch], 8)
    passed = (values(graph, batch, 8)[pool.name] != 0).sum((0, 1)).double()
    assert torch.equal(events.fired[pool.name], passed)
    run = simulate(graph, batch, 8, trains=list(graph.neurons))
    assert energy(graph, run) == energy(graph, events)


def test_operations_that_no_spike_decides():
    """Each neuron is updated and compared at every step; biases and the image's current enter."""
    graph, batch = spiking("identity"), images("identity", 2)
    found = work(graph, count_events(graph, [batch], STEPS))
    neurons = sum(graph.neurons.values())
    assert sum(each.updates for each in found) == neurons * STEPS
    assert sum(each.comparisons for each in found) == neurons * STEPS
    depth = spiking_depth(graph)
    biased = [node for node in graph.nodes if node.added is not None and depth[node.name] > 0]
    first = next(node for node in graph.nodes if node.has_weights)
    constants = STEPS * sum(prod(node.shape) for node in biased)
    constants += prod(first.shape) * (STEPS + (first.added is not None))
    assert sum(each.constants for each in found) == constants
    assert sum(each.image_macs for each in found) == 3 * 4 * (3 * 8 - 2) ** 2


def test_images_that_enter_once_bring_constants_once():
    graph = convert(network("identity"), images("identity", 8), RECIPES["differential-1"].make(4))
    found = {each.name: each for each in work(graph, count_events(graph, [images("identity", 1)]))}
    biased = [node for node in graph.nodes if node.added is not None]
    assert biased
    for node in biased:
        assert found[node.name].constants == prod(node.shape)


def test_what_cannot_be_counted_is_refused():
    graph, batch = spiking("identity"), images("identity", 2)
    with pytest.raises(InputError, match="no images"):
        count_events(graph, [])
    with pytest.raises(InputError, match="another network"):
        energy(spiking("option_a"), simulate(graph, batch, 2))
    with pytest.raises(InputError, match="convert it first"):
        energy(graph.ann, count_events(graph, [batch], 2))


def test_a_tensor_of_images_will_do_and_other_things_are_named():
    graph, batch = spiking("identity"), images("identity", 3)
    whole = energy(graph, count_events(graph, [batch], 3), "loihi1")
    assert energy(graph, count_events(graph, batch, 3), "loihi1") == whole
    with pytest.raises(InputError, match="run is a Tensor"):
        energy(graph, batch)
    with pytest.raises(InputError, match="steps"):
        count_events(graph, batch, 0)


def test_a_pool_of_the_image_compares_once_or_at_every_step():
    """Three comparisons in each window of four; of spikes, each one that arrives counts too."""
    name, steps = "max_pool_of_image", 4
    windows = 3 * 4 * 4
    once = work(spiking(name), count_events(spiking(name), images(name, 2), steps))
    assert next(each.pooling for each in once if each.kind == "MaxPool") == 3 * windows
    graph = spiking(name, input_coding="poisson", seed=3)
    events = count_events(graph, images(name, 2), steps)
    arriving = float(events.fired[graph.input.name].sum()) / 2
    found = next(each for each in work(graph, events) if each.kind == "MaxPool")
    assert found.pooling == 3 * windows * steps + arriving
    every = values(graph, images(name, 2), steps)[found.name]
    assert torch.equal(events.fired[found.name], (every != 0).sum((0, 1)).double())


def test_several_numbers_of_steps_come_from_one_simulation(monkeypatch):
    graph, batch = spiking("stem_max_pool", levels=2), images("stem_max_pool", 3)
    monkeypatch.setattr(counting, "ENTRIES", 4 * sum(graph.neurons.values()) * len(batch))
    found = counting.events_at(graph, [batch[:1], batch[1:]], (2, 7, 9))
    for steps, events in zip((2, 7, 9), found, strict=True):
        alone = count_events(graph, batch, steps)
        assert (events.images, events.steps) == (3, steps)
        assert energy(graph, events) == energy(graph, alone)
