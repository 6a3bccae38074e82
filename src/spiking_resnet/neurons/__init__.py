"""Spiking neurons: frozen parameters, and the pure functions that advance them by one step."""

from spiking_resnet.neurons.base import (
    Dcgs,
    Differential,
    Gate,
    Gated,
    IntegrateAndFire,
    Reset,
    Serial,
    even_count,
    per_channel,
    remembered,
    sent,
    start,
    step,
    whole,
)

__all__ = [
    "Dcgs", "Differential", "Gate", "Gated", "IntegrateAndFire", "Reset", "Serial", "even_count",
    "per_channel", "remembered", "sent", "start", "step", "whole",
]  # fmt: skip
