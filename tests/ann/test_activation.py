import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spiking_resnet.ann.activation import QCFS, activation, operator, qcfs


@settings(deadline=None, max_examples=200)
@given(
    inputs=st.lists(st.integers(-40, 40), min_size=1, max_size=20),
    threshold=st.integers(1, 16),
    levels=st.integers(1, 9),
)
def test_it_is_the_formula_of_the_paper(inputs, threshold, levels):
    z = torch.tensor(inputs, dtype=torch.float64)
    found = qcfs(z, torch.tensor(float(threshold)).double(), levels)
    # threshold * clip(floor(z * levels / threshold + 1/2) / levels, 0, 1), in whole numbers
    counts = [min(max((2 * x * levels + threshold) // (2 * threshold), 0), levels) for x in inputs]
    expected = torch.tensor(counts).double() * threshold / levels
    assert torch.allclose(found, expected, rtol=1e-12)


def test_gradients_by_hand():
    """threshold 2, 4 levels of 1/2: the clip is inactive for -1/4 <= z < 9/4."""
    z = torch.tensor([-1.0, -0.2, 0.3, 0.8, 2.2, 3.0], requires_grad=True)
    threshold = torch.tensor(2.0, requires_grad=True)
    y = qcfs(z, threshold, 4)
    assert torch.equal(y, torch.tensor([0.0, 0.0, 0.5, 1.0, 2.0, 2.0]))
    weights = torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0, 11.0])
    torch.autograd.backward((y * weights).sum())
    assert torch.equal(z.grad, torch.tensor([0.0, 2.0, 3.0, 5.0, 7.0, 0.0]))
    # inside (y - z) / threshold, 0 below, 1 above
    inside = 2 * 0.1 + 3 * 0.1 + 5 * 0.1 + 7 * -0.1
    assert float(threshold.grad) == pytest.approx(inside + 11.0, rel=1e-6)


def test_operator_is_well_formed():
    z, threshold = torch.randn(3, 4), torch.tensor(1.5)
    torch.library.opcheck(operator, (z, threshold, 4))
    assert torch.equal(operator(z, threshold, 4), qcfs(z, threshold, 4))


def test_an_exported_network_has_it_as_one_operation():
    exported = torch.export.export(activation("qcfs", 4), (torch.randn(2, 3),))
    called = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert called == ["spiking_resnet.qcfs.default"]


def test_gradients_in_bfloat16_and_channels_last_are_nearly_those_in_float32():
    torch.manual_seed(0)
    z = torch.randn(4, 3, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        own = z.to(dtype).requires_grad_()
        threshold = torch.tensor(1.0, requires_grad=True)
        torch.autograd.backward(qcfs(own, threshold, 8).square().sum())
        assert threshold.grad.dtype == torch.float32
        found.append((own.grad.float(), threshold.grad))
    assert (found[0][0] - found[1][0]).abs().gt(0.02).float().mean() < 0.05
    assert float(found[0][1]) == pytest.approx(float(found[1][1]), rel=0.05)


def test_modules():
    assert isinstance(activation("relu", 8), nn.ReLU)
    made = activation("qcfs", 3)
    assert isinstance(made, QCFS)
    assert made.levels == 3
    assert [name for name, _ in made.named_parameters()] == ["threshold"]
    z = torch.tensor([-1.0, 0.5, 0.6, 9.0])
    assert torch.allclose(made(z), torch.tensor([0.0, 2 / 3, 2 / 3, 1.0]))
