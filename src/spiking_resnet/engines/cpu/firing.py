"""What a population fires by, as the integers that the kernels are told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from spiking_resnet.engines.cpu.bit_code import MOST_LEVELS
from spiking_resnet.engines.cpu.memory import pointer
from spiking_resnet.graph import Fire
from spiking_resnet.graph.grids import MANTISSA, on_grid
from spiking_resnet.neurons import (
    Dcgs,
    Differential,
    Gated,
    IntegrateAndFire,
    Neuron,
    Serial,
)

MOST = 2**30  # of an amplitude, or an edge between two sizes
RULES: Mapping[type[Neuron], int] = {  # `FiringRule` of native/planes.h, by the neurons computed
    IntegrateAndFire: 0,
    Gated: 0,
    Serial: 0,
    Differential: 1,
    Dcgs: 2,
}


@dataclass(frozen=True, eq=False)
class Firing:
    """The firing rule of a population, in units of its grid.

    rule: of RULES. levels: the largest size of a spike. amplitudes: int32 [T], of a spike of size
    1; edges: int32 [T, sizes], from what |want| on each size is fired; ceiling: int32 [C], or None:
    all of differential neurons alone. remembers: units of the grid in what a neuron remembers as 1.
    """

    rule: int
    levels: int
    signed: bool
    amplitudes: Tensor | None = None
    edges: Tensor | None = None
    ceiling: Tensor | None = None
    remembers: float = 1.0

    @classmethod
    def of(cls, node: Fire) -> "Firing":
        """The rule of a population that the kernels compute."""
        neuron, grid = node.neuron, 2.0 ** (node.grid or 0)
        rule = RULES[type(neuron)]
        if rule == 0:
            return cls(rule, neuron.largest_size, neuron.signed)
        neuron, ceiling = cast(Differential, neuron), None
        if neuron.ceiling is not None:
            ceiling = _whole(neuron.ceiling * grid).expand(node.shape[0]).contiguous()
        return cls(
            rule,
            neuron.largest_size,
            neuron.signed,
            amplitudes=_whole(neuron.heights * grid),
            edges=_whole(torch.ceil(neuron.edges.double() * grid)),
            ceiling=ceiling,
            remembers=grid,
        )

    def spent(self, time: int, steps: int) -> int:
        """The most that spikes of so many steps from `time` on can raise a |potential|."""
        if self.amplitudes is None:
            return 0
        return self.levels * int(self.amplitudes[time : time + steps].sum())

    def fields(self, time: int, steps: int) -> dict[str, Any]:
        """The fields of `library.Population` for so many steps from `time` on."""
        found: dict[str, Any] = {
            "levels": self.levels,
            "is_signed": self.signed,
            "firing_rule": self.rule,
        }
        if self.amplitudes is None or self.edges is None:
            return found
        now = slice(time, time + steps)
        sizes = self.edges.shape[1]
        found["sizes"] = sizes
        found["amplitudes"] = pointer(self.amplitudes[now], torch.int32, steps)
        found["edges"] = pointer(self.edges[now], torch.int32, steps * sizes)
        if self.ceiling is not None:
            found["ceiling"] = pointer(self.ceiling, torch.int32, len(self.ceiling))
        return found


def unsupported(node: Fire) -> str:
    """Why the kernels cannot compute the neurons of a population on a grid, or nothing."""
    neuron, grid = node.neuron, node.grid or 0
    if type(neuron) not in RULES:
        what = neuron.trait or f"is a population of {type(neuron).__name__} neurons"
        return f"{node.name!r} {what}: `layerwise` runs it"
    if neuron.largest_size > MOST_LEVELS:
        return (
            f"{node.name!r} fires spikes of sizes up to {neuron.largest_size} in a step: "
            f"{MOST_LEVELS} fit"
        )
    if RULES[type(neuron)]:
        return _not_whole(node, cast(Differential, neuron), grid)
    largest = float(neuron.threshold.max()) * 2.0**grid
    if not neuron.binary and (neuron.levels + 1) * largest > 2.0**MANTISSA:
        return (  # its spikes are floor(v / threshold) in float32: what integers give below that
            f"{node.name!r} fires up to {neuron.levels} spikes in a step, of thresholds so high on "
            "its grid that float32 cannot tell one more from one less: convert with fewer levels "
            "or a coarser grid"
        )
    return ""


def _not_whole(node: Fire, neuron: Differential, grid: int) -> str:
    """Why the amplitudes of differential neurons are no integers of 32 bits, or nothing."""
    if not bool((neuron.threshold == 1).all()):
        return f"{node.name!r} has thresholds other than 1: normalise the network first"
    if not on_grid(neuron.heights, grid):
        return f"{node.name!r} has amplitudes off its grid 2^-{grid}: convert again"
    if float(neuron.edges.max()) * 2.0**grid >= MOST:
        return f"{node.name!r} has amplitudes too large for 32 bits: convert with a coarser grid"
    return ""


def _whole(values: Tensor) -> Tensor:
    return torch.round(values.double()).to(torch.int32).contiguous()
