"""Hash all images and labels of a data set, by which resumed work knows it again."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from spiking_resnet.ann.images import ImageData
from spiking_resnet.ann.pixels import DataError, PixelsInFiles

_AT_ONCE = 256  # images between two calls of progress


def content_hash(data: ImageData, progress: Callable[[int, int], None] | None = None) -> str:
    """A hash of all labels and all images, in their order: the same for the same content only.

    Of image files it takes every byte, and how they are framed; not where they lie or when they
    were written. progress: called with (images done, all images) now and then.
    """
    framing = None if data.framing is None else data.framing.to_json()
    content = hashlib.sha256(json.dumps([data.source.shape, framing]).encode())
    content.update(data.labels.numpy().tobytes())
    parts = _files(data.source) if isinstance(data.source, PixelsInFiles) else _pixels(data)
    for done, part in enumerate(parts, 1):
        content.update(part)
        if progress is not None and done % _AT_ONCE == 0:
            progress(done, len(data))
    return content.hexdigest()


def _files(source: PixelsInFiles) -> Iterator[bytes]:
    """A digest of every file."""
    for path in source.paths:
        yield _digest(path)


def _digest(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _pixels(data: ImageData) -> Iterator[bytes]:
    """The pixels of every image."""
    for index in range(len(data)):
        yield (
            data.pixels(torch.tensor([index], dtype=torch.int64))
            .cpu()
            .contiguous()
            .numpy()
            .tobytes()
        )
