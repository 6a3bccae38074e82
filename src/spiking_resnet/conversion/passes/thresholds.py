"""Firing thresholds of layers or channels, from the statistics of their activations.

Percentile thresholds: Rueckauer et al. 2017; Hu, Tang, Pan (99.9 % on CIFAR, 99.99 % on ImageNet).
The others look at the quantiser that a layer is when spikes arrive evenly, with N levels up to the
range R (N = T for spikes 0 and 1, v0 = threshold / 2):

    q(x) = R / N * clip(floor(x * N / R + 1/2), 0, N)

MMSE thresholds (SNN Calibration, Li et al. 2021) take the R of the least E (q(x) - x)^2; threshold
iteration (DCGS, ICML 2025) the fixed point of R <- R * E[q x] / E[q^2]: of the activations that
were seen, or, as there, of a ReLU's input z that is normally distributed in every channel. With
cells from c_k = (k - 1/2) R / N on, q is R / N times the number of cells that z has reached, so

    E[q z] = R / N * sum_k E[z; z > c_k],   E[q^2] = (R / N)^2 * sum_k (2 k - 1) P(z > c_k)

Local threshold balancing (Bu et al., CVPR 2025) looks at no quantiser: thresholds grow while
activations exceed them.
"""

from collections.abc import Mapping, Sequence
from math import pi, sqrt

import torch
from torch import Tensor

from spiking_resnet.conversion.statistics import Histogram, Statistics
from spiking_resnet.graph import Add, Graph, Input, Node, ReLU, interpret
from spiking_resnet.neurons import per_channel
from spiking_resnet.surroundings import undisturbed

LOWEST = 1 / 64  # of the layer's largest threshold: a channel's least
SHARES = tuple(percent / 100 for percent in range(100, 5, -1))  # of the largest activation: MMSE


def percentile_thresholds(
    graph: Graph, statistics: Statistics, percentile: float, spikes: int = 1
) -> dict[str, Tensor]:
    """Return, for all that was measured, the percentile of its positive values, [] or [C].

    percentile: 100 is the maximum. Where it is 0 (a channel that is active too rarely) the maximum
    serves; where even that is 0 (neurons that never fire) the layer's largest threshold, or 1. No
    channel has less than LOWEST of the largest: one that hardly ever fires would have weights
    W / theta so large that the grid they share with its layer is too coarse for the others. So many
    `spikes` of a clipped ReLU, which a neuron may fire in one step, never exceed its ceiling.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile is {percentile}: it must lie in (0, 100]")
    found: dict[str, Tensor] = {}
    for name, histogram in statistics.layers.items():
        node, values = graph[name], _positive(histogram, percentile)
        if isinstance(node, ReLU) and node.ceiling is not None:
            values = values.clamp(max=node.ceiling / spikes)
        found[node.name] = values.reshape(()) if len(values) == 1 else values
    return found


def _positive(histogram: Histogram, percentile: float) -> Tensor:
    """Return the percentile of every row, with a positive stand-in for rows that have none."""
    values = histogram.percentile(percentile)
    values = torch.where(values > 0, values, histogram.maximum)
    largest = float(values.max())
    values = torch.where(values > 0, values, largest if largest > 0 else 1.0)
    return values.clamp(min=largest * LOWEST)


def shared_over_stages(graph: Graph, thresholds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return thresholds that are one along every identity shortcut: the largest of its stage.

    A stage is the ReLUs that sums join without weights between them. Their spikes then are of one
    size, and no shortcut needs a gain; rates below the largest threshold are lower for it. ReLUs of
    other ceilings than the first of a stage keep their own.
    """
    stages = {node.name: [node.name] for node in graph.of(ReLU)}
    for total in graph.of(Add):
        joined = [graph[name] for name in total.inputs] + _readers(graph, total)
        relus = [node for node in joined if isinstance(node, ReLU)]
        alike = [node.name for node in relus if node.ceiling == relus[0].ceiling]
        if len(alike) > 1:
            members = list(dict.fromkeys(name for each in alike for name in stages[each]))
            stages.update(dict.fromkeys(members, members))
    found = dict(thresholds)
    for name, members in stages.items():
        found[name] = torch.stack([thresholds[each] for each in members]).amax(0)
    return found


