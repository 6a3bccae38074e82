"""How the native engine writes spikes as bits: one for 0 or 1, several for other numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

from spiking_resnet.graph import Concat, Fire, Flatten, Graph, MaxPool, Pad, Select, Slice

MOST_LEVELS = 127  # spikes in a step: signed numbers of 8 bits hold them


@dataclass(frozen=True)
class Code:
    """Whole numbers from 0 (`signed`: from -levels) to levels, in two's complement.

    Bit k counts 2^k; of signed numbers the last one counts negative.
    """

    levels: int = 1
    signed: bool = False

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
    """The code of all numbers that any of these codes has."""
    own = (BINARY, *codes)
    return Code(max(code.levels for code in own), any(code.signed for code in own))


def codes(graph: Graph) -> dict[str, Code]:
    """The code of every value that is spikes, moved about or pooled by count, by name."""
    found: dict[str, Code] = {}
    for node in graph.nodes:
        moved = isinstance(node, Slice | Select | Pad | Flatten | Concat | MaxPool)
        if isinstance(node, Fire):
            found[node.name] = Code(node.neuron.levels, node.neuron.signed)
        elif moved and all(name in found for name in node.inputs):
            found[node.name] = joined(found[name] for name in node.inputs)
    return found
