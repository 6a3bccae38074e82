"""Read data sets from .npz files of `images` and `labels`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.ann.images import ImageData, Normalisation, in_memory
from spiking_resnet.ann.pixels import DataError, MissingDataError
from spiking_resnet.labels import LabelError, class_labels

_CHANNELS = 4  # images have at most so many: more is another order of the axes
_SAVE = "numpy.savez(FILE, images=uint8 [N, H, W, C], labels=integers [N])"


def from_npz(
    path: Path, name: str, split: str, classes: int | None, normalisation: Normalisation
) -> ImageData:
    """The set in a file of `images` (uint8 [N, H, W] or [N, H, W, C]) and `labels` (see
    `class_labels`). classes: None for the largest label and one more.

    Raises DataError, with the remedy, for other arrays; pickled (object) ones are never loaded.
    """
    images, labels = _arrays(path)
    pixels = _pixels(images, path)
    if not len(images):
        raise DataError(f"{path}: there are no images in it")
    try:
        wanted = class_labels(labels, len(images))
    except LabelError as error:
        raise DataError(f"{path}: {error}") from error
    known = classes or max(2, int(wanted.max()) + 1)
    return in_memory(name, split, pixels, wanted, known, normalisation)


def _arrays(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The two arrays of a file."""
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file; give the path of an .npz file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = tuple(arrays.files)
            if "images" not in found or "labels" not in found:
                raise DataError(
                    f"{path} holds {', '.join(found) or 'nothing'}, not images and labels: save "
                    f"one split of it with {_SAVE}"
                )
            return arrays["images"], arrays["labels"]
    except DataError:
        raise
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise DataError(_damaged(path, error)) from error
        raise DataError(
            f"{path} holds pickled Python objects (an array of dtype object), which are not "
            f"loaded: save plain arrays with {_SAVE}"
        ) from error
    except Exception as error:  # numpy raises many types for damaged files
        raise DataError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path}: cannot be read as an .npz file ({error}): save it with {_SAVE}"


def _pixels(images: np.ndarray[Any, Any], path: Path) -> Tensor:
    """uint8 [N, C, H, W] of a file's images; DataError for other types and orders of axes."""
    shape = list(images.shape)
    if images.ndim not in (3, 4):
        raise DataError(f"{path}: images must be uint8 [N, H, W] or [N, H, W, C], got {shape}")
    if images.ndim == 4 and shape[3] > _CHANNELS:
        remedy = (
            ": they are channels first; save images.transpose(0, 2, 3, 1)"
            if shape[1] <= _CHANNELS
            else ""
        )
        raise DataError(f"{path}: images must be [N, H, W, C], got {shape}{remedy}")
    if images.dtype != np.uint8:
        raise DataError(
            f"{path}: images must be uint8, 0 to 255, got {images.dtype}{_range(images)}"
        )
    pixels = torch.from_numpy(images[..., None] if images.ndim == 3 else images)
    return pixels.permute(0, 3, 1, 2).contiguous()


def _range(images: np.ndarray[Any, Any]) -> str:
    """What numbers of another type are, and how they become uint8."""
    if not images.size or images.dtype.kind not in "iuf":
        return ""
    low, high = images.min(), images.max()
    numbers = f" from {low:g} to {high:g}"
    if images.dtype.kind == "f" and low >= 0 and high <= 1:
        return f"{numbers}: save (images * 255).round().astype('uint8')"
    if low >= 0 and high <= 255:
        return f"{numbers}: save images.round().astype('uint8')"
    return f"{numbers}: undo what scaled or normalised them, and save 0 to 255 as uint8"