def _readers(graph: Graph, total: Add) -> list[Node]:
    """Return what reads a sum, also over further sums."""
    found: list[Node] = []
    for reader in graph.consumers[total.name]:
        found += _readers(graph, reader) if isinstance(reader, Add) else [reader]
    return found


def mmse_thresholds(graph: Graph, statistics: Statistics, levels: int) -> dict[str, Tensor]:
    """Return, for every ReLU, the range [] or [C] of least mean squared error, N = `levels`.

    Tried are SHARES of the largest activation; it is the smallest error over all calibration
    images, from their histograms.
    """
    found: dict[str, Tensor] = {}
    for node in graph.of(ReLU):
        histogram = statistics.layers[node.name]
        largest = _positive(histogram, 100).double()
        counts, values = _occupied(histogram)
        best = torch.full_like(largest, torch.inf)
        chosen = largest.clone()
        for share in SHARES:
            wide = largest * share
            error = (counts * (_quantised(values, wide, levels) - values).square()).sum(1)
            chosen = torch.where(error < best, wide, chosen)
            best = torch.minimum(best, error)
        found[node.name] = _usable(node, chosen)
    return found


def iterated_thresholds(
    graph: Graph, statistics: Statistics, levels: int, percentile: float, rounds: int = 50
) -> dict[str, Tensor]:
    """Return, for every ReLU, the range [] or [C] where threshold iteration ends, N = `levels`.

    It starts at the percentile and never exceeds it: with many levels the fixed point drifts
    towards the sample's largest activation.
    """
    found: dict[str, Tensor] = {}
    for node in graph.of(ReLU):
        histogram = statistics.layers[node.name]
        most = _positive(histogram, percentile).double()
        counts, values = _occupied(histogram)
        wide = most.clone()
        for _ in range(rounds):
            q = _quantised(values, wide, levels)
            square = (counts * q.square()).sum(1)
            gain = (counts * q * values).sum(1) / square.clamp(min=1e-300)
            wide = torch.where(square > 0, torch.minimum(wide * gain, most), wide)
        found[node.name] = _usable(node, wide)
    return found


def gaussian_thresholds(
    graph: Graph, images: Tensor, levels: int, rounds: int = 500
) -> dict[str, Tensor]:
    """Return, for every ReLU, the range [C] where threshold iteration ends, N = `levels`.

    Its input is taken as normally distributed, with the mean and variance that every channel has
    on images [n, C, H, W]. It starts three deviations above the mean, or above 0.
    """
    found: dict[str, Tensor] = {}
    cells = torch.arange(1, levels + 1, dtype=torch.float64)
    for node, (mean, deviation) in _moments(graph, images).items():
        wide = mean.clamp(min=0) + 3 * deviation
        for _ in range(rounds):
            step = wide[:, None] / levels
            above, part = _beyond((cells - 0.5) * step, mean[:, None], deviation[:, None])
            square = step[:, 0] * (above * (2 * cells - 1)).sum(1)
            gain = part.sum(1) / square.clamp(min=1e-300)
            grown = torch.where(square > 1e-30, wide * gain, wide)
            settled = bool(((grown - wide).abs() <= 1e-4 * wide).all())
            wide = grown
            if settled:
                break
        relu = graph[node]
        assert isinstance(relu, ReLU)
        found[node] = _usable(relu, wide)
    return found


def _moments(graph: Graph, images: Tensor, batch: int = 50) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the mean and standard deviation [C], float64, of every ReLU's input."""
    sources = {node.name: node.inputs[0] for node in graph.of(ReLU)}
    sums = {name: torch.zeros(2, graph[name].shape[0], dtype=torch.float64) for name in sources}
    with undisturbed():
        for part in images.split(batch):
            found = interpret.values(graph, part, set(sources.values()))
            for name, source in sources.items():
                z = found[source].transpose(0, 1).flatten(1).double()
                sums[name] += torch.stack([z.sum(1), z.square().sum(1)])
    moments = {}
    for name, both in sums.items():
        places = len(images) * torch.Size(graph[name].shape[1:]).numel()
        mean, square = both / places
        moments[name] = (mean, (square - mean.square()).clamp(min=1e-12).sqrt())
    return moments


