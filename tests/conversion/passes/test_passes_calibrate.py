from dataclasses import replace

import pytest
import torch
from torch import nn

from spiking_resnet import convert, methods, save, simulate
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import RECIPES, calibrated
from spiking_resnet.conversion.passes.calibrate import Correction, calibrate
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.thresholds import (
    balanced_thresholds,
    delay_of,
    gaussian_thresholds,
    iterated_thresholds,
    mmse_thresholds,
)
from spiking_resnet.conversion.statistics import measure
from spiking_resnet.graph import Conv2d, Fire, Linear, ReLU, interpret
from spiking_resnet.records import InputError
from spiking_resnet.store import load
from zoo import NAMES, ann, images, network

STEPS = 12


def uniform(levels, how, low=0.0):
    """What a threshold choice makes of activations spread evenly over [0, 1]."""
    graph = fold_bn(trace(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(1, 2)), (1, 1, 1)))
    values = torch.linspace(low, 1, 40001).view(-1, 1, 1, 1)
    statistics = measure(graph, Calibration(values.split(20000)), True)
    if how == "mmse":
        found = mmse_thresholds(graph, statistics, levels)
    else:
        found = iterated_thresholds(graph, statistics, levels, 100)
    return float(next(iter(found.values())))


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
@pytest.mark.parametrize("how", ["mmse", "iterated"])
def test_the_best_quantiser_of_evenly_spread_values(levels, how):
    """Cells of width R / N, the last one with its level R in the middle: R = N / (N + 1/2)."""
    tolerance = 0.012 if how == "mmse" else 0.004  # its grid is 0.01 wide
    assert uniform(levels, how) == pytest.approx(levels / (levels + 0.5), abs=tolerance)


def test_thresholds_are_positive_where_neurons_are_dead():
    graph, batches = ann("dead"), images("dead", 24)
    statistics = measure(graph, Calibration(batches), True)
    for found in (
        mmse_thresholds(graph, statistics, 8),
        iterated_thresholds(graph, statistics, 8, 99.9),
        gaussian_thresholds(graph, batches, 8),
        balanced_thresholds(graph, batches.split(8)),
    ):
        assert all(bool((value > 0).all()) for value in found.values())


def one_channel(values):
    """(graph of one ReLU that reads the image, the images [n, 1, 1, 1])."""
    graph = fold_bn(trace(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(1, 2)), (1, 1, 1)))
    return graph, values.float().view(-1, 1, 1, 1)


@pytest.mark.parametrize("levels", [1, 2, 4, 16])
@pytest.mark.parametrize("mean", [-1.0, 0.0, 2.0])
def test_gaussian_thresholds_are_the_fixed_point_of_normally_distributed_inputs(levels, mean):
    """R = R E[q z] / E[q^2], E by the sum over 40000 quantiles of the distribution."""
    share = (torch.arange(40000, dtype=torch.float64) + 0.5) / 40000
    values = mean + 1.5 * torch.special.ndtri(share)
    graph, batch = one_channel(values)
    wide = next(iter(gaussian_thresholds(graph, batch, levels).values())).double()
    q = torch.floor(values * levels / wide + 0.5).clamp(0, levels) * wide / levels
    assert float((q * values).mean() / q.square().mean()) == pytest.approx(1, abs=0.005)


def test_gaussian_thresholds_of_evenly_distributed_inputs_are_not_the_iterated_ones():
    """They look at mean and variance alone: the tail of a normal distribution reaches further."""
    values = torch.linspace(0, 1, 20001)
    graph, batch = one_channel(values)
    statistics = measure(graph, Calibration(batch), True)
    seen = next(iter(iterated_thresholds(graph, statistics, 16, 100).values()))
    thought = next(iter(gaussian_thresholds(graph, batch, 16).values()))
    assert float(thought) > 1.05 * float(seen)


def test_gaussian_thresholds_depend_on_no_order_and_stay_below_a_ceiling():
    graph, frames = ann("relu6"), images("relu6", 24)
    one, two = (gaussian_thresholds(graph, each, 8) for each in (frames, frames.flip(0)))
    for node in graph.of(ReLU):
        assert torch.allclose(one[node.name], two[node.name], rtol=1e-5)
        if node.ceiling is not None:
            assert float(one[node.name].max()) <= node.ceiling


def test_iterated_thresholds_do_not_exceed_the_percentile():
    graph = ann("identity")
    statistics = measure(graph, Calibration(images("identity", 24)), True)
    for name, value in iterated_thresholds(graph, statistics, 512, 99).items():
        most = statistics.layers[name].percentile(99)
        assert bool((value <= most.clamp(min=float(most.max()) / 64) * 1.0001).all())


def test_balanced_thresholds_by_hand():
    """theta <- theta + 2 E[(z - theta) * (z > theta)], E over images, starting at 0."""
    graph = fold_bn(trace(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(1, 2)), (1, 1, 1)))
    [name] = [node.name for node in graph.of(ReLU)]
    batch = torch.tensor([-1.0, 1.0, 3.0, 5.0]).view(-1, 1, 1, 1)
    once = balanced_thresholds(graph, [batch])[name]
    assert float(once) == pytest.approx(2 * (1 + 3 + 5) / 4)  # 4.5
    twice = balanced_thresholds(graph, [batch, batch])[name]
    assert float(twice) == pytest.approx(4.5 + 2 * 0.5 / 4)


