"""The windows of time that a simulation by the compiled kernels is divided into."""

from collections.abc import Collection, Mapping, Sequence

import torch

from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.bit_code import Code
from spiking_resnet.engines.cpu.population import Population
from spiking_resnet.engines.cpu.sums import Sums
from spiking_resnet.engines.plan import Plan, ends_of, windows
from spiking_resnet.engines.schedule import Schedule
from spiking_resnet.graph import Fire, Graph, Node

WINDOW = 64  # time steps of a layer held at once, and
WINDOW_BYTES = 2**25  # of spikes of the widest layer, and
NUMBER_BYTES = 2**28  # of the widest value that is no spikes (a signed residual stream)


class Spans:
    """How long windows may be: by the memory they take, what 32 bits hold and what changes when.

    nodes: those that no kernel computes with another, of which populations and sums are calls of
    their own. codes: of what spikes, by name.
    """

    def __init__(
        self,
        graph: Graph,
        schedule: Schedule,
        nodes: Sequence[Node],
        populations: Mapping[str, Population],
        sums: Mapping[str, Sums],
        codes: Mapping[str, Code],
    ) -> None:
        self._graph, self._populations = graph, tuple(populations.values())
        self._spikes, self._numbers = 1, 1  # bytes of the widest of an image in a step
        for node in nodes:
            if node.name in populations:
                words = library.blocks(library.positions(node.shape)) * node.shape[0]
                self._spikes = max(self._spikes, 4 * words * codes[node.name].planes)
            elif node.name in sums:
                self._numbers = max(self._numbers, sums[node.name].bytes)
            elif node.name not in schedule.given and node.name not in codes:
                self._numbers = max(self._numbers, 8 * torch.Size(node.shape).numel())
        alone = self._alone(nodes, sums, schedule.given)
        self._joins = schedule.once and alone and all(each.holds_once for each in sums.values())
        self._silences = any(node.neuron.silences for node in graph.of(Fire))

    def of(self, plan: Plan, joined: bool = True) -> list[tuple[int, int]]:
        """The first step of each window, and the step after its last. joined: whether the first
        step, where image and constants enter once, may be in one window with others.
        """
        length = min(plan.window or WINDOW, self._longest(plan.batch))
        if plan.watch and self._silences:  # kernels do not tell the peaks of silent neurons apart
            length = 1
        first = min(length, plan.times[0])
        joined = joined and self._joins and all(each.holds(first) for each in self._populations)
        return windows(plan.times, length, ends_of(self._graph, joined), plan.begin)

    def _longest(self, images: int) -> int:
        """How many steps of so many images fit."""
        spikes, numbers = self._spikes * images, self._numbers * images
        fitting = min(WINDOW_BYTES // spikes, NUMBER_BYTES // numbers)
        return max(1, min(fitting, *(each.longest for each in self._populations)))

    def _alone(
        self, nodes: Sequence[Node], sums: Mapping[str, Sums], given: Collection[str]
    ) -> bool:
        """Whether only populations read what enters: it is part of their first potentials."""
        read = {
            name
            for node in nodes
            if not isinstance(node, Fire) and node.name not in given
            for name in (sums[node.name].fused.reads if node.name in sums else node.inputs)
        }
        return read.isdisjoint(given) and not any(p.rounded_once for p in self._populations)