def _beyond(least: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Return P(z > least) and E[z; z > least] of normally distributed z."""
    score = (least - mean) / deviation
    chance = 0.5 * torch.erfc(score / sqrt(2))
    density = torch.exp(-0.5 * score.square()) / sqrt(2 * pi)
    return chance, mean * chance + deviation * density


def balanced_thresholds(
    graph: Graph, batches: Sequence[Tensor], rate: float = 1.0
) -> dict[str, Tensor]:
    """For every ReLU, thresholds [C] by local threshold balancing over `batches` [n, C, H, W].

    Every ReLU is clipped at its threshold, which starts at 0 and grows with each batch by
    2 * rate * E[(z - threshold) * (z > threshold)], E over images and places. How many batches
    there are decides how far they get: few serve few time steps best, many serve many.
    """
    found = {node.name: torch.zeros(node.shape[0], dtype=torch.float32) for node in graph.of(ReLU)}
    with undisturbed():
        for batch in batches:
            values: dict[str, Tensor] = {}
            for node in graph.nodes[:-1]:
                inputs = [values[name] for name in node.inputs]
                if isinstance(node, Input):
                    values[node.name] = batch
                elif isinstance(node, ReLU):
                    z, old = inputs[0], found[node.name]
                    excess = (z - per_channel(old, z)).clamp(min=0)
                    grown = old + 2 * rate * excess.transpose(0, 1).flatten(1).mean(1)
                    values[node.name] = z.clamp(min=0).minimum(per_channel(grown, z))
                    found[node.name] = grown
                else:
                    values[node.name] = node.value(*inputs)
    return {node.name: _usable(node, found[node.name]) for node in graph.of(ReLU)}


def delay_of(
    graph: Graph,
    images: Tensor,
    thresholds: Mapping[str, Tensor],
    initial: float,
    steps: int,
) -> int:
    """Return the number of first steps that delayed evaluation leaves out (Bu et al., 2025).

    Until its first spike a layer needs about (threshold - v0) / max over channels of E[z] steps;
    the sum of that over the layers, and at least 4 steps are left. initial: v0 in thresholds.
    """
    before = {node.name: node.inputs[0] for node in graph.of(ReLU)}
    with undisturbed():
        found = interpret.values(graph, images, set(before.values()))
    total = 0.0
    for name, source in before.items():
        strength = found[source].transpose(0, 1).flatten(1).mean(1)
        channel = int(strength.argmax())
        threshold = thresholds[name].expand(len(strength))[channel]
        total += float(threshold) * (1 - initial) / max(float(strength[channel]), 1e-9)
    return max(0, min(int(total), steps - 4))


def _occupied(histogram: Histogram) -> tuple[Tensor, Tensor]:
    """Return counts [rows, bins] and values [bins], float64, of the bins that hold anything."""
    held = histogram.counts.any(0)
    return histogram.counts[:, held].double(), histogram.values()[held]


def _quantised(values: Tensor, wide: Tensor, levels: int) -> Tensor:
    """Return q [rows, bins] of values [bins] for ranges [rows]."""
    step = (wide / levels)[:, None]
    return torch.floor(values / step + 0.5).clamp(0, levels) * step


def _usable(node: ReLU, values: Tensor) -> Tensor:
    """Thresholds [rows] as [] or [C], float32: positive, none below LOWEST of the largest."""
    largest = float(values.max())
    values = torch.where(values > 0, values, largest if largest > 0 else 1.0).float()
    values = values.clamp(min=float(values.max()) * LOWEST)
    if node.ceiling is not None:
        values = values.clamp(max=node.ceiling)
    return values.reshape(()) if len(values) == 1 else values
