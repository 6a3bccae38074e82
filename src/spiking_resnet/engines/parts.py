"""One population of a network, run on the known spikes of those before it.

Methods that settle a network layer by layer run every population by itself. Spikes are kept as the
engine likes: bits where the CPU engine runs them, one byte each elsewhere.
"""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from spiking_resnet.engines.cpu.bit_code import MOST_LEVELS, Code
from spiking_resnet.engines.cpu.engine import NativeCpu
from spiking_resnet.engines.cpu.library import Planes
from spiking_resnet.engines.cpu.simulation import Network
from spiking_resnet.engines.layerwise import spikes_of
from spiking_resnet.engines.plan import OutOfRange, Plan
from spiking_resnet.graph import Fire, Graph

Spikes = Planes | Tensor  # of one population in all steps; numbers are int8 or int32 [T, N, ...]


class Part:
    """A population, made ready to be run on the spikes of others.

    graph: on a grid. known: its populations but `name`, by name: those whose spikes are given.
    """

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name
        populations = {node.name: node for node in graph.of(Fire)}
        self._few = populations.pop(name).neuron.levels <= MOST_LEVELS
        self.known = populations

    @cached_property
    def _network(self) -> Network | None:
        if NativeCpu().unsupported(self.graph):
            return None
        try:
            return Network(self.graph, self.known)
        except OutOfRange:
            return None

    def spikes(self, images: Tensor, known: Mapping[str, Spikes], steps: int) -> Spikes:
        """Return what the population fires in `steps` steps, for the known spikes of all others.

        images: [N, C, H, W].
        """
        plan = Plan(images, (steps,))
        if self._network is not None:
            try:
                return self._network.spikes_of(self.name, plan, self._as_bits(known))
            except OutOfRange:
                pass
        found = spikes_of(self.graph, self.name, plan, _as_numbers(known))
        return found.to(torch.int8 if self._few else torch.int32)

    def _as_bits(self, known: Mapping[str, Spikes]) -> dict[str, Planes]:
        return {
            name: spikes
            if isinstance(spikes, Planes)
            else Planes.packed(spikes, Code.of(self.known[name]))
            for name, spikes in known.items()
        }


def _as_numbers(known: Mapping[str, Spikes]) -> dict[str, Tensor]:
    return {
        name: spikes.unpacked() if isinstance(spikes, Planes) else spikes
        for name, spikes in known.items()
    }


def counted(spikes: Spikes, start: int, stop: int) -> Tensor:
    """Return the number of spikes of every neuron in the steps start ... stop - 1, negative ones
    taken off; int64 [N, ...].
    """
    if not isinstance(spikes, Planes):
        return spikes[start:stop].sum(0, dtype=torch.int64)
    images, *_ = spikes.words.shape
    counts = torch.zeros((images, *spikes.shape), dtype=torch.int64, device="cpu")
    spikes.during(start, stop).count_into(counts)
    return counts
