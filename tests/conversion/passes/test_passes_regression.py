"""The ridge regression of a layer: its gradient vanishes, and whole numbers change nothing."""

import pytest
import torch
import torch.nn.functional as F

from spiking_resnet.conversion.passes.regression import Regression
from spiking_resnet.graph import Conv2d, Linear

RIDGE = 0.01
GROUPS = [1, 2, 6]


def convolution(groups):
    weight, bias = torch.randn(6, 6 // groups, 3, 3), torch.randn(6)
    return Conv2d(
        name="c", inputs=("x",), shape=(6, 4, 4), weight=weight, bias=bias, stride=(2, 2),
        padding=(1, 1), groups=groups,
    )  # fmt: skip


def linear():
    weight, bias = torch.randn(5, 6), torch.randn(5)
    return Linear(name="l", inputs=("x",), shape=(5,), weight=weight, bias=bias)


def case(groups):
    """(a layer, whole inputs, outputs that they are to have, what 1 of each channel stands for)."""
    torch.manual_seed(groups)
    node = convolution(groups) if groups else linear()
    inputs = torch.randint(-3, 33, (40, 6, 8, 8) if groups else (40, 6))
    outputs = torch.randn(40, *node.shape, dtype=torch.float64)
    return node, inputs, outputs, (torch.rand(6) + 0.5).double() / 32


def scaled(inputs, unit):
    return inputs * unit.view(1, -1, *[1] * (inputs.ndim - 2))


@pytest.mark.parametrize("groups", [0, *GROUPS])
def test_whole_numbers_are_as_good_as_what_they_stand_for(groups):
    node, inputs, outputs, unit = case(groups)
    whole, real = Regression(node), Regression(node)
    for part in (slice(0, 17), slice(17, 40)):
        whole.add(inputs[part], outputs[part])
    real.add(scaled(inputs, unit), outputs)
    found = whole.solved(unit, RIDGE)
    expected = real.solved(torch.ones(6, dtype=torch.float64), RIDGE)
    torch.testing.assert_close(found.weight, expected.weight)
    torch.testing.assert_close(found.bias, expected.bias)


@pytest.mark.parametrize("groups", GROUPS)
def test_no_change_of_a_weight_or_bias_fits_better(groups):
    node, inputs, outputs, unit = case(groups)
    fitted = Regression(node)
    fitted.add(inputs, outputs)
    found, x = fitted.solved(unit, RIDGE), scaled(inputs, unit)
    weight, bias = (each.double().requires_grad_() for each in (found.weight, found.bias))
    error = F.conv2d(x, weight, bias, (2, 2), (1, 1), groups=groups) - outputs
    reads = F.unfold(x, 3, padding=1, stride=2).unflatten(1, (groups, -1))  # [n, groups, K, places]
    count = reads.shape[0] * reads.shape[3]
    squares = (reads.square().sum((0, 2, 3)) + count) / (reads.shape[2] + 1)
    moved = (weight - node.weight).square().flatten(1).sum(1) + (bias - node.bias).square()
    held = RIDGE * (squares * moved.unflatten(0, (groups, -1)).sum(1)).sum()
    loss = error.square().sum() + held
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert float(gradient.abs().max()) < 1e-4 * count


@pytest.mark.parametrize("groups", [0, *GROUPS])
@pytest.mark.parametrize("whole", [True, False])
def test_known_inputs_with_other_outputs_are_as_good_as_new(groups, whole):
    node, inputs, outputs, unit = case(groups)
    if not whole:
        inputs, unit = scaled(inputs, unit), torch.ones(6, dtype=torch.float64)
    others = outputs.flip(0) + 1
    new, known = Regression(node), Regression(node)
    new.add(inputs, others)
    known.add(inputs, outputs)
    first, seen = known.solved(unit, RIDGE), []
    again = known.again()
    for part in (slice(0, 17), slice(17, 40)):

        def other(some, given, part=part):
            seen.append(given)
            return others[part][some]

        again.once_more(inputs[part], other)
    found, expected = again.solved(unit, RIDGE), new.solved(unit, RIDGE)
    torch.testing.assert_close(found.weight, expected.weight)
    torch.testing.assert_close(found.bias, expected.bias)
    given = first.summed(1).value(scaled(inputs, unit))
    torch.testing.assert_close(torch.cat(seen), given, atol=1e-3, rtol=1e-4)
    assert torch.equal(known.solved(unit, RIDGE).weight, first.weight)


@pytest.mark.parametrize("groups", [0, *GROUPS])
@pytest.mark.parametrize("whole", [True, False])
def test_what_fits_miss_on_other_images_is_what_their_layers_miss(groups, whole):
    node, inputs, outputs, unit = case(groups)
    if not whole:
        inputs, unit = scaled(inputs, unit), torch.ones(6, dtype=torch.float64)
    fitted, ridges = Regression(node), (1e-3, 1.0, 50.0)
    fitted.add(inputs[:24], outputs[:24])
    parts = [slice(24, 29), slice(29, 40)]
    pairs = [(inputs[part], lambda some, _, part=part: outputs[part][some]) for part in parts]
    found = fitted.missed(pairs, unit, ridges)
    for ridge, error in zip(ridges, found, strict=True):
        given = fitted.solved(unit, ridge).summed(1).value(scaled(inputs[24:], unit))
        assert error == pytest.approx(float((given - outputs[24:]).square().sum()), rel=1e-4)


def test_threads_do_not_change_what_a_layer_gives_on_whole_numbers():
    node, inputs, outputs, unit = case(1)
    fitted, seen = Regression(node), []
    fitted.add(inputs, outputs)
    fitted.solved(unit, RIDGE)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            fitted.again().once_more(inputs, lambda some, given: seen.append(given) or given)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*seen)


@pytest.mark.parametrize("groups", [0, *GROUPS])
def test_what_is_left_out_is_predicted_by_a_fit_without_it(groups):
    """Against fits by hand, each without one of the rows that an output reads."""
    node, inputs, outputs, unit = case(groups)
    inputs, outputs = inputs[:12], outputs[:12]
    fitted = Regression(node)
    fitted.add(inputs, outputs)
    fitted.solved(unit, RIDGE)
    x = scaled(inputs, unit)
    rows = F.unfold(x, 3, padding=1, stride=2) if groups else x[..., None]
    total, own = 0.0, len(node.weight) // max(groups, 1)
    for group in range(max(groups, 1)):
        table = rows.unflatten(1, (max(groups, 1), -1))[:, group].transpose(1, 2).flatten(0, 1)
        table = F.pad(table.double(), (0, 1), value=1.0)  # [rows, K + 1]
        part = slice(group * own, (group + 1) * own)
        wanted = outputs[:, part].reshape(len(inputs), own, -1).transpose(1, 2).flatten(0, 1)
        before = torch.cat([node.weight[part].flatten(1), node.bias[part, None]], 1).double()
        hold = RIDGE * table.square().sum(0).mean() * torch.eye(table.shape[1]).double()
        for row in range(len(table)):
            others = torch.arange(len(table)) != row
            square = table[others].T @ table[others] + hold
            cross = table[others].T @ wanted[others] + hold @ before.T
            missed = wanted[row] - table[row] @ torch.linalg.solve(square, cross)
            total += float(missed.square().sum())
    parts = [(inputs[part], outputs[part]) for part in (slice(0, 5), slice(5, 12))]
    found = fitted.left_out(parts, unit, RIDGE)
    assert found == pytest.approx(total, rel=1e-6)
