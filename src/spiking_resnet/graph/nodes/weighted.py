"""Kinds of nodes with weights, in whose dtype they compute: Conv2d, Linear, Affine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log2, prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.graph.grids import MANTISSA, SLACK, WIDE_MANTISSA, on_grid
from spiking_resnet.graph.nodes import windows
from spiking_resnet.graph.nodes.base import (
    GRID,
    Bounds,
    GraphError,
    Node,
    Pair,
    Shape,
    tensors,
)
from spiking_resnet.neurons import TensorRule, per_channel
from spiking_resnet.rules import Rules, pair, whole


class Weighted(Node):
    """A node that multiplies its input by weights and adds a constant.

    grid: weights and what is added are multiples of 2^-grid.
    """

    grid: int | None

    has_synapses = True
    takes_any_scale = True

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return None: the weights absorb any scale."""
        return None

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the grid of the products, if all their sums are exact."""
        (grid,) = inputs
        if grid is None:
            return None
        own = tensors(self)
        factors = next(iter(own.values()))
        if self.grid is not None:
            room = MANTISSA if factors.dtype == torch.float32 else WIDE_MANTISSA
            most = max(float(end.abs().max()) for end in bounds)
            exact = most * 2.0 ** (self.grid + grid) <= SLACK * 2.0**room
            return self.grid + grid if exact else None
        # In float64, on a grid as fine as leaves room for the sums.
        spread = float((bounds[1] - bounds[0]).abs().max())
        bits = WIDE_MANTISSA - grid - ceil(log2(max(spread, 1.0)))
        fits = factors.dtype == torch.float64 and on_grid(factors, bits)
        fits = fits and all(on_grid(tensor, grid + bits) for tensor in own.values())
        return grid + bits if fits else None


class Mixing(Weighted):
    """A node whose weights [out, in / groups, ...] mix channels, with a bias [out] or None."""

    weight: Tensor
    bias: Tensor | None

    has_weights = True
    ADDED = "bias"

    def without_constants(self) -> Node:
        """Return the node without its bias."""
        return replace(self, bias=None)  # type: ignore[call-arg]

    def summed(self, steps: int) -> Node:
        """Return the node with the bias of so many steps, in float64 and off the grid."""
        bias = None if self.bias is None else self.bias.double() * steps
        return replace(self, weight=self.weight.double(), bias=bias, grid=None)  # type: ignore[call-arg]

    def _bounds(self, inputs: Sequence[Bounds], groups: int) -> Bounds:
        """Return the extremes of weights times inputs within their bounds, plus bias."""
        ((low, high),) = inputs
        weight = self.weight.double()
        inner = weight.shape[1] * groups
        low, high = (
            end.expand(inner).view(groups, -1) for end in (low.clamp(max=0), high.clamp(min=0))
        )
        rows = weight.shape[0] // groups
        if groups > 1:
            low, high = low.repeat_interleave(rows, 0), high.repeat_interleave(rows, 0)
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        if weight.ndim == 4:
            up, down = up.flatten(2).sum(2), down.flatten(2).sum(2)
        bias = 0.0 if self.bias is None else self.bias.double()
        return (up * low + down * high).sum(1) + bias, (up * high + down * low).sum(1) + bias

    def _scaled(self, factors: Tensor, outgoing: Tensor) -> Node:
        """Return the node with weights times `factors` over `outgoing`, and the bias over it."""
        weight = self.weight.double() * factors
        over = outgoing.view([-1] + [1] * (weight.ndim - 1) if outgoing.ndim else [])
        bias = None if self.bias is None else self.bias.double() / outgoing
        return replace(self, weight=weight / over, bias=bias)  # type: ignore[call-arg]

    def macs(self) -> int:
        """Output positions x output channels x input channels of a group x kernel positions."""
        return prod(self.shape) * self.weight[0].numel()

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 everywhere."""
        return torch.ones(1, *self.shape, dtype=torch.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(Mixing):
    """Convolution: weight [out, in / groups, height, width], bias [out] or None, zero padding.

    A node computes in the dtype of its weight. grid: weights and biases are multiples of 2^-grid.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    grid: int | None = None

    RULES: ClassVar[Rules] = {
        **windows.RULES,
        "dilation": pair(whole(1)),
        "groups": whole(1),
        "grid": GRID,
    }

    TENSORS: ClassVar[Mapping[str, TensorRule]] = {
        "weight": TensorRule(("kernels",), on_grid=True),
        "bias": TensorRule(("channels", "none"), on_grid=True),
    }

    def output_shape(self, shape: Shape) -> Shape:
        """Return (output channels, rows, columns) of windows."""
        windows.is_map(self, shape)
        weight = tuple(self.weight.shape)
        if shape[0] != weight[1] * self.groups or weight[0] % self.groups:
            raise GraphError(
                f"{self.name!r}: weight {weight} with {self.groups} group(s) does not fit an input "
                f"of {shape[0]} channels"
            )
        kernel = (weight[2], weight[3])
        around = (self.stride, self.padding, self.dilation)
        return (weight[0], *windows.windows(self, shape, kernel, *around))

    def value(self, x: Tensor) -> Tensor:
        """Return the convolution of x [N, C, H, W] in the dtype of the weight."""
        x = x.to(self.weight.dtype)
        y = F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
        return _back_on_grid(y, self.grid)

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds over all taps: one in the padding only brings sums nearer the bias."""
        return self._bounds(inputs, self.groups)

    def scaled(self, incoming: Tensor, outgoing: Tensor) -> Node:
        """Return the node with W * incoming / outgoing and b / outgoing."""
        if incoming.ndim:  # in-channels of each output channel's group
            rows = self.weight.shape[0] // self.groups
            incoming = incoming.view(self.groups, -1).repeat_interleave(rows, 0)[..., None, None]
        return self._scaled(incoming, outgoing)

    def connections(self, x: Tensor) -> Tensor:
        """Return one for every tap that lies on something, for every output channel."""
        ones = torch.ones(self.groups, *self.weight.shape[1:], dtype=torch.float64)
        taps = F.conv2d(x, ones, None, self.stride, self.padding, self.dilation, self.groups)
        return taps.sum() * (self.weight.shape[0] // self.groups)


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Mixing):
    """A fully connected layer: weight [out, in], bias [out] or None. grid: as in Conv2d."""

    weight: Tensor
    bias: Tensor | None
    grid: int | None = None

    RULES: ClassVar[Rules] = {"grid": GRID}

    TENSORS: ClassVar[Mapping[str, TensorRule]] = {
        "weight": TensorRule(("matrix",), on_grid=True),
        "bias": TensorRule(("channels", "none"), on_grid=True),
    }

    def output_shape(self, shape: Shape) -> Shape:
        """Return (out,): one value for each row of weights."""
        weight = tuple(self.weight.shape)
        if shape != (weight[1],):
            raise GraphError(f"{self.name!r}: weight {weight} does not fit input {shape}")
        return (weight[0],)

    def value(self, x: Tensor) -> Tensor:
        """Return the matrix product for x [N, features] in the dtype of the weight."""
        y = F.linear(x.to(self.weight.dtype), self.weight, self.bias)
        return _back_on_grid(y, self.grid)

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds of every row's weighted sum."""
        return self._bounds(inputs, 1)

    def scaled(self, incoming: Tensor, outgoing: Tensor) -> Node:
        """Return the node with W * incoming / outgoing and b / outgoing."""
        return self._scaled(incoming, outgoing)

    def connections(self, x: Tensor) -> Tensor:
        """Return one from everything that exists to every output."""
        return x.sum() * self.weight.shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Weighted):
    """`scale * x + shift` per channel: BatchNorm in inference, or the gain of a shortcut synapse.

    scale: [] or [C]; shift: [C] or None. grid: as in Conv2d.
    """

    scale: Tensor
    shift: Tensor | None = None
    grid: int | None = None

    RULES: ClassVar[Rules] = {"grid": GRID}
    ADDED = "shift"

    TENSORS: ClassVar[Mapping[str, TensorRule]] = {
        "scale": TensorRule(("one", "channels"), on_grid=True),
        "shift": TensorRule(("one", "channels", "none"), on_grid=True),
    }

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of its input."""
        return shape

    def value(self, x: Tensor) -> Tensor:
        """Return scale * x + shift in the dtype of the scale."""
        x = x.to(self.scale.dtype)
        y = per_channel(self.scale, x) * x
        return y if self.shift is None else y + per_channel(self.shift, x)

    def without_constants(self) -> Node:
        """Return the node without its shift."""
        return replace(self, shift=None)

    def summed(self, steps: int) -> Node:
        """Return the node with the shift of so many steps, in float64 and off the grid."""
        shift = None if self.shift is None else self.shift.double() * steps
        return replace(self, scale=self.scale.double(), shift=shift, grid=None)

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the images of both ends, exchanged where the scale is negative."""
        ((low, high),) = inputs
        ends = torch.stack([self.scale.double() * low, self.scale.double() * high])
        shift = 0.0 if self.shift is None else self.shift.double()
        return ends.amin(0) + shift, ends.amax(0) + shift

    def scaled(self, incoming: Tensor, outgoing: Tensor) -> Node:
        """Return the node with scale * incoming / outgoing and shift / outgoing."""
        shift = None if self.shift is None else self.shift.double() / outgoing
        return replace(self, scale=self.scale.double() * incoming / outgoing, shift=shift)

    def macs(self) -> int:
        """One multiply-accumulate for each value."""
        return prod(self.shape)

    def connections(self, x: Tensor) -> Tensor:
        """Return one from everything that exists."""
        return x.sum()

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 where the input can differ from 0; everywhere with a shift."""
        if self.shift is None:
            return inputs[0]
        return torch.ones(1, *self.shape, dtype=torch.float64)


def _back_on_grid(y: Tensor, grid: int | None) -> Tensor:
    """Return `y`, rounded back to the grid on accelerators, whose convolutions may be inexact."""
    if grid is None or y.device.type == "cpu":
        return y
    return torch.round(y * 2.0**grid) * 2.0**-grid
