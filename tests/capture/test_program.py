"""Blocks of modes inside a forward pass, and what is said of a pass that cannot be captured."""

import warnings

import pytest
import torch
from torch import nn

from spiking_resnet import TraceError, convert, trace
from spiking_resnet.graph import interpret
from zoo import CLASSES, conv, random_weights

SHAPE = (3, 8, 8)


class Block(nn.Module):
    """A stem and a classifier, the stem in a block of `mode`."""

    def __init__(self, mode):
        super().__init__()
        self.stem, self.fc, self.mode = conv(3, 4), nn.Linear(4, CLASSES), mode

    def forward(self, x):
        with self.mode():
            y = torch.relu(self.stem(x))
            with torch.enable_grad():
                y = y * 2
            z = y.mean((2, 3))
        return self.fc(z) + z.sum() * 0 if z.ndim == 0 else self.fc(z)


MODES = {
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "set": lambda: torch.set_grad_enabled(True),
    "autocast off": lambda: torch.autocast("cpu", enabled=False),
    "autocast of another device": lambda: torch.autocast("xpu", enabled=False),
}


@pytest.mark.parametrize("name", MODES)
def test_a_block_that_sets_a_mode_is_its_calls(name):
    model = random_weights(Block(MODES[name]))
    batch = torch.randn(4, *SHAPE)
    found = trace(model, SHAPE)
    assert "stem" in found.by_name
    with torch.no_grad():
        assert torch.allclose(interpret.logits(found, batch), model(batch), atol=1e-5)


def test_autocast_inside_the_forward_pass_is_refused_with_its_line():
    model = random_weights(Block(lambda: torch.autocast("cpu", dtype=torch.bfloat16)))
    with pytest.raises(TraceError, match=r"bfloat16 \(test_program.py:") as refused:
        trace(model, SHAPE)
    assert "enabled=self.training" in str(refused.value)


class Branching(nn.Module):
    def forward(self, x):
        if x.max() > 2:
            x = x / 255
        return x.mean((2, 3))


class Numbers(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) * float(x.max())


class Failing(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) @ torch.ones(7, 5)


class Counting(nn.Module):
    def forward(self, x):
        return torch.nonzero(x).float().sum(1)[:2, None]


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (Branching(), "if x.max() > 2:"),
        (Numbers(), "float(x.max())"),
        (Failing(), "torch.ones(7, 5)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 5)), ""),
    ],
)
def test_what_cannot_be_captured_is_said_in_one_line_with_the_users_own(model, line, capfd):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(TraceError) as refused:
            trace(model, SHAPE)
    message = str(refused.value)
    assert type(model).__name__ in message
    assert line in message
    assert "test_program.py" in message or not line
    assert "same operations for every image" in message
    assert "\n" not in message
    assert len(message) < 600
    assert refused.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")
    assert not said


def test_shapes_that_depend_on_values_are_an_error_of_ours(capfd):
    with pytest.raises(TraceError):
        convert(Counting(), torch.randn(4, *SHAPE))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("shape", [224, (1, 3, 8, 8), (3, 0, 8), (3, 8.5, 8), None, "3x8x8"])
def test_a_shape_is_three_numbers(shape):
    with pytest.raises(ValueError, match=r"shape is .* give \(C, H, W\)"):
        trace(Branching(), shape)


class Normalising(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.fc = function, nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.fc(torch.relu(self.function(x, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])).mean((2, 3)))


def test_a_normalisation_that_looks_at_its_numbers_is_refused_with_what_to_write():
    functional = pytest.importorskip("torchvision.transforms.functional")
    with pytest.raises(TraceError, match=r"transforms\.v2, or write \(x - mean\) / std"):
        trace(Normalising(functional.normalize), SHAPE)


def test_a_model_that_was_made_in_inference_mode_is_captured():
    with torch.inference_mode():
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES))
        batch = torch.randn(4, *SHAPE)
        assert torch.allclose(interpret.logits(trace(model, SHAPE), batch), model(batch), atol=1e-5)
