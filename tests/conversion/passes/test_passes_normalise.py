from dataclasses import replace

import pytest
import torch
from torch import nn

import spiking_resnet as sr
from spiking_resnet.conversion.passes.fire import Kind, fire, fire_after_pools, fire_at_output
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.pools import cumulative_pools
from spiking_resnet.conversion.passes.snap import snap
from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    GraphError,
    Input,
    Linear,
    Output,
    ReLU,
    Round,
    Select,
    interpret,
    rename_inputs,
    tensors,
)
from spiking_resnet.graph.exactness import exact_steps
from spiking_resnet.graph.structure import scale_input
from zoo import (
    NAMES,
    ann,
    images,
    in_float64,
    logits,
    on_binary_grid,
    powers_of_two,
    spike_trains,
    spiking,
    traced,
)


def halves_exactly(name):
    """Whether all average pools divide by a power of two, so that binary numbers stay exact."""
    return all((pool.divisor).hex().startswith("0x1.0000") for pool in traced(name).of(AvgPool))


@pytest.mark.parametrize("name", [name for name in NAMES if halves_exactly(name)])
@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_normalising_changes_no_spike(name, per_channel, reset):
    graph = on_binary_grid(ann(name))
    thresholds = powers_of_two(graph, per_channel)
    plain = cumulative_pools(fire(graph, thresholds, Kind(reset=reset)))
    plain = fire_after_pools(plain, Kind(reset=reset))
    plain = in_float64(fire_at_output(plain, thresholds, Kind(reset=reset)))
    batch = (images(name, 4).double() * 16).round() / 16
    expected = spike_trains(plain, batch, 25)
    found = spike_trains(in_float64(normalise(plain)), batch, 25)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)
    assert any(0 < train.double().mean() < 1 for train in expected.values())


@pytest.mark.parametrize("name", NAMES)
def test_normalising_changes_no_logit(name):
    """The mean current on the logits, after as many steps, for thresholds of any size."""
    thresholds = {
        n.name: torch.rand(n.shape[0], generator=torch.Generator().manual_seed(i)) + 0.5
        for i, n in enumerate(ann(name).of(ReLU))
    }
    plain = in_float64(fire(ann(name), thresholds, Kind()))
    batch = images(name, 4).double()
    with torch.inference_mode():
        expected = interpret.readout(plain, run(plain, batch, 2))
        made = normalise(plain, 3.0)
        found = interpret.readout(made, run(made, batch, 2))
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


def run(graph, batch, steps):
    state = None
    for _ in range(steps):
        _, state = interpret.step(graph, batch, state)
    return state


FIRST = {False: torch.tensor(2.0), True: torch.tensor([0.5, 1.0, 2.0, 4.0])}
INNER = {False: torch.tensor(3.0), True: torch.tensor([1.5, 3.0, 0.75, 6.0])}
AFTER = {False: torch.tensor(5.0), True: torch.tensor([5.0, 1.25, 2.5, 10.0])}


@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
def test_one_residual_block_by_hand(per_channel):
    graph = ann("identity")
    first, inner, after = (node.name for node in graph.of(ReLU))
    theta = {first: FIRST[per_channel], inner: INNER[per_channel], after: AFTER[per_channel]}
    made = normalise(fire(graph, theta, Kind()), logits_unit=1.0)

    def scaled(node, incoming, outgoing):
        outgoing = outgoing.double().expand(len(node.weight))
        incoming = incoming.double().expand(node.weight.shape[1])
        axes = [1] * (node.weight.ndim - 2)
        weight = node.weight * incoming.view(1, -1, *axes) / outgoing.view(-1, 1, *axes)
        return weight, node.bias / outgoing

    stem, one, two = graph.of(Conv2d)
    ones = torch.ones(())
    ways = {
        stem.name: (ones, theta[first]),
        one.name: (theta[first], theta[inner]),
        two.name: (theta[inner], theta[after]),
        graph.of(Linear)[0].name: (theta[after] / 64, ones),  # the pool's division goes there
    }
    for name, (incoming, outgoing) in ways.items():
        weight, bias = scaled(graph[name], incoming, outgoing)
        assert torch.allclose(made[name].weight, weight, rtol=1e-12)
        assert torch.allclose(made[name].bias, bias, rtol=1e-12)
    (gain,) = made.of(Affine)
    assert gain.inputs == (first,)
    assert torch.allclose(gain.scale, theta[first].double() / theta[after].double())
    (add,) = made.of(Add)
    assert set(add.inputs) == {two.name, gain.name}
    assert made.of(AvgPool)[0].divisor == 1
    for node in made.of(Fire):
        assert bool((node.neuron.threshold == 1).all())
        assert bool((node.neuron.initial_potential == 0.5).all())
        assert float(node.neuron.amplitude) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
