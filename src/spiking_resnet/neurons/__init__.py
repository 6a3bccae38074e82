"""Spiking neurons: a class each, with its equation, and the registry of their names in files."""

from spiking_resnet.neurons.base import Neuron, Reset, State, TensorRule, per_channel
from spiking_resnet.neurons.dcgs import Dcgs
from spiking_resnet.neurons.differential import Differential
from spiking_resnet.neurons.gated import Gate, Gated
from spiking_resnet.neurons.integrate_and_fire import IntegrateAndFire
from spiking_resnet.neurons.saturating import Saturating
from spiking_resnet.neurons.serial import Serial

NEURONS: dict[str, type[Neuron]] = {
    "IntegrateAndFire": IntegrateAndFire,
    "Differential": Differential,
    "Dcgs": Dcgs,
    "Serial": Serial,
    "Gated": Gated,
    "Saturating": Saturating,
}

__all__ = [
    "NEURONS", "Dcgs", "Differential", "Gate", "Gated", "IntegrateAndFire", "Neuron", "Reset",
    "Saturating", "Serial", "State", "TensorRule", "per_channel",
]  # fmt: skip
