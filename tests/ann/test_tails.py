import math

import pytest
import torch
from torch import nn

from spiking_resnet.ann.checkpoint import load
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.recipe import TrainConfig
from spiking_resnet.ann.resnet import ResNetConfig, build
from spiking_resnet.ann.tails import Tails
from spiking_resnet.ann.train import train


class Scaled(nn.Module):
    """A ReLU of multiples of its input, and another of the output."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.first, self.second = factor, nn.ReLU(), nn.ReLU()

    def forward(self, x):
        return self.second(self.first(x * self.factor) + self.factor)


def measured(x, factor=1.0):
    return float(Tails(Scaled(factor))(x)[1])


def test_the_measure_is_the_mean_over_layers_of_a_ratio_of_moments():
    # layer 1: 0, 0, 0, 1: E[a^4] = E[a^2] = 1/4, ratio 4; layer 2: 1, 1, 1, 2: 19/4, 7/4
    x = torch.tensor([[-1.0, 0.0, -5.0, 1.0]])
    second = (19 / 4) / (7 / 4) ** 2
    assert measured(x) == pytest.approx((math.log(4) + math.log(second)) / 2)


def test_equal_activations_have_no_tail_and_a_normal_distribution_has_log_6():
    assert measured(torch.full((2, 3), 0.7)) == pytest.approx(0, abs=1e-5)
    torch.manual_seed(0)
    model = Tails(nn.Sequential(nn.ReLU()))
    assert float(model(torch.randn(1_000_000))[1]) == pytest.approx(math.log(6), abs=0.02)


def test_multiples_of_the_activations_change_nothing():
    x = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert measured(x, 1e3) == pytest.approx(measured(x), rel=1e-5)


def test_a_dead_layer_has_a_finite_measure_and_gradient():
    x = torch.full((2, 3), -1.0, requires_grad=True)
    tails = Tails(nn.Sequential(nn.ReLU()))(x)[1]
    torch.autograd.backward(tails)
    assert bool(torch.isfinite(tails))
    assert x.grad.tolist() == [[0.0] * 3] * 2


def test_logits_are_the_networks_own_and_evaluation_is_not_measured():
    torch.manual_seed(0)
    model = build("resnet8", in_channels=1, width=8)
    x = torch.randn(4, 1, 8, 8)
    own = model(x)
    wrapped = Tails(model)
    assert torch.equal(wrapped(x)[0], own)
    model.eval()(x)
    assert wrapped._layers == []


@pytest.mark.sweep
def test_training_shortens_tails_and_is_part_of_the_trainings_identity(tmp_path):
    data = load_dataset("digits", "train"), load_dataset("digits", "test")
    model = ResNetConfig(depth=8, classes=10, in_channels=1, width=8)
    pixels = data[1].normalisation.apply(data[1].pixels(torch.arange(200)))
    found = {}
    for weight in (0.0, 0.3):
        settings = TrainConfig(model, epochs=8, tails=weight)
        assert settings.identity()["tails"] == weight
        result = train(settings, *data, tmp_path / f"{weight}.safetensors")
        assert result.accuracy > 0.9
        trained = Tails(load(result.path).model)
        found[weight] = trained.train()(pixels)[1].item()
    assert found[0.3] < 0.8 * found[0.0]


def test_tails_of_activations_with_a_highest_value_are_refused():
    model = ResNetConfig(depth=8, activation="qcfs")
    with pytest.raises(ValueError, match="qcfs has a highest value"):
        TrainConfig(model, tails=0.1)
