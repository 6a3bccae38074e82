"""The conditions under which a method reaches its accuracy, so that tables compare like with like.

A neuron with spikes of several amplitudes sends more in a step than one that sends 0 or 1; with
layer-serial neurons latency grows with the depth of the network; steps before the counted ones are
steps as well; and the calibration images and the training needed are part of the price.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spiking_resnet.codec import FIELDS, Record
from spiking_resnet.graph import Fire, Graph, ReLU
from spiking_resnet.neurons import Neuron


@dataclass(frozen=True)
class Facts(Record):
    """How a spiking network's neurons fire, and the images and training that making it took.

    levels: the most amplitudes that one step's spike of a neuron can have, its sign left aside.
    signed: whether there are negative spikes. waits: whether a neuron is layer-serial: it fires
    after its whole input, so that latency grows with depth. pre_steps: steps that precede the
    counted ones. calibration_images: their number. trained: whether the ANN had to be trained or
    fine-tuned for the conversion.
    """

    levels: int
    signed: bool
    waits: bool
    pre_steps: int
    calibration_images: int
    trained: bool

    layout = (*FIELDS, ("values", "values"))

    @property
    def values(self) -> int:
        """How many different spikes, by amplitude and sign, a neuron can send in one step."""
        return self.levels * (2 if self.signed else 1)

    @property
    def binary(self) -> bool:
        """Whether a neuron sends 0 or 1 in each step."""
        return self.values == 1


def facts(graph: Graph) -> Facts:
    """The firing conditions of a spiking network, from its neurons and its notes.

    Notes may say `pre_steps` and `trained`; a method's own option `pre_steps` counts as well. A
    network with quantised activations was trained for it, whatever the method.
    """
    neurons: list[Neuron] = [node.neuron for node in graph.of(Fire)]
    options: Mapping[str, Any] = graph.notes.get("options", {})
    quantised = graph.ann is not None and any(node.levels for node in graph.ann.of(ReLU))
    return Facts(
        levels=max((neuron.levels for neuron in neurons), default=0),
        signed=any(neuron.signed for neuron in neurons),
        waits=any(neuron.layer_serial for neuron in neurons),
        pre_steps=int(graph.notes.get("pre_steps", options.get("pre_steps", 0))),
        calibration_images=int(graph.notes.get("calibration_images", 0)),
        trained=quantised or bool(graph.notes.get("trained", False)),
    )
