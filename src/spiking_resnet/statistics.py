"""What calibration images tell about activations, in memory that does not grow with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet import interpret
from spiking_resnet.graph import Graph, ReLU
from spiking_resnet.records import Calibration, Sample
from spiking_resnet.surroundings import undisturbed

_LOWEST, _OCTAVES = -24, 44  # histograms reach from 2^-24 to 2^20
_MANTISSA = 23  # bits of a float32's mantissa


class Histogram:
    """Counts of positive values on a logarithmic scale, one row for a layer or one per channel.

    A bin is a float32's exponent and leading mantissa bits, so that the edges are fixed and the
    counts depend neither on the order of the values nor on how they were batched.
    """

    def __init__(self, rows: int, bits: int) -> None:
        self.bits = bits
        self.counts = torch.zeros(rows, _OCTAVES << bits, dtype=torch.int64)  # [rows, bins]
        self.total = 0  # values a row, zeros included
        self.maximum = torch.zeros(rows, dtype=torch.float32)

    def add(self, values: Tensor) -> None:
        """Counts values [N, C, ...]; negative ones count as zeros."""
        rows, bins = self.counts.shape
        table = values.transpose(0, 1).reshape(rows, -1)
        self.total += table.shape[1]
        self.maximum = torch.maximum(self.maximum, table.amax(1))
        row, column = torch.where(table > 0)
        place = table[row, column].contiguous().view(torch.int32) >> (_MANTISSA - self.bits)
        place = (place - ((_LOWEST + 127) << self.bits)).clamp(0, bins - 1)
        flat = torch.bincount(row * bins + place, minlength=rows * bins)
        self.counts += flat.view(rows, bins)

    def percentile(self, percent: float) -> Tensor:
        """The value [rows] that `percent` % of a row's values (zeros included) do not exceed.

        Linear within a bin, and no larger than the maximum. 0 where so few values are positive.
        """
        if percent >= 100:
            return self.maximum.clone()
        wanted = self.total * percent / 100
        zeros = self.total - self.counts.sum(1)
        below = (zeros[:, None] + self.counts.cumsum(1)).double()  # [rows, bins]
        place = (below < wanted).sum(1).clamp(max=below.shape[1] - 1)
        inside = self.counts.gather(1, place[:, None]).squeeze(1).double()
        over = below.gather(1, place[:, None]).squeeze(1) - wanted
        share = 1 - (over / inside.clamp(min=1)).clamp(0, 1)
        low, high = self._edge(place), self._edge(place + 1)
        value = (low + (high - low) * share).float()
        value = torch.where(zeros.double() >= wanted, 0.0, value)
        return torch.minimum(value, self.maximum)

    def values(self) -> Tensor:
        """The middle [bins] of every bin, float64."""
        place = torch.arange(self.counts.shape[1], dtype=torch.int64)
        return (self._edge(place) + self._edge(place + 1)) / 2

    def _edge(self, place: Tensor) -> Tensor:
        """The lower edges (float64) of bins."""
        octave = (place >> self.bits) + _LOWEST
        mantissa = (place & ((1 << self.bits) - 1)).double() / (1 << self.bits)
        return torch.ldexp(1 + mantissa, octave.double())


@dataclass(frozen=True, eq=False)
class Statistics:
    """What `measure` found.

    layers: a Histogram for every ReLU, for the Output's logits, for the probes. images: how many.
    input_limit: the largest |pixel|. sample: some of the images, [n, C, H, W], chosen by content.
    """

    layers: Mapping[str, Histogram]
    images: int
    input_limit: float
    sample: Tensor


def measure(
    graph: Graph,
    calibration: Calibration,
    per_channel: bool = False,
    sample: int = 256,
    probes: Sequence[str] = (),
) -> Statistics:
    """Statistics of the artificial network `graph` over all calibration images, in one reading.

    per_channel: one histogram per channel (7 bits, 0.8 % a bin) instead of one per layer (10 bits,
    0.1 % a bin). probes: further nodes to measure. The results are the same for any order and
    batching of the images.
    """
    kept = Sample(sample)
    layers: dict[str, Histogram] = {}
    for name in (*(node.name for node in graph.of(ReLU)), graph.output.name, *probes):
        whole = not per_channel or name == graph.output.name
        layers[name] = Histogram(1, 10) if whole else Histogram(graph[name].shape[0], 7)
    images, limit = 0, 0.0
    with undisturbed():
        for batch, count in calibration.batches():
            images += count
            limit = max(limit, float(batch[:count].abs().max()))
            kept.add(batch[:count])
            for name, value in interpret.values(graph, batch, layers).items():
                layers[name].add(value[:count])
    return Statistics(layers, images, limit, kept.images())
