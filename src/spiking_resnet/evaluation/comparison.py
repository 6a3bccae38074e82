"""The result of a comparison: the rows of its methods, which of them beat others, and the winner.

A network is a method at one T. It beats another where it is at least as accurate, takes at most as
many operations and time steps, and is better in one of the three. Those that none beats are the
front. Of several networks the choice is the one that takes the fewest operations among those whose
loss is within the standard error of the smallest loss.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import hypot, inf
from typing import Any, ClassVar

from spiking_resnet import rules
from spiking_resnet.codec import Record, same
from spiking_resnet.conversion.methods.recipes import BINARY, CLASSES, GRADED, TRAINED
from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.shares import standard_error
from spiking_resnet.shown import Short


@dataclass(frozen=True)
class Entry(Record):
    """One conversion and its results.

    method: its name and options. seconds: of its making; what several conversions need of the
    calibration images is measured for the first of them. image_macs: multiply-accumulates of the
    layers that read the image, once an image; the SynOps of readings are without them.
    """

    method: Mapping[str, Any]
    facts: Facts
    seconds: float
    image_macs: int
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Row(Record):
    """One recipe's results, converted once or for each T. problem: why some are missing, or ""."""

    recipe: str
    description: str
    per_steps: bool
    entries: tuple[Entry, ...]
    problem: str = ""

    @property
    def facts(self) -> Facts | None:
        """The firing conditions of the first conversion; None where nothing could be converted."""
        return self.entries[0].facts if self.entries else None

    @property
    def seconds(self) -> float:
        """The time of all its conversions."""
        return sum(entry.seconds for entry in self.entries)

    @property
    def group(self) -> str:
        """Which of CLASSES its networks are of; nothing where none could be made."""
        if self.facts is None:
            return ""
        if self.facts.trained:
            return TRAINED
        return BINARY if self.facts.binary else GRADED

    @property
    def places(self) -> list["Place"]:
        """Its networks, by T."""
        found = [Place(self, entry, each) for entry in self.entries for each in entry.readings]
        return sorted(found, key=lambda place: place.reading.steps)

    @property
    def readings(self) -> dict[int, Reading]:
        """The readings of all conversions, by T."""
        return {each.steps: each for entry in self.entries for each in entry.readings}


@dataclass(frozen=True, eq=False)
class Place(Short):
    """A network of a comparison: a method, as it was converted, at one T."""

    row: Row
    entry: Entry
    reading: Reading

    @property
    def latency(self) -> float:
        """The time steps until its answer is there: of layer-serial neurons depth times T.

        Infinite for those of a file that does not say it.
        """
        if self.reading.latency is not None:
            return self.reading.latency
        facts = self.entry.facts
        return inf if facts.waits else facts.pre_steps + self.reading.steps

    def beats(self, other: "Place") -> bool:
        """Whether it is as good in accuracy, operations and latency, and better in one of them."""
        own, its = self._merits, other._merits
        return own != its and all(one >= two for one, two in zip(own, its, strict=True))

    @property
    def _merits(self) -> tuple[float, float, float]:
        return self.reading.accuracy, -self.reading.operations, -self.latency


def front(places: Iterable[Place]) -> list[Place]:
    """The networks that no other beats, from few operations to many."""
    listed = list(places)
    kept = [one for one in listed if not any(other.beats(one) for other in listed)]
    return sorted(kept, key=lambda place: (place.reading.operations, place.latency))


def choice(places: Iterable[Place]) -> Place | None:
    """The network to choose: the cheapest of those whose loss cannot be told from the smallest.

    None is better than no loss: what is above the ANN is luck. The error of a difference of two
    losses is taken as if they were independent.
    """
    listed = list(places)
    if not listed:
        return None

    def loss(place: Place) -> float:
        return max(place.reading.loss, 0.0)

    best = min(listed, key=lambda place: (loss(place), place.reading.operations))
    near = [
        one
        for one in listed
        if loss(one) - loss(best) <= hypot(one.reading.loss_error, best.reading.loss_error)
    ]
    return min(near, key=lambda place: (place.reading.operations, place.latency))


@dataclass(frozen=True)
class Comparison(Record):
    """The result of `compare`: a row for each recipe, on the same network and images.

    ann_accuracy, ann_macs: the ANN's accuracy on the same images, and its multiply-accumulates.
    command: what to type for the winner, where the command line made the comparison. Raises
    ValueError for numbers that cannot be.
    """

    images: int
    steps: tuple[int, ...]
    ann_accuracy: float
    ann_interval: tuple[float, float]
    ann_macs: int
    rows: tuple[Row, ...]
    hardware: str = ""
    command: str = ""

    later = ("command",)
    layout = (
        *same("images", "steps"),
        ("ann.accuracy", "ann_accuracy"),
        ("ann.interval", "ann_interval"),
        ("ann.standard_error", "ann_standard_error"),
        ("ann.multiply_accumulates", "ann_macs"),
        *same("rows", "hardware"),
        ("convert", "command"),
    )

    RULES: ClassVar[rules.Rules] = {
        "images": rules.whole(1),
        "steps": rules.several(rules.whole(1), 1),
        "ann_accuracy": rules.number(0, 1),
        "ann_interval": rules.pair(rules.number(0, 1)),
        "ann_macs": rules.whole(0, int(rules.LARGEST)),
    }

    def __post_init__(self) -> None:
        rules.check(self, self.RULES)

    @property
    def ann_standard_error(self) -> float:
        """The standard error of the ANN's accuracy."""
        return standard_error(self.ann_accuracy, self.images)

    @property
    def places(self) -> list[Place]:
        """All networks."""
        return [place for row in self.rows for place in row.places]

    @property
    def front(self) -> list[Place]:
        """The networks that no other beats, from few operations to many."""
        return front(self.places)

    @property
    def winner(self) -> Place | None:
        """The network to choose; None where none could be made."""
        return choice(self.places)

    @property
    def ranked(self) -> list[Row]:
        """The rows class by class, those of the smallest loss first, failures last."""
        order = {group: place for place, group in enumerate((*CLASSES, ""))}

        def rank(row: Row) -> tuple[int, float]:
            losses = [reading.loss for reading in row.readings.values()]
            return (order[row.group] if losses else len(order), min(losses, default=inf))

        return sorted(self.rows, key=rank)

    @property
    def beaten(self) -> set[str]:
        """The recipes all of whose networks are beaten by others'."""
        kept = {place.row.recipe for place in self.front}
        return {row.recipe for row in self.rows if row.readings} - kept
