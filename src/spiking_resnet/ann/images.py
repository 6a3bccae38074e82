"""Sets of labelled images: pixels as uint8, and normalised batches of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spiking_resnet.ann.augment import Augmentation, generator_for
from spiking_resnet.ann.pixels import DataError, Framing, PixelsInFiles, PixelsInMemory, PixelSource
from spiking_resnet.ann.remarks import remark
from spiking_resnet.codec import Record
from spiking_resnet.surroundings import undisturbed


@dataclass(frozen=True)
class Normalisation(Record):
    """(pixel / 255 - mean) / std, per channel; a single value serves any number of channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise DataError(
                f"normalisation needs as many means as positive stds, got {self.mean}, {self.std}"
            )

    def apply(self, pixels: Tensor) -> Tensor:
        """float32 [N, C, H, W] of pixels [N, C, H, W] in 0..255."""
        channels = pixels.shape[1]
        if len(self.mean) not in (1, channels):
            raise DataError(
                f"a normalisation of {len(self.mean)} channels does not fit images of {channels}; "
                f"choose another of {', '.join(NORMALISATIONS)}"
            )
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=pixels.device).view(1, -1, 1, 1)
            for values in (self.mean, self.std)
        )
        return (pixels.float() / 255 - mean) / std

    def __str__(self) -> str:
        """Its preset's name, if it has one, and the means and stds as they are typed."""
        typed = "/".join(",".join(f"{v:g}" for v in part) for part in (self.mean, self.std))
        name = next((name for name, known in NORMALISATIONS.items() if known == self), None)
        return typed if name is None else f"{name} ({typed})"


