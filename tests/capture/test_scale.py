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


def trained(network, images, steps=60):
    network.train()
    for _ in range(steps):
        network(images)
    return network.eval()


def test_no_false_alarm_on_what_made_the_statistics():
    torch.manual_seed(0)
    sparse = (torch.rand(2000, 500) < 0.02) * torch.rand(2000, 500)
    features = trained(nn.Sequential(nn.BatchNorm1d(500), nn.Linear(500, 3)), sparse)
    assert unlike_training(features, sparse[:500]) == []
    images = torch.rand(64, 1, 8, 8)
    images[:40] *= 0.01  # dim ones come first
    made = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)
    )
    network = trained(made, images)
    assert unlike_training(network, images) == []
    with torch.no_grad():
        network[0].weight[:5] = 0  # pruned
    assert unlike_training(network, images) == []
    assert unlike_training(trained(network, images), images) == []
    assert unlike_training(network, 30 * images) != []


@pytest.mark.parametrize("steps", [1, 49])
def test_hardly_trained_statistics_say_nothing(steps):
    images = torch.rand(16, 1, 8, 8) / 10
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 3))
    assert unlike_training(trained(network, images, steps), images) == []
    network[1].running_var.fill_(1 - 1e-5)  # an identity
    network[1].num_batches_tracked.fill_(1000)
    assert unlike_training(network, 1000 * images) == []


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
