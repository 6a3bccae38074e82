"""Functions of the logits at the end of a network: left out where they change no decision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spiking_resnet import TraceError, convert, trace
from spiking_resnet.capture.heads import NOTE
from spiking_resnet.conversion.convert import ConversionWarning
from spiking_resnet.graph import ReLU, interpret
from zoo import SHAPE, images, network


class Ending(nn.Module):
    """A network with something at its end; `classes` of its logits."""

    def __init__(self, end, classes=5):
        super().__init__()
        self.inner, self.end, self.classes = network("identity"), end, classes

    def forward(self, x):
        return self.end(self.inner(x)[:, : self.classes])


ENDS = {
    "softmax": lambda y: F.softmax(y, dim=1),
    "of maps": lambda y: F.softmax(y[:, :, None, None], dim=1).flatten(1),
    "log_softmax": lambda y: F.log_softmax(y, dim=-1),
    "sigmoid": torch.sigmoid,
    "log_sigmoid": F.logsigmoid,
    "twice": lambda y: F.log_softmax(F.softmax(y, 1), 1),
    "then float": lambda y: torch.softmax(y, 1).float().clone(),
    "in a dictionary": lambda y: {"probabilities": torch.softmax(y, 1)},
}


@pytest.mark.parametrize("name", ENDS)
def test_a_head_is_left_out_and_said(name):
    model, plain = Ending(ENDS[name]), network("identity")
    found = trace(model, SHAPE["identity"])
    with torch.no_grad():
        logits = plain(images("identity"))
    assert torch.allclose(interpret.logits(found, images("identity")), logits, atol=1e-5)
    assert len(found.notes["remarks"]) == len(found.notes[NOTE]) == (2 if name == "twice" else 1)
    assert all(
        "is left out" in said and "test_heads.py:" in said for said in found.notes["remarks"]
    )


def test_a_converted_network_keeps_the_remark():
    with pytest.warns(ConversionWarning, match="sigmoid at the end") as said:
        converted = convert(Ending(torch.sigmoid), images("identity"))
    assert said[0].filename == __file__  # the line that converts
    assert converted.notes[NOTE] == ["sigmoid"]
    assert "what was 1/2 is a logit of 0" in converted.notes["remarks"][0]


@pytest.mark.filterwarnings("ignore")
def test_a_sigmoid_of_one_logit_is_left_out():
    converted = convert(Ending(lambda y: torch.sigmoid(y).squeeze(1), 1), images("identity"))
    assert converted.output.shape == (1,)


def test_the_comparison_is_made_behind_the_head():
    model = Ending(lambda y: F.log_softmax(y + torch.rand(5), 1))
    with pytest.raises(TraceError):
        convert(model, images("identity"))


@pytest.mark.parametrize(
    ("end", "classes", "words"),
    [
        (lambda y: F.softmax(y, 0), 5, "over axis 0, the images of a batch"),
        (lambda y: F.softmax(y, 1), 1, "over one class"),
        (lambda y: F.softmax(y, 1) * 2, 5, "only at the very end"),
        (lambda y: F.softmax(y.view(-1, 2, 2), 2).flatten(1), 4, "over axis 2"),
    ],
)
def test_what_changes_decisions_is_refused(end, classes, words):
    with pytest.raises(TraceError, match=words):
        trace(Ending(end, classes), SHAPE["identity"])


def test_a_sigmoid_in_the_middle_is_refused():
    with pytest.raises(TraceError, match="Train it with ReLU"):
        trace(Ending(lambda y: torch.sigmoid(y) + 1), SHAPE["identity"])


class FloorSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.floor()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_a_quantised_activation_of_ones_own_is_refused_with_ours():
    with pytest.raises(TraceError, match=r"activation\.QCFS"):
        trace(Ending(lambda y: FloorSTE.apply(y * 4).clamp(0, 4) / 4), SHAPE["identity"])


def test_fake_quantisation_is_refused_with_the_remedy():
    end = lambda y: torch.fake_quantize_per_tensor_affine(y, 0.1, 0, 0, 255)  # noqa: E731
    with pytest.raises(TraceError, match="Convert the float network"):
        trace(Ending(end), SHAPE["identity"])


def test_without_a_head_nothing_is_said():
    found = trace(Ending(torch.relu), SHAPE["identity"])
    assert NOTE not in found.notes
    assert isinstance(found[found.output.inputs[0]], ReLU)
