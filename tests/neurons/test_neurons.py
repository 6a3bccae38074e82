from math import ceil, floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet.neurons import IntegrateAndFire, State

GRID = 256  # numbers are multiples of 1/256, so that float32 is exact


def population(threshold=1.0, initial=0.0, amplitude=1.0, reset="subtract"):
    return IntegrateAndFire(
        threshold=torch.as_tensor(threshold),
        initial_potential=torch.as_tensor(initial),
        amplitude=torch.as_tensor(amplitude),
        reset=reset,
    )


def run(neuron, currents):
    """(spikes [T, ...], the last potential) for currents [T, N, C, ...]."""
    state, spikes = neuron.initial_state(currents[0]), []
    for current in currents:
        fired, state = neuron.step(state, current)
        spikes.append(fired)
    return torch.stack(spikes), state.potential


@settings(deadline=None, max_examples=200)
@given(
    current=st.integers(-2 * GRID, 3 * GRID),
    threshold=st.integers(1, 2 * GRID),
    share=st.floats(0, 1, exclude_max=True),
    steps=st.integers(1, 64),
)
def test_constant_input_has_a_closed_form(current, threshold, share, steps):
    initial = int(share * threshold)
    neuron = population(threshold / GRID, initial / GRID)
    spikes, _ = run(neuron, torch.full((steps, 1, 1), current / GRID))
    assert spikes.sum() == min(max(floor((initial + steps * current) / threshold), 0), steps)


def emitting(neuron, currents):
    """(whole spikes [T], potentials [T]) of one neuron for currents [T]."""
    state, fired, rest = neuron.initial_state(currents[:1]), [], []
    for current in currents:
        spikes, state = neuron.step(state, current[None])
        fired.append(spikes)
        rest.append(state.potential)
    return torch.cat(fired), torch.cat(rest)


CURRENTS = st.lists(st.integers(-3 * GRID, 3 * GRID), min_size=1, max_size=40)


@settings(deadline=None, max_examples=200)
@given(currents=CURRENTS, levels=st.integers(1, 6), signed=st.booleans())
def test_charge_is_kept_whatever_fires(currents, levels, signed):
    neuron = IntegrateAndFire(
        threshold=torch.tensor(1.0),
        initial_potential=torch.tensor(0.5),
        amplitude=torch.tensor(1.0),
        levels=levels,
        signed=signed,
    )
    currents = torch.tensor(currents) / GRID
    spikes, potentials = emitting(neuron, currents)
    assert torch.equal(potentials, 0.5 + currents.cumsum(0) - spikes.cumsum(0))
    assert int(spikes.abs().max()) <= levels
    assert bool((spikes.cumsum(0) >= 0).all())
    assert signed or bool((spikes >= 0).all())


@settings(deadline=None, max_examples=200)
@given(currents=CURRENTS)
def test_with_enough_levels_a_signed_neuron_has_always_fired_what_an_even_input_would(currents):
    neuron = IntegrateAndFire(
        threshold=torch.tensor(1.0),
        initial_potential=torch.tensor(0.5),
        amplitude=torch.tensor(1.0),
        levels=1000,
        signed=True,
    )
    currents = torch.tensor(currents) / GRID
    spikes, _ = emitting(neuron, currents)
    for steps in range(1, len(currents) + 1):
        expected = neuron.even_count(currents[:steps].sum()[None], steps)
        assert float(spikes[:steps].sum()) == expected.item()


@settings(deadline=None, max_examples=200)
@given(potential=st.integers(0, 40 * GRID), bits=st.integers(1, 5), threshold=st.integers(1, GRID))
def test_levels_are_thresholds_of_binary_weights(potential, bits, threshold):
    """The multi-threshold neuron: the largest threshold first, each fires at most once."""
    neuron = IntegrateAndFire(
        threshold=torch.tensor(threshold / GRID),
        initial_potential=torch.tensor(0.0),
        amplitude=torch.tensor(1.0),
        levels=2**bits - 1,
    )
    state = State(torch.tensor([potential / GRID]))
    spikes, (rest, _) = neuron.step(state, torch.zeros(1))
    expected, left = 0, potential
    for weight in (2**k for k in reversed(range(bits))):
        if left >= weight * threshold:
            expected, left = expected + weight, left - weight * threshold
    assert (spikes.item(), rest.item()) == (expected, left / GRID)


