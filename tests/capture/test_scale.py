"""Images that are not scaled as a model's training images were."""

import copy
import warnings
from threading import Event, Thread

import pytest
import torch
from torch import nn

import spiking_resnet as sr
from spiking_resnet.ann import pretrained
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.capture.scale import unlike_training
from spiking_resnet.conversion.convert import ConversionWarning


@pytest.fixture(scope="module")
def digits():
    return next(iter(load_dataset("digits", "train").subset(64, 0).loader(64)))[0]


@pytest.fixture
def model():
    return pretrained("digits_resnet8").model


def test_images_of_another_scale_are_told_apart_by_the_first_batch_norm(model, digits):
    mean, std = 0.3057, 0.3763
    assert unlike_training(model, digits) == []
    (said,) = unlike_training(model, 255 * (digits * std + mean))
    found = float(said.removeprefix("what reaches bn1 varies ").split()[0])
    assert found == pytest.approx((255 * std) ** 2, rel=0.2)
    (said,) = unlike_training(model, digits / 5)
    assert said.startswith("what reaches bn1 varies 0.04")


def test_it_is_a_warning_of_a_conversion_that_goes_on(model, digits):
    with pytest.warns(ConversionWarning, match="normalise the images"):
        made = sr.convert(model, 255 * digits, steps=4)
    assert made.output.shape == (10,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sr.convert(model, digits, steps=4)


def test_the_model_is_as_it_was(model, digits):
    before = copy.deepcopy(model.state_dict())
    model.train()
    unlike_training(model, 255 * digits)
    assert model.training
    assert all(not module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 4, 3)],  # no BatchNorm
        [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)],  # statistics of no training
        [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)],
    ],
)
def test_a_model_that_remembers_nothing_says_nothing(layers, digits):
    network = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    assert unlike_training(network, 1000 * digits) == []


def test_few_numbers_say_nothing():
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    network[0].running_var.fill_(2.0)
    features = 100 * torch.randn(15, 4)
    assert unlike_training(network, features) == []
    assert unlike_training(network, features[:1]) == []
    assert unlike_training(network, torch.cat([features, features])) != []


def test_a_model_that_takes_other_batches_alone_says_nothing(model, digits):
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images.view(2, 1, 8, 8))

    assert unlike_training(Pairs(), 255 * digits) == []
    with pytest.warns(ConversionWarning, match="model.bn1"):
        sr.convert(Pairs(), [255 * digits[:2]], steps=4)


def test_who_uses_the_model_meanwhile_is_not_disturbed(model, digits):
    started, answers, done = Event(), [], Event()

    def use():
        started.set()
        while not done.is_set():
            answers.append(model(digits[:1]).shape)

    user = Thread(target=use)
    user.start()
    started.wait()
    try:
        for _ in range(20):
            assert unlike_training(model, 255 * digits)
    finally:
        done.set()
        user.join()
    assert answers
    assert set(answers) == {(1, 10)}
