"""Calibration images that a conversion method may look at, and a sample of them."""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.images import as_maps, given_images, image_digest, map_shape, parts_of
from spiking_resnet.progress import note
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import Modes


class Calibration:
    """The calibration images, as one stream of batches of one fixed size.

    source: a tensor [N, C, H, W], or any iterable of batches: a tensor, (images, labels), or a
    dictionary with one image entry [N, C, H, W]. It is read once. Batches are cut anew, all of one
    size, so that what is measured does not depend on how the source was batched: BATCH images, or
    LARGE_BATCH of more than LARGE pixels.
    Features [N, F] and signals [N, C, L] are taken as maps with axes of size 1 (`as_maps`).
    first: the source's first batch as it was given. shape: (C, H, W) of every image.

    >>> sr.Calibration(calibration).shape
    (1, 8, 8)
    """

    BATCH = 50
    LARGE_BATCH, LARGE = 16, 128 * 128

    def __init__(self, source: Tensor | Iterable[Any]) -> None:
        stream = _called_back(parts_of(source, 500), Modes.now())
        first = next(stream, None)
        if first is None:
            raise InputError("the calibration set is empty: give it some training images")
        self.first = first
        self._stream = (as_maps(images) for images in itertools.chain([first], stream))
        self.shape: tuple[int, ...] = map_shape(first.shape)[1:]

    def __repr__(self) -> str:
        return f"<Calibration: images {self.shape}, in batches of {self.size}, read once>"

    @property
    def size(self) -> int:
        """The number of images in a batch."""
        _, height, width = self.shape
        return self.LARGE_BATCH if height * width > self.LARGE else self.BATCH

    def batches(self) -> Iterator[tuple[Tensor, int]]:
        """Yield (images [size, C, H, W], how many of them are real): the last batch ends in zeros.

        No batch is kept here once the next one is asked for.
        """
        waiting: list[Tensor] = []
        count = seen = 0
        for images in self._stream:
            if tuple(images.shape[1:]) != self.shape:
                raise InputError(
                    f"calibration images change shape from {self.shape} to "
                    f"{tuple(images.shape[1:])}: resize or crop them to one size"
                )
            for part in _cut(images, self.size - count, self.size):
                waiting.append(part)
                count += len(part)
                if count == self.size:
                    yield torch.cat(waiting), count
                    seen += count
                    note(f"{seen:,} images")
                    waiting, count = [], 0
        if count:
            zeros = torch.zeros(self.size - count, *self.shape, dtype=torch.float32, device="cpu")
            yield torch.cat([*waiting, zeros]), count


def _cut(images: Tensor, first: int, size: int) -> Iterator[Tensor]:
    """Yield parts of images [N, C, H, W]: `first` of them, then `size` at a time, and the rest."""
    yield images[:first]
    if len(images) > first:
        yield from images[first:].split(size)


def _called_back(parts: Iterable[Any], modes: Modes) -> Iterator[Tensor]:
    """Yield the images of every part that has some; the user's code that makes them runs in the
    user's modes.
    """
    end = object()
    with modes.entered():
        source = iter(parts)
    while True:
        with modes.entered():
            part = next(source, end)
        if part is end:
            return
        if len(images := given_images(part)):
            yield images


class Sample:
    """The `size` images of a stream whose content hashes are smallest: a choice without order."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._heap: list[tuple[int, int, Tensor]] = []
        self._count = itertools.count()

    def add(self, images: Tensor) -> None:
        """Offer images [N, C, H, W] to the sample."""
        for image in images:
            order = (-int.from_bytes(image_digest(image), "big"), next(self._count))
            if len(self._heap) < self.size:
                heapq.heappush(self._heap, (*order, image.clone()))
            elif order > self._heap[0][:2]:
                heapq.heapreplace(self._heap, (*order, image.clone()))

    def images(self) -> Tensor:
        """Return the images chosen so far, [n, C, H, W], ordered by their hash."""
        return torch.stack([image for *_, image in sorted(self._heap, key=lambda e: -e[0])])
