"""Differential coding: a spike corrects what was sent before, by heights that shrink with time."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from spiking_resnet.graph import Fire, Graph, Input, Node, Output, ReLU
from spiking_resnet.neurons import Differential


def geometric(first: float, last: float, steps: int) -> Tensor:
    """Heights [steps] from `first` to `last`, each the same share of the one before."""
    if not 0 < last <= first or steps < 1:
        raise ValueError(f"{steps} heights from {first} to {last}: need 0 < last <= first")
    if steps == 1:
        return torch.tensor([first])
    return torch.logspace(0, 1, steps, base=last / first, dtype=torch.float64).mul(first).float()


def of_a_mean(steps: int, levels: int) -> Tensor:
    """Heights [steps] of the smallest of `levels` sizes, of which the largest is 1 / t at step t.

    t = 1, 2, ...: so much a spike of height 1 weighs in a mean over t steps (DCGS).
    """
    return (2.0 ** (1 - levels) / torch.arange(1, steps + 1, dtype=torch.float64)).float()


def fire_differentially(
    graph: Graph,
    thresholds: Mapping[str, Tensor],
    heights: Tensor,
    levels: int,
    caution: float = 0.5,
    kind: type[Differential] = Differential,
) -> Graph:
    """`graph` with a population of differential neurons in the place of every ReLU.

    thresholds: by ReLU name, [] or [C]. heights: [T], in thresholds. kind: of neuron (DCGS's own:
    `Dcgs`). The image and all biases enter at the first step only, and the read-out sums up.
    """

    def spiking(node: Node) -> Node:
        if isinstance(node, Input):
            return replace(node, encoding="once")
        if isinstance(node, Output):
            return replace(node, readout="sum")
        if not isinstance(node, ReLU):
            return node
        threshold = thresholds[node.name]
        neuron = kind(
            threshold=threshold,
            initial_potential=torch.zeros(()),
            amplitude=threshold,
            levels=levels,
            heights=heights,
            ceiling=None if node.ceiling is None else node.ceiling / threshold,
            caution=caution,
        )
        return Fire(
            name=node.name, inputs=node.inputs, shape=node.shape, source=node.source, neuron=neuron
        )

    return graph.with_nodes(spiking(node) for node in graph.nodes)
