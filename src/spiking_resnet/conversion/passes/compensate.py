"""The paper's compensation: one factor on all synapses, against what discretisation loses.

With thresholds at a percentile, spikes are lost: a neuron fires at most once a step, and a
remainder below the threshold never leaves. A factor c slightly above 1 on all weights
(convolutions, projections, classifier) and on the identity gains, not on the biases, makes up for
it on average.
The published value is not recoverable (the released scripts have c = 1), so it is searched for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spiking_resnet.graph import (
    Add,
    Affine,
    Conv2d,
    Fire,
    Graph,
    Linear,
    Node,
    Output,
    interpret,
)
from spiking_resnet.graph.structure import scale_input, weighted
from spiking_resnet.progress import note
from spiking_resnet.records import decisions
from spiking_resnet.surroundings import undisturbed

CANDIDATES = (1.0, 1.0025, 1.005, 1.01, 1.015, 1.02, 1.03, 1.05)


def compensate(graph: Graph, factor: float) -> Graph:
    """Return `graph` with all weights and identity gains times `factor`."""
    if not 0 < factor < float("inf"):
        raise ValueError(f"the compensation factor is {factor}: it must be positive and finite")
    if factor == 1:
        return graph
    has_weights, fires = weighted(graph), _reaches_neurons(graph)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        if isinstance(node, Conv2d | Linear):
            node = replace(node, weight=node.weight * factor)
        elif isinstance(node, Add) and (has_weights[node.name] or fires[node.name]):
            for position, name in enumerate(node.inputs):
                if not has_weights[name]:
                    gain = torch.tensor(factor, dtype=torch.float32)
                    node = scale_input(graph, nodes, node, position, gain, "compensation")
        nodes[node.name] = node
    return graph.with_nodes(nodes.values())


def _reaches_neurons(graph: Graph) -> dict[str, bool]:
    """Return, for every node, whether neurons or the read-out receive its value unweighted.

    A sum of spikes that only convolutions read is no synapse: their weights are compensated.
    """
    found: dict[str, bool] = {}
    for node in reversed(graph.nodes):
        found[node.name] = any(
            isinstance(reader, Fire | Output)
            or ((reader.hands_on or isinstance(reader, Affine)) and found[reader.name])
            for reader in graph.consumers[node.name]
        )
    return found


@dataclass(frozen=True)
class Trial:
    """One factor that was tried: agreement with the ANN's decisions on calibration
    images (a fraction), and the mean squared distance of the two networks' class probabilities.
    """

    factor: float
    agreement: float
    distance: float


def search(
    ann: Graph,
    images: Tensor,
    build: Callable[[float], Callable[[Tensor], Tensor]],
    candidates: Sequence[float] = CANDIDATES,
    batch: int = 64,
) -> tuple[Trial, ...]:
    """Return one Trial for each candidate, best first.

    build: from a factor to a function from images [N, C, H, W] to the spiking network's logits.
    images: calibration images [n, C, H, W]. Best is the smallest distance of class probabilities:
    it uses every image, where agreement alone moves in steps of 1 / n.
    """
    with undisturbed():
        wanted = torch.cat([interpret.logits(ann, part) for part in images.split(batch)])
    trials = []
    for number, factor in enumerate(candidates, 1):
        note(f"factor {number} of {len(candidates)}")
        decide = build(factor)
        got = torch.cat([decide(part) for part in images.split(batch)])
        agreement = (decisions(got) == decisions(wanted)).double().mean()
        distance = (got.double().softmax(1) - wanted.double().softmax(1)).square().sum(1).mean()
        trials.append(Trial(factor, float(agreement), float(distance)))
    return tuple(sorted(trials, key=lambda trial: (trial.distance, -trial.agreement)))
