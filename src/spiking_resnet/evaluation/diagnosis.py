"""Where a spiking network loses accuracy, as records: what `diagnose` finds, and how it adds up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spiking_resnet.codec import FIELDS, Record, same

OWN = ("weights", "clipping", "quantisation", "unevenness")
CONTRIBUTIONS = ("inherited", *OWN)


@dataclass(frozen=True)
class Part(Record):
    """One contribution to the error of a population's rates.

    mean: in the ANN's units. rms: root mean square, relative to the activations'.
    share: of the mean squared error; shares add up to 1, and what works against the rest is
    negative. lost: agreement with the ANN's decisions lost by it, as a fraction of
    all images (inherited: 0, it is counted where it arose; negative where it was won).
    """

    mean: float
    rms: float
    share: float
    lost: float


@dataclass(frozen=True)
class LayerError(Record):
    """How far a population's rates are from the activations they represent.

    activation: root mean square of the ANN's activations. mean: of the error, in the
    same units. rms: of the error, relative to `activation` (absolute where that is 0).
    agreement: with the ANN's decisions where it continues from the spiking network's
    rates in this population and all before it. parts: by the names in CONTRIBUTIONS. alone:
    agreement of the ANN with its own decisions where nothing but this population's own error (all
    parts but the inherited one) is added to its activations.
    """

    name: str
    neurons: int
    activation: float
    mean: float
    rms: float
    agreement: float
    parts: Mapping[str, Part]
    alone: float | None = None

    later = ("alone",)

    @property
    def lost(self) -> float:
        """The agreement lost by this population's own contributions."""
        return sum(part.lost for part in self.parts.values())


@dataclass(frozen=True)
class Diagnosis(Record):
    """Where a spiking network loses decisions within `steps` time steps.

    agreement, accuracy, ann_accuracy: fractions of `images`. layers: in order of computation, the
    last is the read-out. notes: the spiking network's. arrival: how its neurons' input had best
    arrive, which unevenness is against. remade: whether the network is made for one T.
    """

    images: int
    steps: int
    agreement: float
    accuracy: float
    ann_accuracy: float
    layers: tuple[LayerError, ...]
    engine: str
    exact: bool
    notes: Mapping[str, Any] = field(default_factory=dict)
    arrival: str = "evenly over time"
    remade: bool = False

    layout = (*FIELDS, ("lost", "losses"), *same("costliest", "largest"))
    later = ("arrival", "remade")

    def lost(self, contribution: str) -> float:
        """The agreement lost by one contribution in all populations."""
        return sum(layer.parts[contribution].lost for layer in self.layers)

    @property
    def costliest(self) -> tuple[str, str]:
        """(population, contribution): what costs most decisions in all, and where it does most."""
        by = max(OWN, key=self.lost)
        layer = max(self.layers, key=lambda one: (one.parts[by].lost, one.parts[by].rms))
        return layer.name, by

    @property
    def largest(self) -> tuple[str, str]:
        """(population, contribution): the largest error that is a population's own doing."""
        own = [(layer.parts[by].rms, layer.name, by) for layer in self.layers for by in OWN]
        return max(own)[1:]

    @property
    def losses(self) -> dict[str, float]:
        """The agreement lost by each contribution, in all populations."""
        return {by: self.lost(by) for by in OWN}
