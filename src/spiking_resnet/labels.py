"""Convert labels, as files and loaders hold them, to whole numbers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class LabelError(ValueError):
    """Values that cannot be used as labels; the message says what they are and what to do."""


def class_labels(values: Any, count: int) -> Tensor:
    """int64 [count], on the CPU, of labels as a tensor, an array or a list.

    values: integers of any type or truth values, [count] or [count, 1]. Raises LabelError for one
    row of numbers an image (one-hot), for floats, objects, and another number of labels.
    """
    labels = _tensor(values)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == count:
        raise LabelError(
            f"labels have shape {list(labels.shape)}, one row for each image, as one-hot labels "
            "do: give the classes' numbers, labels.argmax(1)"
        )
    if labels.ndim != 1:
        raise LabelError(
            f"labels have shape {list(labels.shape)}: give one whole number for each image, [N]"
        )
    if len(labels) != count:
        raise LabelError(f"{count} images but {len(labels)} labels")
    if labels.is_floating_point() or labels.is_complex():
        raise LabelError(
            f"labels are {_name(labels)}, not integers: if they are the classes' numbers, give "
            "them as int64 (labels.long() of a tensor, labels.astype('int64') of an array)"
        )
    return labels.detach().to("cpu", torch.int64)


def _tensor(values: Any) -> Tensor:
    """The values as a tensor; LabelError for what holds no numbers."""
    if isinstance(values, Tensor):
        return values
    try:
        found = np.asarray(values)
    except ValueError:  # rows of different lengths
        found = np.empty(0, object)
    if not found.size and found.dtype != object:
        return torch.empty(found.shape, dtype=torch.int64)
    if found.dtype.kind not in "biufc":
        raise LabelError(
            f"labels are {found.dtype} values of a {type(values).__name__}, not integers: number "
            "the classes from 0"
        )
    return torch.from_numpy(found.astype(found.dtype.newbyteorder("=")))


def _name(labels: Tensor) -> str:
    return str(labels.dtype).removeprefix("torch.")
