"""Weights fitted to what their population needs: minima of what the ReLU can tell apart."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.passes import calibrate as passes
from spiking_resnet.conversion.passes.calibrate import Correction, calibrate
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.regression import Regression
from spiking_resnet.conversion.passes.shift import shift_currents
from spiking_resnet.graph import Conv2d, Fire, Linear, ReLU, interpret
from spiking_resnet.graph.structure import fed_by
from zoo import ann, same_tensors

STEPS, RIDGE = 4, 0.01


def coarse(values):
    """The nearest multiples of 2^-6, which the grid leaves as they are."""
    return torch.round(values * 64) / 64


class Block(nn.Module):
    """A population, and a second one that reads it through a convolution and past it."""

    def __init__(self, lift=0.0, ceiling=None):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU() if ceiling is None else nn.Hardtanh(0, ceiling)
        self.head = nn.Linear(4 * 25, 3)
        with torch.no_grad():
            self.second.bias += lift

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.head(self.act(self.second(x) + x).flatten(1))


def case(threshold=1.0, **options):
    """(ANN, spiking graph in real units, images); all on a coarse grid."""
    torch.manual_seed(3)
    module = Block(**options).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(coarse(parameter))
    graph = fold_bn(trace(module, (3, 5, 5)))
    thresholds = {node.name: torch.full(node.shape[:1], threshold) for node in graph.of(ReLU)}
    return graph, fire(graph, thresholds, Kind()), coarse(torch.randn(24, 3, 5, 5))


def seen(graph, spiking, frames):
    """(mean output of the first population, what the second ReLU receives in the ANN), float64."""
    first, second = (node.name for node in graph.of(ReLU))
    memory, total = {}, 0
    for time in range(STEPS):
        for node, value in interpret.walk(spiking.nodes, frames, memory, time):
            if node.name == first:
                total = total + value
    received = graph[second].inputs[0]
    wanted = interpret.values(graph, frames, [received])[received]
    return (total / STEPS).double(), wanted.double()


def gradient(graph, spiking, fitted, frames, ceiling=float("inf")):
    """(gradient of the objective by weights and biases of the second layer, its ridge)."""
    x, z = seen(graph, spiking, frames)
    old, new = graph.of(Conv2d)[1], fitted.of(Conv2d)[1]
    table = nn.functional.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)
    table = torch.cat([table, torch.ones(len(table), 1, dtype=torch.float64)], 1)
    z, beside = (each.flatten(2).transpose(1, 2).flatten(0, 1) for each in (z, x))
    before, after = (
        torch.cat([each.weight.flatten(1), each.bias[:, None]], 1).double() for each in (old, new)
    )
    p = table @ after.T + beside
    error = torch.where(z > 0, p - z, p.clamp(min=0))
    error = torch.where(z < ceiling, error, (p - ceiling).clamp(max=0))
    hold = RIDGE * table.square().sum(0).mean()
    return table.T @ error + hold * (after - before).T, float(hold)


def fitted(graph, spiking, frames, **options):
    correction = Correction(steps=STEPS, compensation="none", **{"ridge": RIDGE, **options})
    return calibrate(graph, spiking, frames, correction)


def test_where_all_inputs_are_positive_the_first_fit_is_the_minimum(monkeypatch):
    monkeypatch.setattr(passes, "REFITS", 0)
    graph, spiking, frames = case(lift=20.0)
    assert bool((seen(graph, spiking, frames)[1] > 0).all())
    found, hold = gradient(graph, spiking, fitted(graph, spiking, frames), frames)
    assert float(found.abs().max()) < 1e-3 * hold


@pytest.mark.parametrize("ceiling", [None, 0.5])
def test_refits_go_to_the_minimum_of_what_the_activation_tells_apart(ceiling, monkeypatch):
    graph, spiking, frames = case(ceiling=ceiling)
    z = seen(graph, spiking, frames)[1]
    assert bool((z < 0).any())
    assert bool((z > 0.5).any())
    sizes = []
    for refits in (0, 2, 8, 300):
        monkeypatch.setattr(passes, "REFITS", refits)
        found, hold = gradient(
            graph, spiking, fitted(graph, spiking, frames), frames, ceiling or float("inf")
        )
        sizes.append(float(found.norm()))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-3 * hold


def test_what_other_paths_bring_is_made_up_for():
    """A shortcut that brings too little: the branch gives what it lacks, its like does not."""
    graph, spiking, frames = case(threshold=0.25, lift=20.0)
    x, z = seen(graph, spiking, frames)
    errors = []
    for choice in ("layer", "population"):
        layer = fitted(graph, spiking, frames, fit_to=choice).of(Conv2d)[1]
        p = nn.functional.conv2d(x, layer.weight.double(), layer.bias.double(), padding=1) + x
        errors.append(float((p - z).square().mean()))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("choice", ["layer", "population"])
def test_a_current_that_an_earlier_pass_added_stays(choice):
    graph, spiking, frames = case(lift=20.0)
    shift = torch.tensor([0.25, -0.5, 1.0, 2.0])
    shifted = shift_currents(spiking, {graph.of(ReLU)[1].name: shift})
    plain, other = (
        fitted(graph, each, frames, fit_to=choice).of(Conv2d)[1] for each in (spiking, shifted)
    )
    torch.testing.assert_close(other.bias - plain.bias, shift, atol=1e-4, rtol=0)
    torch.testing.assert_close(other.weight, plain.weight, atol=1e-5, rtol=1e-4)


def test_a_layer_feeds_the_population_that_alone_reads_its_sum():
    spiking = case()[1]
    first, second = spiking.of(Fire)
    assert [fed_by(spiking, node).name for node in spiking.of(Conv2d)] == [first.name, second.name]
    assert fed_by(spiking, first) is None  # a convolution reads it, too
    stream = ann("signed_stream")
    assert any(fed_by(stream, node) is None for node in stream.of(Conv2d))


def ridges_used(monkeypatch):
    """The ridge of each layer's last fit, by its name, from now on."""
    used, solved = {}, Regression.solved

    def watched(self, unit, ridge):
        used[self._node.name] = ridge
        return solved(self, unit, ridge)

    monkeypatch.setattr(Regression, "solved", watched)
    return used


