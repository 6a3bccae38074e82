"""Kinds of nodes that pool windows of a map: AvgPool and MaxPool."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import frexp
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.graph.nodes import windows
from spiking_resnet.graph.nodes.base import (
    SUMMED,
    Bounds,
    GraphError,
    Memory,
    Node,
    Pair,
    Shape,
    Summing,
)
from spiking_resnet.rules import Rule, Rules, number, one_of, pair, truth, whole

MaxRule = Literal["instant", "cumulative"]


class Pool(Node):
    """A node that makes one value of each window of a map, in each channel by itself."""

    hands_on = True
    shares_grid = True

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return `scale`: input and value share it."""
        return scale


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(Pool):
    """The sum over each window (zero padding included), divided by the positive `divisor`."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    divisor: float = 1.0

    RULES: ClassVar[Rules] = {
        "kernel": pair(whole(1)),
        **windows.RULES,
        "divisor": Rule("a positive finite number", lambda v: number().holds(v) and v > 0),
    }
    has_synapses = True

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, rows, columns) of windows."""
        windows.is_map(self, shape)
        windows.has_narrow_padding(self, self.padding, self.kernel)
        found = windows.windows(self, shape, self.kernel, self.stride, self.padding)
        return (shape[0], *found)

    def value(self, x: Tensor) -> Tensor:
        """Return the windows' sums over the divisor: the sum first, to be exact on a grid."""
        sums = F.avg_pool2d(x, self.kernel, self.stride, self.padding, divisor_override=1)
        return sums if self.divisor == 1 else sums / self.divisor

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds of windows full of one extreme, or partly of padding."""
        low, high = inputs[0]
        share = self.kernel[0] * self.kernel[1] / self.divisor
        return low.clamp(max=0) * share, high.clamp(min=0) * share

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the input's grid, finer by a divisor that is a power of 2; None for others."""
        (grid,) = inputs
        share, power = frexp(abs(self.divisor))
        return max(grid + power - 1, 0) if grid is not None and share == 0.5 else None

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the amplitude of the sums that it passes on."""
        return scales[0] / self.divisor

    def with_unit_spikes(self) -> Node:
        """Return the pool that sums."""
        return replace(self, divisor=1.0)

    def connections(self, x: Tensor) -> Tensor:
        """Return one for every entry of a window."""
        return self.value(x).sum() * self.divisor

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 where a window has an entry that can differ from 0."""
        return self.value(inputs[0]).sign()

    def handed_on(self, *inputs: Tensor) -> Tensor:
        """Return the sums of the windows."""
        return self.value(inputs[0]) * self.divisor


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Summing, Pool):
    """The maximum over each window.

    rule "instant": of the values of this step (an ANN; on spikes it is wrong, and more so the
    longer it runs). Rule "cumulative": the growth, in this step, of the maximum of the
    values summed over all steps so far. On spikes that is the paper's spiking max pool: the input
    with the largest spike count decides, and the output spikes while that count exceeds its own.
    grid, step_bound, wide: of the sums, as in `Summing`.
    """

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    rule: MaxRule = "instant"
    grid: int | None = None
    step_bound: float = 0.0
    wide: bool = False

    RULES: ClassVar[Rules] = {
        "kernel": pair(whole(1)),
        **windows.RULES,
        "dilation": pair(whole(1)),
        "ceil_mode": truth(),
        "rule": one_of(get_args(MaxRule)),
        **SUMMED,
    }

    @property
    def choices(self) -> int:
        """Return the entries of a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def integrates(self) -> bool:
        """Whether it sums up over time: by the cumulative rule."""
        return self.rule == "cumulative"

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, rows, columns) of windows."""
        windows.is_map(self, shape)
        windows.has_narrow_padding(self, self.padding, self.kernel)
        for size, padding, dilation in zip(shape[1:], self.padding, self.dilation, strict=True):
            if padding and dilation > size:
                raise GraphError(
                    f"{self.name!r}: there are windows of nothing but padding in {shape}"
                )
        around = (self.stride, self.padding, self.dilation, self.ceil_mode)
        return (shape[0], *windows.windows(self, shape, self.kernel, *around))

    def value(self, x: Tensor) -> Tensor:
        """Return the windows' maxima of x [N, C, H, W]; for the cumulative rule, x is sums."""
        return F.max_pool2d(
            x, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def advance(self, inputs: Sequence[Tensor], memory: Memory, time: int) -> Tensor:
        """Return the maxima of this step, or the growth of those of the sums."""
        (x,) = inputs
        if self.rule == "instant":
            return self.value(x)
        x = self.received(x)
        before = memory[self.name] if self.name in memory else torch.zeros_like(x)
        memory[self.name] = before + x
        return self.value(memory[self.name]) - self.value(before)

    def summed(self, steps: int) -> Node:
        """Return the maximum of the sums, which the cumulative rule has passed on so far."""
        return replace(self, rule="instant")

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return its input's bounds: the maximum of sums grows by no more than one of them."""
        return inputs[0]

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return its input's grid."""
        return inputs[0]

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the amplitude of the spikes it reads."""
        return scales[0]

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 where a window has an entry that can differ from 0."""
        return self.value(inputs[0])
