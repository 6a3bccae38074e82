"""How the native engine writes spikes as bits: one for 0 or 1, several for other numbers."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from spiking_resnet.graph import Concat, Fire, Flatten, Graph, MaxPool, Pad, Select, Slice

MOVES = (Slice, Select, Pad, Flatten, Concat, MaxPool)
MOST_LEVELS = 127  # spikes in a step: signed numbers of 8 bits hold them


@dataclass(frozen=True)
class Code:
    """Whole numbers from 0 (`signed`: from -levels) to levels, in two's complement.

    Bit k counts 2^k; of signed numbers the last one counts negative. units: float32 [T], the value
    of a spike of size 1 at each step; None where it is always 1.
    """

    levels: int = 1
    signed: bool = False
    units: Tensor | None = field(default=None, compare=False)

    @classmethod
    def of(cls, node: Fire) -> "Code":
        """The code of a population's spikes."""
        neuron = node.neuron
        units = None if neuron.longest is None else neuron.units
        return cls(neuron.largest_size, neuron.signed, units)

    def within(self, time: int, steps: int) -> "Code":
        """The code of so many steps from `time` on."""
        return self if self.units is None else replace(self, units=self.units[time : time + steps])

    def values(self, sizes: Tensor) -> Tensor:
        """The values, float32, of spikes [steps, ...] of these sizes."""
        found = sizes.float()
        return found if self.units is None else found * self._units(sizes)

    def sizes(self, values: Tensor) -> Tensor:
        """The sizes, int8, of spikes [steps, ...] of these values: inverts `values`."""
        found = values if self.units is None else (values / self._units(values)).round_()
        return found.to(torch.int8)

    def counted(self, sizes: Tensor) -> Tensor:
        """How often spikes of these sizes count, with their sign: differential ones once."""
        return sizes if self.units is None else sizes.sign()

    def _units(self, like: Tensor) -> Tensor:
        assert self.units is not None
        return self.units.view(-1, *([1] * (like.ndim - 1)))

    @property
    def planes(self) -> int:
        """How many bits there are."""
        return self.levels.bit_length() + self.signed

    @property
    def weights(self) -> tuple[int, ...]:
        """What each bit counts."""
        found = [2**plane for plane in range(self.planes)]
        return (*found[:-1], -found[-1]) if self.signed else tuple(found)


BINARY = Code()


def joined(codes: Iterable[Code]) -> Code:
    """The code of all numbers that any of these codes has, without units."""
    own = (BINARY, *codes)
    return Code(max(code.levels for code in own), any(code.signed for code in own))


def codes(graph: Graph) -> dict[str, Code]:
    """The code of every value that is spikes, moved about or pooled by count, by name.

    What is moved from several populations has one code only where their spikes count the same.
    """
    found: dict[str, Code] = {}
    for node in graph.nodes:
        if isinstance(node, Fire):
            found[node.name] = Code.of(node)
        elif isinstance(node, MOVES) and all(name in found for name in node.inputs):
            own = [found[name] for name in node.inputs]
            units = own[0].units
            if any(code.units is not units for code in own) or (
                units is not None and isinstance(node, MaxPool)
            ):
                continue
            found[node.name] = replace(joined(own), units=units)
    return found
