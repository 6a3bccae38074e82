"""Random small residual networks: every stage of the way, and every engine, on all of them.

Derandomised and few, to be fast. To look for more: RANDOM_GRAPHS=2000 pytest, of this file.
"""

import os

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from spiking_resnet import simulate, to_torch
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import calibrated, dcgs, differential, hu2021
from spiking_resnet.conversion.passes.fire import Kind, fire, fire_after_pools, fire_at_output
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.pools import cumulative_pools, relu_first
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import AvgPool, Fire, ReLU, interpret
from spiking_resnet.neurons import Differential
from zoo import (
    CLASSES,
    conv,
    conv_bn,
    in_float64,
    on_binary_grid,
    powers_of_two,
    random_weights,
    spike_trains,
)

COUNT = int(os.environ.get("RANDOM_GRAPHS", "0"))
RELU, RELU6, NONE = nn.ReLU, nn.ReLU6, nn.Identity


class Residual(nn.Module):
    """A branch and a shortcut, added up, and what comes after the sum (perhaps nothing)."""

    def __init__(self, branch, shortcut, after):
        super().__init__()
        self.branch, self.shortcut, self.after = branch, shortcut, after

    def forward(self, x):
        return self.after(self.branch(x) + self.shortcut(x))


class OptionA(nn.Module):
    """Every other position, and channels of zeros on both sides."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.before, self.stride = (outputs - inputs) // 2, stride
        self.after = outputs - inputs - self.before

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0,) * 4 + (self.before, self.after))


class Joined(nn.Module):
    """The input and a branch, one after the other along the channels."""

    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        return torch.cat([x, self.branch(x)], 1)


class Averaged(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def activation(draw, choices=(RELU, RELU, RELU6, NONE)):
    return draw(st.sampled_from(choices))()


@st.composite
def convolutions(draw, inputs, outputs, size, stride=1):
    """A convolution (grouped, dilated, with or without bias or BatchNorm) of a stride."""
    common = [g for g in (1, 2, 4) if inputs % g == 0 and outputs % g == 0]
    kernel = draw(st.sampled_from([1, 3]))
    dilation = draw(st.sampled_from([1, 2])) if kernel == 3 and min(size) > 4 else 1
    options = {
        "groups": draw(st.sampled_from(common)),
        "dilation": dilation,
        "padding": dilation * (kernel // 2),
    }
    if draw(st.booleans()):
        return conv_bn(inputs, outputs, kernel, stride, **options)
    return conv(inputs, outputs, kernel, stride, bias=draw(st.booleans()), **options)


@st.composite
def shortcuts(draw, inputs, outputs, size, stride):
    """What brings x to the shape of the branch."""
    kinds = ["projection"]
    if stride == 1 and inputs == outputs:
        kinds += ["identity"] * 3
    if outputs >= inputs:
        kinds.append("option A")
    if stride == 2 and all(entry % 2 == 0 for entry in size):
        kinds.append("average")
    kind = draw(st.sampled_from(kinds))
    if kind == "identity":
        return nn.Identity()
    if kind == "option A":
        return OptionA(inputs, outputs, stride)
    if kind == "average":
        return nn.Sequential(nn.AvgPool2d(2), *conv_bn(inputs, outputs, 1))
    return conv_bn(inputs, outputs, 1, stride)


@st.composite
def blocks(draw, inputs, size):
    """(block, its channels, its height and width)."""
    kinds = ["residual"] * 4 + ["pre-activation", "concat", "plain", "pool"]
    kind = draw(st.sampled_from(kinds))
    if kind == "residual":
        stride = draw(st.sampled_from([1, 1, 2])) if min(size) > 2 else 1
        outputs = draw(st.sampled_from([inputs, inputs, inputs + 2, 4]))
        inner = draw(st.sampled_from([2, 4, inputs]))
        size_out = tuple((entry - 1) // stride + 1 for entry in size)
        branch = nn.Sequential(
            draw(convolutions(inputs, inner, size, stride)),
            activation(draw),
            draw(convolutions(inner, outputs, size_out)),
        )
        after = activation(draw)
        return (
            Residual(branch, draw(shortcuts(inputs, outputs, size, stride)), after),
            outputs,
            size_out,
        )
    if kind == "pre-activation":
        branch = nn.Sequential(
            nn.BatchNorm2d(inputs), activation(draw), draw(convolutions(inputs, 4, size)),
            activation(draw), draw(convolutions(4, inputs, size)),
        )  # fmt: skip
        return Residual(branch, nn.Identity(), nn.Identity()), inputs, size
    if kind == "concat":
        grown = draw(st.sampled_from([2, 3]))
        branch = nn.Sequential(
            activation(draw), draw(convolutions(inputs, grown, size)), activation(draw)
        )
        return Joined(branch), inputs + grown, size
    if kind == "plain":
        outputs = draw(st.sampled_from([inputs, 4]))
        layer = draw(convolutions(inputs, outputs, size))
        return nn.Sequential(layer, activation(draw)), outputs, size
    return draw(pools(inputs, size))


@st.composite
def pools(draw, channels, size):
    """A max or average pool, and its output."""
    found = [nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1)]
    if min(size) > 2:
        found += [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True),
                  nn.AvgPool2d(2), nn.AvgPool2d(2, 1)]  # fmt: skip
    pool = draw(st.sampled_from(found))
    return pool, channels, tuple(pool(torch.zeros(1, 1, *size)).shape[2:])


@st.composite
def networks(draw):
    """(module with random weights, shape of its images)."""
    size = draw(st.sampled_from([(6, 6), (8, 8), (7, 5), (4, 9)]))
    shape = (draw(st.sampled_from([1, 3])), *size)
    channels = draw(st.sampled_from([4, 6]))
    body = [conv_bn(shape[0], channels), activation(draw, (RELU, RELU, RELU6, NONE))]
    for _ in range(draw(st.integers(1, 4))):
        block, channels, size = draw(blocks(channels, size))
        body.append(block)
    if not any(isinstance(m, RELU | RELU6) for layer in body for m in layer.modules()):
        body.append(nn.ReLU())  # a network without neurons is none
    if draw(st.booleans()):
        head = [Averaged(), nn.Linear(channels, CLASSES)]
    else:
        head = [nn.Flatten(), nn.Linear(channels * size[0] * size[1], CLASSES)]
    model = nn.Sequential(*body, *head)
    return random_weights(model, draw(st.integers(0, 1000))), shape


METHODS = st.builds(
    hu2021,
    percentile=st.sampled_from([99.9, 90.0]),
    per_channel=st.booleans(),
    initial_potential=st.sampled_from([0.5, 0.0]),
    reset=st.sampled_from(["subtract", "subtract", "zero"]),
    pool_neurons=st.booleans(),
    readout=st.sampled_from(["spikes+membrane", "membrane"]),
    input_coding=st.sampled_from(["constant", "constant", "poisson"]),
    compensation=st.sampled_from([1.0, 1.02]),
    grid=st.sampled_from([14, 10]),
    sum_bits=st.sampled_from([16, 20]),
    steps=st.just(40),
)


def examples(few):
    """Settings for so many examples, always the same; RANDOM_GRAPHS of new ones where it is set."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        deadline=None, max_examples=COUNT or few, derandomize=not COUNT, database=None,
        suppress_health_check=slow, print_blob=True,
    )  # fmt: skip


