"""Where the pixels of a data set are: in memory, or in image files that are read as needed."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spiking_resnet.ann.pictures import DataError, read_picture
from spiking_resnet.codec import Record

__all__ = [
    "INTERPOLATIONS",
    "DataError",
    "Framing",
    "MissingDataError",
    "PixelSource",
    "PixelsInFiles",
    "PixelsInMemory",
]

_READING_THREADS = 4  # decoding releases Python's lock
_BATCHES_AHEAD = 2

INTERPOLATIONS = {choice.name.lower(): choice for choice in Image.Resampling}


class MissingDataError(DataError, FileNotFoundError):
    """A data set that is not where it was looked for."""


class PixelSource(Protocol):
    """Where the pixels of a set are."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        ...

    def read(self, indices: Tensor) -> Tensor:
        """uint8 [len(indices), C, H, W]."""
        ...

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The pixels of one batch of indices after the other."""
        ...


@dataclass(frozen=True)
class PixelsInMemory:
    """Pixels uint8 [N, C, H, W]."""

    pixels: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.pixels.shape[1], self.pixels.shape[2], self.pixels.shape[3]

    def read(self, indices: Tensor) -> Tensor:
        """uint8 [len(indices), C, H, W], on the device of the pixels."""
        return self.pixels[indices.to(self.pixels.device)]

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The pixels of one batch of indices after the other."""
        return map(self.read, batches)


@dataclass(frozen=True)
class Framing(Record):
    """How an image file becomes pixels: shortest side to `resize`, then the central `crop` squared.

    interpolation: of the resizing; one of INTERPOLATIONS. As torchvision's Resize and CenterCrop.
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise DataError(
                f"images are resized to {self.resize} and cropped to {self.crop}: the crop must be "
                "at least 1 and no larger"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise DataError(
                f"there is no interpolation {self.interpolation!r}: use one of "
                f"{', '.join(INTERPOLATIONS)}"
            )

    def apply(self, image: Image.Image) -> Tensor:
        """uint8 [C, crop, crop] of an RGB or a grey image."""
        width, height = image.size
        shortest = min(width, height)
        # As torchvision's Resize and CenterCrop: rounds the longer side down, the corner to even.
        size = (self.resize * width // shortest, self.resize * height // shortest)
        if size != image.size:
            image = image.resize(size, INTERPOLATIONS[self.interpolation])
        left, top = round((size[0] - self.crop) / 2.0), round((size[1] - self.crop) / 2.0)
        image = image.crop((left, top, left + self.crop, top + self.crop))
        pixels = torch.from_numpy(np.array(image))
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


@dataclass(frozen=True)
class PixelsInFiles:
    """RGB pixels of image files, framed; grey ones where there is 1 channel."""

    paths: tuple[Path, ...] = field(repr=False)
    framing: Framing
    channels: int = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.channels, self.framing.crop, self.framing.crop

    def read(self, indices: Tensor) -> Tensor:
        """uint8 [len(indices), C, crop, crop]."""
        return next(self.stream([indices]))

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The pixels of one batch of indices after the other.

        Files are read ahead in threads while a batch is worked on; a few batches are held at most.
        """
        threads = ThreadPoolExecutor(_READING_THREADS)
        waiting: deque[list[Future[Tensor]]] = deque()
        try:
            for indices in batches:
                paths = [self.paths[index] for index in indices.tolist()]
                waiting.append([threads.submit(self._read_one, path) for path in paths])
                if len(waiting) > _BATCHES_AHEAD:
                    yield _stacked(waiting.popleft())
            while waiting:
                yield _stacked(waiting.popleft())
        finally:
            threads.shutdown(cancel_futures=True)

    def _read_one(self, path: Path) -> Tensor:
        return self.framing.apply(read_picture(path, self.channels))


def _stacked(images: list[Future[Tensor]]) -> Tensor:
    return torch.stack([image.result() for image in images])
