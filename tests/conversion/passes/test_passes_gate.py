"""Pre-steps: what gated neurons do after them, and who counts them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import qcfs
from spiking_resnet.conversion.presets import chosen
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.evaluation.compare import compare
from spiking_resnet.evaluation.conditions import facts
from spiking_resnet.evaluation.evaluate import usual_steps
from spiking_resnet.graph import Fire, Output
from spiking_resnet.graph.interpret import State as NetworkState
from spiking_resnet.graph.interpret import readout, step
from spiking_resnet.neurons import Gated, IntegrateAndFire, State
from spiking_resnet.records import InputError
from zoo import images, quantised


def gated(gate, pre_steps=2, threshold=4.0):
    return Gated(
        threshold=torch.tensor(threshold),
        initial_potential=torch.tensor(threshold / 2),
        amplitude=torch.tensor(threshold),
        pre_steps=pre_steps,
        gate=gate,
    )


def train_of(neuron, currents):
    """The spikes (0 or 1) and potentials of one neuron after every step."""
    state = State(neuron.initial_potential.view(1))
    spikes, potentials = [], []
    for time, current in enumerate(currents):
        spike, state = neuron.step(state, torch.tensor([float(current)]), time)
        spikes.append(int(spike / neuron.amplitude))
        potentials.append(float(state.potential))
    return spikes, potentials


def test_srp_silences_a_neuron_whose_residual_is_negative():
    # v: 2 + 3 = 5 fires, 1; 1 - 3 = -2 < 0: from there on it starts at 2 again, but silent
    spikes, potentials = train_of(gated("srp"), [3, -3, 5, 5])
    assert spikes == [1, 0, 0, 0]
    assert potentials == [1.0, -2.0, 7.0, 12.0]


def test_srp_lets_others_start_again():
    # v: 2 + 3 = 5 fires, 1; 1 - 1 = 0 is no negative residual: 2 + 3 fires again, 1
    assert train_of(gated("srp"), [3, -1, 3, 1]) == ([1, 0, 1, 0], [1.0, 0.0, 1.0, 2.0])


def test_cos_takes_a_spike_too_many_back_and_adds_one_too_few():
    # too many: residual -2, so it starts at 2 - 4
    assert train_of(gated("cos"), [3, -3, 3, 3]) == ([1, 0, 0, 1], [1.0, -2.0, 1.0, 0.0])
    # too few: 2 - 4 = -2; -2 + 7 = 5 fires, 1. Then 2 + 6 = 8 fires, 4 >= 4: it starts at 2 + 4
    assert train_of(gated("cos"), [-4, 10, 0, 0]) == ([0, 1, 1, 0], [-2.0, 4.0, 2.0, 2.0])
    # neither: residual in [0, 4)
    assert train_of(gated("cos"), [1, 0, 2, 0]) == ([0, 0, 1, 0], [3.0, 3.0, 0.0, 0.0])


@settings(deadline=None, max_examples=200)
@given(currents=st.lists(st.integers(-8, 8), min_size=1, max_size=6))
def test_the_residual_tells_offset_spikes(currents):
    """v < 0 is a spike too many, v >= threshold one too few, against floor((v0 + total) / th)."""
    neuron = gated("cos", len(currents))
    spikes, potentials = train_of(neuron, currents)
    due = (2 + sum(currents)) // 4
    assert (potentials[-1] < 0) == (sum(spikes) > due)
    assert (potentials[-1] >= 4) == (sum(spikes) < due)


@settings(deadline=None, max_examples=100)
@given(currents=st.lists(st.integers(-8, 8), min_size=2, max_size=6))
def test_srp_silences_whoever_fired_without_being_due(currents):
    spikes, _ = train_of(gated("srp", len(currents)), [*currents, 100, 100])
    if 2 + sum(currents) < 4 and sum(spikes[: len(currents)]) > 0:  # activation 0, yet it fired
        assert spikes[len(currents) :] == [0, 0]


@pytest.mark.parametrize("kind", ["srp", "cos"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_definitions_spikes(kind, engine):
    method = qcfs(gate=kind, pre_steps=3, steps=8)
    made = convert(quantised(), images("identity", 8), method)
    frames = images("identity", 5, seed=2)
    state, trains, read = NetworkState(), [], []
    for _ in range(11):
        _, state = step(made, frames, state)
        read.append(readout(made, state))
    run = simulate(made, frames, 11, range(1, 12), engine, trains=made.neurons, window=2)
    assert torch.equal(run.logits, torch.stack(read))
    assert run.exact
    for name in made.neurons:
        trains = simulate(made, frames, 11, engine="interpreter", trains=made.neurons).trains
        assert torch.equal(run.trains[name], trains[name])


@pytest.mark.parametrize("kind", ["srp", "cos"])
def test_pre_steps_are_left_out_of_the_readout_and_named_apart(kind):
    made = convert(quantised(), images("identity", 8), qcfs(gate=kind, pre_steps=3, steps=8))
    assert made.pre_steps == made.output.delay == facts(made).pre_steps == 3
    assert facts(made).trained
    assert usual_steps(made)[0] == usual_steps(convert_plain())[0] + 3
    frames = images("identity", 4, seed=5)
    run = simulate(made, frames, 5, (3, 4, 5))
    total = [run.logits[0] * 3, None, run.logits[2] * 2]  # of the pre-steps, of the counted ones
    plain = convert_plain()
    before = simulate(plain, frames, 3).logits[0] * 3  # before the gate nothing differs
    assert torch.allclose(total[0], before, atol=1e-5)
    assert isinstance(made[made.output.name], Output)


def convert_plain():
    return convert(quantised(), images("identity", 8), qcfs(steps=8))


def test_a_comparison_names_the_counted_steps():
    frames = images("identity", 8, seed=7)
    recipes = chosen("qcfs,qcfs-srp,qcfs-cos")
    found = compare(quantised(), images("identity", 12), frames, recipes, (2, 4))
    for row in found.rows:
        assert row.problem == ""
        assert sorted(row.readings) == [2, 4]
        assert row.facts.trained
    assert [row.facts.pre_steps for row in found.rows] == [0, 16, 16]
    plain, *late = (row.readings[4].spikes_per_image for row in found.rows)
    assert all(each > plain for each in late)  # pre-steps cost spikes as well


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "srp"}, {"pre_steps": 2}, {"gate": "cos", "pre_steps": -1}, {"gate": "both"},
        {"steps": 0}, {"sum_bits": 8},
    ],
)  # fmt: skip
def test_options_that_mean_nothing(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        qcfs(**options)


@pytest.mark.parametrize("options", [{"pre_steps": 0}, {"gate": "none"}, {"levels": 2}])
def test_neurons_that_mean_nothing(options):
    one = torch.ones(())
    usual = {"threshold": one, "initial_potential": one / 2, "amplitude": one}
    with pytest.raises(ValueError, match=r"pre_steps|gate|gated"):
        Gated(**{**usual, "pre_steps": 1, "gate": "srp", **options})


def test_max_pools_of_spikes_cannot_start_again():
    with pytest.raises(InputError, match=r"max pool of spikes.*average pools"):
        convert(quantised(pool=True), images("identity", 8), qcfs(gate="cos", pre_steps=2))
    made = convert(quantised(pool=True), images("identity", 8), qcfs())
    assert all(type(node.neuron) is IntegrateAndFire for node in made.of(Fire))
