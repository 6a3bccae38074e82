"""Operators as the ONNX standard defines them, where onnx's evaluator differs (seen in 1.23).

Its pools exchange the axes of uneven padding; its BatchNormalization before opset 14 takes the
statistics of the batch; its convolution writes every window out; it resizes number by number, does
not pad by negative sizes, and does not know what Dropout and broadcasting were before opset 7.
Memory is that of a few maps.
"""

from collections.abc import Callable, Sequence
from functools import cache
from math import ceil, inf
from typing import Any

import numpy as np

from spiking_resnet.capture.onnx import nearest
from spiking_resnet.capture.onnx.package import onnx_part

Array = np.ndarray[Any, Any]


@cache
def operators() -> list[type]:
    """The classes, for onnx's ReferenceEvaluator."""
    base: Any = onnx_part("reference.op_run").OpRun

    class BatchNormalization(base):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Array, scale: Array, bias: Array, mean: Array, variance: Array,
            epsilon: Any = None, momentum: Any = None, spatial: Any = None,
            training_mode: Any = None, is_test: Any = None, consumed_inputs: Any = None,
        ) -> tuple[Array, ...]:  # fmt: skip
            shape = (-1, *[1] * (x.ndim - 2))
            parts = [
                part.astype(np.float64).reshape(shape) for part in (scale, bias, mean, variance)
            ]
            gain = parts[0] / np.sqrt(parts[3] + (1e-5 if epsilon is None else epsilon))
            found = ((x - parts[2]) * gain + parts[1]).astype(x.dtype)
            return (found, mean, variance, mean, variance)[: len(self.output)]

    class Conv(base):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Array, weight: Array, bias: Array | None = None, auto_pad: Any = None,
            dilations: Any = None, group: Any = None, kernel_shape: Any = None,
            pads: Any = None, strides: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            window = _Windows(weight.shape[2:], strides, dilations, pads, auto_pad)
            return (_convolved(x, weight, bias, group or 1, window),)

    class MaxPool(base):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Array, auto_pad: Any = None, ceil_mode: Any = None, dilations: Any = None,
            kernel_shape: Any = None, pads: Any = None, storage_order: Any = None,
            strides: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            window = _Windows(kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
            return (window.over(x, np.maximum, -inf, -inf).astype(x.dtype),)

    class AveragePool(base):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Array, auto_pad: Any = None, ceil_mode: Any = None,
            count_include_pad: Any = None, dilations: Any = None, kernel_shape: Any = None,
            pads: Any = None, strides: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            window = _Windows(kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
            counts = window.counts(x.shape[2:], bool(count_include_pad))
            return ((window.over(x, np.add) / counts).astype(x.dtype),)

    class Pad(base):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Array, sizes: Any = None, constant: Any = None, axes: Any = None,
            pads: Any = None, value: Any = None, mode: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            sizes = [int(size) for size in (pads if sizes is None else sizes)]
            along = [*range(x.ndim)] if axes is None else [int(axis) for axis in axes]
            pairs = [(0, 0)] * x.ndim
            for place, axis in enumerate(along):
                pairs[axis] = (sizes[place], sizes[place + len(along)])
            for axis, (low, high) in enumerate(pairs):  # negative sizes cut
                x = x.take(range(max(-low, 0), x.shape[axis] + min(high, 0)), axis)
            around = [(max(low, 0), max(high, 0)) for low, high in pairs]
            mode, fill = mode or "constant", value if constant is None else constant
            more = {"constant_values": fill or 0} if mode == "constant" else {}
            return (np.pad(x, around, mode=mode, **more).astype(x.dtype),)

    pools = [MaxPool, AveragePool]
    return [BatchNormalization, Conv, *pools, Pad, *_old(base), *_resizing(base)]


def _old(base: Any) -> list[type]:
    """Operators whose attributes before opset 7 are gone since."""

    class Dropout(base):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x: Array, *rest: Any, **options: Any) -> tuple[Array, ...]:
            return (x, np.ones(x.shape, bool))[: len(self.output)]

    def binary(name: str, function: Callable[..., Array]) -> type:
        def run(
            self: Any, x: Array, y: Array, axis: Any = None, broadcast: Any = None,
            consumed_inputs: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            if broadcast and axis is not None:
                y = y.reshape(*y.shape, *[1] * (x.ndim - axis % x.ndim - y.ndim))
            return (function(x, y).astype(x.dtype),)

        return type(name, (base,), {"op_domain": "", "_run": run})

    return [
        Dropout, binary("Add", np.add), binary("Sub", np.subtract), binary("Mul", np.multiply),
        binary("Div", lambda x, y: x / y if x.dtype.kind == "f" else x // y),
    ]  # fmt: skip


def _resizing(base: Any) -> list[type]:
    """Resize and Upsample, to the nearest entry alone."""

    def sized(x: Array, scales: Any, sizes: Any, axes: Any, by: tuple[str, str, str]) -> Array:
        if by[0] != "nearest":
            raise NotImplementedError(f"resizing of mode {by[0]}")
        given = scales if scales is not None and len(scales) else None
        for place, axis in enumerate(range(x.ndim) if axes is None else axes):
            scale = None if given is None else float(given[place])
            size = x.shape[axis]
            count = int(sizes[place]) if scale is None else int(np.floor(size * scale))
            x = x.take(nearest.sources(size, count, scale, *by[1:]), axis)
        return x

    class Upsample(base):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x: Array, given: Any = None, mode: Any = None, scales: Any = None) -> Any:
            by = nearest.rules("Upsample", 9, {"mode": mode or "nearest"}.get)
            return (sized(x, given if scales is None else scales, None, None, by),)

    class Resize(base):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x: Array, *inputs: Any, axes: Any = None, **options: Any) -> Any:
            old = len(inputs) == 1  # opset 10: the scales alone
            scales, sizes = (inputs[0], None) if old else (*inputs[1:], None, None)[:2]
            named = {name: value for name, value in options.items() if value is not None}
            by = nearest.rules("Resize", 10 if old else 11, named.get)
            return (sized(x, scales, sizes, axes, by),)

    return [Upsample, Resize]


class _Windows:
    """The windows of a pool or a convolution, from its attributes in the file."""

    def __init__(
        self, kernel: Any, strides: Any, dilations: Any, pads: Any, automatic: Any,
        beyond: Any = False,
    ) -> None:  # fmt: skip
        ones = [1] * len(kernel)
        self.kernel, self.strides = list(kernel), list(strides or ones)
        self.dilations, self.pads = list(dilations or ones), list(pads or [0, 0] * len(kernel))
        self.automatic, self.beyond = automatic or "NOTSET", beyond

    def over(
        self, x: Array, combine: Callable[..., Array], padding: float = 0.0, beyond: float = 0.0
    ) -> Array:
        """What `combine` makes of each window of maps [N, C, ...], one axis after the other.

        padding: the value of the padding; beyond: of what the last window has beyond that.
        """
        x = x.astype(np.float64)
        for axis in range(len(self.kernel)):
            x = self._along(x, axis, combine, padding, beyond)
        return x

    def counts(self, sizes: Sequence[int], padding: bool) -> Array:
        """How many entries each window of a map of these sizes has, with or without padding."""
        total = np.ones((1, 1, *[1] * len(sizes)))
        for axis, size in enumerate(sizes):
            ones = np.ones((1, 1, *[1] * axis, size, *[1] * (len(sizes) - axis - 1)))
            total = total * self._along(ones, axis, np.add, float(padding), 0.0)
        return total

    def _along(
        self, x: Array, axis: int, combine: Callable[..., Array], padding: float, beyond: float
    ) -> Array:
        x, count = self.padded(x, axis, padding, beyond)
        total = self.entries(x, axis, 0, count)
        for place in range(1, self.kernel[axis]):
            total = combine(total, self.entries(x, axis, place, count))
        return total

    def padded(
        self, x: Array, axis: int, padding: float = 0.0, beyond: float = 0.0
    ) -> tuple[Array, int]:
        """`x` with all that windows reach along one axis of the map, and the number of windows."""
        low, high, count = self._counted(axis, x.shape[2 + axis])
        around = [(0, 0)] * x.ndim
        around[2 + axis] = (low, high)
        x = np.pad(x, around, constant_values=padding)
        reach = (count - 1) * self.strides[axis] + self._reach(axis)
        around[2 + axis] = (0, max(0, reach - x.shape[2 + axis]))
        return np.pad(x, around, constant_values=beyond), count

    def entries(self, x: Array, axis: int, place: int, count: int) -> Array:
        """The entry at one place of each window along an axis of what `padded` gives."""
        start, stride = place * self.dilations[axis], self.strides[axis]
        chosen = [slice(None)] * x.ndim
        chosen[2 + axis] = slice(start, start + (count - 1) * stride + 1, stride)
        return x[tuple(chosen)]

    def _reach(self, axis: int) -> int:
        return int(self.dilations[axis] * (self.kernel[axis] - 1) + 1)

    def _counted(self, axis: int, size: int) -> tuple[int, int, int]:
        """Padding before and after, and the number of windows."""
        stride, reach = self.strides[axis], self._reach(axis)
        low, high = self.pads[axis], self.pads[axis + len(self.kernel)]
        if self.automatic != "NOTSET":
            low = high = 0
        if self.automatic.startswith("SAME"):
            total = max((ceil(size / stride) - 1) * stride + reach - size, 0)
            low, high = total // 2, total - total // 2
            if self.automatic == "SAME_LOWER":
                low, high = high, low
        room = size + low + high - reach
        count = room // stride + 1
        if self.beyond and room % stride and count * stride < size + low:
            count += 1  # one more window, which begins inside
        return low, high, count


def _convolved(x: Array, weight: Array, bias: Array | None, groups: int, window: _Windows) -> Array:
    """The convolution of maps [N, C, ...], one place of the kernel after the other."""
    counts = []
    for axis in range(len(window.kernel)):
        x, count = window.padded(x, axis)
        counts.append(count)
    images, outputs = len(x), len(weight)
    kernels = weight.reshape(groups, outputs // groups, *weight.shape[1:])
    total = np.zeros((images, groups, outputs // groups, int(np.prod(counts))), x.dtype)
    for place in np.ndindex(*window.kernel):
        seen = x
        for axis, count in enumerate(counts):
            seen = window.entries(seen, axis, place[axis], count)
        total += kernels[(..., *place)] @ seen.reshape(images, groups, weight.shape[1], -1)
    total = total.reshape(images, outputs, *counts)
    return total if bias is None else total + bias.reshape(-1, *[1] * len(counts))
