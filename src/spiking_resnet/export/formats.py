"""The registry of formats that a spiking network can be exported to."""

from collections.abc import Mapping

from spiking_resnet.export import torch as to_torch
from spiking_resnet.export.c import format as to_c
from spiking_resnet.export.format import Asked, Format
from spiking_resnet.export.nir import write as to_nir
from spiking_resnet.export.onnx import write as to_onnx
from spiking_resnet.records import InputError

FORMATS: Mapping[str, Format] = {
    entry.name: entry
    for entry in (
        to_torch.FORMAT,
        to_onnx.FORMAT,
        to_nir.FORMAT,
        to_c.FORMAT,
    )
}  # fmt: skip

__all__ = ["FORMATS", "Asked", "Format", "format_named"]


def format_named(name: str) -> Format:
    """The format of this name; InputError for others."""
    if name not in FORMATS:
        raise InputError(f"there is no format {name!r}: use one of {', '.join(FORMATS)}")
    return FORMATS[name]
