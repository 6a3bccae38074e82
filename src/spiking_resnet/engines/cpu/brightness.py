"""Images brighter than those that a network's bounds are for, and whether its streams still fit.

Numbers of 16 bits are looked at where they are made (`integers.fits_numbers`).
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from spiking_resnet.engines.cpu.fuse import Fused
from spiking_resnet.engines.cpu.streams import MOST
from spiking_resnet.engines.plan import OutOfRange
from spiking_resnet.graph import Graph, Input
from spiking_resnet.graph.exactness import bounds_of, largest
from spiking_resnet.rules import LARGEST

SHADES = 4  # of brightness, until it doubles
BRIGHTEST = LARGEST / 2


class Brightness:
    """What images beyond the input's limit mean for streams, which nobody watches.

    populations, sums: what kernels compute, by name.
    """

    def __init__(
        self, graph: Graph, populations: Mapping[str, Fused], sums: Mapping[str, Fused]
    ) -> None:
        self._graph, self._sums, self._first = graph, sums, next(iter(populations), "")
        self._read = any(  # whether populations read streams
            synapses.numbers is not None
            for fused in populations.values()
            for synapses in fused.synapses
        )
        self._beyond: dict[float, str] = {}  # what does not fit, by brightness; or nothing

    def of(self, images: Tensor) -> float:
        """How many times as large values may be as the bounds say: 1 within the limit, or where
        there are no streams.

        images: [N, C, H, W], or frames. Raises OutOfRange where 32 bits may not hold a stream.
        """
        limit = self._graph.input.limit
        brightest = float(images.abs().max())
        if brightest <= limit or not (self._sums or self._read):
            return 1.0
        if not brightest < BRIGHTEST:
            raise OutOfRange(f"what {self._first!r} receives")
        shade = 2.0 ** (math.ceil(math.log2(brightest) * SHADES) / SHADES)
        if shade not in self._beyond:
            self._beyond[shade] = self._too_bright(shade)
        if self._beyond[shade]:
            raise OutOfRange(f"the stream {self._beyond[shade]!r}")
        return shade / limit if limit else float(MOST)

    def _too_bright(self, limit: float) -> str:
        """The first stream that may not fit with images up to `limit`, or nothing."""
        brighter = self._graph.with_nodes(
            replace(node, limit=limit) if isinstance(node, Input) else node
            for node in self._graph.nodes
        )
        bounds = {name: largest(bound) for name, bound in bounds_of(brighter).items()}
        return next(
            (
                name
                for name, fused in self._sums.items()
                if bounds[name] * 2.0 ** (fused.grid + fused.shift) >= MOST
            ),
            "",
        )
