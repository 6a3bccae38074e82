"""What the network of an ONNX file says itself, as onnx's reference evaluator finds it."""

from math import ceil, nan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.from_onnx.file import Layout, OnnxError, OnnxFile, onnx_part

Array = np.ndarray[Any, Any]


def reference_logits(file: OnnxFile, images: Tensor, layout: Layout) -> Tensor:
    """The logits [N, K] of images [N, C, H, W]. Slow: for comparing, on a few images.

    layout: in which the file takes its images. Raises OnnxError for a file it cannot run.
    """
    pixels = images.permute(0, 2, 3, 1) if layout == "NHWC" else images
    found = []
    try:
        evaluator = onnx_part("reference").ReferenceEvaluator(file.model, new_ops=_operators())
        for part in pixels.split(file.batch or len(pixels)):
            fill = (file.batch or len(part)) - len(part)
            whole = torch.cat([part, part[-1:].expand(fill, *part.shape[1:])]).contiguous()
            (logits,) = evaluator.run(None, {file.input: whole.numpy()})
            found.append(torch.from_numpy(np.asarray(logits)).flatten(1)[: len(part)])
    except Exception as error:  # whatever an operator of onnx's raises
        raise OnnxError(
            f"{file.path}: onnx's reference evaluator cannot run it "
            f"({type(error).__name__}: {error}), so that nothing can be compared: export it with "
            "opset 13 or later and a free batch size"
        ) from error
    return torch.cat(found).float()


def _operators() -> list[type]:
    """Operators as the ONNX standard defines them, where onnx's own differ (seen in 1.23).

    Its pools exchange the axes of uneven padding; its BatchNormalization before opset 14 takes the
    statistics of the batch.
    """
    base: Any = onnx_part("reference.op_run").OpRun

    class BatchNormalization(base):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Array, scale: Array, bias: Array, mean: Array, variance: Array,
            epsilon: Any = None, momentum: Any = None, spatial: Any = None,
            training_mode: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            shape = (-1, *[1] * (x.ndim - 2))
            parts = [
                part.astype(np.float64).reshape(shape) for part in (scale, bias, mean, variance)
            ]
            gain = parts[0] / np.sqrt(parts[3] + (1e-5 if epsilon is None else epsilon))
            return (((x - parts[2]) * gain + parts[1]).astype(x.dtype),)

    class MaxPool(base):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Array, auto_pad: Any = None, ceil_mode: Any = None, dilations: Any = None,
            kernel_shape: Any = None, pads: Any = None, storage_order: Any = None,
            strides: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            window = _Windows(kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
            return (np.nanmax(window.of(x, nan), (-2, -1)).astype(x.dtype),)

    class AveragePool(base):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Array, auto_pad: Any = None, ceil_mode: Any = None,
            count_include_pad: Any = None, dilations: Any = None, kernel_shape: Any = None,
            pads: Any = None, strides: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            window = _Windows(kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
            border = 0.0 if count_include_pad else nan
            return (np.nanmean(window.of(x, border), (-2, -1)).astype(x.dtype),)

    return [BatchNormalization, MaxPool, AveragePool]


class _Windows:
    """The windows of a pool over maps, from its attributes in the file."""

    def __init__(
        self, kernel: Any, strides: Any, dilations: Any, pads: Any, automatic: Any, beyond: Any
    ) -> None:
        self.kernel = list(kernel)
        self.strides, self.dilations = list(strides or (1, 1)), list(dilations or (1, 1))
        self.pads = list(pads or (0, 0, 0, 0))
        self.automatic, self.beyond = automatic or "NOTSET", beyond

    def of(self, x: Array, border: float) -> Array:
        """[N, C, rows, columns, kernel rows, kernel columns]: NaN where a window leaves the padded
        map, `border` in its padding.
        """
        x = x.astype(np.float64)
        for axis in (0, 1):
            low, high, further = self._axis(axis, x.shape[2 + axis])
            around = [(0, 0)] * 4
            around[2 + axis] = (low, high)
            x = np.pad(x, around, constant_values=border)
            around[2 + axis] = (0, further)
            x = np.pad(x, around, constant_values=nan)
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        windows = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
        rows, columns = self.strides
        inner_rows, inner_columns = self.dilations
        return windows[:, :, ::rows, ::columns, ::inner_rows, ::inner_columns]

    def _axis(self, axis: int, size: int) -> tuple[int, int, int]:
        """Padding before and after, and what the last window reaches beyond that."""
        stride = self.strides[axis]
        reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        low, high = self.pads[axis], self.pads[axis + 2]
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
        return low, high, max(0, (count - 1) * stride - room)
