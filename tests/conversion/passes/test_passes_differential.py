from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spiking_resnet import convert, save, simulate
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.methods import differential
from spiking_resnet.conversion.passes.differential import (
    LARGEST,
    MARGIN,
    _ratios,
    fire_differentially,
    geometric,
    schedule,
)
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.pools import relu_first
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import AvgPool, Fire, ReLU, interpret
from spiking_resnet.graph.nodes.base import emitted_by
from spiking_resnet.neurons import Differential, Neuron, State, per_channel
from spiking_resnet.records import InputError
from spiking_resnet.store import digest, load
from zoo import NAMES, ann, images, network, random_weights

STEPS = 24
METHOD = differential(steps=STEPS, first=0.4, last=0.01, percentile=100)


def spiking(name, method=METHOD):
    return convert(network(name), images(name, 12), method)


def neuron(heights, levels=1, threshold=1.0, caution=0.5):
    return Differential(
        threshold=torch.tensor(threshold),
        initial_potential=torch.tensor(0.0),
        amplitude=torch.tensor(threshold),
        heights=torch.as_tensor(heights),
        levels=levels,
        caution=caution,
    )


def followed(population, currents):
    """(what was sent [T], potentials [T]) of one neuron for currents [T]."""
    state = State(torch.zeros(1))
    sent, rest = [], []
    for time, current in enumerate(currents):
        spikes, state = population.step(state, current[None], time)
        sent.append(spikes)
        rest.append(state.potential)
    return torch.cat(sent), torch.cat(rest)


@settings(deadline=None, max_examples=200)
@given(
    currents=st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=20),
    levels=st.integers(1, 4),
    threshold=st.floats(0.25, 4, width=32),
)
def test_spikes_are_sizes_times_the_steps_height_and_charge_is_kept(currents, levels, threshold):
    currents = torch.tensor(currents)
    heights = geometric(0.5, 0.01, len(currents))
    sent, rest = followed(neuron(heights, levels, threshold), currents)
    sizes = (sent / (heights * threshold)).abs()
    allowed = torch.tensor([0.0, *(2.0**level for level in range(levels))])
    assert float((sizes[:, None] - allowed).abs().amin(1).max()) < 1e-4
    charge = currents.cumsum(0) - sent.cumsum(0)
    assert torch.allclose(rest, charge, atol=1e-4)


@settings(deadline=None, max_examples=200)
@given(activation=st.floats(-2, 1, width=32), levels=st.integers(1, 3))
def test_a_constant_input_is_reached_within_half_a_height(activation, levels):
    """Heights that shrink by less than half can always make up for what is left."""
    heights = geometric(0.5, 0.004, 12)
    currents = torch.tensor([activation, *[0.0] * 11])
    sent, _ = followed(neuron(heights, levels), currents)
    assert abs(float(sent.sum()) - max(activation, 0.0)) <= 0.5 * float(heights[-1]) + 1e-5


