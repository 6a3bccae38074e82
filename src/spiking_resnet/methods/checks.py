"""What the options that several methods have may be."""

from typing import Any

_CHOICES = {
    "reset": ("subtract", "zero"),
    "max_pooling": ("cumulative", "instant"),
    "readout": ("auto", "spikes+membrane", "membrane"),
    "input_coding": ("constant", "poisson"),
    "thresholds": ("percentile", "mmse", "iterated", "gaussian", "balanced"),
    "gate": ("none", "srp", "cos"),
}


def check(method: Any) -> None:
    """Nothing; ValueError, naming the option, for values no method takes."""
    for option, allowed in _CHOICES.items():
        if hasattr(method, option) and getattr(method, option) not in allowed:
            raise ValueError(f"{option} is {getattr(method, option)!r}: one of {allowed}")
    percentile = getattr(method, "percentile", 100)
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile is {percentile}: it must lie in (0, 100]")
    initial = getattr(method, "initial_potential", 0)
    if not 0 <= initial < 1:
        raise ValueError(f"initial_potential is {initial}: it must lie in [0, 1) thresholds")
    bits = getattr(method, "sum_bits", 16)
    if not 16 <= bits <= 24:
        raise ValueError(f"sum_bits is {bits}: it must lie in 16..24")
