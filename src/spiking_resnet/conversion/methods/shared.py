"""Options that several methods have, each declared once; every method names its own default."""

from typing import Any

from spiking_resnet.conversion.methods.option import option


def percentile(default: float) -> float:
    """Declare the percentile of a layer's activations that is its firing threshold."""
    text = "of a layer's activations, its firing threshold; usual for ImageNet: 99.99"
    return option(default, text, above=0, most=100)


def per_channel(default: bool) -> bool:
    """Declare the choice of one threshold per channel instead of one per layer."""
    flags = ("--per-channel", "--per-layer")
    return option(default, "one threshold per channel, instead of one per layer", flags=flags)


def initial_potential(default: float) -> float:
    """Declare the membrane potential before the first step."""
    text = "membrane potential before the first step, in firing thresholds"
    return option(default, text, least=0, below=1)


def levels(default: int) -> int:
    """Declare how many spikes a neuron may fire in one step."""
    return option(default, "the most spikes of a neuron in one step", least=1)


def signed(default: bool) -> bool:
    """Declare whether spikes may be negative."""
    text = "signed spikes: neurons may also fire negative ones"
    return option(default, text, flags=("--signed", "--unsigned"))


def max_pooling() -> Any:
    """Declare how spikes are max pooled."""
    text = "max pools by spike counts, or by the spikes of the instant, which is wrong"
    return option("cumulative", text)


def steps(default: int) -> int:
    """Declare the number of time steps."""
    return option(default, "time steps (T) that the network is made for", least=1)


def images(default: int) -> int:
    """Declare how many images are used layer by layer."""
    return option(default, "calibration images that are used layer by layer", least=1)


def grid() -> int | None:
    """Declare the grid that makes simulation exact."""
    text = "most bits of the grid that makes simulation exact for all steps; none: no grid"
    return option(14, text, least=1, most=20)


def sum_bits() -> int:
    """Declare the bits of what a population receives in one step."""
    text = "bits, on the grid, of what a population receives in one step; 16 is fast"
    return option(16, text, least=16, most=24)
