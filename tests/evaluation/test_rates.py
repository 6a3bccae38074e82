import pytest
import torch

from spiking_resnet import simulate
from spiking_resnet.evaluation.rates import counterparts, summed_currents
from spiking_resnet.graph import AvgPool, Fire, Graph, ReLU, Round, interpret
from spiking_resnet.neurons import per_channel
from spiking_resnet.records import InputError
from zoo import NAMES, ann, images, names_with, spike_trains, spiking

STEPS = 21
OPTIONS = {
    "default": {},
    "channel": {"per_channel": True, "readout": "membrane", "percentile": 90.0},
    "zero": {"reset": "zero", "pool_neurons": False},
    "poisson": {"input_coding": "poisson", "per_channel": True},
}
CASES = [(name, option) for name in NAMES for option in ("default", "channel")]
CASES += [(name, option) for name in ("identity", "stem_max_pool", "average_of_4")
          for option in ("zero", "poisson")]  # fmt: skip


def stepwise(graph, batch):
    """The sums of all populations' currents, step by step from the definition."""
    memory, totals = {}, dict.fromkeys(graph.neurons, 0.0)
    with torch.inference_mode():
        for time in range(STEPS):
            values = {n.name: v for n, v in interpret.walk(graph.nodes, batch, memory, time)}
            for node in graph.of(Fire):
                totals[node.name] = totals[node.name] + values[node.inputs[0]].double()
    return totals


def rounds_signed_streams(graph):
    fixed = interpret.constants(graph)
    return any(node.name not in fixed for node in graph.of(Round))


@pytest.mark.parametrize(("name", "option"), CASES)
def test_counts_tell_the_summed_currents(name, option):
    graph, batch = spiking(name, **OPTIONS[option]), images(name, 3)
    counts = {n: train.sum(0) for n, train in spike_trains(graph, batch, STEPS).items()}
    expected = stepwise(graph, batch)
    found = {n.name: total for n, total in summed_currents(graph, batch, counts, STEPS)}
    assert list(found) == [node.name for node in graph.of(Fire)]
    for layer, total in found.items():
        if rounds_signed_streams(graph):  # half a grid unit a step, for each of a few addends
            assert float((total - expected[layer]).abs().max()) < 8 * STEPS * 2.0**-10
        else:
            assert torch.equal(total, expected[layer]), layer


def test_instant_max_pools_are_refused():
    graph = spiking("inner_max_pool", max_pooling="instant")
    with pytest.raises(InputError, match=r"body\.2.*cumulative"):
        list(summed_currents(graph, images("inner_max_pool", 1), {}, 4))


@pytest.mark.parametrize("name", NAMES)
def test_every_population_stands_for_a_node_of_the_artificial_network(name):
    graph = spiking(name, per_channel=True)
    found = counterparts(graph)
    assert [counterpart.fire for counterpart in found] == list(graph.of(Fire))
    for counterpart in found[:-1]:
        assert counterpart.twin is graph.ann[counterpart.twin.name]
        assert counterpart.twin.shape == counterpart.fire.shape
        assert isinstance(
            counterpart.twin, ReLU if counterpart.name in graph.ann.by_name else AvgPool
        )
    assert found[-1].twin is graph.ann.output
    membrane = counterparts(spiking(name, readout="membrane"))
    assert membrane[-1].fire is None
    assert membrane[-1].twin.name == "output"


@pytest.mark.parametrize("name", [*names_with(AvgPool), "relu6", "three_blocks", "inner_max_pool"])
def test_rates_approach_the_activations_they_stand_for(name):
    """In units of the ANN, populations after pools and thresholds included."""
    graph, batch = spiking(name, per_channel=True, percentile=100.0), images(name, 4)
    steps = 2000
    run = simulate(graph, batch, steps, neurons=graph.neurons)
    wanted = interpret.values(
        graph.ann, batch, {counterpart.twin.name for counterpart in counterparts(graph)}
    )
    for counterpart in counterparts(graph):
        rate = counterpart.activations(run.neuron_spikes[counterpart.name], steps)
        expected = torch.minimum(
            wanted[counterpart.twin.name].clamp(min=0), per_channel(counterpart.amplitude, rate)
        )
        spread = float(counterpart.amplitude.max())
        assert float((rate - expected).abs().mean()) < 0.02 * spread, counterpart.name


def test_currents_and_drive_are_inverse():
    counterpart = counterparts(spiking("average_of_4", per_channel=True))[1]
    values = torch.rand(2, *counterpart.twin.shape, dtype=torch.float64)
    assert torch.allclose(counterpart.drive(counterpart.currents(values, 9), 9), values)


def test_a_graph_that_does_not_know_its_origin_is_refused():
    with pytest.raises(InputError, match="convert it again"):
        counterparts(Graph(ann("identity").nodes))
