"""The results of `tune`: trials of methods, and which of them meet the target loss.

A trial meets the target only if the images show it: with the confidence asked for (of each trial by
itself) the loss is bounded from counts of images (paired.py), and what lies on both sides of the
target is uncertain.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from spiking_resnet.codec import Record, form, same
from spiking_resnet.conversion.methods import Method, described
from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.evaluation.paired import Paired

Measure = Literal["steps", "operations"]
Verdict = Literal["meets", "uncertain", "misses"]

CONFIDENCE = 0.95  # of each trial's verdict, one-sided


@dataclass(frozen=True)
class Limits:
    """The neurons that a search may use: at most `levels` levels of a spike (None: any), 0/1 spikes
    alone (binary), layer-serial ones too (waiting).
    """

    levels: int | None = None
    binary: bool = False
    waiting: bool = False

    def objection(self, facts: Facts) -> str:
        """Why a network of these firing conditions is not allowed, or ""."""
        if self.binary and not facts.binary:
            return "its spikes are not 0 or 1"
        if self.levels is not None and facts.levels > self.levels:
            return f"its spikes have {facts.levels} levels"
        if facts.waits and not self.waiting:
            return "its neurons are layer-serial"
        return ""


@dataclass(frozen=True)
class Trial(Record):
    """One recipe tried at one T on the validation images.

    facts: its firing conditions. reading: as in a comparison; its loss is 100 - agreement where the
    images have no labels. verdict: whether the loss is within the target. bounds: in points, what
    it is above and what it is below, each with the tuning's confidence.
    """

    recipe: str
    steps: int
    method: Method = field(metadata=form(lambda method: method.describe(), described))
    facts: Facts
    reading: Reading
    verdict: Verdict
    bounds: tuple[float, float]

    layout = same("recipe", "steps", "verdict", "meets", "bounds", "method", "facts", "reading")

    @property
    def meets(self) -> bool:
        """Whether its loss is within the target, with the confidence that was asked for."""
        return self.verdict == "meets"

    def cost(self, measure: Measure) -> tuple[float, float]:
        """The trial's cost by this measure, and by the other one, which decides ties."""
        steps, operations = float(self.steps), self.reading.operations
        return (steps, operations) if measure == "steps" else (operations, steps)


@dataclass(frozen=True)
class Tuning(Record):
    """The result of `tune`: all trials and the cheapest that meets the target. Losses in points.

    trials: in the order in which they were tried. left_out: recipes that were not, with the reason.
    images: validation images. confidence: of each verdict. winner: the cheapest trial that meets
    the target, or None; likely: the cheapest whose loss was within it, certain or not; nearest: the
    one of the smallest loss.
    """

    target: float
    measure: Measure
    images: int
    ann_accuracy: float
    trials: tuple[Trial, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    confidence: float = CONFIDENCE

    layout = (
        ("target_loss", "target"),
        ("cost", "measure"),
        ("confidence", "confidence"),
        ("validation_images", "images"),
        *same("ann_accuracy", "trials", "left_out", "winner", "likely", "nearest"),
    )

    @property
    def winner(self) -> Trial | None:
        """The cheapest trial that meets the target."""
        return self._cheapest(trial for trial in self.trials if trial.meets)

    @property
    def likely(self) -> Trial | None:
        """The cheapest trial whose loss on these images was within the target."""
        return self._cheapest(
            trial for trial in self.trials if within(trial.reading.paired(self.images), self.target)
        )

    def _cheapest(self, trials: Iterable[Trial]) -> Trial | None:
        return min(trials, key=lambda trial: trial.cost(self.measure), default=None)

    def images_to_settle(self, trial: Trial) -> int | None:
        """About how many validation images would tell whether a trial meets the target, if all were
        like these; None where it is too close to say.
        """
        paired = trial.reading.paired(self.images)
        return paired.images_to_settle(self.target / 100, self.confidence)

    @property
    def nearest(self) -> Trial | None:
        """The trial of the smallest loss, the cheapest of several."""
        return min(
            self.trials,
            key=lambda trial: (trial.reading.loss, trial.cost(self.measure)),
            default=None,
        )


@dataclass(frozen=True)
class Kept(Record):
    """The part of a trial that a search keeps in its progress file."""

    facts: Facts
    reading: Reading


def within(paired: Paired, target: float) -> bool:
    """Whether a loss is at most `target` points, compared as whole numbers of images."""
    return 100 * paired.loss <= Fraction(repr(target))


def least_images(target: float, confidence: float = CONFIDENCE) -> int | None:
    """How many images, decided all alike, show a loss of at most `target` points; None: no number.

    With fewer nothing can be certain.
    """
    return Paired(0, 0, 1).images_to_settle(target / 100, confidence) if target > 0 else None