def pictures(shape, count=3, seed=0):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.sweep
@examples(12)
@given(found=networks())
def test_tracing_and_folding_keep_the_logits(found):
    model, shape = found
    batch = pictures(shape, 4)
    traced = trace(model, shape)
    with torch.inference_mode():
        expected = model(batch)
        scale = float(expected.abs().max())
        for graph in (traced, fold_bn(traced), relu_first(fold_bn(traced))):
            error = float((interpret.logits(graph, batch) - expected).abs().max())
            assert error <= 1e-4 * scale


@pytest.mark.sweep
@examples(12)
@given(found=networks(), per_channel=st.booleans(), reset=st.sampled_from(["subtract", "zero"]))
def test_normalising_changes_no_spike(found, per_channel, reset):
    """With weights, thresholds and pixels on which everything is exact."""
    model, shape = found
    graph = on_binary_grid(relu_first(fold_bn(trace(model, shape))), bits=4)
    if any(pool.divisor not in (1, 2, 4, 8, 16, 32, 64) for pool in graph.of(AvgPool)):
        return
    thresholds = powers_of_two(graph, per_channel)
    plain = cumulative_pools(fire(graph, thresholds, Kind(reset=reset)))
    plain = fire_after_pools(plain, Kind(reset=reset))
    plain = in_float64(fire_at_output(plain, thresholds, Kind(reset=reset)))
    batch = (pictures(shape).double() * 8).round() / 8
    expected = spike_trains(plain, batch, 12)
    made = spike_trains(in_float64(normalise(plain)), batch, 12)
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[layer], expected[layer]) for layer in expected)


