"""Values of which parts are written in place, through views and by index."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spiking_resnet import TraceError, convert, methods, simulate, trace
from spiking_resnet.capture.aliases import shared_writes
from spiking_resnet.graph import Add, Concat, Pad, interpret
from zoo import CLASSES, conv, random_weights

SHAPE = (3, 6, 6)


class Wide(nn.Module):
    """A function of a map `y` of eight channels and the map `a` of four that it is made from."""

    def __init__(self, function):
        super().__init__()
        self.narrow, self.wide, self.fc = conv(3, 4), conv(4, 8), nn.Linear(8, CLASSES)
        self.function = function

    def forward(self, x):
        a = F.relu(self.narrow(x))
        out = F.relu(self.function(self.wide(a), a))
        return self.fc(out if out.ndim == 2 else out.mean((2, 3)))


def added_to_a_slice(y, a):
    y[:, :4] += a
    return y


def added_under_no_grad(y, a):
    with torch.no_grad():
        y[:, 4:] += a
    return y


def added_to_a_narrowed(y, a):
    y.narrow(1, 2, 4).add_(a)
    return y


def filled_zeros(y, a):
    z = torch.zeros_like(y)
    z[:, :4] = a
    return y + z


def copied_into_zeros(y, a):
    z = a.new_zeros(y.shape)
    z[:, 4:].copy_(a)
    return y + z


def filled_in_two_halves(y, a):
    z = torch.empty(len(y), 8, 6, 6)
    z[:, ::2], z[:, 1::2] = a, -a
    return z + 0.1


def rectified_slice(y, a):
    torch.relu_(y[:, :4])
    return y + 0.2


def rectified_chunk(y, a):
    first, _ = y.chunk(2, 1)
    F.relu(first, inplace=True)
    return y + 0.2


def rectified_under_a_view(y, a):
    view = y.flatten(1)
    y.relu_()
    return view.unflatten(1, y.shape[1:]) - y * 0.5


def chunks_of_one_map(y, a):
    first, second = y.chunk(2, 1)
    second += first
    return y


def groups(y, a):
    y.view(len(y), 2, 4, 6, 6)[:, 1].mul_(-2)
    return y


def zeroed_channel(y, a):
    y[:, 3] = 0.0
    return y


def chosen_channels(y, a):
    y[:, [6, 1]] = a[:, 1:3]
    return y


def indexed_channels(y, a):
    return y.index_copy(1, torch.tensor([5, 0]), a[:, 1:3])


def clamped_and_scaled(y, a):
    y[:, :4].clamp_(0, 0.5)
    y[:, 4:].mul_(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1))
    return y


def inner_rectangle(y, a):
    z = y.new_full((len(y), 8, 8, 9), 0.25)
    z[:, :, 1:-1, 2:-1] = y
    return z


def rectangle_of_some_channels(y, a):
    y[:, 2:6, 1:3, :2] += a[:, :, 1:3, :2]
    return y


def fixed_rectangle(y, a):
    y[:, 1:3, :2] = 0.7
    return y


def shifted_both_ways(y, a):
    z = torch.zeros_like(y)
    z[:, :2, 1:], z[:, 2:4, :-1], z[:, 4:] = y[:, :2, :-1], y[:, 2:4, 1:], y[:, 4:]
    return z


def features(y, a):
    z = torch.zeros(len(y), 8)
    z[:, 2:6] = a.mean((2, 3))
    return y.mean((2, 3)) + z


WRITES = (
    *(added_to_a_slice, added_under_no_grad, added_to_a_narrowed, filled_zeros),
    *(copied_into_zeros, filled_in_two_halves, rectified_slice, rectified_chunk),
    *(rectified_under_a_view, chunks_of_one_map, groups, zeroed_channel, chosen_channels),
    *(indexed_channels, clamped_and_scaled, inner_rectangle, rectangle_of_some_channels),
    *(fixed_rectangle, shifted_both_ways, features),
)


@pytest.mark.parametrize("function", WRITES, ids=lambda function: function.__name__)
def test_what_was_written_is_in_the_graph(function):
    model, batch = random_weights(Wide(function)), torch.randn(4, *SHAPE)
    found = interpret.logits(trace(model, SHAPE), batch)
    with torch.no_grad():
        assert torch.allclose(found, model(batch), atol=1e-5)


def test_channels_are_joined_and_rectangles_are_padded():
    kinds = {
        function: {type(node) for node in trace(random_weights(Wide(function)), SHAPE).nodes}
        for function in (added_to_a_slice, filled_zeros, fixed_rectangle)
    }
    assert Concat in kinds[added_to_a_slice]
    assert Pad not in kinds[added_to_a_slice]
    assert Pad in kinds[filled_zeros]
    assert Concat not in kinds[filled_zeros]
    assert Pad in kinds[fixed_rectangle]
    assert Add not in kinds[fixed_rectangle]


def test_a_signal_is_written_to():
    class Signal(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv1d(2, 4, 3), nn.Linear(4, CLASSES)

        def forward(self, x):
            y = self.conv(x)
            y[:, 1:3, 2:] -= 0.5 * y[:, :2, 2:]
            return self.fc(F.relu(y).mean(2))

    model, batch = random_weights(Signal()), torch.randn(4, 2, 9)
    with torch.no_grad():
        found = interpret.logits(trace(model, (2, 9)), batch.unsqueeze(2))
        assert torch.allclose(found, model(batch), atol=1e-5)


def test_a_network_that_is_written_to_spikes():
    model, batch = random_weights(Wide(rectangle_of_some_channels)), torch.randn(8, *SHAPE)
    method = methods.hu2021(percentile=100, per_channel=True, readout="membrane", steps=512)
    run = simulate(convert(model, batch, method), batch, 512)
    with torch.no_grad():
        wanted = model(batch)
    assert float((run.logits[-1] - wanted).norm() / wanted.norm()) < 0.02


def every_second_row(y, a):
    y[:, :, ::2] = 0.0
    return y


def one_image(y, a):
    y[0] = 0.0
    return y


def numbers_of_places(y, a):
    y[:, :4] = torch.arange(36.0).view(6, 6)
    return y


def through_data(y, a):
    y.data[:, :4] = a
    return y


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (every_second_row, r"test_writes\.py:.*no rectangle"),
        (one_image, r"test_writes\.py:.*some images of a batch"),
        (numbers_of_places, r"test_writes\.py:.*differs from place to place"),
        (through_data, r"takes \.data of a value"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_written_is_refused_by_name(function, words):
    with pytest.raises(TraceError, match=words):
        trace(random_weights(Wide(function)), SHAPE)


def test_plain_networks_share_no_memory():
    class Plain(nn.Module):
        def forward(self, x):
            y = x * 2
            y.relu_()
            y += x
            z = y.view(len(x), -1)
            z.relu_()
            return z * 3

    program = torch.export.export(Plain(), (torch.zeros(2, 3),), strict=False)
    assert not shared_writes(program.graph)
