"""Cumulative max pools of spikes in one simulation: what they have counted so far."""

import torch
from torch import Tensor

from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.bit_code import BINARY, MOST_LEVELS
from spiking_resnet.engines.cpu.library import Planes
from spiking_resnet.engines.cpu.memory import Memory
from spiking_resnet.engines.plan import OutOfRange, Plan
from spiking_resnet.graph import MaxPool

MOST_STEPS = 2**31 // MOST_LEVELS  # spikes of a neuron are counted in 32 bits


class Pools:
    """The pools of a simulation that count spikes. counts: of each pool, the spikes of its inputs
    [N, C, H, W] and of its outputs [N, C, H', W'], int32.
    """

    def __init__(self, plan: Plan, free: Memory) -> None:
        self.plan, self.free = plan, free
        self.counts: dict[str, tuple[Tensor, Tensor]] = {}

    @staticmethod
    def take(node: MaxPool, value: object) -> bool:
        """Whether this is a pool that counts spikes."""
        return isinstance(value, Planes) and node.rule == "cumulative" and value.code == BINARY

    def run(self, node: MaxPool, spikes: Planes, memory: dict[str, Tensor]) -> Planes:
        """The spikes of a pool over a window. memory: sums before the run, which are taken out of
        it. Raises OutOfRange.
        """
        if node.name not in self.counts:
            self.counts[node.name] = self._before(node, spikes, memory)
        return library.pool(node, spikes, self.counts[node.name], self.free)

    def highest(self, node: MaxPool) -> float:
        """The most spikes of one of a pool's outputs."""
        return float(self.counts[node.name][1].max())

    def sums(self) -> dict[str, Tensor]:
        """Of each pool, the sums that `interpret.State` keeps."""
        return {name: inputs.float() for name, (inputs, _) in self.counts.items()}

    def _before(
        self, node: MaxPool, spikes: Planes, memory: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        if node.name not in memory:
            ins, outs = (
                torch.zeros((self.plan.batch, *shape), dtype=torch.int32, device="cpu")
                for shape in (spikes.shape, node.shape)
            )
            return ins, outs
        sums = memory.pop(node.name)
        if float(sums.abs().max()) + self.plan.record[-1] >= MOST_STEPS:
            raise OutOfRange(f"the spikes counted by {node.name!r}")
        return sums.int().contiguous(), node.value(sums).int().contiguous()
