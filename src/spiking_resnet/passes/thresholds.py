"""Firing thresholds from the statistics of activations: the lambda of a layer, or of a channel.

Percentile thresholds: Rueckauer et al. 2017; Hu, Tang, Pan (99.9 % on CIFAR, 99.99 % on ImageNet).
"""

import torch
from torch import Tensor

from spiking_resnet.graph import Graph, ReLU
from spiking_resnet.statistics import Histogram, Statistics

LOWEST = 1 / 64  # of the layer's largest threshold: a channel's least


def percentile_thresholds(
    graph: Graph, statistics: Statistics, percentile: float
) -> dict[str, Tensor]:
    """For everything measured: the percentile of its positive values, [] or [C].

    percentile: 100 is the maximum. Where it is 0 (a channel that is active too rarely) the maximum
    serves; where even that is 0 (neurons that never fire) the layer's largest threshold, or 1. No
    channel has less than LOWEST of the largest: one that hardly ever fires would have weights
    W / theta so large that the grid they share with its layer is too coarse for the others. A
    clipped ReLU's ceiling is never exceeded.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile is {percentile}: it must lie in (0, 100]")
    found: dict[str, Tensor] = {}
    for name, histogram in statistics.layers.items():
        node, values = graph[name], _positive(histogram, percentile)
        if isinstance(node, ReLU) and node.ceiling is not None:
            values = values.clamp(max=node.ceiling)
        found[node.name] = values.reshape(()) if len(values) == 1 else values
    return found


def _positive(histogram: Histogram, percentile: float) -> Tensor:
    """The percentile of every row, with a positive stand-in for rows that have none."""
    values = histogram.percentile(percentile)
    values = torch.where(values > 0, values, histogram.maximum)
    largest = float(values.max())
    values = torch.where(values > 0, values, largest if largest > 0 else 1.0)
    return values.clamp(min=largest * LOWEST)