@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("ceiling", [None, torch.tensor(0.8), torch.tensor([0.3, 0.9, 1.2])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_in_place_are_the_steps(levels, ceiling, dtype):
    """Currents lie on a coarse grid, so that ties happen."""
    population = replace(neuron(geometric(1.0, 0.01, 8), levels), ceiling=ceiling)
    currents = torch.round(torch.randn(8, 50, 3, 2, dtype=dtype) * 64) / 64
    begin = State(torch.zeros(50, 3, 2, dtype=dtype))
    expected = Neuron.steps(population, begin, currents, 8)
    for (spikes, state), (right, after) in zip(
        population.steps(begin, currents, 8), expected, strict=True
    ):
        assert torch.equal(spikes.float(), right)
        assert torch.equal(state.potential, after.potential)
        assert torch.equal(state.memory, after.memory)
    assert float(begin.potential.abs().max()) == 0


def test_what_was_sent_in_error_is_taken_back():
    heights = geometric(0.5, 0.004, 12)
    currents = torch.tensor([1.0, 0.0, 0.0, -3.0, *[0.0] * 8])
    sent, _ = followed(neuron(heights, levels=3), currents)
    assert float(sent[:3].sum()) > 0.9
    assert abs(float(sent.sum())) <= 0.5 * float(heights[-1])
    assert bool((sent < 0).any())


def test_caution_saves_spikes():
    heights = geometric(0.5, 0.004, 12)
    currents = torch.tensor([0.61, *[0.0] * 11])
    counts = [int((followed(neuron(heights, 1, 1.0, c), currents)[0] != 0).sum()) for c in (0.5, 1)]
    assert counts[1] < counts[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_reach_the_artificial_networks(name):
    graph, batch = spiking(name), images(name, 12)[:4]
    run = simulate(graph, batch, STEPS, (STEPS // 2,))
    expected = interpret.logits(ann(name), batch)
    early, late = (float((logits - expected).norm() / expected.norm()) for logits in run.logits)
    assert late < 0.1
    assert late < early


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_gives_the_interpreters_spikes(name):
    graph, batch = spiking(name), images(name, 3)
    asked = {"trains": list(graph.neurons), "neurons": list(graph.neurons), "keep_state": True}
    expected = simulate(graph, batch, STEPS, (1, 7), "interpreter", **asked)
    assert not ENGINES["cpu"].unsupported(graph)
    for engine in ENGINES:
        found = simulate(graph, batch, STEPS, (1, 7), engine, **asked)
        assert found.exact
        assert torch.equal(found.logits, expected.logits)
        for layer, count in expected.spikes.items():
            assert torch.equal(found.spikes[layer].spikes, count.spikes)
            assert torch.equal(found.trains[layer], expected.trains[layer])
            assert torch.equal(found.neuron_spikes[layer], expected.neuron_spikes[layer])
        for part, kept in expected.state.memory.items():
            assert torch.equal(found.state.memory[part], kept)


class Beside(nn.Module):
    """A pool of spikes, read by a population directly and joined with what follows that."""

    def __init__(self):
        super().__init__()
        self.stem, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(3, 1, 1)
        self.branch = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(252, 5))

    def forward(self, x):
        x = self.pool(self.stem(x).relu())
        return self.head(torch.cat([x, self.branch(x)], 1))


def test_a_population_that_spikes_reach_directly_has_thresholds_1():
    """A gain comes before it, and every engine runs it."""
    batch = torch.randn(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    graph = convert(random_weights(Beside()), batch, differential(steps=6, images=8))
    assert all(bool((node.neuron.threshold == 1).all()) for node in graph.of(Fire))
    expected = simulate(graph, batch[:3], 6, engine="interpreter")
    for engine in ENGINES:
        run = simulate(graph, batch[:3], 6, engine=engine)
        assert run.exact
        assert torch.equal(run.logits, expected.logits)


@pytest.mark.parametrize("name", ["inception", "shuffle", "split", "stem_max_pool"])
def test_spikes_that_count_differently_are_joined_as_what_they_count(name):
    """Populations with amplitudes of their own, concatenated or pooled, on every engine."""
    method = differential(steps=6, levels=3, images=8)
    graph, batch = convert(network(name), images(name, 20), method), images(name, 3)
    assert len({tuple(node.neuron.heights.tolist()) for node in graph.of(Fire)}) > 1
    expected = simulate(graph, batch, 6, engine="interpreter", keep_state=True)
    for engine in ENGINES:
        run = simulate(graph, batch, 6, engine=engine, keep_state=True)
        assert run.exact
        assert torch.equal(run.logits, expected.logits)
        for part, kept in expected.state.memory.items():
            assert torch.equal(run.state.memory[part], kept)


def test_biases_and_images_enter_once():
    graph, batch = spiking("identity"), images("identity", 2)
    first, state = interpret.step(graph, batch)
    for conv in (node for node in graph.nodes if getattr(node, "bias", None) is not None):
        assert interpret.at_step(conv, True, 0) is conv
        assert interpret.at_step(conv, True, 1).bias is None
    assert torch.equal(graph.input.present(batch, 1), torch.zeros_like(batch))
    assert state.time == 1
    assert bool((first != 0).any())


def test_average_pools_stay_linear():
    graph = spiking("average_of_4")
    fired = {node.inputs[0] for node in graph.of(Fire)}
    assert not fired & {node.name for node in graph.of(AvgPool)}


def final_error(graph, artificial, batch, steps):
    """The distance of the logits after `steps`, relative to the artificial network's."""
    expected = interpret.logits(artificial, batch)
    return float((simulate(graph, batch, steps).logits[-1] - expected).norm() / expected.norm())


@pytest.mark.sweep
@pytest.mark.parametrize("levels", [1, 4])
@pytest.mark.parametrize("name", ["identity", "three_blocks", "option_a", "two_thresholds"])
def test_heights_of_their_own_end_nearer_than_one_sequence_for_all(name, levels):
    """On images that chose nothing, against the best of some common sequences."""
    seen, judged = images(name, 100)[:72], images(name, 100)[72:]
    common = [
        differential(steps=12, levels=levels, first=first, last=first * ratio, percentile=100)
        for first in (0.35, 2.0 ** (1 - levels))
        for ratio in (0.25, 0.06, 0.015)
    ]
    own = differential(steps=12, levels=levels, percentile=100)
    best, *others = (
        final_error(convert(network(name), seen, method), ann(name), judged, 12)
        for method in (own, *common)
    )
    assert best < max(min(others), 0.002)  # or negligible


def one_population(lead, steps=8):
    """(chosen, in the artificial network's units; its ReLU's activations) of a network of one
    population, whose input is there at once.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.apply(lambda module: hasattr(module, "weight") and nn.init.normal_(module.weight))
        batch = torch.randn(64, 1, 2, 2)
    folded = relu_first(fold_bn(trace(model, (1, 2, 2))))
    [relu] = folded.of(ReLU)
    before = fire_differentially(
        folded, {relu.name: torch.full((3,), 2.0)}, torch.ones(steps), 1, 0.5
    )
    graph, ratios = schedule(folded, before, batch, steps, lead)
    return graph, ratios, folded, batch


def test_the_chosen_heights_are_the_best_of_those_tried():
    """Brute force over all first heights, channel by channel, and ratios, for the last step."""
    steps = 8
    graph, ratios, folded, batch = one_population(lead=0.0)
    [node] = graph.of(Fire)
    activations = interpret.values(folded, batch, [node.name])[node.name]

    def errors(threshold, ratio):  # [C]
        population = neuron(geometric(1.0, ratio, steps), threshold=threshold)
        current = interpret.values(folded, batch, [node.inputs[0]])[node.inputs[0]]
        state = State(torch.zeros_like(current))
        for t in range(steps):
            now = current if t == 0 else torch.zeros_like(current)
            _, state = population.step(state, now, t)
        return (state.memory * threshold - activations).square().mean(0)

    def best(ratio):
        """Of the first heights whose spikes together reach far enough."""
        reach = geometric(1.0, ratio, steps).sum()
        most = MARGIN * activations.amax(0)
        found = [(2.0 * first, errors(2.0 * first, ratio)) for first in LARGEST]
        usable = [torch.where(first * reach < most, torch.inf, error) for first, error in found]
        return torch.stack(usable).min(0).values

    own = torch.stack([errors(float(each), ratios[node.name]) for each in node.neuron.threshold])
    assert torch.allclose(own.diagonal(), best(ratios[node.name]), rtol=1e-4)
    others = (float(best(ratio).sum()) for ratio in _ratios(node.neuron))
    assert float(own.diagonal().sum()) <= 1.0001 * min(others)


def test_the_lead_says_from_when_on_errors_of_the_first_population_count():
    """Heights for an early deadline leave less from then on, those for a late one at the end."""
    artificial, batch = ann("identity"), images("identity", 12)
    thresholds = {node.name: torch.tensor(3.0) for node in artificial.of(ReLU)}
    before = fire_differentially(artificial, thresholds, torch.ones(16), 1, 0.5)
    first = artificial.of(ReLU)[0].name
    expected = interpret.values(artificial, batch, [first])[first]

    def left(lead):
        """Squared errors after every step, [16]."""
        graph, _ = schedule(artificial, before, batch, 16, lead)
        state, found = None, []
        for _ in range(16):
            _, state = interpret.step(graph, batch, state)
            sent = state.memory[emitted_by(first)]
            threshold = per_channel(graph[first].neuron.threshold, sent)
            found.append(float((sent * threshold - expected).square().sum()))
        return found

    early, late = left(lead=1.0), left(lead=0.0)
    assert sum(early) < sum(late)
    assert late[15] < early[15]


def test_longer_runs_than_it_was_made_for_are_refused():
    with pytest.raises(InputError, match="convert with more steps"):
        simulate(spiking("identity"), images("identity", 2), STEPS + 1)


def test_the_file_keeps_it(tmp_path):
    graph = spiking("identity")
    save(graph, tmp_path / "snn.safetensors")
    back = load(tmp_path / "snn.safetensors")
    assert digest(back) == digest(graph)
    assert all(isinstance(node.neuron, Differential) for node in back.of(Fire))
    batch = images("identity", 2)
    assert torch.equal(simulate(back, batch, STEPS).logits, simulate(graph, batch, STEPS).logits)


@pytest.mark.parametrize(
    "options",
    [
        *({"percentile": 0}, {"caution": 0.4}, {"levels": 0}, {"steps": 0}, {"lead": 2}),
        *({"first": 1.0}, {"first": 0, "last": 0}, {"first": 1, "last": -1.0}),
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=r"must|start|together"):
        differential(**options)


def test_impossible_heights_are_refused():
    with pytest.raises(ValueError, match="amplitudes"):
        geometric(0.1, 0.2, 4)
