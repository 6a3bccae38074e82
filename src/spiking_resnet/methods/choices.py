"""What options of methods that are words may be."""

from typing import Any

CHOICES = {
    "reset": ("subtract", "zero"),
    "max_pooling": ("cumulative", "instant"),
    "readout": ("spikes+membrane", "membrane"),
    "input_coding": ("constant", "poisson"),
    "thresholds": ("percentile", "mmse", "iterated", "gaussian", "balanced"),
    "gate": ("none", "srp", "cos"),
}


def check_choices(method: Any) -> None:
    """Nothing; ValueError, naming the option, where a method's choice is none of these."""
    for option, allowed in CHOICES.items():
        if hasattr(method, option) and getattr(method, option) not in allowed:
            raise ValueError(f"{option} is {getattr(method, option)!r}: one of {allowed}")
