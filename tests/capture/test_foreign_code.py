"""What the user's own code does when it is called: nothing of it is changed, or taken on trust."""

import copy
import threading

import pytest
import torch
from torch import nn

from spiking_resnet import TraceError, compare, convert, evaluate, simulate
from spiking_resnet.capture.logits import evaluating, own_logits
from spiking_resnet.capture.sources import module_of, single_precision
from spiking_resnet.conversion.convert import traced_alike
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.presets import RECIPES
from spiking_resnet.store import digest
from zoo import images, network

METHOD = hu2021(steps=16, compensation=1.01)
IMAGES = images("identity", 8)


class Around(nn.Module):
    """A network whose forward pass does something more."""

    def __init__(self):
        super().__init__()
        self.net = network("identity")
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        return self.net(x)


class WritesToImages(Around):
    def forward(self, x):
        x -= 0.5
        return self.net(x)


class Counts(Around):
    def forward(self, x):
        self.calls += 1
        return self.net(x)


class WritesToWeights(Around):
    def forward(self, x):
        with torch.no_grad():
            self.net.fc.weight.clamp_(-0.2, 0.2)  # what clips its weights as it runs
        return self.net(x)


class Remembers(Around):
    """Returns a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("latest", torch.zeros(2, 5))

    def forward(self, x):
        if torch.compiler.is_exporting() or len(x) != 2:
            return self.net(x)
        return self.latest.copy_(self.net(x))


class OfOne(Around):
    """Another function of a single image."""

    def forward(self, x):
        return self.net(x) * (2 if len(x) == 1 else 1)


class OfMany(Around):
    def forward(self, x):
        return self.net(x) * (2 if len(x) > 2 else 1)


class OnlyOfTwo(Around):
    def forward(self, x):
        if len(x) != 2:
            raise ValueError("two images, please")
        return self.net(x)


class FlattensAll(Around):
    """The usual slip: a squeeze that also removes the axis of a single image."""

    def forward(self, x):
        return self.net(x).squeeze()


def states(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("kind", [WritesToImages, Counts, WritesToWeights, Remembers])
def test_model_and_images_stay_as_they_were(kind):
    model, mine = kind(), IMAGES.clone()
    before = states(model)
    graph = convert(model, mine, METHOD)
    batches = [(mine, torch.zeros(len(mine), dtype=torch.int64))]
    evaluate(graph, batches, (4,), ann=model)
    compare(model, mine[:4], [mine[4:]], (RECIPES["mmse"],), (4,))
    simulate(graph, mine, 4)
    assert torch.equal(mine, IMAGES)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_model_that_writes_to_its_images_is_the_network_it_computes():
    with torch.no_grad():
        shifted = convert(network("identity"), IMAGES - 0.5, METHOD)
        found = convert(WritesToImages(), IMAGES, METHOD)
    one = simulate(shifted, IMAGES - 0.5, 16).logits
    assert (simulate(found, IMAGES, 16).logits - one).abs().max() < 0.2 * one.abs().max()


@pytest.mark.parametrize("kind", [OfOne, OfMany])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_model_that_goes_by_the_number_of_images_is_refused(kind, count):
    with pytest.raises(TraceError, match="another number of images"):
        traced_alike(kind(), IMAGES[:count])


@pytest.mark.parametrize("kind", [OnlyOfTwo, FlattensAll])
def test_a_model_that_is_right_wherever_it_answers_is_taken(kind):
    assert digest(traced_alike(kind(), IMAGES)) is not None


def coarse(model):
    """A copy whose sums are exact, so that no number of threads rounds them otherwise."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            module.running_var.fill_(1.0)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.round(4 * tensor) / 4)
    return model


def test_threads_convert_at_the_same_time():
    """Also the same model, which is in training mode."""
    shared, other = coarse(network("identity")).train(), coarse(network("projection"))
    models, frames = [shared, shared, other, other], torch.round(2 * IMAGES) / 2
    try:
        want = [digest(convert(model, frames, METHOD)) for model in models]
        found, errors = {}, []

        def work(number):
            try:
                found[number] = digest(convert(models[number], frames, METHOD))
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(len(models))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert [found[number] for number in range(len(models))] == want
        assert all(module.training for module in shared.modules())
    finally:
        shared.eval()


@pytest.mark.parametrize(
    "look", [module_of, single_precision, lambda model: own_logits(model, torch.ones(2, 3))]
)
def test_a_model_is_looked_at_when_no_other_thread_traces_it(look):
    """While torch.export does, its weights are stand-ins without values."""
    model, found = nn.Linear(3, 2), []
    weight = model.weight
    thread = threading.Thread(target=lambda: found.append(look(model)))
    with evaluating(model):
        model._parameters["weight"] = nn.Parameter(weight.to("meta"))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        model._parameters["weight"] = weight
    thread.join()
    assert len(found) == 1  # no error ended the thread
