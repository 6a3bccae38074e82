"""The native CPU engine: spikes as bits, layer by layer over windows of time, in integers.

A population and all synapses that lead to it (convolutions, identity gains, constant currents) are
one call of a compiled kernel (`native/`), and so is a signed stream. What is left, without weights
or decided by the image alone, is computed as in `layerwise`. The spikes are the interpreter's, bit
for bit.
"""

from weakref import WeakKeyDictionary

import torch

from spiking_resnet.engines.base import Engine, Prepared
from spiking_resnet.engines.cpu import firing, library
from spiking_resnet.engines.cpu.simulation import Network
from spiking_resnet.graph import Fire, Graph

MOST_BITS = 30  # of what a population receives in a step


class NativeCpu(Engine):
    """Compiled kernels, for normalised networks on a grid."""

    name = "cpu"
    integers = (Fire,)

    def __init__(self) -> None:
        super().__init__()
        self._refusals: WeakKeyDictionary[Graph, str] = WeakKeyDictionary()

    def missing(self, device: torch.device | str = "cpu") -> str:
        """How to compile the kernels, where there are none for a device that they are for."""
        there = torch.device(device).type != "cpu" or library.library() is not None
        return "" if there else f"the fast CPU engine is missing: {library.INSTALL}"

    def make(self, graph: Graph) -> Prepared:
        """Integer weights, tables and buffers; OutOfRange where 32 bits do not hold a weight."""
        return Network(graph)

    def unsupported(self, graph: Graph, device: torch.device | str = "cpu") -> list[str]:
        """Why this engine cannot run `graph` on `device`."""
        reasons = [] if library.library() is not None else [library.INSTALL]
        if torch.device(device).type != "cpu":
            reasons.append(f"the images are on {device}, and it runs on the CPU")
        if graph not in self._refusals:  # asked for every run, and the same for all
            self._refusals[graph] = next(filter(None, map(_refusal, graph.of(Fire))), "")
        return [*reasons, *filter(None, [self._refusals[graph]])]


def _refusal(node: Fire) -> str:
    """Why the kernels do not take a population, or nothing."""
    neuron = node.neuron
    if not bool((neuron.amplitude == 1).all()):
        return f"{node.name!r} does not fire unit spikes: normalise the network first"
    if node.grid is None:
        return f"{node.name!r} is on no grid: convert with a grid (snap it)"
    if reason := firing.unsupported(node) or _too_large(node):
        return reason
    if neuron.threshold.dtype != torch.float32:
        return f"{node.name!r} computes in {neuron.threshold.dtype}, not in float32"
    return ""


def _too_large(node: Fire) -> str:
    """Why the sums of one step do not fit 32 bits, or nothing."""
    if node.step_bound * 2.0 ** (node.grid or 0) < 2.0**MOST_BITS:
        return ""
    return (
        f"{node.name!r} receives up to {node.step_bound:g} in a step, too much for 32 bits on its "
        f"grid 2^-{node.grid}: convert with a coarser grid"
    )