def test_balanced_thresholds_grow_with_every_batch_and_not_with_the_size_of_batches():
    graph, frames = ann("identity"), images("identity", 32)
    few, many = (balanced_thresholds(graph, [frames] * count) for count in (3, 30))
    parts = [frames[start::4] for start in range(4)] * 10
    small = balanced_thresholds(graph, parts)
    for name, value in few.items():
        assert bool((many[name] >= value).all())
        assert float(small[name].sum()) == pytest.approx(float(many[name].sum()), rel=0.2)


def test_the_delay_by_hand():
    """Half a threshold at a mean input of 0.1 takes 5 steps."""
    graph = fold_bn(trace(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(1, 2)), (1, 1, 1)))
    [name] = [node.name for node in graph.of(ReLU)]
    batch = torch.full((4, 1, 1, 1), 0.1)
    found = {name: torch.tensor([1.0001])}
    assert delay_of(graph, batch, found, 0.5, 32) == 5
    assert delay_of(graph, batch, found, 0.5, 7) == 3
    assert delay_of(graph, batch, found, 0.5, 2) == 0


@pytest.mark.parametrize("engine", ["cpu", "layerwise", "interpreter"])
@pytest.mark.parametrize("window", [None, 1, 5])
def test_a_delayed_readout_is_the_mean_of_the_later_steps(engine, window):
    graph = convert(network("identity"), images("identity"), methods.hu2021(readout="membrane"))
    late = graph.with_nodes([*graph.nodes[:-1], replace(graph.output, delay=3)])
    record, frames = tuple(range(1, 9)), images("identity", 5)
    plain = simulate(graph, frames, 8, record, "interpreter").logits.double()
    found = simulate(late, frames, 8, record, engine, window=window).logits.double()
    for steps in record:
        expected = plain[steps - 1]
        if steps > 3:
            expected = (steps * plain[steps - 1] - 3 * plain[2]) / (steps - 3)
        assert torch.allclose(found[steps - 1], expected, atol=1e-5)


def test_a_delayed_readout_can_be_streamed_and_stored(tmp_path):
    graph = convert(network("identity"), images("identity"), calibrated(steps=8, delay=3))
    save(graph, tmp_path / "snn.safetensors")
    again = load(tmp_path / "snn.safetensors")
    assert again.output.delay == 3
    frames, state = images("identity", 3), None
    for _ in range(8):
        _, state = interpret.step(again, frames, state)
    assert torch.equal(interpret.readout(again, state), simulate(graph, frames, 8).logits[-1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"signed": True, "delay": 0}])
def test_every_network_is_calibrated_and_engines_agree(name, options):
    graph = convert(network(name), images(name), calibrated(steps=STEPS, images=8, **options))
    frames = images(name, 3)
    whole = list(graph.neurons)
    runs = [
        simulate(graph, frames, STEPS, engine=engine, trains=whole)
        for engine in ("auto", "layerwise", "interpreter")
    ]
    for run in runs[1:]:
        assert torch.equal(run.logits, runs[0].logits)
        for layer in whole:
            assert torch.equal(run.trains[layer], runs[0].trains[layer])


def distance(graph, frames):
    """Mean squared distance of a spiking network's logits from its ANN's."""
    found = simulate(graph, frames, STEPS).logits[-1]
    return float((found - interpret.logits(graph.ann, frames)).square().mean())


@pytest.mark.parametrize("name", ["identity", "projection", "signed_stream", "dense"])
@pytest.mark.parametrize("signed", [False, True])
def test_corrections_bring_logits_nearer_on_calibration_images(name, signed):
    frames = images(name, 24)
    common = {"steps": STEPS, "images": 24, "delay": 0, "percentile": 100, "signed": signed}
    plain, fitted = (
        convert(network(name), frames, calibrated(**common, **options))
        for options in ({"weights": False, "compensation": "none"}, {"ridge": 1e-2})
    )
    assert distance(fitted, frames) < distance(plain, frames)


def one_layer(module, shape, thresholds=1.0):
    """(ann, spiking graph in real units, images) of a network with one population."""
    torch.manual_seed(0)
    graph = fold_bn(trace(module, shape))
    found = {node.name: torch.tensor(thresholds) for node in graph.of(ReLU)}
    return graph, fire(graph, found, Kind()), torch.randn(16, *shape)


def activity(graph, frames, name, steps):
    """The mean spikes, times threshold, [N, ...] of a population."""
    memory, total = {}, 0
    for time in range(steps):
        for node, value in interpret.walk(graph.nodes, frames, memory, time):
            if node.name == name:
                total = total + value
    return total / steps


def grouped():
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1, groups=2), nn.Flatten()
    )


def coarse(values):
    """The nearest multiples of 2^-6."""
    return torch.round(values * 64) / 64


