"""Energy: the work of a spiking network at the prices of a cost model, and its artificial twin's.

What a network takes is linear in its neurons' spikes: the work without any is fixed (that of an
image that enters as spikes, too), the rest grows with the firing rate. So under each model there is
one rate at which it takes what the twin takes,

    rate * (E_twin - E_silent) / (E - E_silent)

and none where the fixed part alone takes more. The same share of spikes per synapse says how busy
synapses may be. Twins are the network that was converted, on the same machine: it reads one weight
and one activation for each multiply-add, without reuse, as the spiking network reads one weight for
each of its accumulations.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch

from spiking_resnet.codec import Record, same
from spiking_resnet.costs.events import Events, sources
from spiking_resnet.costs.models import Model, check_names
from spiking_resnet.costs.sizes import Size, sizes
from spiking_resnet.costs.work import KINDS, MEMORY, Work, total, work
from spiking_resnet.graph import Graph
from spiking_resnet.graph.structure import spiking_depth
from spiking_resnet.records import InputError


@dataclass(frozen=True)
class Twin(Record):
    """The artificial network under a cost model, its numbers of so many bits.

    joules: of an image; None where the model has no constant for its multiply-adds. parts: of its
    kinds of operations and accesses. break_even: the firing rate (spikes per neuron and step) below
    which the spiking network takes less; per_synapse: spikes per synapse and image there. 0 where
    what does not depend on spikes takes more already, None where there is nothing to compare.
    """

    name: str
    bits: int
    joules: float | None
    parts: Mapping[str, float]
    break_even: float | None
    per_synapse: float | None


@dataclass(frozen=True)
class Priced(Record):
    """A spiking network under a cost model, for one image.

    joules: in all. silent: what it would take if no neuron fired. convention: synaptic operations
    and multiply-adds alone, which is what publications print. each_step: joules if the image's
    layers were computed anew at every step. repeated: joules if a spike of size n were n additions.
    parts: joules by kind of operation, access, and "addressing". layers: by node. uncounted: kinds
    that occur, and that the model has no constant for.
    """

    model: str
    title: str
    joules: float
    silent: float
    convention: float
    each_step: float
    repeated: float
    parts: Mapping[str, float]
    layers: Mapping[str, float]
    uncounted: tuple[str, ...]
    twins: tuple[Twin, ...]


@dataclass(frozen=True)
class Account(Record):
    """What a spiking network does and takes for an image: counts by layer, joules by cost model.

    images, steps: means are over so many images, of so many time steps. rate: spikes per neuron and
    step; per_synapse: spikes per synapse and image. synapses: of the network. work: every node's.
    priced: by every model. exact: whether each spike's own fan-out was counted.
    """

    images: int
    steps: int
    rate: float
    per_synapse: float
    synapses: int
    work: tuple[Work, ...]
    priced: tuple[Priced, ...]
    exact: bool
    notes: Mapping[str, Any]

    layout = (
        *same("images", "steps", "rate", "per_synapse", "synapses", "exact"),
        ("total", "totals"),
        *same("work", "priced", "notes"),
    )

    @property
    def totals(self) -> dict[str, float]:
        """The number of operations and accesses of each kind, of all nodes."""
        return {kind: total(self.work, kind) for kind in Work.COUNTED}


def account(graph: Graph, events: Events, models: Sequence[Model]) -> Account:
    """The account of a spiking network's events.

    InputError for a network without neurons, events of another, and models of one name.
    """
    check_names(models)
    if not graph.neurons:
        raise InputError("the network has no spiking neurons: convert it first")
    _check_events(graph, events)
    own = work(graph, events)
    silent = work(graph, _silent(graph, events))
    neurons = graph.neurons
    fired = sum(each.spikes for each in own if each.name in neurons)
    rate = fired / (sum(neurons.values()) * events.steps)
    twin = _Twin(graph) if graph.ann is not None else None
    synapses = sum(size.synapses for size in sizes(graph.nodes).values())
    busy, least = (_arrived(each) / synapses if synapses else 0.0 for each in (own, silent))
    known = _Busy(rate, busy, least)
    priced = tuple(_priced(model, own, silent, events.steps, known, twin) for model in models)
    return Account(
        images=events.images,
        steps=events.steps,
        rate=rate,
        per_synapse=busy,
        synapses=synapses,
        work=own,
        priced=priced,
        exact=events.exact,
        notes=graph.notes,
    )


def _check_events(graph: Graph, events: Events) -> None:
    """Raise InputError for events that are not those of the network's own neurons."""
    shapes = {node.name: node.shape for node in sources(graph)}
    known = {name: tuple(map_.shape) for name, map_ in events.fired.items()}
    if any(known[name] != shapes.get(name) for name in known) or not {*graph.neurons} <= {*known}:
        raise InputError("the events are of another network: its populations are others")
    if events.images < 1 or events.steps < 1:
        raise InputError("the events are of no images, or of no time steps")