def test_several_levels_and_signs_need_the_reset_by_subtraction():
    with pytest.raises(ValueError, match="subtraction"):
        IntegrateAndFire(
            threshold=torch.tensor(1.0),
            initial_potential=torch.tensor(0.0),
            amplitude=torch.tensor(1.0),
            reset="zero",
            levels=2,
        )


@settings(deadline=None, max_examples=200)
@given(
    current=st.integers(-2 * GRID, 3 * GRID),
    threshold=st.integers(1, 2 * GRID),
    share=st.floats(0, 1, exclude_max=True),
    steps=st.integers(1, 64),
    reset=st.sampled_from(["subtract", "zero"]),
)
def test_the_even_count_is_that_of_a_constant_input(current, threshold, share, steps, reset):
    neuron = population(threshold / GRID, int(share * threshold) / GRID, reset=reset)
    spikes, _ = run(neuron, torch.full((steps, 1, 1), current / GRID))
    total = torch.tensor([[steps * current / GRID]])
    assert neuron.even_count(total, steps).item() == float(spikes.sum())


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40))
def test_charge_is_conserved(seed, steps):
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randint(-GRID, GRID, (steps, 2, 3, 4, 4), generator=generator) / GRID
    threshold = torch.randint(1, GRID, (3,), generator=generator) / GRID
    neuron = population(threshold, threshold / 2)
    spikes, last = run(neuron, currents)
    theta = threshold.view(-1, 1, 1)
    assert torch.equal(last, theta / 2 + currents.sum(0) - theta * spikes.sum(0))


@settings(deadline=None, max_examples=100)
@given(current=st.integers(1, 2 * GRID), steps=st.integers(1, 64))
def test_reset_to_zero_loses_the_remainder(current, steps):
    spikes, _ = run(population(reset="zero"), torch.full((steps, 1, 1), current / GRID))
    assert spikes.sum() == steps // ceil(GRID / current)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_at_the_threshold_exactly_it_fires(reset):
    spikes, last = run(population(0.75, reset=reset), torch.full((1, 1, 1), 0.75))
    assert spikes.item() == 1
    assert last.item() == 0


def test_below_the_threshold_nothing_leaves():
    spikes, last = run(population(0.75), torch.full((1, 1, 1), 0.75 - 2**-20))
    assert spikes.item() == 0
    assert last.item() == 0.75 - 2**-20


def test_negative_charge_is_kept_and_never_fires():
    spikes, last = run(population(initial=0.5), torch.full((100, 1, 1), -0.25))
    assert spikes.sum() == 0
    assert last.item() == 0.5 - 25


def test_spikes_have_the_amplitude_of_their_channel():
    neuron = population(torch.ones(3), amplitude=torch.tensor([1.0, 2.0, 0.5]))
    spikes, _ = run(neuron, torch.ones(1, 2, 3, 2, 2))
    assert torch.equal(spikes[0, 1, :, 1, 0], torch.tensor([1.0, 2.0, 0.5]))


@pytest.mark.parametrize("axes", [(), (4, 5)])
def test_parameters_are_per_channel_not_per_column(axes):
    neuron = population(torch.tensor([0.5, 1.5]))
    spikes, _ = run(neuron, torch.ones(1, 3, 2, *axes))
    assert spikes[0, :, 0].all()
    assert not spikes[0, :, 1].any()


@pytest.mark.parametrize("shape", [(), (3,), (3, 4, 5)])
def test_starts_at_the_initial_potential(shape):
    initial = torch.rand(shape)
    start = population(initial=initial).initial_state(torch.zeros(2, 3, 4, 5)).potential
    expected = initial.view(-1, 1, 1) if initial.ndim == 1 else initial
    assert torch.equal(start, expected.expand(2, 3, 4, 5))


def test_a_step_changes_none_of_its_arguments():
    neuron, potential, current = population(), torch.rand(2, 3), torch.rand(2, 3)
    before = potential.clone(), current.clone()
    neuron.step(State(potential), current)
    assert torch.equal(potential, before[0])
    assert torch.equal(current, before[1])


def test_the_start_is_a_copy():
    neuron, current = population(initial=torch.zeros(2, 1, 1)), torch.zeros(1, 2, 1, 1)
    neuron.initial_state(current).potential.add_(1)
    assert neuron.initial_potential.sum() == 0
