"""Published trends on ResNet-20 and CIFAR-10: run with SPIKING_RESNET_DATA, as `test_real`."""

from functools import cache

import pytest
import torch

from spiking_resnet import simulate
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import calibrated, dcgs, named
from spiking_resnet.graph import interpret
from test_real import loader, model, pictures, pytestmark

__all__ = ["pytestmark"]
RESNET = "cifar10_resnet20_akamaster"


@cache
def compared(method, images=100):
    """(agreement with the ANN, relative distance of the logits) on test images."""
    batches = Calibration(loader("train", 300))
    graph = method.apply(trace(model(RESNET), (3, 32, 32)), batches)
    steps, frames = graph.latency or method.steps, pictures(100)[:images]
    found = simulate(graph, frames, steps).logits[-1]
    with torch.inference_mode():
        wanted = interpret.logits(graph.ann, frames)
    agreed = float((found.argmax(1) == wanted.argmax(1)).double().mean())
    return agreed, float((found - wanted).norm() / wanted.norm())


@pytest.mark.sweep
def test_differential_coding_with_4_thresholds_needs_4_steps():
    """Its authors' own code on this network: 94.0 % agreement at T = 2, 98.5 % at T = 4."""
    (early, coarse), (late, fine) = (compared(dcgs(levels=4, steps=steps)) for steps in (2, 4))
    assert late > 0.94
    assert late > early
    assert fine < 0.6 * coarse


@pytest.mark.sweep
def test_differential_coding_with_signed_neurons_needs_16_steps():
    """Its authors' own code on this network: 89.5 % agreement at T = 8, 96.5 % at T = 16."""
    (early, coarse), (late, fine) = (compared(dcgs(steps=steps), 60) for steps in (8, 16))
    assert late > 0.9
    assert late > early
    assert fine < 0.7 * coarse


@pytest.mark.sweep
@pytest.mark.slow
def test_local_threshold_balancing_needs_hundreds_of_batches():
    few, many = (
        compared(named("threshold-balancing", steps=32, images=128, batches=batches))[0]
        for batches in (32, 400)
    )
    assert many > 0.85
    assert many > few + 0.1


@pytest.mark.sweep
def test_half_a_threshold_at_the_start_is_better_than_in_the_current():
    early, late = (compared(named(name, steps=32)) for name in ("optimal-potential", "bias-shift"))
    assert early[0] > late[0] > 0.5


@pytest.mark.sweep
def test_offsets_bring_the_layer_serial_network_nearer():
    common = {"weights": False, "waits": True, "steps": 4, "images": 128}
    without, offset = (
        compared(calibrated(**common, compensation=each), 20)[1] for each in ("none", "offsets")
    )
    assert offset < without