def _silent(graph: Graph, events: Events) -> Events:
    """The events of as many images and steps in which no neuron fired: the image alone did."""
    depth = spiking_depth(graph)

    def still(fired: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: map_ if depth[name] == 0 else map_ * 0 for name, map_ in fired.items()}

    return replace(events, fired=still(events.fired), repeated=still(events.repeated))


def _arrived(own: Sequence[Work]) -> float:
    """The spikes that arrive at synapses, and at sums."""
    return total(own, "accumulations") + total(own, "identities")


@dataclass(frozen=True)
class _Busy:
    """How busy a network is: rate, spikes per synapse, and those when no neuron fires."""

    rate: float
    per_synapse: float
    least: float

    def at(self, share: float) -> tuple[float, float]:
        """(Rate, spikes per synapse) where neurons fire `share` times what they do."""
        return self.rate * share, self.least + (self.per_synapse - self.least) * share


def _priced(
    model: Model,
    own: Sequence[Work],
    silent: Sequence[Work],
    steps: int,
    busy: _Busy,
    twin: "_Twin | None",
) -> Priced:
    parts = {each.name: _parts(model, each) for each in own}
    summed = _sum(parts.values())
    joules, still = sum(summed.values()), _joules(model, silent)
    image = sum(
        parts[each.name].get(kind, 0.0)
        for each in own
        if each.image_macs
        for kind in ("image_macs", "weight_reads")
    )
    more = total(own, "repeated") - total(own, "accumulations")
    price = model.operations.get("accumulations")
    published = ("accumulations", "image_macs", "stream_macs")
    twins = () if twin is None else twin.priced(model, steps, joules, still, busy)
    return Priced(
        model=model.name,
        title=model.title,
        joules=joules,
        silent=still,
        convention=sum(summed.get(kind, 0.0) for kind in published),
        each_step=joules + (steps - 1) * image,
        repeated=joules + (0.0 if price is None else more * price.joules(0)),
        parts=summed,
        layers={name: sum(each.values()) for name, each in parts.items()},
        uncounted=_uncounted(model, own),
        twins=twins,
    )


def _joules(model: Model, own: Iterable[Work]) -> float:
    return sum(sum(_parts(model, each).values()) for each in own)


