"""What fired in a simulation, neuron by neuron, and how many spikes arrive where.

A spike is added to every membrane potential that its neuron has a synapse to. So arrivals are
linear in what was fired: the map of a population's spikes, summed over steps and images, passes
through what hands spikes on, and each reader counts what its synapses take (`Node.connections`).
Neurons at a map's border have fewer synapses, and count with these. A max pool decides from step to
step which spikes it passes on, so its own are counted where it stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spiking_resnet.graph import Graph, Node
from spiking_resnet.graph.structure import carries_spikes
from spiking_resnet.shown import Short
from spiking_resnet.surroundings import undisturbed


@dataclass(frozen=True, eq=False)
class Events(Short):
    """The spikes of every source (population, max pool, image as spikes) of a network, summed up.

    images, steps: of how many images, over how many time steps. fired: how often each neuron fired,
    float64 [C, ...] by name, whole numbers. repeated: the same with a spike of size n as n spikes.
    exact: whether all neurons were counted one by one; where not, a population's spikes are spread
    evenly over its neurons, and a max pool passes on the largest sum of each window.
    """

    images: int
    steps: int
    fired: Mapping[str, Tensor]
    repeated: Mapping[str, Tensor]
    exact: bool = True

    def plus(self, other: "Events") -> "Events":
        """The events of other images too, in as many steps."""
        return replace(
            self,
            images=self.images + other.images,
            fired={name: map_ + other.fired[name] for name, map_ in self.fired.items()},
            repeated={name: map_ + other.repeated[name] for name, map_ in self.repeated.items()},
            exact=self.exact and other.exact,
        )

    def then(self, later: "Events") -> "Events":
        """The events of the same images in further steps too."""
        return replace(self.plus(later), images=self.images, steps=self.steps + later.steps)


def sources(graph: Graph) -> tuple[Node, ...]:
    """The nodes whose spikes are their own, in order: not handed on by linear ones."""
    spikes = carries_spikes(graph)
    own = (node for node in graph.nodes if spikes[node.name])
    return tuple(node for node in own if not node.hands_on or node.choices)


def spread(node: Node, total: float) -> Tensor:
    """A map [C, ...] of `total` spikes, the same for every neuron of a node."""
    size = torch.Size(node.shape).numel()
    return torch.full(node.shape, total / size, dtype=torch.float64, device="cpu")


@undisturbed()
def arrivals(graph: Graph, fired: Mapping[str, Tensor]) -> dict[tuple[str, int], float]:
    """How many spikes arrive at each input (name, position) that ends spikes, through its synapses.

    fired: as in Events; a max pool that it lacks passes on the largest sum of each window. An input
    without synapses, such as that of a sum, takes each spike once.
    """
    spikes = carries_spikes(graph)
    values: dict[str, Tensor] = {}
    found: dict[tuple[str, int], float] = {}
    for node in graph.nodes:
        inputs = [values.get(name) for name in node.inputs]
        passes = node.hands_on and spikes[node.name]
        if node.name in fired:
            values[node.name] = fired[node.name][None].double()
        elif passes:
            values[node.name] = node.handed_on(*(each for each in inputs if each is not None))
        if passes and not node.choices:
            continue
        for position, value in enumerate(inputs):
            if value is not None:
                count = node.connections(value) if node.has_synapses else value.sum()
                found[node.name, position] = float(count)
    return found
