"""The contract of an engine: it says what it cannot run, and prepares a graph once for all runs.

To add one, write its file with an `Engine` and a `Prepared`, and one line in `simulate.ENGINES`,
where "auto" takes the first that can: `engines/interpreter.py` is the smallest.
"""

import copy
from abc import ABC, abstractmethod
from threading import Lock
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch

from spiking_resnet.engines.plan import Plan, Result
from spiking_resnet.graph import Graph, Node


class Prepared(ABC):
    """A graph made ready by one engine for one device; it serves runs in several threads."""

    @abstractmethod
    def run(self, plan: Plan) -> Result:
        """The simulation that `plan` asks for; images and state are on the prepared device.

        Raises OutOfRange where the engine cannot hold the numbers of the run.
        """


class Engine(ABC):
    """A way to run a spiking network that gives the spikes that `graph.interpret` defines.

    name: as users write it. integers: the kinds of nodes whose sums are integers, and never round.
    """

    name: ClassVar[str]
    integers: ClassVar[tuple[type[Node], ...]] = ()

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Graph, dict[torch.device, Prepared]] = WeakKeyDictionary()
        self._lock = Lock()

    @abstractmethod
    def unsupported(self, graph: Graph, device: torch.device | str = "cpu") -> list[str]:
        """Why this engine cannot run `graph` on `device`; empty where it can."""

    @abstractmethod
    def make(self, graph: Graph) -> Prepared:
        """What all runs of `graph` share, on the device where the tensors of `graph` are."""

    def missing(self, device: torch.device | str = "cpu") -> str:
        """What a user is told to install where nothing runs on `device` without it; or empty."""
        return ""

    def prepare(self, graph: Graph, device: torch.device | str = "cpu") -> Prepared:
        """The graph made ready for `device`: once, and kept for as long as the graph is.

        What is kept refers to a copy of the graph that shares its nodes, so it keeps no graph
        alive. Tensors of a graph must not change in place. Raises OutOfRange.
        """
        device = torch.device(device)
        with self._lock:
            kept = self._kept.setdefault(graph, {})
            if device not in kept:
                kept[device] = self.make(copy.copy(graph).to(device))
            return kept[device]
