"""What networks decided for every image, and for every class: whole numbers, as records."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from spiking_resnet.codec import Record, form
from spiking_resnet.shares import wilson

Pairs = tuple[tuple[int, int, int], ...]  # (label, decision, images), ascending


class StepsError(ValueError):
    """A number of time steps at which nothing was read out."""


def _row(found: Any, kind: type) -> tuple[Any, ...]:
    """A list of whole numbers, or of floats; ValueError for others. Fast, for long ones."""
    if not isinstance(found, list | tuple) or not all(type(each) is kind for each in found):
        raise ValueError(f"not a list of {'whole ' if kind is int else ''}numbers")
    return tuple(found)


def _rows(found: Any, kind: type) -> tuple[tuple[Any, ...], ...]:
    if not isinstance(found, list | tuple):
        raise ValueError("not a list of lists")
    return tuple(_row(each, kind) for each in found)


_WHOLE = form(list, lambda found: _row(found, int))
_WHOLE_OR_NONE = form(
    lambda own: None if own is None else list(own),
    lambda found: None if found is None else _row(found, int),
)
_NUMBERS_OR_NONE = form(
    lambda own: None if own is None else list(own),
    lambda found: None if found is None else _row(found, float),
)
_WHOLE_BY_STEP = form(lambda own: list(map(list, own)), lambda found: _rows(found, int))
_NUMBERS_BY_STEP = form(lambda own: list(map(list, own)), lambda found: _rows(found, float))


@dataclass(frozen=True)
class Decisions(Record):
    """The decisions of a spiking network and its ANN for each of N images, by their indices.

    steps: the T at which the spiking network was read out. classes: their number K. images: N
    indices, ascending: places in the order of the loader. labels, ann: N classes; ann is None
    without an ANN. snn: N classes for each T. margins: N numbers for each T, by how much the
    largest of the read-out's logits exceeds the second (of one logit its size), in the ANN's units;
    ann_margins: of the ANN's logits. names: of the classes, where they are known.
    """

    steps: tuple[int, ...]
    classes: int
    images: tuple[int, ...] = field(metadata=_WHOLE)
    labels: tuple[int, ...] = field(metadata=_WHOLE)
    ann: tuple[int, ...] | None = field(metadata=_WHOLE_OR_NONE)
    snn: tuple[tuple[int, ...], ...] = field(metadata=_WHOLE_BY_STEP)
    margins: tuple[tuple[float, ...], ...] = field(metadata=_NUMBERS_BY_STEP)
    ann_margins: tuple[float, ...] | None = field(metadata=_NUMBERS_OR_NONE)
    names: tuple[str, ...] = ()

    def name(self, label: int) -> str:
        """What a class is called: its name, or its number."""
        return self.names[label] if len(self.names) == self.classes else str(label)

    def at(self, steps: int | None = None) -> int:
        """The place of T among `steps`; of None the last. StepsError for another T."""
        return place(self.steps, steps)

    def flipped(self, steps: int | None = None) -> tuple[int, ...]:
        """The places 0 ... N - 1 of images that the two networks decide differently at T."""
        if self.ann is None:
            return ()
        pairs = zip(self.ann, self.snn[self.at(steps)], strict=True)
        return tuple(number for number, (one, other) in enumerate(pairs) if one != other)

    def ever_flipped(self) -> tuple[int, ...]:
        """The places of images that the two networks decide differently at any T."""
        return tuple(sorted({number for steps in self.steps for number in self.flipped(steps)}))

    def of_images(self, indices: Sequence[int]) -> "Decisions":
        """The same with other indices: index i becomes `indices[i]`, which ascend too."""
        return replace(self, images=tuple(indices[image] for image in self.images))


def joined(blocks: Iterable[Decisions]) -> Decisions:
    """The decisions of blocks of images that have none in common, at least one, as one."""
    parts = sorted(blocks, key=lambda block: block.images[:1])
    first = parts[0]
    return replace(
        first,
        images=_end_to_end(part.images for part in parts),
        labels=_end_to_end(part.labels for part in parts),
        ann=None if first.ann is None else _end_to_end(part.ann or () for part in parts),
        snn=tuple(map(_end_to_end, zip(*(part.snn for part in parts), strict=True))),
        margins=tuple(map(_end_to_end, zip(*(part.margins for part in parts), strict=True))),
        ann_margins=None
        if first.ann_margins is None
        else _end_to_end(part.ann_margins or () for part in parts),
    )


def _end_to_end(rows: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(chain.from_iterable(rows))


@dataclass(frozen=True)
class PerClass(Record):
    """How often images of every class were taken for which, by a spiking network and its ANN.

    steps: the T at which the spiking network was read out. images: of each of K classes. ann, snn:
    (label, decision, images) of all pairs that occur; snn for each T; ann is None without an ANN.
    agreed: for each T the images of each class that both decide alike; lost: that the ANN alone
    classifies correctly. names: of the classes, where they are known.
    """

    steps: tuple[int, ...]
    images: tuple[int, ...]
    ann: Pairs | None
    snn: tuple[Pairs, ...]
    agreed: tuple[tuple[int, ...], ...] | None
    lost: tuple[tuple[int, ...], ...] | None
    names: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """The number K of classes."""
        return len(self.images)

    def name(self, label: int) -> str:
        """What a class is called: its name, or its number."""
        return self.names[label] if len(self.names) == self.classes else str(label)

    def at(self, steps: int | None = None) -> int:
        """The place of T among `steps`; of None the last. StepsError for another T."""
        return place(self.steps, steps)

    def pairs(self, steps: int | Literal["ann"] | None = None) -> Mapping[tuple[int, int], int]:
        """Images by (label, decision) of the spiking network at T (None: the last), or of "ann".

        Pairs that do not occur are missing. StepsError for another T, or without an ANN.
        """
        found = self.ann if steps == "ann" else self.snn[self.at(steps)]
        if found is None:
            raise StepsError("the network was evaluated without an ANN: give evaluate ann=...")
        return {(label, decision): images for label, decision, images in found}

    def confusion(self, steps: int | Literal["ann"] | None = None) -> Tensor:
        """The confusion matrix int64 [K, K]: rows are labels, columns decisions.

        steps: T (None: the last), or "ann". Its trace is the number of images classified correctly.
        Raises StepsError for another T, and for "ann" without an ANN.
        """
        matrix = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        for pair, images in self.pairs(steps).items():
            matrix[pair] = images
        return matrix

    def right(self, steps: int | Literal["ann"] | None = None) -> tuple[int, ...]:
        """The images of every class that are classified correctly; steps as for `confusion`."""
        pairs = self.pairs(steps)
        return tuple(pairs.get((label, label), 0) for label in range(self.classes))

    def interval(self, right: int, label: int) -> tuple[float, float] | None:
        """The 95 % Wilson interval of the share right / images of a class; None without images."""
        return wilson(right, self.images[label]) if self.images[label] else None

    def gained(self, steps: int | None = None) -> tuple[tuple[int, int, int], ...]:
        """(label, decision, more images than the ANN's) of the errors that conversion made more
        frequent at T, the largest growth first.
        """
        ann, found = self.pairs("ann"), list[tuple[int, int, int]]()
        for pair, images in self.pairs(steps).items():
            more = images - ann.get(pair, 0)
            if more > 0 and pair[0] != pair[1]:
                found.append((*pair, more))
        return tuple(sorted(found, key=lambda entry: (-entry[2], entry[:2])))


def per_class(found: Decisions) -> PerClass:
    """The counts by class of decisions for single images."""
    everyone = range(found.classes)
    images = Counter(found.labels)

    def counted(holds: Callable[[int, int, int], bool]) -> tuple[tuple[int, ...], ...] | None:
        """For each T the images of each class of which (label, ANN, SNN) something holds."""
        if found.ann is None:
            return None
        rows = [zip(found.labels, found.ann, own, strict=True) for own in found.snn]
        counts = [Counter(three[0] for three in row if holds(*three)) for row in rows]
        return tuple(tuple(each[label] for label in everyone) for each in counts)

    return PerClass(
        steps=found.steps,
        images=tuple(images[label] for label in everyone),
        ann=None if found.ann is None else _counted(found.labels, found.ann),
        snn=tuple(_counted(found.labels, own) for own in found.snn),
        agreed=counted(lambda label, ann, snn: ann == snn),
        lost=counted(lambda label, ann, snn: ann == label != snn),
        names=found.names,
    )


def _counted(labels: tuple[int, ...], decisions: tuple[int, ...]) -> Pairs:
    counts = Counter(zip(labels, decisions, strict=True))
    return tuple((*pair, counts[pair]) for pair in sorted(counts))


def place(known: tuple[int, ...], steps: int | None) -> int:
    """The place of T in a row of them; of None the last one. StepsError for one not in it."""
    if steps is None:
        return len(known) - 1
    if steps not in known:
        raise StepsError(f"T = {steps} was not read out: it was at {', '.join(map(str, known))}")
    return known.index(steps)
