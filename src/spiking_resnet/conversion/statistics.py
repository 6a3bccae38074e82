"""Statistics of activations on calibration images, in memory that does not grow with them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.conversion.calibration import Calibration, Sample
from spiking_resnet.graph import Graph, ReLU, interpret
from spiking_resnet.images import finite
from spiking_resnet.records import InputError
from spiking_resnet.store import digest
from spiking_resnet.surroundings import Modes, undisturbed

_OCTAVES = 44  # powers of two that a histogram holds, below its largest value
_MANTISSA = 23  # bits of a float32's mantissa
_BIAS = 127  # of a float32's exponent
_PORTION = 2**18  # values whose places are worked out at once: they stay in the cache
_DARKEST, _BRIGHTEST = 2.0**-10, 2.0**30  # the largest pixel of calibration images


class Histogram:
    """Counts of positive values on a logarithmic scale, one row for a layer or one per channel.

    A bin is a float32's exponent and leading mantissa bits, so that the edges are fixed and the
    counts depend neither on the order of the values nor on how they were batched. Held are the 44
    octaves up to that of the largest value, wherever it lies; the lowest bin has all below, too.
    """

    def __init__(self, rows: int, bits: int) -> None:
        self.bits = bits
        # Column 0 has what is not positive; a view of the others would be no tensor of its own.
        self._held = torch.zeros(rows, 1 + (_OCTAVES << bits), dtype=torch.int64)
        self.total = 0  # values a row, zeros included
        self.maximum = torch.zeros(rows, dtype=torch.float32)
        self.lowest = -_BIAS  # the exponent of the lowest bin

    @property
    def counts(self) -> Tensor:
        """The positive values in every bin, int64 [rows, bins]."""
        return self._held[:, 1:]

    def add(self, values: Tensor) -> None:
        """Count finite values [N, C, ...]; negative ones count as zeros."""
        rows = len(self._held)
        table = values.detach().float().reshape(len(values), rows, -1)
        self.total += table.shape[0] * table.shape[2]
        maximum = torch.maximum(self.maximum, table.amax((0, 2)))
        self._reach(maximum.max())
        self.maximum = maximum
        one, flat = torch.ones(1, dtype=torch.int64), self._held.view(-1)
        for part in table.split(max(1, _PORTION // table[0].numel())):
            places = self._places(part.view(torch.int32)).flatten()
            flat.index_add_(0, places, one.expand(len(places)))

    def _places(self, floats: Tensor) -> Tensor:
        """Return the places in `_held`, flattened, of float32 bits [n, rows, places].

        As integers, bits of positive floats are positive and have their order; those of zeros and
        negative ones are not positive.
        """
        rows, columns = self._held.shape
        lowest = (self.lowest + _BIAS) << self.bits
        place = (floats >> (_MANTISSA - self.bits)).sub_(lowest).clamp_(0, columns - 2)
        place += floats.clamp(0, 1)  # 0 where the value is not positive: its place is 0 already
        return place.add_(torch.arange(0, rows * columns, columns, dtype=torch.int32)[:, None])

    def _reach(self, largest: Tensor) -> None:
        """Move the octaves up to that of `largest`; what falls below them joins the lowest bin."""
        exponent = (int(largest.view(torch.int32)) >> _MANTISSA) - _BIAS
        lowest = max(self.lowest, exponent - _OCTAVES + 1)
        bins = self.counts.shape[1]
        moved = min((lowest - self.lowest) << self.bits, bins)
        self.lowest = lowest
        if moved and bool(self.maximum.any()):  # else nothing is counted yet
            below = self.counts[:, :moved].sum(1)
            kept = self.counts[:, moved:].clone()
            self.counts.zero_()
            self.counts[:, : bins - moved] = kept
            self.counts[:, 0] += below

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
        """Return the middle [bins] of every bin, float64."""
        place = torch.arange(self.counts.shape[1], dtype=torch.int64)
        return (self._edge(place) + self._edge(place + 1)) / 2

    def _edge(self, place: Tensor) -> Tensor:
        """Return the lower edges (float64) of bins."""
        octave = (place >> self.bits) + self.lowest
        mantissa = (place & ((1 << self.bits) - 1)).double() / (1 << self.bits)
        return torch.ldexp(1 + mantissa, octave.double())


@dataclass(frozen=True, eq=False)
class Statistics:
    """The statistics of a network on its calibration images, as `measure` returns them.

    layers: a Histogram for every ReLU, for the Output's logits, for the probes. images: how many.
    input_limit: the largest |pixel|. sample: some of the images, [n, C, H, W], chosen by content.
    no_positive_logit: the images whose largest logit is 0 or below.
    """

    layers: Mapping[str, Histogram]
    images: int
    input_limit: float
    sample: Tensor
    no_positive_logit: int


class Measured:
    """Calibration images for several methods, which measure what they share only once.

    Methods take it in the place of a Calibration. source: as for that, but one that can be read
    again; it is read once for each network and each kind of histogram.
    """

    SAMPLE = 256  # images; methods that ask for fewer get the first of them, which are the same

    def __init__(self, source: Tensor | Iterable[Any]) -> None:
        self.source, self._modes = source, Modes.now()
        self._known: dict[tuple[str, bool, tuple[str, ...]], Statistics] = {}

    def statistics(
        self, graph: Graph, per_channel: bool, sample: int, probes: Sequence[str]
    ) -> Statistics:
        """Return what `measure` returns for the source."""
        key = (digest(graph), per_channel, tuple(probes))
        known = self._known.get(key)
        if known is None or len(known.sample) < min(sample, known.images):
            with self._modes.entered():
                calibration = Calibration(self.source)
            known = measure(graph, calibration, per_channel, max(sample, self.SAMPLE), probes)
            self._known[key] = known
        return replace(known, sample=known.sample[:sample])


def measure(
    graph: Graph,
    calibration: Calibration | Measured,
    per_channel: bool = False,
    sample: int = 256,
    probes: Sequence[str] = (),
) -> Statistics:
    """Return the Statistics of the ANN `graph` over all calibration images, in one reading.

    per_channel: one histogram per channel (7 bits, 0.8 % a bin) instead of one per layer (10 bits,
    0.1 % a bin). probes: further nodes to measure. The results are the same for any order and
    batching of the images. Raises InputError where an activation is not finite.
    """
    if isinstance(calibration, Measured):
        return calibration.statistics(graph, per_channel, sample, probes)
    kept = Sample(sample)
    layers: dict[str, Histogram] = {}
    for name in (*(node.name for node in graph.of(ReLU)), graph.output.name, *probes):
        whole = not per_channel or name == graph.output.name
        layers[name] = Histogram(1, 10) if whole else Histogram(graph[name].shape[0], 7)
    images, limit, negative = 0, 0.0, 0
    with undisturbed():
        for batch, count in calibration.batches():
            images += count
            limit = max(limit, *(abs(float(end)) for end in batch[:count].aminmax()))
            kept.add(batch[:count])
            for node, value in interpret.walk(graph.nodes, batch, {}):
                if node.name in layers:
                    layers[node.name].add(_finite(node.name, value[:count]))
                if node.name == graph.output.name:
                    negative += int((value[:count].flatten(1).amax(1) <= 0).sum())
    _check_limit(limit)
    return Statistics(layers, images, limit, kept.images(), negative)


def _finite(name: str, values: Tensor) -> Tensor:
    """Return the values of a node; InputError unless they are finite."""
    if not finite(values):
        raise InputError(
            f"the activations of {name!r} are not finite on calibration images: "
            "normalise the images as in training, or mend the network's weights"
        )
    return values


def _check_limit(limit: float) -> None:
    """Raise InputError for images whose pixels would coincide on a grid."""
    if 0 < limit < _DARKEST or limit > _BRIGHTEST:
        raise InputError(
            f"no pixel of the calibration images is further from 0 than {limit:.3g}: bring them to "
            f"between {_DARKEST:.3g} and {_BRIGHTEST:.3g} (divide the images by a constant, and "
            "multiply the first layer's weights by it)"
        )
