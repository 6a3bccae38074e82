"""Which nodes of a graph run at every time step, and what the images alone decide."""

from collections.abc import Mapping

import torch
from torch import Tensor

from spiking_resnet.engines.plan import Plan
from spiking_resnet.graph import Graph, Input, Node, interpret


class Schedule:
    """The nodes of a graph by when they are computed.

    given: names of values that no spike changes but spikes meet. nodes: what runs at every step,
    the given ones included. once: whether constants enter at the first step only, after which the
    given values are 0.
    """

    def __init__(self, graph: Graph) -> None:
        fixed = interpret.unreached(graph)
        readers = graph.consumers
        self.given = frozenset(
            name for name in fixed if any(reader.name not in fixed for reader in readers[name])
        )
        self.nodes = tuple(
            node for node in graph.nodes if node.name in self.given or node.name not in fixed
        )
        self.once = graph.input.encoding == "once"
        self._later = tuple(interpret.at_step(node, self.once, 1) for node in self.nodes)
        self._fixed = tuple(node for node in graph.nodes if node.name in fixed)

    def at(self, time: int) -> tuple[Node, ...]:
        """The nodes as they compute at step `time` (0 is the first)."""
        return self._later if time > 0 else self.nodes

    def over(self, time: int) -> bool:
        """Whether all that the images and the constants bring came before step `time`."""
        return self.once and time > 0

    def values(self, images: Tensor) -> dict[str, Tensor]:
        """The given values [N, ...] of images [N, C, H, W]."""
        walked = interpret.walk(self._fixed, images, {})
        return {node.name: value for node, value in walked if node.name in self.given}


class Presented:
    """What a network sees in one run: the same images at every step, or a frame for each."""

    def __init__(self, schedule: Schedule, plan: Plan, images: Tensor | None = None) -> None:
        self._images = plan.images if images is None else images
        self._schedule, self._plan = schedule, plan
        self._constant = {} if plan.frames else schedule.values(self._images)

    def frame(self, time: int) -> Tensor:
        """The images [N, C, H, W] of step `time`."""
        return self._images[time - self._plan.begin] if self._plan.frames else self._images

    def given(self, start: int, stop: int) -> dict[str, Tensor]:
        """The given values over the steps start ... stop - 1: [steps, N, ...], or [1, N, ...] where
        they do not change. Where constants enter once, they are those of the first step alone.
        """
        if self._schedule.over(start):
            return {name: _zeros(value)[None] for name, value in self._constant.items()}
        if not self._plan.frames:
            return {name: value[None] for name, value in self._constant.items()}
        if not self._schedule.given:
            return {}
        begin, steps = self._plan.begin, stop - start
        found = self._schedule.values(self._images[start - begin : stop - begin].flatten(0, 1))
        return {name: value.unflatten(0, (steps, -1)) for name, value in found.items()}

    def presented(self, node: Input, start: int, stop: int) -> Tensor:
        """The values [steps, N, C, H, W] of the Input node over the steps start ... stop - 1."""
        return torch.stack([node.present(self.frame(time), time) for time in range(start, stop)])


def _zeros(like: Tensor) -> Tensor:
    """Zeros in the shape of a value, without memory of their own."""
    return torch.zeros((), dtype=like.dtype, device=like.device).expand_as(like)


def last_readers(nodes: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """For each value, the last node that reads it. nodes: what each one reads, in order."""
    return {name: reader for reader, names in nodes.items() for name in names}
