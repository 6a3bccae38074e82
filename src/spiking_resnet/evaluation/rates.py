"""What neurons sent in a run, as input currents of others, and in the units of the ANN."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.graph import (
    AvgPool,
    Fire,
    Graph,
    Input,
    MaxPool,
    Node,
    interpret,
)
from spiking_resnet.graph.structure import carries_spikes, spike_scale
from spiking_resnet.neurons import per_channel
from spiking_resnet.records import InputError


@dataclass(frozen=True, eq=False)
class Counterpart:
    """A spiking population and the ANN's node whose activations it approximates.

    twin: that node. amplitude: of one of its spikes in the ANN's units, [] or [C], float64. A
    read-out without neurons is the last one of a graph: it has no `fire`.

    An activation is what the spikes add up to, over so many steps as `divisor` says.
    """

    name: str
    fire: Fire | None
    twin: Node
    amplitude: Tensor

    def activations(self, counts: Tensor, steps: int) -> Tensor:
        """Spike counts [N, C, ...] over `steps` steps as activations, float64."""
        counts = counts.double()
        return per_channel(self.amplitude, counts) * counts / steps

    def currents(self, activations: Tensor, steps: int) -> Tensor:
        """The input current, summed over `steps` steps, that represents activations [N, C, ...]."""
        assert self.fire is not None  # a read-out without neurons sums up logits
        unit = self.amplitude / self.fire.neuron.threshold.double()
        return activations.double() * steps / per_channel(unit, activations)

    def drive(self, total: Tensor, steps: int) -> Tensor:
        """The activation, of either sign, that a summed current represents: inverts `currents`."""
        assert self.fire is not None
        unit = self.amplitude / self.fire.neuron.threshold.double()
        return total.double() * per_channel(unit, total) / steps


def counterparts(graph: Graph) -> tuple[Counterpart, ...]:
    """Every population of a spiking network with its ANN node, in order, and the read-out.

    Raises InputError for a graph that does not know what it came from.
    """
    thresholds, ann = _amplitudes(graph), graph.ann
    if ann is None or thresholds is None:
        raise InputError(
            "the graph does not know the ANN or the thresholds it came from: convert it again"
        )
    output, spikes = graph.output, carries_spikes(graph)
    amplitudes: dict[str, Tensor] = {}
    found: list[Counterpart] = []
    for node in graph.nodes:
        if isinstance(node, Input):
            amplitudes[node.name] = torch.tensor(node.scale, dtype=torch.float64)
        elif isinstance(node, Fire):
            last = output.readout == "spikes+membrane" and node.name in output.inputs
            twin = (
                ann.output
                if last
                else ann[node.name if node.name in ann.by_name else node.inputs[0]]
            )
            if last:
                amplitude = torch.tensor(output.scale, dtype=torch.float64)
            elif node.name in thresholds:
                amplitude = torch.tensor(thresholds[node.name], dtype=torch.float64)
            else:  # neurons of their own after a pool
                amplitude = amplitudes[node.inputs[0]] * node.neuron.threshold.double()
            amplitudes[node.name] = amplitude
            found.append(Counterpart(node.name, node, twin, amplitude))
        elif spikes[node.name]:
            if isinstance(node, AvgPool):  # here it sums; in the ANN it divides
                pool = ann[node.name]
                assert isinstance(pool, AvgPool)
                node = replace(node, divisor=pool.divisor)
            amplitudes[node.name] = spike_scale(graph, node, amplitudes)
    if output.readout != "spikes+membrane":
        found.append(
            Counterpart(output.name, None, ann.output, torch.tensor(1.0, dtype=torch.float64))
        )
    return tuple(found)


def _amplitudes(graph: Graph) -> Mapping[str, Any] | None:
    """The amplitudes of spikes in the ANN's units, by population; None where they are not noted.

    They are the thresholds, unless every population has found its own (`ratios`).
    """
    usual = None if graph.notes.get("ratios") else graph.notes.get("thresholds")
    found: Mapping[str, Any] | None = graph.notes.get("amplitudes", usual)
    return found


def divisor(graph: Graph, steps: int) -> int:
    """Over how many steps the sum of a neuron's spikes is an activation.

    1 where the image enters once, so that sums are what stands for activations; else all.
    """
    return 1 if graph.input.encoding == "once" else steps


def summed_currents(
    graph: Graph, images: Tensor, counts: Mapping[str, Tensor], steps: int
) -> Iterator[tuple[Fire, Tensor]]:
    """Yield every population with its input current summed over `steps` steps, [N, ...].

    counts: what every neuron's spikes [N, ...] of these steps add up to, by population: their
    number, where their amplitude is 1. Currents are linear in spikes, so the sums follow from them:
    in float64, and on the grid without rounding. Where a signed stream is rounded to the grid at
    every step, that rounding is left out. Raises InputError for max pools of each step's spikes,
    whose sum counts do not tell.
    """
    fixed = interpret.constants(graph)
    for pool in graph.of(MaxPool):
        if pool.rule == "instant" and pool.name not in fixed:
            raise InputError(
                f"{pool.name!r} takes the maximum of each step's spikes, which counts do not tell: "
                "convert with max_pooling='cumulative'"
            )
    nodes, given = _beforehand(graph, images, steps)
    given |= {name: count.double() for name, count in counts.items()}
    last = {node.inputs[0]: node.name for node in graph.of(Fire)}  # reader of a current, by current
    held: dict[str, Tensor] = {}
    summing = [node.summed(divisor(graph, steps)) for node in nodes]
    for node, value in interpret.walk(summing, images, {}, 0, given):
        if node.name in last:
            held[node.name] = value
        if isinstance(node, Fire):
            source = node.inputs[0]
            yield node, held[source]
            if last[source] == node.name:
                del held[source]


def _beforehand(
    graph: Graph, images: Tensor, steps: int
) -> tuple[tuple[Node, ...], dict[str, Tensor]]:
    """(the nodes that depend on spikes, the summed values of all others over the steps)."""
    if graph.input.encoding != "poisson":
        fixed, times = interpret.unreached(graph), divisor(graph, steps)
        walked = interpret.walk((n for n in graph.nodes if n.name in fixed), images, {})
        read = {name for n in graph.nodes if n.name not in fixed for name in n.inputs}
        given = {n.name: value.double() * times for n, value in walked if n.name in read}
        return tuple(n for n in graph.nodes if n.name in given or n.name not in fixed), given
    total = torch.zeros_like(images, dtype=torch.float64)
    for time in range(steps):
        total += graph.input.present(images, time)
    return graph.nodes, {graph.input.name: total}