NORMALISATIONS = {
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Normalisation((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    "mnist": Normalisation((0.1307,), (0.3081,)),
    "fashion_mnist": Normalisation((0.2860,), (0.3530,)),
    "digits": Normalisation((0.3057,), (0.3763,)),
    "none": Normalisation((0.0,), (1.0,)),  # pixels in 0..1
    "pixels": Normalisation((0.0,), (1 / 255,)),  # in 0..255: the network normalises them itself
}


def normalisation_named(name: str) -> Normalisation:
    """The preset of this name; DataError listing the presets for any other name."""
    if name not in NORMALISATIONS:
        raise DataError(
            f"no normalisation is called {name!r}: choose one of {', '.join(NORMALISATIONS)}"
        )
    return NORMALISATIONS[name]


@dataclass(frozen=True, eq=False)
class ImageData:
    """A set of labelled images, pixels uint8; `len()` is their number.

    class_names: where they are known, in the order of the labels. Raises DataError for an empty
    set, or labels that do not fit the images or the classes.
    """

    name: str
    split: str
    source: PixelSource
    labels: Tensor  # int64 [N], on the CPU
    classes: int
    normalisation: Normalisation
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise DataError(f"{self.name} ({self.split}): there are no images in it")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.classes:
            raise DataError(
                f"{self.name} ({self.split}): labels run from {low} to {high}, outside "
                f"0..{self.classes - 1}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.labels)

    @property
    def channels(self) -> int:
        """Channels of every image."""
        return self.source.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.source.shape[1:]

    def pixels(self, indices: Tensor) -> Tensor:
        """uint8 [len(indices), C, H, W] of these images."""
        return self.source.read(indices)

    def select(self, indices: Tensor) -> "ImageData":
        """The set of these images, in this order."""
        source = self.source
        if isinstance(source, PixelsInFiles):
            paths = tuple(source.paths[index] for index in indices.tolist())
            return replace(self, source=replace(source, paths=paths), labels=self.labels[indices])
        return replace(
            self, source=PixelsInMemory(source.read(indices)), labels=self.labels[indices]
        )

    @property
    def framing(self) -> Framing | None:
        """How image files become pixels; None for a set in memory."""
        return self.source.framing if isinstance(self.source, PixelsInFiles) else None

    def framed(self, framing: Framing) -> "ImageData":
        """The set of the same image files, framed in another way; a set in memory as it is."""
        if not isinstance(self.source, PixelsInFiles):
            return self
        return replace(self, source=replace(self.source, framing=framing))

    def with_channels(self, channels: int) -> "ImageData":
        """The set for a network of so many channels, which a Remark tells of where it changes.

        Image files are read as grey for 1; grey pixels in memory are repeated for 3. DataError
        for others.
        """
        if channels == self.channels:
            return self
        if isinstance(self.source, PixelsInFiles) and channels == 1:
            remark(f"{self.name}: images are read as grey, for a network of one channel")
            grey = replace(self.source, channels=1)
            return replace(self, source=grey, normalisation=NORMALISATIONS["none"])
        if isinstance(self.source, PixelsInMemory) and (self.channels, channels) == (1, 3):
            remark(f"{self.name}: grey images are repeated, for a network of three channels")
            return replace(self, source=PixelsInMemory(self.source.pixels.expand(-1, 3, -1, -1)))
        raise DataError(
            f"{self.name}: images have {self.channels} channels, the network takes {channels}: "
            "choose the data set that it was trained on"
        )

    def ordered_as(self, names: Sequence[str]) -> "ImageData":
        """The set with labels in the order of a network's classes, by their names.

        Itself where its own names are not known. A Remark tells of labels that change; DataError
        for images of classes that the network does not know.
        """
        if self.class_names is None or self.class_names == tuple(names):
            return self
        known = {name: label for label, name in enumerate(names)}
        seen = {self.class_names[label] for label in self.labels.unique().tolist()}
        if unknown := sorted(seen - known.keys()):
            raise DataError(
                f"{self.name} ({self.split}) has images of {unknown[0]!r}, which is none of the "
                f"network's {len(names)} classes ({', '.join(names[:5])}, …): use the folders of "
                "the images that it was trained on"
            )
        order = torch.tensor(
            [known.get(name, 0) for name in self.class_names], dtype=torch.int64, device="cpu"
        )
        if not torch.equal(order[self.labels], self.labels):
            remark(f"{self.name} ({self.split}): labels go by the network's own order of classes")
        return replace(
            self, labels=order[self.labels], classes=len(names), class_names=tuple(names)
        )

    def per_class(self, count: int, seed: int = 0) -> "ImageData":
        """The set of `count` images of every class, chosen by the seed, in the set's own order.

        All of a class where it has no more; a larger count keeps the images of a smaller one.
        """
        if count < 1:
            raise DataError(f"images per class must be at least 1, got {count}")
        order = self._order(seed)
        labels = self.labels[order]
        chosen = [order[labels == label][:count] for label in labels.unique()]
        return self.select(torch.cat(chosen).sort().values)

    def subset(self, limit: int | None, seed: int | None = 0) -> "ImageData":
        """The set of `limit` images chosen by the seed, in the order of the full set.

        The same seed always chooses the same images, and a larger limit keeps those of a smaller
        one. Seed None takes the first ones; limit None, or more than there are, takes all.
        """
        indices = self.chosen(limit, seed)
        return self if len(indices) == len(self) else self.select(indices)

    def chosen(self, limit: int | None, seed: int | None = 0) -> Tensor:
        """The indices of the images that `subset` takes, ascending, int64."""
        if limit is not None and limit < 1:
            raise DataError(f"limit must be at least 1, got {limit}; leave it out to take all")
        if limit is None or limit >= len(self):
            return torch.arange(len(self), dtype=torch.int64, device="cpu")
        if seed is None:
            return torch.arange(limit, dtype=torch.int64, device="cpu")
        return self._order(seed)[:limit].sort().values

    def parted(self, first: int, second: int, seed: int = 0) -> tuple["ImageData", "ImageData"]:
        """`subset(first, seed)`, and the set of `second` other images.

        DataError where there are not so many.
        """
        if min(first, second) < 1 or first + second > len(self):
            raise DataError(
                f"{self.name} ({self.split}) has {len(self)} images: it cannot be split into "
                f"{first} and {second}"
            )
        order = self._order(seed)[: first + second]
        one, other = (self.select(part.sort().values) for part in (order[:first], order[first:]))
        return one, other

    def _order(self, seed: int) -> Tensor:
        """All indices in the order of the seed, int64 [N]."""
        return torch.randperm(len(self), generator=generator_for(seed), device="cpu")

    def loader(
        self,
        batch_size: int,
        limit: int | None = None,
        normalisation: Normalisation | str | None = None,
        seed: int | None = 0,
        augment: Augmentation | None = None,
    ) -> "Batches":
        """Batches (images float32 [N, C, H, W] normalised, labels int64 [N]), as often as wanted.

        Every pass gives the same batches in the set's own order. `limit` and `seed` choose images
        as `subset` does; `normalisation` None is the set's own, a string names a preset.
        """
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, got {batch_size}")
        if isinstance(normalisation, str):
            normalisation = normalisation_named(normalisation)
        chosen = normalisation or self.normalisation
        if len(chosen.mean) not in (1, self.channels):
            raise DataError(
                f"{self.name}: a normalisation of {len(chosen.mean)} channels does not fit images "
                f"of {self.channels}; choose another of {', '.join(NORMALISATIONS)}"
            )
        return Batches(self.subset(limit, seed), batch_size, chosen, augment, seed or 0)


@dataclass(frozen=True, eq=False)
class Batches:
    """An iterable of (images float32 [N, C, H, W], labels int64 [N]); `len()` counts batches.

    chosen: which batches; None: all. Image files are read as they are needed.
    """

    data: ImageData
    batch_size: int
    normalisation: Normalisation
    augment: Augmentation | None
    seed: int
    chosen: tuple[tuple[int, int], ...] | None = None

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The images [first, end) of every batch, by their places in the set."""
        if self.chosen is not None:
            return self.chosen
        size, images = self.batch_size, len(self.data)
        return tuple((at, min(at + size, images)) for at in range(0, images, size))

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        places = self._places()
        for indices, pixels in zip(places, self.data.source.stream(places), strict=True):
            yield self._batch(indices, pixels)

    @undisturbed()
    def _places(self) -> list[Tensor]:
        """The indices of every batch."""
        return [torch.arange(first, end, dtype=torch.int64) for first, end in self.spans]

    @undisturbed()
    def _batch(self, indices: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        if self.augment is not None:
            step = int(indices[0]) // self.batch_size
            pixels = self.augment.apply(pixels, generator_for(self.seed, 0, step))
        return self.normalisation.apply(pixels), self.data.labels[indices]

    def only(self, spans: Sequence[tuple[int, int]]) -> "Batches":
        """The batches of these spans; no other is read."""
        return replace(self, chosen=tuple(spans))


def in_memory(
    name: str, split: str, pixels: Tensor, labels: Sequence[int] | Tensor, classes: int,
    normalisation: Normalisation,
) -> ImageData:  # fmt: skip
    """The set of pixels uint8 [N, C, H, W] and their labels; DataError where they do not fit."""
    wanted = torch.as_tensor(labels, dtype=torch.int64, device="cpu")
    if pixels.dim() != 4 or pixels.dtype != torch.uint8:
        raise DataError(
            f"{name} ({split}): pixels must be uint8 [N, C, H, W], "
            f"got {pixels.dtype} {list(pixels.shape)}"
        )
    if len(pixels) != len(wanted):
        raise DataError(f"{name} ({split}): {len(pixels)} images but {len(wanted)} labels")
    return ImageData(name, split, PixelsInMemory(pixels), wanted, classes, normalisation)
