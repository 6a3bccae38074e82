"""What every node of a spiking network does for an image: operations of each kind, and memory.

The operations are those of an event-driven machine: a spike is sent to each layer that reads it,
reads one weight for each of its synapses, and adds it to a membrane potential in memory. What the
image alone decides is computed once and added as a current at every step. Nothing is counted as 0
because it is hard to count; what a machine saves by merging operations is its own affair.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, log2, prod
from typing import Any, ClassVar

import torch

from spiking_resnet.codec import Record
from spiking_resnet.costs.events import Events, arrivals
from spiking_resnet.costs.sizes import sizes
from spiking_resnet.graph import Fire, Graph, Node, Output, Round, tensors
from spiking_resnet.graph.structure import carries_spikes, spiking_depth

FLOAT_BITS = 32  # of what is on no grid
STATE_BITS = 32  # of membrane potentials, as the native engine keeps them
KINDS: Mapping[str, str] = {
    "accumulations": "a spike's weight, added to a membrane potential",
    "identities": "spikes added without a weight, by identity shortcuts and pools",
    "image_macs": "multiply-adds of layers that read the image, computed once",
    "stream_macs": "multiply-adds of layers that read numbers at every step (signed streams)",
    "constants": "additions of biases, and of the image's current, at every step",
    "stream_additions": "additions of numbers to signed streams",
    "updates": "a neuron's input of one step, added to its membrane potential",
    "comparisons": "of membrane potentials with firing thresholds",
    "resets": "subtractions of a firing threshold, one for each spike",
    "scalings": "multiplications of summed spikes by their step's amplitude (few bits)",
    "pooling": "comparisons and additions of pools",
    "roundings": "of numbers to a grid",
    "readout": "additions to the read-out's sums",
}  # of operations
MEMORY: Mapping[str, str] = {
    "weight_reads": "weights read",
    "state_reads": "words of membrane potentials and neurons' memories read",
    "state_writes": "words of them written",
    "moved": "spikes sent to a layer that reads them",
}


@dataclass(frozen=True)
class Work(Record):
    """The work of one node for one image, a mean over images.

    The fields of KINDS count operations, those of MEMORY accesses. repeated: accumulations if a
    spike of size n is n additions instead of a shift. spikes: fired. values: of the node, and of
    the potentials that it adds to. weights: stored, of weight_bits each. state_words: that a neuron
    keeps, of state_bits each. spike_bits, address_bits: of a spike's size and its neuron's number.
    """

    name: str
    kind: str
    accumulations: float = 0.0
    identities: float = 0.0
    image_macs: float = 0.0
    stream_macs: float = 0.0
    constants: float = 0.0
    stream_additions: float = 0.0
    updates: float = 0.0
    comparisons: float = 0.0
    resets: float = 0.0
    scalings: float = 0.0
    pooling: float = 0.0
    roundings: float = 0.0
    readout: float = 0.0
    weight_reads: float = 0.0
    state_reads: float = 0.0
    state_writes: float = 0.0
    moved: float = 0.0
    repeated: float = 0.0
    spikes: float = 0.0
    values: int = 0
    weights: int = 0
    weight_bits: int = 0
    state_words: int = 0
    state_bits: int = STATE_BITS
    spike_bits: int = 0
    address_bits: int = 0

    COUNTED: ClassVar[tuple[str, ...]] = (*KINDS, *MEMORY, "repeated", "spikes")

    def count(self, kind: str) -> float:
        """The number of operations or accesses of one kind."""
        return float(getattr(self, kind))


def total(work: Iterable[Work], kind: str) -> float:
    """The number of operations or accesses of one kind, of all nodes."""
    return sum(each.count(kind) for each in work)


def work(graph: Graph, events: Events) -> tuple[Work, ...]:
    """The work of every node that has any, in order, for one of the images of `events`."""
    counting = _Counting(graph, events)
    found = (counting.of(node) for node in graph.nodes)
    return tuple(each for each in found if any(each.count(kind) for kind in Work.COUNTED))


class _Counting:
    def __init__(self, graph: Graph, events: Events) -> None:
        self.graph, self.events = graph, events
        self.spikes, self.own = carries_spikes(graph), sizes(graph.nodes)
        self.depth = spiking_depth(graph)
        self.arriving = arrivals(graph, events.fired)
        self.repeated = arrivals(graph, events.repeated)
        once = graph.input.encoding == "once"
        self.presented = 1 if once else events.steps  # steps in which constants enter

    def of(self, node: Node) -> Work:
        """The work of one node."""
        found: dict[str, Any] = {}
        if self._constant(node.name):
            found = self._of_constants(node)
        else:
            for kinds in (
                self._arrivals(node), self._numbers(node), self._currents(node), self._own(node)
            ):  # fmt: skip
                for kind, count in kinds.items():
                    found[kind] = found.get(kind, 0.0) + count
        found |= self._memory(node, found)
        return Work(node.name, type(node).__name__, **found, **_stored(node))

    def _constant(self, name: str) -> bool:
        """Whether the image alone decides a node's value, which is the same at every step."""
        return self.depth[name] == 0 and not self.spikes[self.graph.input.name]

    def _of_constants(self, node: Node) -> dict[str, float]:
        """What is done once for the image."""
        size, values = self.own[node.name], float(prod(node.shape))
        if node.takes_any_scale:
            added = 0.0 if node.added is None else values
            return {"image_macs": float(size.synapses), "constants": added}
        if node.has_synapses or node.choices:
            return {"pooling": size.synapses + self._compared(node)}
        return {"constants": values * max(0, len(node.inputs) - 1) if _adds(node) else 0.0}

    def _arrivals(self, node: Node) -> dict[str, float]:
        """What spikes bring that end here."""
        images = self.events.images
        keys = [key for key in self.arriving if key[0] == node.name]
        count = sum(self.arriving[key] for key in keys) / images
        if not keys:
            return {}
        if node.choices:
            return {"pooling": count}
        if isinstance(node, Output):
            return {"readout": count}
        if not node.takes_any_scale:
            return {"identities": count}
        repeated = sum(self.repeated[key] for key in keys) / images
        scaled = self._varies(node.inputs[0])
        return {
            "accumulations": count,
            "repeated": repeated,
            "scalings": float(prod(node.shape) * self.events.steps) if scaled else 0.0,
        }

    def _varies(self, name: str) -> bool:
        """Whether a spike's value depends on its step, of the spikes that a node hands on."""
        node = self.graph[name]
        if isinstance(node, Fire):
            return node.neuron.unit_varies
        return any(self._varies(each) for each in node.inputs)

    def _numbers(self, node: Node) -> dict[str, float]:
        """What is done with numbers at every step."""
        read = [name for name in node.inputs if not self._constant(name) and not self.spikes[name]]
        if not read:
            return {}
        steps, size = self.events.steps, self.own[node.name]
        if node.takes_any_scale:
            return {"stream_macs": float(size.synapses * steps)}
        if node.has_synapses:
            return {"pooling": float(size.synapses * steps)}
        if isinstance(node, Output):
            return {"readout": float(prod(node.shape) * steps)}
        if _adds(node):
            kept = sum(not self._flows(name) for name in read)
            return {"stream_additions": float(kept * prod(node.shape) * steps)}
        return {}

    def _flows(self, name: str) -> bool:
        """Whether products are added where they arrive: a sum alone reads them."""
        return self.graph[name].takes_any_scale and len(self.graph.consumers[name]) == 1

    def _currents(self, node: Node) -> dict[str, float]:
        """Additions of what is constant."""
        each = [prod(self.graph[name].shape) for name in node.inputs if self._constant(name)]
        own = 0 if node.added is None else prod(node.shape)
        return {"constants": float((sum(each) + own) * self.presented)}

    def _own(self, node: Node) -> dict[str, float]:
        """What its own neurons, comparisons or roundings do."""
        steps = self.events.steps
        if isinstance(node, Fire):
            return self._neurons(node)
        if isinstance(node, Round):
            return {"roundings": float(prod(node.shape) * steps)}
        if node.choices:
            moved = self._sent(node)["moved"]
            return {"pooling": self._compared(node) * steps, "moved": moved}
        return self._sent(node) if node.name in self.events.fired else {}

    def _compared(self, node: Node) -> float:
        """The comparisons of a max pool in one step."""
        return float(prod(node.shape) * max(0, node.choices - 1))

    def _sent(self, node: Node) -> dict[str, float]:
        """The spikes of a source, and how many layers they are sent to."""
        fired = self.events.fired.get(node.name)
        count = 0.0 if fired is None else float(fired.sum()) / self.events.images
        return {"spikes": count, "moved": count * self._readers(node)}

    def _readers(self, node: Node) -> int:
        """How many nodes read a source's spikes, where those that hand them on have theirs."""
        found = 0
        for reader in self.graph.consumers[node.name]:
            passes = reader.hands_on and self.spikes[reader.name] and not reader.choices
            found += self._readers(reader) if passes else not isinstance(reader, Output)
        return found

    def _neurons(self, node: Fire) -> dict[str, float]:
        neuron, steps = node.neuron, self.events.steps
        firing = steps if neuron.firing_steps is None else min(steps, neuron.firing_steps)
        tests = neuron.levels * (2 if neuron.signed else 1)
        own = float(prod(node.shape))
        sent = self._sent(node)
        return {
            "updates": own * steps,
            "comparisons": own * firing * tests,
            "resets": sent["spikes"],
            **sent,
        }

    def _memory(self, node: Node, found: Mapping[str, float]) -> dict[str, float]:
        """Accesses that go with operations: each addition to a potential reads and writes it."""

        def of(*kinds: str) -> float:
            return sum(found.get(kind, 0.0) for kind in kinds)

        if self._constant(node.name):
            return {"weight_reads": of("image_macs")}
        added = of("accumulations", "identities", "constants", "stream_additions", "readout")
        words = _words(node) if isinstance(node, Fire) else 0
        return {
            "weight_reads": of("accumulations", "stream_macs"),
            "state_reads": added + of("updates") * words,
            "state_writes": added + of("resets") * words,
        }


def _adds(node: Node) -> bool:
    """Whether a node adds up what it reads."""
    return node.ARITY is None and not node.hands_on


def _words(node: Fire) -> int:
    """The words that a neuron keeps from step to step: its potential, and what it remembers."""
    return 1 + node.neuron.remembers


def _stored(node: Node) -> dict[str, int]:
    """What a node keeps in memory."""
    values = prod(node.shape)
    found = {"values": values, "address_bits": max(1, ceil(log2(values))), "spike_bits": 1}
    if isinstance(node, Fire):
        sizes_of = node.neuron.levels * (2 if node.neuron.signed else 1) + 1
        return {**found, "state_words": _words(node), "spike_bits": ceil(log2(sizes_of))}
    if not node.takes_any_scale:
        return found
    weight = next(iter(tensors(node).values()))
    return {**found, "weights": weight.numel(), "weight_bits": _bits(node, weight)}


def _bits(node: Node, weight: torch.Tensor) -> int:
    """The bits of a weight as a whole number of its grid with a sign."""
    grid = getattr(node, "grid", None)
    if grid is None:
        return FLOAT_BITS
    largest = round(float(weight.abs().max()) * 2.0**grid)
    return largest.bit_length() + 1