def test_spikes_are_units_and_so_are_thresholds(name, per_channel):
    graph = spiking(name, per_channel=per_channel)
    for node in graph.of(Fire):
        neuron, before = node.neuron, graph[node.inputs[0]]
        assert float(neuron.amplitude) == 1
        if isinstance(before, AvgPool):
            size = before.kernel[0] * before.kernel[1]
            assert bool((neuron.threshold == size).all())
            assert bool((neuron.initial_potential == size / 2).all())
        elif not isinstance(before, Fire):
            assert bool((neuron.threshold == 1).all())
            assert bool((neuron.initial_potential == 0.5).all())


@pytest.mark.parametrize("name", NAMES)
def test_populations_receive_integers_or_grid_numbers_only(name):
    graph, memory = spiking(name, per_channel=True), {}
    bits = {node.inputs[0]: node.grid for node in graph.of(Fire)}
    with torch.inference_mode():
        for node, value in interpret.walk(graph.nodes, images(name, 3), memory):
            if node.name in bits:
                units = value.double() * 2 ** bits[node.name]
                assert torch.equal(units, units.round())


@pytest.mark.parametrize("name", ["average_of_49", "average_of_4", "mixed_block", "stem_max_pool"])
def test_a_pools_population_has_exactly_the_divisor(name):
    """θ / (θ / 49) is not 49 in float64 for every eighth θ; it must come out as 49 all the same."""
    graph = ann(name)
    for theta in torch.rand(40, generator=torch.Generator().manual_seed(0)) * 5 + 0.1:
        thresholds = {node.name: theta for node in graph.of(ReLU)}
        spikes = fire_after_pools(fire(graph, thresholds, Kind()), Kind())
        made = snap(normalise(cumulative_pools(spikes)), 350)
        for pool in made.of(AvgPool):
            population = made[f"{pool.name}.fire"]
            assert float(population.neuron.threshold) == pool.kernel[0] * pool.kernel[1]
            assert population.grid <= 1  # halves at most, as its start is
        assert exact_steps(made) >= 350


def test_two_populations_of_one_sum_get_a_gain():
    graph = spiking("two_thresholds")
    (numbers,) = (node for node in graph.of(Round) if len(graph.consumers[node.name]) == 2)
    assert isinstance(graph[numbers.inputs[0]], Add)
    for reader in graph.consumers[numbers.name]:
        assert isinstance(reader, Affine)


def test_a_network_with_relus_left_is_refused():
    with pytest.raises(GraphError, match=r"'body\.0\.2' is a ReLU"):
        normalise(ann("identity"))


def test_normalising_is_pure():
    graph = fire(ann("identity"), powers_of_two(ann("identity"), True), Kind())
    before = {(n.name, k): t.clone() for n in graph.nodes for k, t in tensors(n).items()}
    normalise(graph)
    after = {(n.name, k): t for n in graph.nodes for k, t in tensors(n).items()}
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_logits_are_in_the_networks_units():
    graph = spiking("identity", readout="membrane", percentile=100.0, steps=512)
    assert graph.output.scale == pytest.approx(float(logits("identity", 40).max()), rel=1e-5)


def selected(index, thresholds):
    """One layer of two channels whose current reaches neurons through a Select of channels."""
    image = Input(name="input", inputs=(), shape=(1, 1, 1))
    weight = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    conv = Conv2d(name="conv", inputs=("input",), shape=(2, 1, 1), weight=weight, bias=None)
    pick = Select(name="pick", inputs=("conv",), shape=(len(index), 1, 1), axis=0, index=index)
    relu = ReLU(name="relu", inputs=("pick",), shape=pick.shape)
    flat = Flatten(name="flat", inputs=("relu",), shape=(len(index),))
    output = Output(name="output", inputs=("flat",), shape=flat.shape)
    graph = Graph((image, conv, pick, relu, flat, output))
    return normalise(fire(graph, {"relu": torch.tensor(thresholds)}, Kind()))


