"""Nodes in operations that ONNX and its runtimes have for every kind of number.

No runtime convolves float64, and ONNX's average pool divides by what it likes. On a grid all sums
are exact, so their order is free: the values are those of the nodes they stand for, bit for bit.
"""

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.graph import AvgPool, Node
from spiking_resnet.graph.nodes import Conv2d, Pair, field_names


@dataclass(frozen=True, eq=False, kw_only=True)
class ProductConv2d(Conv2d):
    """A convolution that is, in float64, a matrix product with the entries of every window."""

    def value(self, x: Tensor) -> Tensor:
        """Return the convolution of x [N, C, H, W] in the dtype of the weight."""
        if self.weight.dtype != torch.float64:
            return super().value(x)
        _, width, *kernel = self.weight.shape
        size = (self.shape[1], self.shape[2])
        padded = F.pad(x.to(self.weight.dtype), _around(self.padding))
        places = product(range(kernel[0]), range(kernel[1]))
        taps = [_tap(padded, at, self.stride, self.dilation, size) for at in places]
        windows = torch.stack(taps, 2).flatten(3).flatten(1, 2)  # [N, channels * taps, places]
        weight = self.weight.view(self.groups, -1, width * len(taps))
        y = torch.matmul(weight, windows.unflatten(1, (self.groups, -1)))
        y = y.flatten(1, 2).unflatten(2, size)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class SummedAvgPool(AvgPool):
    """An average pool as sums of rows, then of columns."""

    def value(self, x: Tensor) -> Tensor:
        """Return the windows' sums over the divisor."""
        sums = F.pad(x, _around(self.padding))
        for axis in (0, 1):
            size, stride = self.shape[1 + axis], self.stride[axis]
            parts = [_along(sums, axis, at, stride, size) for at in range(self.kernel[axis])]
            sums = torch.stack(parts).sum(0)
        return sums if self.divisor == 1 else sums / self.divisor


def _around(padding: Pair) -> list[int]:
    """Return the padding of height and width as `F.pad` takes it."""
    return [padding[1], padding[1], padding[0], padding[0]]


def _tap(x: Tensor, at: Pair, stride: Pair, dilation: Pair, size: Pair) -> Tensor:
    """Return what every window has at one place of its kernel, [N, C, *size]."""
    for axis in (0, 1):
        x = _along(x, axis, at[axis] * dilation[axis], stride[axis], size[axis])
    return x


def _along(x: Tensor, axis: int, first: int, stride: int, size: int) -> Tensor:
    """Return `size` entries along height (0) or width (1) of x, `stride` apart."""
    index = [slice(None)] * 4
    index[2 + axis] = slice(first, first + (size - 1) * stride + 1, stride)
    return x[tuple(index)]


def portable(node: Node) -> Node:
    """Return `node` in operations that ONNX's runtimes have; its values stay."""
    kinds: dict[type[Node], type[Node]] = {Conv2d: ProductConv2d, AvgPool: SummedAvgPool}
    kind = kinds.get(type(node))
    if kind is None:
        return node
    return kind(**{name: getattr(node, name) for name in field_names(type(node))})
