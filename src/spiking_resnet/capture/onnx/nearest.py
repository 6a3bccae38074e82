"""Nearest resizing as the ONNX standard has it: where along an axis each entry is copied from."""

from collections.abc import Callable
from math import ceil, floor
from typing import Any

_ROUNDED: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda place: ceil(place - 0.5),
    "round_prefer_ceil": lambda place: floor(place + 0.5),
    "floor": floor,
    "ceil": ceil,
}
_ROOM = 1e-9  # of a place: what a scale in float32 leaves of a whole number


def _half(x: int, size: int, count: int, scale: float) -> float:
    return (x + 0.5) / scale - 0.5


def _symmetric(x: int, size: int, count: int, scale: float) -> float:
    return size / 2 * (1 - count / (scale * size)) + _half(x, size, count, scale)


_PLACES: dict[str, Callable[[int, int, int, float], float]] = {
    "half_pixel": _half,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda x, size, count, scale: (
        _half(x, size, count, scale) if count > 1 else 0.0
    ),
    "align_corners": lambda x, size, count, scale: (
        x * (size - 1) / (count - 1) if count > 1 else 0.0
    ),
    "asymmetric": lambda x, size, count, scale: x / scale,
    "tf_half_pixel_for_nn": lambda x, size, count, scale: (x + 0.5) / scale,
}


def sources(
    size: int, count: int, scale: float | None, transformation: str, rounding: str
) -> list[int]:
    """For each of `count` entries the one, of `size`, that it is a copy of.

    scale: as the file gives it, None: the quotient of the sizes. Raises KeyError for a coordinate
    transformation or a rounding that is not among those above.
    """
    place, rounded = _PLACES[transformation], _ROUNDED[rounding]
    by = count / size if scale is None else scale
    found = (rounded(round(place(x, size, count, by) / _ROOM) * _ROOM) for x in range(count))
    return [min(max(entry, 0), size - 1) for entry in found]


def rules(kind: str, opset: int, options: Any) -> tuple[str, str, str]:
    """(mode, coordinate transformation, rounding) of a Resize or Upsample.

    options: gives an attribute by name, or a default. Before opset 11 there was one rule only.
    """
    mode = options("mode", "nearest")
    if kind == "Upsample" or opset < 11:
        return mode, "asymmetric", "floor"
    transformation = options("coordinate_transformation_mode", "half_pixel")
    return mode, transformation, options("nearest_mode", "round_prefer_floor")