def missed(conv, x, wanted, beside, ridge):
    """The squared error on the last 6 of 24 images of a fit to the others, by hand."""
    table = F.pad(F.unfold(x, 3, padding=1).transpose(1, 2), (0, 1), value=1.0)
    target, beside = (each.flatten(2).transpose(1, 2) for each in (wanted, beside))
    known = table[:18].flatten(0, 1)
    before = torch.cat([conv.weight.flatten(1), conv.bias[:, None]], 1).double()
    hold = ridge * known.square().sum(0).mean() * torch.eye(table.shape[2]).double()
    cross = known.T @ (target - beside)[:18].flatten(0, 1) + hold @ before.T
    found = beside[18:] + table[18:] @ torch.linalg.solve(known.T @ known + hold, cross)
    near = torch.where(target[18:] > 0, target[18:], found.clamp(max=0))
    return float((near - found).square().sum())


def test_a_layer_has_the_ridge_that_errs_least_on_images_it_was_not_fitted_to(monkeypatch):
    graph, spiking, frames = case()
    used = ridges_used(monkeypatch)
    found = fitted(graph, spiking, frames, ridge=None)
    _, conv = graph.of(Conv2d)
    sent, wanted = seen(graph, found, frames)
    errors = [missed(conv, sent, wanted, sent, ridge) for ridge in passes.RIDGES]
    assert used[conv.name] == passes.RIDGES[errors.index(min(errors))]
    monkeypatch.setattr(passes, "RIDGES", (0.5, 0.5))
    assert same_tensors(
        fitted(graph, spiking, frames, ridge=None), fitted(graph, spiking, frames, ridge=0.5)
    )
    assert not same_tensors(found, fitted(graph, spiking, frames, ridge=0.5))
    one_image = fitted(graph, spiking, frames[:1], ridge=None)
    assert all(torch.isfinite(node.weight).all() for node in one_image.of(Conv2d))


@pytest.mark.parametrize("threshold", [0.5, 2.0])
def test_the_read_out_has_the_delay_and_ridge_that_read_unseen_images_best(threshold, monkeypatch):
    """Against fits without one image each, by hand."""
    graph, spiking, frames = case(threshold)
    used = ridges_used(monkeypatch)
    found = fitted(graph, spiking, frames, delay=None, ridge=None)
    ridge = used[graph.of(Linear)[0].name]
    last, head = graph.of(ReLU)[1].name, graph.of(Linear)[0]
    memory, sent = {}, []
    for time in range(STEPS):
        for node, value in interpret.walk(found.nodes, frames, memory, time):
            if node.name == last:
                sent.append(value.double().flatten(1))
    wanted = interpret.values(graph, frames, [head.name])[head.name].double()
    before = torch.cat([head.weight, head.bias[:, None]], 1).double()
    errors = {}
    for first, each in product(range(STEPS), passes.RIDGES):
        x = torch.stack(sent[first:]).mean(0)
        table = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
        hold = each * table.square().sum(0).mean() * torch.eye(table.shape[1]).double()
        error = 0.0
        for image in range(len(table)):
            others = torch.arange(len(table)) != image
            square = table[others].T @ table[others] + hold
            cross = table[others].T @ wanted[others] + hold @ before.T
            missed = wanted[image] - table[image] @ torch.linalg.solve(square, cross)
            error += float(missed.square().sum())
        errors[first, each] = error
    assert (found.output.delay, ridge) == min(errors, key=errors.get)
    plain = fitted(graph, spiking, frames, delay=None)
    fixed = fitted(graph, spiking, frames, delay=plain.output.delay)
    assert same_tensors(plain, fixed)
