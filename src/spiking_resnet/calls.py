"""What tracing knows of one call in the user's network, and of the values that calls exchange."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BATCH = 2  # images in the example batch that a network is captured with


class Unsupported(Exception):
    """One operation that stands in the way; the message says why and what to do."""


@dataclass(frozen=True)
class Value:
    """A value that depends on the image: the name of its node and its shape for one image."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """What every builder needs to know of its call."""

    name: str
    shape: tuple[int, ...]
    source: str
    operation: str = ""

    def base(self, *inputs: Value) -> dict[str, Any]:
        """The fields common to all nodes."""
        names = tuple(value.name for value in inputs)
        return {"name": self.name, "inputs": names, "shape": self.shape, "source": self.source}


def pair(value: Any) -> tuple[int, int]:
    """A kernel's, stride's or padding's two numbers."""
    entries = [value] if isinstance(value, int) else list(value)
    return (int(entries[0]), int(entries[-1]))


@dataclass(frozen=True, eq=False)
class Moved:
    """A value whose entries are those of another, moved about, and no node yet.

    places: float64 [BATCH, ...], for every entry the number of its place in `origin` (numbered
    through the whole batch). call: the last that moved it.
    """

    origin: Value
    places: Tensor
    call: Call

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape for one image, if its first axis is that of the images."""
        return tuple(self.places.shape[1:])


def unmoved(value: Value, call: Call) -> Moved:
    """`value`, every entry in its own place."""
    count = BATCH * torch.Size(value.shape).numel()
    places = torch.arange(count, dtype=torch.float64).view(BATCH, *value.shape)
    return Moved(value, places, call)
