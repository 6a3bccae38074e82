"""Spiking networks out of files: those that `convert` wrote, and NIR files."""

from pathlib import Path

import spiking_resnet as sr
from spiking_resnet.graph import Graph

SUFFIXES = (".safetensors", ".nir")  # of files that hold a spiking network


def stored(path: str | Path) -> Graph:
    """The spiking network of a file; StoreError or NirError, and FileNotFoundError."""
    return sr.from_nir(path) if Path(path).suffix == ".nir" else sr.load(path)
