"""The package onnx, which is optional, and the error of files that it or we cannot read."""

from importlib import import_module
from typing import Any

from spiking_resnet.records import InputError


class OnnxError(ValueError):
    """A file that cannot be read as a network; the message names the file and what to do."""


def onnx_part(part: str = "") -> Any:
    """The package onnx, or one of its modules; InputError where it is missing."""
    try:
        return import_module(f"onnx.{part}" if part else "onnx")
    except ImportError as error:
        raise InputError(
            f"ONNX files need the package onnx, which is not there ({error}): "
            "pip install 'spiking-resnet[onnx]'"
        ) from None


def first_line(error: BaseException) -> str:
    """The first line of what an error of another package says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def attributes(node: Any) -> dict[str, Any]:
    """A node's attributes as numbers, texts and lists; what is none of these is left out."""
    found: dict[str, Any] = {}
    for entry in node.attribute:
        value = onnx_part("helper").get_attribute_value(entry)
        if isinstance(value, bytes):
            found[entry.name] = value.decode(errors="replace")
        elif isinstance(value, int | float):
            found[entry.name] = value
        elif entry.type in (entry.INTS, entry.FLOATS):
            found[entry.name] = list(value)
    return found
