"""Grids 2^-bits: which numbers lie on one, and how many float32 and float64 hold exactly."""

from collections.abc import Sequence

import torch
from torch import Tensor

MANTISSA = 24  # bits of float32: integers up to 2^24 are exact in it
WIDE_MANTISSA = 53  # bits of float64
SLACK = 1.01  # rounding to the grid moves bounds a little beyond those that the grid was chosen by


def to_grid(values: Tensor, bits: int) -> Tensor:
    """Return values rounded to multiples of 2^-bits (ties to even), float64."""
    return torch.round(values.double() * 2.0**bits) * 2.0**-bits


def on_grid(values: Tensor, bits: int) -> bool:
    """Return whether all values are multiples of 2^-bits."""
    units = values.double() * 2.0**bits
    return torch.equal(units, units.round())


def coarsest_grid(values: Tensor | float) -> int | None:
    """Return the bits of the coarsest grid that values lie on; None beyond float32."""
    found = torch.as_tensor(values, dtype=torch.float64)
    return next((bits for bits in range(MANTISSA) if on_grid(found, bits)), None)


def finest(grids: Sequence[int | None]) -> int | None:
    """Return the bits of the grid that values of several grids lie on; None if one has none."""
    known = [bits for bits in grids if bits is not None]
    return max(known) if len(known) == len(grids) else None
