"""What of a model's output are its logits; and that asking it leaves it as it was."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from spiking_resnet import TraceError, convert, trace
from spiking_resnet.capture.logits import own_logits
from spiking_resnet.graph import interpret
from zoo import CLASSES, SHAPE, images, network

Pair = namedtuple("Pair", "logits rest")


@dataclass
class Record:
    logits: Any
    rest: Any = None


class Mapped(OrderedDict):
    """A dictionary type that torch does not know."""


class Wrapped(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.inner, self.make = network("identity"), make

    def forward(self, x):
        return self.make(self.inner(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda y: {"logits": y},
        lambda y: OrderedDict(out=y, loss=None),
        lambda y: Mapped(logits=y),
        lambda y: (y,),
        lambda y: [None, y],
        lambda y: Pair(y, None),
        lambda y: Record(y),
        lambda y: {"out": (y, "a word", 3)},
        lambda y: y[:, :, None, None],
    ],
)
def test_one_tensor_is_found_wherever_it_stands(make):
    model = Wrapped(make)
    found = trace(model, SHAPE["identity"])
    plain = network("identity")(images("identity"))
    assert torch.allclose(own_logits(model, images("identity")), plain)
    assert torch.allclose(interpret.logits(found, images("identity")), plain, atol=1e-5)
    assert "inner.fc" in found.by_name  # the path in the user's module, whatever is around it


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda y: (y, y[:, :2]), ["output[0] [N, 5]", "output[1] [N, 2]"]),
        (lambda y: Pair(y, y), ["output.logits", "output.rest"]),
        (lambda y: Record(y, [y]), ["output.logits", "output.rest[0]"]),
        (lambda y: {"a": y, "b": y.sum()}, ["output['a'] [N, 5]", "output['b'] []"]),
    ],
)
def test_several_tensors_are_listed_with_what_to_do(make, names):
    with pytest.raises(TraceError) as refused:
        convert(Wrapped(make), images("identity"))
    assert "returns 2 tensors" in str(refused.value)
    assert all(name in str(refused.value) for name in names)
    assert "self.model(images)" in str(refused.value)


def test_an_output_without_tensor_is_refused():
    with pytest.raises(TraceError, match="a dict without a tensor"):
        convert(Wrapped(lambda y: {"logits": None}), images("identity"))


def test_one_logit_without_its_axis_is_one_class():
    model = Wrapped(lambda y: y[:, :1].squeeze(1))
    found = trace(model, SHAPE["identity"])
    assert found.output.shape == (1,)
    wanted = own_logits(model, images("identity"))
    assert wanted.shape == (len(images("identity")), 1)
    assert torch.allclose(interpret.logits(found, images("identity")), wanted, atol=1e-5)


@pytest.mark.parametrize("model", [nn.Identity(), nn.Conv2d(3, 4, 3)])
def test_maps_are_no_logits(model):
    with pytest.raises(TraceError, match=r"returns \[N, \d, \d, \d\], not logits"):
        convert(model, images("identity"))


def test_logits_that_ignore_the_image_are_refused():
    with pytest.raises(TraceError, match="does not depend on the image"):
        convert(Wrapped(lambda y: torch.ones(len(y), CLASSES)), images("identity"))


class Keeping(Wrapped):
    """Counts its calls in a buffer and a number, and keeps its features."""

    def __init__(self):
        super().__init__(lambda y: y)
        self.register_buffer("calls", torch.zeros(()))
        self.number = 0

    def forward(self, x):
        self.calls += 1
        self.number += 1
        self.features = self.inner(x)
        return self.features


def test_a_model_is_left_with_what_it_kept_before():
    model = Keeping().train()
    convert(model, images("identity"))
    assert (float(model.calls), model.number, hasattr(model, "features")) == (0.0, 0, False)
    assert all(module.training for module in model.modules())
