"""What synapses read, on average: means and variances of their inputs on calibration images."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from spiking_resnet.engines.simulate import simulate
from spiking_resnet.export.trees import pixels
from spiking_resnet.graph import Fire, Graph, Input
from spiking_resnet.graph.nodes import Weighted
from spiking_resnet.graph.structure import carries_spikes


@dataclass(frozen=True, eq=False)
class Rates:
    """Of every channel of what synapses read: mean and variance over images and positions, [C]."""

    mean: Tensor
    variance: Tensor


def rates_read(graph: Graph, images: Tensor, steps: int) -> Mapping[str, Rates]:
    """Return, by the names of what synapses read, the rates there over a run on `images`."""
    run = simulate(graph, images, steps, neurons=list(graph.neurons))
    spikes, image = carries_spikes(graph), pixels(graph)
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        if isinstance(node, Fire):
            values[node.name] = run.neuron_spikes[node.name].double() / steps
        elif isinstance(node, Input):
            values[node.name] = node.present(images, 0).double()
        elif spikes[node.name] or node.name in image:
            values[node.name] = node.summed(1).value(*(values[name] for name in node.inputs))
    read = {node.inputs[0] for node in graph.nodes if isinstance(node, Weighted)}
    return {name: _rates(values[name]) for name in read & values.keys()}


def _rates(value: Tensor) -> Rates:
    """Mean and variance of each channel of a value [N, C, ...]."""
    rows = value.transpose(0, 1).flatten(1)
    return Rates(rows.mean(1), rows.var(1, correction=0))


def by_weight(per_channel: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Return a number of each input channel [C] at every weight of the rows, [out, inputs].

    weight: [out, C / groups, ...].
    """
    rows, taps = len(weight) // groups, weight[0, 0].numel()
    spread = per_channel.view(groups, -1).repeat_interleave(taps, 1)
    return spread.repeat_interleave(rows, 0)
