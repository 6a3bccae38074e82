"""Kinds of nodes that move entries elsewhere: Pad, Slice, Select, Flatten and Concat."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.graph.grids import finest
from spiking_resnet.graph.nodes.base import RANKS, Bounds, GraphError, Node, Pair, Shape
from spiking_resnet.rules import Rules, pair, several, whole

MOST_AROUND = 2**15  # of a Pad: a few bytes of a file must not ask for gigabytes of zeros


class Moving(Node):
    """A node whose entries are those of its inputs, at other places."""

    hands_on = True
    shares_grid = True

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds of all channels at once, and 0."""
        low, high = inputs[0]
        return low.amin().clamp(max=0), high.amax().clamp(min=0)

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the finest of the inputs' grids."""
        return finest(inputs)

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 where the moved entries can differ from 0."""
        return self.value(*inputs).sign()


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Moving):
    """Zeros around its input: one (before, after) pair for each axis of `shape`."""

    padding: tuple[Pair, ...]

    RULES: ClassVar[Rules] = {"padding": several(pair(whole(0, MOST_AROUND)), *RANKS)}

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input's shape, larger by the zeros."""
        if len(self.padding) != len(shape):
            raise GraphError(f"{self.name!r}: padding {self.padding} does not fit shape {shape}")
        return tuple(size + sum(pair) for size, pair in zip(shape, self.padding, strict=True))

    def value(self, x: Tensor) -> Tensor:
        """Return `x` with zeros around it."""
        return F.pad(x, [size for pair in reversed(self.padding) for size in pair])

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the input's amplitudes, 1 for channels of zeros."""
        (scale,) = scales
        return F.pad(scale, self.padding[0], value=1.0) if scale.ndim else scale

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return `scale` without the channels of zeros."""
        before, after = self.padding[0]
        return scale[before : len(scale) - after] if scale.ndim else scale


class Choosing(Moving):
    """A node with entries along one axis of the image's value (0 = channels)."""

    axis: int

    def _has_axis(self, shape: Shape) -> None:
        if self.axis >= len(shape):
            raise GraphError(f"{self.name!r}: there is no axis {self.axis} in shape {shape}")

    def _resized(self, shape: Shape, length: int) -> Shape:
        """Return `shape` with so many entries along the axis."""
        return (*shape[: self.axis], length, *shape[self.axis + 1 :])


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Choosing):
    """`x[start:stop:step]` along one axis of the image's value (0 = channels)."""

    axis: int
    start: int
    stop: int
    step: int = 1

    RULES: ClassVar[Rules] = {"axis": whole(), "start": whole(), "stop": whole(), "step": whole(1)}

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input's shape, shorter along the axis."""
        self._has_axis(shape)
        if not self.start < self.stop <= shape[self.axis]:
            raise GraphError(
                f"{self.name!r}: cuts {self.start} to {self.stop} out of axis {self.axis} of "
                f"{shape}"
            )
        return self._resized(shape, len(range(self.start, self.stop, self.step)))

    def value(self, x: Tensor) -> Tensor:
        """Return every `step`-th entry of x from start to stop along one axis."""
        index = [slice(None)] * x.ndim
        index[self.axis + 1] = slice(self.start, self.stop, self.step)
        return x[tuple(index)]

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the amplitudes of the channels it keeps."""
        (scale,) = scales
        own = self.axis == 0 and scale.ndim
        return scale[self.start : self.stop : self.step] if own else scale

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return `scale`; None where channels are left out and the others differ."""
        return None if self.axis == 0 and scale.ndim else scale


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(Choosing):
    """The entries `index` of one axis of the image's value (0 = channels), in that order.

    A permutation is a channel shuffle; repeated entries are a nearest upsampling, or a border of
    copies. Spikes stay spikes: a synapse of weight 1 leads to every copy.
    """

    axis: int
    index: tuple[int, ...]

    RULES: ClassVar[Rules] = {"axis": whole(), "index": several(whole(), 1)}

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input's shape with len(index) entries along the axis."""
        self._has_axis(shape)
        if not max(self.index) < shape[self.axis]:
            raise GraphError(f"{self.name!r}: selects entries outside axis {self.axis} of {shape}")
        return self._resized(shape, len(self.index))

    def value(self, x: Tensor) -> Tensor:
        """Return the chosen entries of one axis of x, in the order given."""
        index = torch.tensor(self.index, dtype=torch.int64, device=x.device)
        return x.index_select(self.axis + 1, index)

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds of the chosen channels."""
        low, high = inputs[0]
        if self.axis == 0 and low.ndim and high.ndim:
            return low[list(self.index)], high[list(self.index)]
        return super().bounds(inputs, shapes)

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the amplitudes of the chosen channels."""
        (scale,) = scales
        return scale[list(self.index)] if self.axis == 0 and scale.ndim else scale

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return each channel's scale: 1 where not chosen; None where copies differ."""
        if self.axis != 0 or not scale.ndim:
            return scale
        found = torch.ones(shapes[0][0], dtype=scale.dtype)
        chosen = list(self.index)
        found[chosen] = scale
        return found if bool((found[chosen] == scale).all()) else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Moving):
    """All axes of the image's value in one."""

    RULES: ClassVar[Rules] = {}

    def output_shape(self, shape: Shape) -> Shape:
        """Return (features,): one axis."""
        return (prod(shape),)

    def value(self, x: Tensor) -> Tensor:
        """Return `x` as [N, features]."""
        return x.flatten(1)

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return each feature's amplitude: that of its channel."""
        (scale,), (shape,) = scales, shapes
        return scale.repeat_interleave(prod(shape) // len(scale)) if scale.ndim else scale

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return `scale`; None where it differs from feature to feature."""
        return None if scale.ndim else scale


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Moving):
    """Its inputs one after the other along the channels."""

    RULES: ClassVar[Rules] = {}
    ARITY = None

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the inputs' shape with the channels of all of them."""
        if any(shape[1:] != shapes[0][1:] for shape in shapes):
            raise GraphError(f"{self.name!r}: cannot join shapes {list(shapes)} along the channels")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def value(self, *values: Tensor) -> Tensor:
        """Return the values, joined along the channels."""
        return torch.cat(values, 1)

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds of each input's channels."""
        low, high = (_joined([each[end] for each in inputs], shapes) for end in (0, 1))
        return low, high

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the amplitudes of each input's channels."""
        return _joined(scales, shapes)

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return the scale of this input's channels."""
        return scale.split([shape[0] for shape in shapes])[position] if scale.ndim else scale


def _joined(parts: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
    """Return the numbers ([] or [C]) of several inputs, joined for all their channels."""
    pairs = zip(parts, shapes, strict=True)
    return torch.cat([part.expand(shape[0]) for part, shape in pairs])
