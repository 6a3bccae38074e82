"""Take the images [N, C, H, W] out of a loader's batches: tensors, pairs and dictionaries."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.records import InputError

LABELS = ("label", "labels", "target", "targets")  # of a batch's dictionary: what is no image


SMALL, LARGE = 64, 8  # images a batch: measured best for 32 x 32, and what memory allows for 224


def usual_batch(sides: Iterable[int]) -> int:
    """The number of images in a batch if nobody says otherwise. sides: of an image, in pixels."""
    return SMALL if max(sides, default=1) <= 64 else LARGE


def paired(source: Any) -> Any:
    """A pair (images, labels) of a whole set as a list of batches; anything else as it is.

    Images are a tensor, labels a tensor or an array of as many entries, [N], [N, 1] or [N, K].
    Raises InputError for another number of labels.
    """
    if not (isinstance(source, tuple | list) and len(source) == 2):
        return source
    images, labels = source
    if not isinstance(images, Tensor) or images.ndim < 2 or not _labels(images, labels):
        return source
    if len(images) != len(labels):
        raise InputError(f"there are {len(images)} images and {len(labels)} labels: one for each")
    size = usual_batch(images.shape[2:])
    return [
        (images[start : start + size], labels[start : start + size])
        for start in range(0, len(images), size)
    ]


def _labels(images: Tensor, beside: Any) -> bool:
    """Whether what stands beside images is labels, and not a second batch of images."""
    if not isinstance(beside, Tensor | np.ndarray):
        return False
    return beside.ndim == 1 or (beside.ndim == 2 and images.ndim > 2) or beside.shape[1:] == (1,)


def expected(source: Any) -> int | None:
    """The images of a loader, as far as it tells without being read; None where it does not."""
    if isinstance(source, Tensor):
        return len(source)
    if spans := getattr(source, "spans", None):
        return int(spans[-1][1])
    with suppress(TypeError, ValueError, AttributeError):
        if isinstance(source, list | tuple):
            return sum(map(_count, source))
        return len(source.sampler)
    return None


def _count(batch: Any) -> int:
    """The images of a batch."""
    if isinstance(batch, Mapping):
        return max(len(each) for each in batch.values())
    return len(batch if isinstance(batch, Tensor) else batch[0])


def parts_of(source: Tensor | Iterable[Any], size: int) -> Iterable[Any]:
    """The batches of a source: of a tensor, parts of up to `size` images."""
    source = paired(source)
    if not isinstance(source, Tensor):
        return source
    whole = source.ndim == 0 or _unusual(source)  # and refused as such
    return [source] if whole else source.split(size)


def as_maps(images: Tensor) -> Tensor:
    """Images as a network takes them: features [N, F] as [N, F, 1, 1], signals [N, C, L] as
    [N, C, 1, L], and [N, C, H, W] as they are.
    """
    return images.reshape(map_shape(images.shape))


def map_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape (N, C, H, W) that `as_maps` gives images of `shape`."""
    if len(shape) == 3:
        return (*shape[:2], 1, shape[2])
    return (*shape, *[1] * (4 - len(shape)))


def images_of(batch: Any) -> Tensor:
    """The float32 images [N, C, H, W] of one batch (a tensor, a pair, or a dictionary).

    Features [N, F] and signals [N, C, L] are maps with axes of size 1 (`as_maps`).
    """
    return as_maps(given_images(batch))


def given_images(batch: Any) -> Tensor:
    """The float32 images of one batch, as they were given: [N, C, H, W], [N, C, L] or [N, F]."""
    if isinstance(batch, Mapping):
        tensors = [v for k, v in batch.items() if isinstance(v, Tensor) and k not in LABELS]
        images = [v for v in tensors if v.ndim == 4]
        found = images or [v for v in tensors if v.is_floating_point() and v.ndim in (2, 3)]
        if len(found) != 1:
            raise InputError(f"a batch's dictionary has {len(found)} image entries instead of one")
        batch = found[0]
    elif isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    if not isinstance(batch, Tensor):
        array = ": torch.from_numpy makes one of an array" if hasattr(batch, "__array__") else ""
        raise InputError(f"a batch is a {type(batch).__name__}, not a tensor of images{array}")
    return as_images(batch).cpu()


def as_images(batch: Tensor) -> Tensor:
    """The pixels of a tensor as float32, where they are; InputError for no images.

    batch: [N, C, H, W], or signals [N, C, L], or features [N, F].
    """
    if kind := _unusual(batch):
        raise InputError(f"a batch is a {kind} tensor: give the pixels as plain float32")
    if not 2 <= batch.ndim <= 4:
        raise InputError(
            f"a batch has shape {tuple(batch.shape)}, not [N, C, H, W] (or [N, C, L], or [N, F])"
        )
    if not batch.dtype.is_floating_point:
        raise InputError(f"images are {batch.dtype}: normalise them to float as for the network")
    batch = batch.detach().resolve_neg().float()
    if not finite(batch):
        raise InputError("a batch of images holds NaN or infinite pixels")
    return batch


def finite(values: Tensor) -> bool:
    """Whether all numbers of a tensor are finite, found without another tensor of its size."""
    if values.numel() == 0:
        return True
    return bool(torch.isfinite(torch.stack(values.aminmax())).all())  # NaN is either's result


def _unusual(batch: Tensor) -> str:
    """What kind of tensor it is that holds no numbers one by one; empty for a usual one."""
    if batch.is_meta:
        return "meta (it has a shape and no values)"
    if batch.is_nested:
        return "nested"
    if batch.layout is not torch.strided:
        return str(batch.layout).removeprefix("torch.")
    if batch.is_quantized:
        return "quantised"
    return "complex" if batch.is_complex() else ""


def image_digest(image: Tensor) -> bytes:
    """A hash of one image: the same for the same pixels only."""
    return blake2b(image.contiguous().numpy().tobytes(), digest_size=8).digest()
