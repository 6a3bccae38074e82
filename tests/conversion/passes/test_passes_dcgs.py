"""DCGS's neurons: the recursion of the paper, and what it promises of a mean over time."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spiking_resnet import convert, save, simulate
from spiking_resnet.conversion.methods import dcgs
from spiking_resnet.conversion.passes.differential import of_a_mean
from spiking_resnet.conversion.presets import chosen
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.evaluation.conditions import facts
from spiking_resnet.graph import Fire, interpret
from spiking_resnet.neurons import Dcgs, State
from spiking_resnet.records import InputError
from spiking_resnet.store import digest, load
from zoo import NAMES, ann, images, network

STEPS = 32


def population(levels, steps, theta=1.0, share=0.75):
    return Dcgs(
        threshold=torch.tensor(theta, dtype=torch.float64),
        initial_potential=torch.tensor(0.0),
        amplitude=torch.tensor(theta, dtype=torch.float64),
        heights=2.0 ** (1 - levels) / torch.arange(1, steps + 1, dtype=torch.float64),
        levels=levels,
        caution=share,
    )


def followed(neuron, currents):
    """(what each spike added to the mean, v) [T] of one neuron for currents [T]."""
    state = State(torch.zeros(1, dtype=torch.float64))
    sent, rest = [], []
    for time, current in enumerate(currents):
        spikes, state = neuron.step(state, current[None], time)
        sent.append(float(spikes))
        rest.append(float(state.potential))
    return sent, rest


def by_the_paper(inputs, bias, theta, levels, share):
    """(s, m, e_in, e_out) after every step, from the recursion as it is published."""
    m, e_in, e_out, found = 0.0, bias, 0.0, []
    for t, x in enumerate(inputs, 1):
        m += x + e_in - e_out
        s = 0.0
        for size in (theta / 2**k for k in reversed(range(levels))):
            for edge in (abs(m) - share * size, e_out - size / t):
                assume(abs(edge) > 1e-9)  # ties are decided by rounding
            if abs(m) >= share * size and (m > 0 or e_out >= size / t):
                s = size if m > 0 else -size
        m -= s
        e_in, e_out = e_in + x / t, e_out + s / t
        found.append((s, m, e_in, e_out))
    return found


@settings(deadline=None, max_examples=200)
@given(
    inputs=st.lists(st.floats(-2, 2), min_size=1, max_size=30),
    bias=st.floats(-1, 1),
    theta=st.floats(0.3, 3),
    levels=st.integers(1, 5),
    share=st.sampled_from([0.5, 0.75]),
)
def test_it_is_the_papers_recursion_with_m_over_t_for_v(inputs, bias, theta, levels, share):
    expected = by_the_paper(inputs, bias, theta, levels, share)
    steps = torch.arange(1, len(inputs) + 1, dtype=torch.float64)
    currents = torch.tensor(inputs, dtype=torch.float64) / steps
    currents[0] += bias  # once: it is the start of the mean
    sent, rest = followed(population(levels, len(inputs), theta, share), currents)
    for t, (s, m, e_in, e_out) in enumerate(expected, 1):
        assert sent[t - 1] == pytest.approx(s / t, abs=1e-9)
        assert rest[t - 1] == pytest.approx(m / t, abs=1e-9)
        assert m == pytest.approx(t * (e_in - e_out), abs=1e-9)
        assert e_out >= 0


@settings(deadline=None, max_examples=200)
@given(value=st.floats(-1, 1), levels=st.integers(1, 5), steps=st.integers(12, 60))
def test_the_mean_of_a_constant_input_is_reached_within_the_smallest_threshold(
    value, levels, steps
):
    """|e_out - relu(u)| < threshold / (2^(levels - 1) T): as T * 2^(levels - 1) levels would."""
    neuron = population(levels, steps, share=0.5 if levels == 1 else 0.75)
    currents = torch.tensor([value, *[0.0] * (steps - 1)], dtype=torch.float64)
    sent, _ = followed(neuron, currents)
    assert abs(sum(sent) - max(value, 0.0)) <= 2.0 ** (1 - levels) / steps


def test_heights_are_the_weight_of_a_step_in_a_mean():
    assert of_a_mean(4, 1).tolist() == [1, 1 / 2, 21 / 64, 1 / 4]  # of five bits
    assert of_a_mean(2, 3).tolist() == [0.25, 0.125]


@pytest.mark.parametrize("levels", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_the_logits_reach_the_artificial_networks(name, levels):
    method = dcgs(steps=STEPS, levels=levels, thresholds="percentile", percentile=100)
    graph, batch = convert(network(name), images(name, 12), method), images(name, 12)[:4]
    run = simulate(graph, batch, STEPS, (4,), "layerwise")
    expected = interpret.logits(ann(name), batch)
    early, late = (float((logits - expected).norm() / expected.norm()) for logits in run.logits)
    assert late < (0.25 if levels == 1 else 0.05)
    assert late < early


@pytest.mark.parametrize("name", ["identity", "stem_max_pool", "relu6"])
def test_every_engine_gives_the_interpreters_logits(name):
    graph, batch = convert(network(name), images(name, 12), dcgs(levels=4)), images(name, 3)
    expected = simulate(graph, batch, 16, engine="interpreter")
    for name in ENGINES:
        run = simulate(graph, batch, 16, engine=name)
        assert run.exact
        assert torch.equal(run.logits, expected.logits)


def test_its_facts_engines_and_files(tmp_path):
    graph = convert(network("identity"), images("identity", 12), dcgs(levels=4, steps=6))
    found = facts(graph)
    assert (found.levels, found.signed, found.waits, found.values) == (4, True, False, 8)
    assert not ENGINES["cpu"].unsupported(graph)
    with pytest.raises(InputError, match="convert with more steps"):
        simulate(graph, images("identity", 2), 7)
    save(graph, tmp_path / "snn.safetensors")
    back = load(tmp_path / "snn.safetensors")
    assert digest(back) == digest(graph)
    assert all(type(node.neuron) is Dcgs for node in back.of(Fire))
    batch = images("identity", 2)
    assert torch.equal(simulate(back, batch, 6).logits, simulate(graph, batch, 6).logits)


@pytest.mark.parametrize(("levels", "share"), [(1, 0.5), (4, 0.75)])
def test_one_size_is_the_signed_neuron_and_several_the_multi_threshold_one(levels, share):
    method = chosen(f"dcgs-{levels}")[0].make(8)
    assert isinstance(method, dcgs)
    graph = convert(network("identity"), images("identity", 12), method)
    assert {(node.neuron.levels, node.neuron.caution) for node in graph.of(Fire)} == {
        (levels, share)
    }


@pytest.mark.parametrize(
    "options", [{"percentile": 0}, {"levels": 0}, {"steps": 0}, {"thresholds": "mmse"}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=r"must|start|one of"):
        dcgs(**options)
