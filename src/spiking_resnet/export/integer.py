"""The integer form of a spiking network: weights of few bits, whole potentials and thresholds.

docs/integer_form.md says what it is, for whoever builds it; here it is made. It is a graph again:
every engine simulates it, and its spikes are those of the integers, bit for bit.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.export.format import ExportError
from spiking_resnet.export.rates import rates_read
from spiking_resnet.export.trees import pixels, trees
from spiking_resnet.export.whole import Making, Widths
from spiking_resnet.graph import Fire, Graph
from spiking_resnet.graph.exactness import bounded
from spiking_resnet.neurons import IntegrateAndFire
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed

END_BITS = 8  # the fewest of weights that read the image, or that the read-out sums up
CALIBRATION_IMAGES = 50  # that are looked at, at most
CALIBRATION_STEPS = 64  # of a network that serves any number of steps
_REMEDY = (
    "convert by a method of integrate-and-fire neurons, such as hu2021 or calibrated, or export to "
    "ONNX (--to onnx)"
)


@arguments.checked(
    graph=arguments.network,
    bits=arguments.whole,
    potential_bits=arguments.whole,
    threshold_bits=arguments.whole,
    end_bits=arguments.whole,
    images=arguments.batches,
)
@undisturbed()
def to_integers(
    graph: Graph,
    bits: int = 8,
    per_channel: bool = True,
    images: Tensor | Calibration | Iterable[Any] | None = None,
    *,
    potential_bits: int = 32,
    threshold_bits: int = 12,
    end_bits: int | None = None,
) -> Graph:
    """Return the integer form of a converted network: a graph whose every value is a whole number.

    bits: of the weights of convolutions and linear layers, with sign, 2 to 16. per_channel: whether
    every channel has a threshold and shifts of its own, or a layer one. images: normalised
    calibration images, as for `convert`, of which the first 50 are looked at: errors then weigh as
    much as their input varies, and biases make up for what rounding changes on average.
    potential_bits: of membrane potentials between two steps, with sign, 8 to 32; below 32 they
    saturate. threshold_bits: of firing thresholds, 2 to 16. end_bits: of the weights that read the
    image or reach the read-out (None: `bits`, and 8 at least).

    Notes of the graph: "integer_form". Raises ExportError, with the node's name, for what has no
    integer form (signed streams, neurons other than integrate-and-fire ones), and InputError.

    >>> whole = sr.to_integers(snn, bits=8, images=calibration)
    >>> whole["layer1.0.conv1"].weight.abs().max() < 2**15
    tensor(True)
    """
    widths = _widths(bits, end_bits, threshold_bits, potential_bits)
    _check(graph)
    rates = (
        {}
        if images is None
        else rates_read(graph, _first(images), graph.made_for or CALIBRATION_STEPS)
    )
    work = Making(graph, trees(graph), widths, per_channel, rates, pixels(graph))
    noted = {
        "bits": widths.weights,
        "end_bits": widths.ends,
        "per_channel": per_channel,
        "threshold_bits": widths.threshold,
        "potential_bits": widths.potential,
        "calibrated": images is not None,
    }
    made = graph.with_nodes(work.all_nodes()).with_notes({"integer_form": noted})
    return bounded(made)


def _widths(bits: int, ends: int | None, threshold: int, potential: int) -> Widths:
    asked = {
        "bits": (bits, 2, 16),
        "end_bits": (max(bits, END_BITS) if ends is None else ends, 2, 16),
        "threshold_bits": (threshold, 2, 16),
        "potential_bits": (potential, 8, 32),
    }
    for name, (value, low, high) in asked.items():
        if not low <= value <= high:
            raise InputError(f"{name} is {value}: give {low} to {high}")
    if potential < threshold + 2:
        raise InputError(
            f"potential_bits is {potential} and threshold_bits {threshold}: potentials need two "
            "bits more than thresholds at least"
        )
    return Widths(*(value for value, _, _ in asked.values()))


def _first(images: Any) -> Tensor:
    """The first calibration images, [N, C, H, W]."""
    calibration = images if isinstance(images, Calibration) else Calibration(images)
    found: list[Tensor] = []
    for batch, real in calibration.batches():
        found.append(batch[:real])
        if sum(map(len, found)) >= CALIBRATION_IMAGES:
            break
    return torch.cat(found)[:CALIBRATION_IMAGES]


def _check(graph: Graph) -> None:
    """Raise ExportError for what has no integer form; `trees` refuses signed streams."""
    if not graph.of(Fire):
        raise ExportError("the network has no spiking neurons: convert it first")
    if "integer_form" in graph.notes:
        raise ExportError("the network is in integer form already: start from the converted one")
    for node in graph.of(Fire):
        neuron = node.neuron
        if type(neuron) is not IntegrateAndFire:
            raise ExportError(
                f"{node.name!r} is a population of {type(neuron).__name__} neurons, which have no "
                f"integer form: {_REMEDY}"
            )
        if not bool((neuron.amplitude == 1).all()):
            raise ExportError(
                f"{node.name!r} does not fire unit spikes: normalise the network first"
            )
    if graph.input.encoding == "once":
        raise ExportError(
            f"{graph.input.name!r} presents the image at the first step alone: that has no integer "
            f"form; {_REMEDY}"
        )