SIGNED_STEM = {  # the image's own stream, no neurons in between, enters the sum
    "option A": lambda: Residual(
        nn.Sequential(conv(4, 4, stride=2), nn.ReLU(), conv(4, 4)), OptionA(4, 4, 2), nn.ReLU()
    ),
    "only constants": lambda: Residual(conv(4, 4), conv(4, 4, 1), nn.ReLU()),
}


@pytest.mark.parametrize("block", SIGNED_STEM)
def test_the_native_engine_adds_up_what_the_image_alone_decides(block):
    model = nn.Sequential(conv(1, 4), SIGNED_STEM[block](), Averaged(), nn.Linear(4, CLASSES))
    snn = hu2021().apply(trace(random_weights(model), (1, 6, 6)), Calibration(pictures((1, 6, 6))))
    if reasons := ENGINES["cpu"].unsupported(snn):
        pytest.skip(reasons[0])
    batch = pictures((1, 6, 6))
    expected = simulate(snn, batch, 12, engine="interpreter")
    assert torch.equal(simulate(snn, batch, 12, engine="cpu").logits, expected.logits)


@pytest.mark.sweep
@examples(10)
@given(found=networks(), per_channel=st.booleans(), levels=st.sampled_from([1, 3]))
def test_logits_come_to_the_modules_own(found, per_channel, levels):
    """As 1 / T; thresholds are the largest activations of these very images, so nothing clips."""
    model, shape = found
    batch = pictures(shape, 8, seed=1)
    options = {"readout": "membrane", "percentile": 100.0, "steps": 1024, "sum_bits": 24}
    method = hu2021(**options, per_channel=per_channel, levels=levels)
    snn = method.apply(trace(model, shape), Calibration(batch))
    with torch.inference_mode():
        expected = model(batch)
    run = simulate(snn, batch, 1024, record=(64,))
    early, late = (float((found - expected).norm() / expected.norm()) for found in run.logits)
    assert late < 0.1
    assert late < early / 2 or late < 0.01


OTHERS = st.sampled_from(
    [
        differential(steps=24, images=4),
        differential(steps=24, levels=3, images=4),
        dcgs(steps=24, levels=4, thresholds="percentile"),
        dcgs(steps=24, thresholds="percentile"),
        calibrated(steps=24, waits=True, compensation="none", weights=False),
        calibrated(steps=24, levels=7, signed=True, compensation="none", weights=False),
    ]
)  # of those that graphs of any kind convert by


@examples(20)
@given(found=networks(), method=st.one_of(METHODS, OTHERS))
def test_every_engine_gives_the_interpreters_spikes(found, method):
    model, shape = found
    snn = method.apply(trace(model, shape), Calibration(pictures(shape, 20, seed=1)))
    assert len(snn.of(Fire)) >= len(snn.ann.of(ReLU)) > 0
    batch, record = pictures(shape, 2, seed=1), (1, 9, 24)
    asked = {"trains": list(snn.neurons), "neurons": list(snn.neurons)}
    expected = simulate(snn, batch, 24, record, "interpreter", **asked)
    for name, engine in ENGINES.items():
        assert not engine.unsupported(snn)
        run = simulate(snn, batch, 24, record, name, **asked)
        for layer, train in expected.trains.items():
            assert torch.equal(run.trains[layer], train), (name, layer)
            assert torch.equal(run.spikes[layer].spikes, expected.spikes[layer].spikes)
            changing = isinstance(snn[layer].neuron, Differential)  # a size is of its step's unit
            counts = (train.sign() if changing else train).sum(0, dtype=torch.int64)
            assert torch.equal(run.neuron_spikes[layer], counts), (name, layer)
        assert torch.equal(run.logits, expected.logits), name
        assert (run.exact, run.remark) == (expected.exact, expected.remark)


@pytest.mark.sweep
@examples(6)
@given(found=networks(), method=st.one_of(METHODS, OTHERS))
def test_a_torch_module_gives_the_interpreters_logits(found, method):
    model, shape = found
    snn = method.apply(trace(model, shape), Calibration(pictures(shape, 20, seed=1)))
    batch = pictures(shape, 2, seed=1)
    expected = simulate(snn, batch, 24, engine="interpreter").logits[-1]
    assert torch.equal(to_torch(snn, 24)(batch), expected)
