"""Gradients of spikes in closed form, and tuned weights that become an exact network again."""

import pytest
import torch
from torch import nn

import spiking_resnet as sr
from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import calibrated, hu2021
from spiking_resnet.export.surrogates import SURROGATES, softened
from spiking_resnet.graph import Fire, Round, tensors
from spiking_resnet.neurons import Differential, IntegrateAndFire, Serial
from spiking_resnet.records import InputError
from zoo import images, network, spiking

CURRENTS = torch.tensor([[-1.0, 0.1, 0.45, 0.6, 0.9, 1.2, 1.7, 3.0]])


def number(value):
    return torch.tensor(value, dtype=torch.float32)


def spikes_of(neuron, current, steps, surrogate="triangle", width=1.0):
    """The sum of the spikes of so many steps."""
    node = Fire(name="fire", inputs=("x",), shape=(current.shape[1],), neuron=neuron)
    memory, node = {}, softened(node, surrogate, width)
    return sum(node.advance([current], memory, time) for time in range(steps))


def plain(kind=IntegrateAndFire, **options):
    options = {"threshold": number(1.0), "initial_potential": number(0.0), **options}
    return kind(amplitude=number(1.0), **options)


def derivative(found, current):
    (grad,) = torch.autograd.grad(found.sum(), current)
    return grad


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_derivative_of_one_step(surrogate, width):
    x = CURRENTS.clone().requires_grad_()
    away = (CURRENTS - 1).abs() / width
    expected = SURROGATES[surrogate](away) / width
    found = spikes_of(plain(), x, 1, surrogate, width)
    assert torch.equal(found, (CURRENTS >= 1).float())
    assert torch.equal(derivative(found, x), expected)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogates_have_area_one(surrogate):
    x = torch.linspace(-200, 200, 400_001, dtype=torch.float64).abs()
    assert float(SURROGATES[surrogate](x).sum() * 1e-3) == pytest.approx(1, abs=2e-3)


def test_the_reset_hands_the_gradient_on():
    x = CURRENTS.clone().requires_grad_()
    g = SURROGATES["triangle"]
    first = g((CURRENTS - 1).abs())
    after = 2 * CURRENTS - (CURRENTS >= 1).float()
    second = g((after - 1).abs())
    for reset, through in (("subtract", 2 - first), ("zero", 2 - (CURRENTS >= 1).float())):
        charged = after if reset == "subtract" else CURRENTS * (2 - (CURRENTS >= 1).float())
        slope = second if reset == "subtract" else g((charged - 1).abs())
        found = derivative(spikes_of(plain(reset=reset), x, 2), x)
        assert torch.allclose(found, first + slope * through)


def test_several_levels_have_slope_one_between_their_edges():
    x = CURRENTS.clone().requires_grad_()
    away = (1 - CURRENTS).clamp(min=0) + (CURRENTS - 2).clamp(min=0)
    expected = (1 - away).clamp(min=0)
    assert torch.equal(derivative(spikes_of(plain(levels=2), x, 1), x), expected)


def test_a_neuron_that_waits_has_no_derivative_before():
    x = CURRENTS.clone().requires_grad_()
    waiting = plain(Serial, start=1, window=1)
    assert not spikes_of(waiting, x, 1).requires_grad
    expected = 2 * (1 - (2 * CURRENTS - 1).abs()).clamp(min=0)
    assert torch.equal(derivative(spikes_of(waiting, x, 2), x), expected)


def test_differential_neurons_have_the_derivative_of_what_they_send():
    x = CURRENTS.clone().requires_grad_()
    neuron = plain(Differential, heights=torch.tensor([1.0, 0.5, 0.25]), ceiling=number(4.0))
    sent = 3 * CURRENTS  # the input of three steps
    expected = 3 * ((sent > 0) & (sent < 4)).float()
    assert torch.equal(derivative(spikes_of(neuron, x, 3), x), expected)


def test_rounding_hands_gradients_on():
    x = CURRENTS.clone().requires_grad_()
    node = softened(Round(name="r", inputs=("x",), shape=(8,), bits=1), "triangle", 1.0)
    found = node.advance([x], {}, 0)
    assert torch.equal(found, (CURRENTS * 2).round() / 2)
    assert torch.equal(derivative(found, x), torch.ones_like(x))


def tuned(of="option_a", method=None, epochs=3):
    """A network trained for a few steps to know three images, and its losses."""
    batch, labels = images(of, 20), torch.arange(3)
    graph = convert(network(of), batch, method or hu2021(steps=16, readout="membrane"))
    module = sr.to_torch(graph, 4)
    optimizer, losses = torch.optim.Adam(module.parameters(), 3e-3), []
    for _ in range(epochs):
        loss = nn.functional.cross_entropy(module(batch[:3]), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return graph, module, losses, batch[:3]


@pytest.mark.parametrize("of", ["option_a", "signed_stream"])
def test_tuned_weights_become_an_exact_network(of):
    graph, module, losses, batch = tuned(of)
    assert losses[-1] < losses[0]
    found = sr.from_torch(module)
    assert [node.name for node in found.nodes] == [node.name for node in graph.nodes]
    expected = simulate(found, batch, 8, engine="interpreter")
    assert expected.exact
    assert torch.equal(simulate(found, batch, 8).logits, expected.logits)
    for node in found.nodes:
        for field, tensor in tensors(node).items():
            if (grid := getattr(node, "grid", None)) is not None:
                moved = (tensor - module.tensor_of(node, field)).detach().abs()
                assert float(moved.max()) <= 2.0 ** -(grid + 1)
    assert all(entry["tuned"] > 0 for entry in found.notes["tuned"].values())
    assert "were tuned" in found.notes["remarks"][-1]


def test_nothing_tuned_is_the_same_network():
    graph, module, *_ = tuned(epochs=0)
    assert sr.from_torch(module) is graph
    assert sr.from_torch(torch.compile(module, backend="eager")) is graph


def test_a_network_off_the_grid_stays_off_it():
    _, module, _, batch = tuned(method=hu2021(steps=16, grid=None))
    found = sr.from_torch(module)
    assert all(node.grid is None for node in found.integrators)
    with torch.no_grad():
        assert torch.equal(
            module(batch), simulate(found, batch, 4, engine="interpreter").logits[-1]
        )


def test_a_tuned_network_can_be_saved(tmp_path):
    _, module, _, batch = tuned(method=calibrated(steps=4))
    found = sr.from_torch(module)
    sr.save(found, tmp_path / "tuned.safetensors")
    again = sr.load(tmp_path / "tuned.safetensors")
    assert torch.equal(simulate(again, batch, 4).logits, simulate(found, batch, 4).logits)


def test_what_cannot_go_back_is_refused_by_name():
    _, module, *_ = tuned(epochs=0)
    with pytest.raises(InputError, match="Linear: give the one that to_torch returned"):
        sr.from_torch(nn.Linear(2, 2))
    name, weight = next(iter(module.named_parameters()))
    with torch.no_grad():
        weight[0] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        sr.from_torch(module)
    setattr(module, name, nn.Parameter(weight[:1].detach()))
    with pytest.raises(InputError, match="only values may be tuned"):
        sr.from_torch(module)


def test_numbers_of_no_grid_are_refused():
    module = sr.to_torch(spiking("one_relu"))
    for options in ({"steps": 0}, {"steps": -3}, {"bits": 0}, {"bits": 21}, {"sum_bits": 0}):
        with pytest.raises(InputError, match="|".join(f"{name} is" for name in options)):
            sr.from_torch(module, **options)
    with pytest.raises(InputError, match="on 'meta', without values"):
        sr.from_torch(module.to("meta"))