def test_fitted_weights_solve_the_ridge_regression_of_every_group():
    module = grouped()
    with torch.no_grad():  # so that the grid changes no spike
        for parameter in module.parameters():
            parameter.copy_(coarse(parameter))
    graph, spiking, frames = one_layer(module, (4, 6, 6), 1.0)
    frames, ridge = coarse(frames), 0.01
    correction = Correction(steps=4, compensation="none", ridge=ridge)
    fitted = calibrate(graph, spiking, frames, correction)
    old, new = graph.of(Conv2d)[1], fitted.of(Conv2d)[1]
    [population] = [node.name for node in graph.of(ReLU)]
    x = activity(spiking, frames, population, 4)
    a = interpret.values(graph, frames, [population])[population]
    for group in range(2):
        seen, wanted = (
            nn.functional.unfold(v[:, 4 * group : 4 * group + 4], 3, padding=1, stride=2)
            .transpose(1, 2).flatten(0, 1).double()
            for v in (x, a)
        )  # fmt: skip
        rows = slice(3 * group, 3 * group + 3)
        ones = torch.ones(len(seen), 1, dtype=torch.float64)
        seen, wanted = torch.cat([seen, ones], 1), torch.cat([wanted, ones], 1)
        before = torch.cat([old.weight[rows].flatten(1), old.bias[rows, None]], 1).double()
        after = torch.cat([new.weight[rows].flatten(1), new.bias[rows, None]], 1).double()
        hold = ridge * seen.square().sum(0).mean()
        gradient = seen.T @ (seen @ after.T - wanted @ before.T) + hold * (after - before).T
        assert float(gradient.abs().max()) < 1e-3 * float(hold)


def test_a_strong_ridge_keeps_the_weights():
    graph, spiking, frames = one_layer(grouped(), (4, 6, 6), 0.8)
    correction = Correction(steps=4, compensation="none", ridge=1e9)
    fitted = calibrate(graph, spiking, frames, correction)
    for old, new in zip(graph.of(Conv2d), fitted.of(Conv2d), strict=True):
        assert torch.allclose(old.weight, new.weight, atol=1e-5)


@pytest.mark.parametrize("compensation", ["bias", "potential"])
def test_compensation_removes_the_mean_error(compensation):
    """With a threshold above all activations and 4 steps rates are coarse, their mean is not."""
    module = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(125, 3))
    graph, spiking, frames = one_layer(module, (3, 5, 5), 1.5)
    frames = torch.rand(64, 3, 5, 5)
    [population] = [node.name for node in graph.of(ReLU)]
    wanted = interpret.values(graph, frames, [population])[population]

    def error(network):
        mean = (wanted - activity(network, frames, population, 4)).mean(0)
        return float((mean if compensation == "potential" else mean.mean((1, 2))).abs().mean())

    correction = Correction(steps=4, compensation=compensation, rounds=8, weights=False)
    assert error(calibrate(graph, spiking, frames, correction)) < 0.5 * error(spiking)


def test_a_bias_where_no_layer_has_one_of_its_own():
    """The population reads the sum of the image and of its own convolution's other reader."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.head = nn.Linear(48, 2)

        def forward(self, x):
            y = self.conv(x)
            return self.head((torch.relu(y) + torch.relu(y + 1)).flatten(1))

    graph, spiking, frames = one_layer(Both(), (3, 4, 4), 0.9)
    correction = Correction(steps=3, compensation="bias", rounds=2, weights=False)
    fitted = calibrate(graph, spiking, frames, correction)
    assert torch.equal(fitted.of(Conv2d)[0].bias, graph.of(Conv2d)[0].bias)
    assert len(fitted.nodes) > len(spiking.nodes)


def test_calibration_does_not_depend_on_order_or_batches():
    frames = images("identity", 24)
    method = calibrated(steps=8, images=24)
    one = convert(network("identity"), frames, method)
    other = convert(network("identity"), frames.flip(0).split(7), method)
    probe = images("identity", 4)
    found = [simulate(graph, probe, 8).logits[-1] for graph in (one, other)]
    assert torch.allclose(found[0], found[1], atol=0.05 * float(found[0].abs().max()))


BINARY = [
    name for name, recipe in RECIPES.items()
    if recipe.group == "0/1 spikes" and recipe.method.name == "calibrated"
]  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_published_sets_convert_by_name(name):
    graph = convert(network("projection"), images("projection"), name, steps=8)
    assert graph.notes["recipe"] == name
    assert graph.notes["options"]["thresholds"] == RECIPES[name].method.thresholds
    assert all(node.neuron.binary for node in graph.of(Fire))
    assert graph.of(Linear)[-1].weight.isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"delay": 32}, "delay"),
        ({"delay": "soon"}, "delay"),
        ({"thresholds": "mean"}, "thresholds"),
        ({"compensation": "much"}, "compensation"),
        ({"ridge": 0}, "ridge"),
        ({"initial_potential": 1}, "initial_potential"),
        ({"images": 0}, "images"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        calibrated(**options)


def test_unknown_methods_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match="snn-calibration-light"):
        convert(network("identity"), images("identity"), "best")