def _sum(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in parts:
        for kind, joules in each.items():
            found[kind] = found.get(kind, 0.0) + joules
    return found


def _parts(model: Model, own: Work) -> dict[str, float]:
    """The joules of one node's work, by kind."""
    found = {
        kind: own.count(kind) * price.joules(0)
        for kind, price in model.operations.items()
        if own.count(kind)
    }
    for kind in MEMORY:
        if own.count(kind) and (one := model.access(kind, *_kept(own, kind))) is not None:
            found[kind] = own.count(kind) * one
    arriving = {"spike": own.moved, "accumulation": own.accumulations}
    addressing = sum(arriving[name] * price.joules(0) for name, price in model.addressing.items())
    return {**found, "addressing": addressing} if addressing else found


def _kept(own: Work, kind: str) -> tuple[int, int]:
    """(How many values lie where an access goes to, bits of each)."""
    if kind == "weight_reads":
        return own.weights, own.weight_bits
    if kind == "moved":
        return own.values, own.address_bits + (own.spike_bits if own.spike_bits > 1 else 0)
    return own.values * max(1, own.state_words), own.state_bits


def _uncounted(model: Model, own: Sequence[Work]) -> tuple[str, ...]:
    """The kinds that occur and that nothing of the model covers."""
    covered = {*model.operations, *model.memory, *model.includes}
    return tuple(kind for kind in (*KINDS, *MEMORY) if kind not in covered and total(own, kind))


class _Twin:
    """The artificial network's counts: of every layer with weights, and in all."""

    def __init__(self, graph: Graph) -> None:
        assert graph.ann is not None
        nodes = graph.ann.nodes
        own = sizes(nodes)
        by_name = {node.name: node for node in nodes}
        self.layers = [
            (own[node.name], prod(by_name[node.inputs[0]].shape), prod(node.shape))
            for node in nodes
            if node.takes_any_scale
        ]
        self.biases = sum(prod(node.shape) for node in nodes if node.added is not None)
        self.sums = sum(
            prod(node.shape) * (len(node.inputs) - 1)
            for node in nodes
            if node.ARITY is None and not node.hands_on
        )
        self.units = sum(prod(node.shape) for node in nodes if node.is_population)
        self.pooled = sum(own[node.name].synapses for node in nodes if node.hands_on)

    def priced(
        self,
        model: Model,
        steps: int,
        joules: float,
        silent: float,
        busy: _Busy,
    ) -> tuple[Twin, ...]:
        """The twins of a spiking network under a model."""
        bits = {"fp32": 32, "int32": 32, "int8": 8, "quantised": steps.bit_length()}
        found = []
        for name in bits:
            parts = self._parts(model, name, bits[name])
            whole = sum(parts.values()) if parts is not None else None
            share = _share(whole, joules, silent)
            even = (None, None) if share is None else busy.at(share)
            found.append(Twin(name, bits[name], whole, parts or {}, even[0], even[1]))
        return tuple(found)

    def _parts(self, model: Model, name: str, bits: int) -> dict[str, float] | None:
        price = model.ann.get(name)
        if price is None:
            return None
        adds = {"constants": self.biases, "stream_additions": self.sums,
                "comparisons": self.units, "pooling": self.pooled}  # fmt: skip
        found = {"macs": sum(size.synapses for size, _, _ in self.layers) * price.joules(bits)}
        if step := model.addressing.get("accumulation"):
            found["addressing"] = sum(r + w for _, r, w in self.layers) * step.joules(0)
        for kind, number in adds.items():
            if kind in model.operations:
                found[kind] = number * model.operations[kind].joules(0)
        return {**found, **_sum(self._memory(model, bits, *each) for each in self.layers)}

    def _memory(
        self, model: Model, bits: int, size: Size, reads: int, writes: int
    ) -> dict[str, float]:
        """The joules of a layer's accesses: a weight and an activation for each multiply-add."""
        weight = model.access("weight_reads", size.parameters, bits)
        read, write = (model.access("activations", values, bits) for values in (reads, writes))
        found = {}
        if weight is not None:
            found["weight_reads"] = size.synapses * weight
        if read is not None and write is not None:
            found["activations"] = size.synapses * read + writes * write
        return found


def _share(twin: float | None, joules: float, silent: float) -> float | None:
    """By how much spikes would have to be multiplied for the network to take what its twin does."""
    if twin is None or joules <= silent:
        return None
    return max(0.0, (twin - silent) / (joules - silent))