def test_channels_are_normalised_by_the_thresholds_they_are_moved_to():
    made = selected((1, 0), [4.0, 0.5])
    assert made["conv"].weight.flatten().tolist() == [1 / 0.5, 2 / 4]
    assert [type(node) for node in made.nodes].count(Affine) == 1  # the read-out's gain


def test_copies_of_a_channel_with_different_thresholds_get_a_gain_each():
    made = selected((0, 1, 1), [4.0, 0.5, 2.0])
    assert made["conv"].weight.flatten().tolist() == [1, 2]
    gain = made[made["relu"].inputs[0]]
    assert gain.scale.tolist() == [1 / 4, 1 / 0.5, 1 / 2]


def joined(first, second):
    """Two currents of one neuron's spikes, joined, on neurons with thresholds of their own."""
    image = Input(name="input", inputs=(), shape=(1, 1, 1))
    weight = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    conv = Conv2d(name="conv", inputs=("input",), shape=(2, 1, 1), weight=weight, bias=None)
    a = ReLU(name="a", inputs=("conv",), shape=(2, 1, 1))
    half = Affine(name="half", inputs=("a",), shape=(2, 1, 1), scale=torch.tensor(0.5))
    join = Concat(name="join", inputs=(first, second), shape=(4, 1, 1))
    relu = ReLU(name="relu", inputs=("join",), shape=(4, 1, 1))
    flat = Flatten(name="flat", inputs=("relu",), shape=(4,))
    output = Output(name="output", inputs=("flat",), shape=(4,))
    return Graph((image, conv, a, half, join, relu, flat, output))


@pytest.mark.parametrize("ways", [("a", "half"), ("half", "a"), ("half", "half"), ("a", "a")])
def test_joined_currents_are_brought_to_thresholds_of_every_channel(ways):
    """Spikes on both places of a concatenation, currents on one: each gets gains of its own."""
    graph = joined(*ways)
    thresholds = {"a": torch.tensor([2.0, 4.0]), "relu": torch.tensor([1.0, 2.0, 4.0, 8.0])}
    plain = in_float64(fire(graph, thresholds, Kind()))
    batch = torch.tensor([0.75, 2.5, 6.0]).double().view(3, 1, 1, 1)
    expected = spike_trains(plain, batch, 20)
    found = spike_trains(in_float64(normalise(plain)), batch, 20)
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)
    assert any(0 < train.double().mean() < 1 for train in expected.values())


def test_a_gain_that_others_read_is_not_changed_for_one_of_them():
    """A layer's name may begin with that of the sum that reads it."""
    graph = joined("a", "half")
    add = Add(name="sum", inputs=("a", "sum.0"), shape=(2, 1, 1))
    nodes = [replace(n, name="sum.0") if n.name == "half" else n for n in graph.nodes]
    nodes = [rename_inputs(n, {"half": "sum.0"}) for n in nodes]
    nodes[5:5] = [add]
    nodes[4] = replace(nodes[4], inputs=("a", "sum.0"))
    found = {n.name: n for n in nodes}
    changed = scale_input(Graph(tuple(nodes)), found, add, 1, torch.tensor(3.0), "gain")
    assert found["sum.0"].scale == 0.5
    assert found[changed.inputs[1]].scale == 3


@pytest.mark.parametrize("factor", [2.0**-30, 2.0**20])
@pytest.mark.parametrize(
    "method",
    ["hu2021", "optimal-potential", "calibrated", "layer-serial", "differential-4", "dcgs-1"],
)
def test_decisions_do_not_depend_on_the_size_of_logits(method, factor):
    """Small ones were rounded away: the grid of the read-out began at 2^-14 whatever they were."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5)).eval()
    frames, found = torch.randn(64, 16), []
    for size in (1.0, factor):
        with torch.no_grad():
            for parameter in module[2].parameters():
                parameter.mul_(size)
        options = {"readout": "membrane"} if method == "hu2021" else {}
        made = sr.convert(module, frames, method, steps=8, **options)
        found.append(sr.simulate(made, frames, steps=8))
    assert all(each.exact for each in found)
    assert torch.equal(found[0].logits * factor, found[1].logits)
