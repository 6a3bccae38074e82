"""Confidence bounds for the difference in accuracy of two networks on the same images.

Of n images let b be classified correctly by the first network alone, c by the second alone. The
loss delta = P(first alone) - P(second alone) is estimated by (b - c) / n, and bounded by the score
test of Tango ("Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17, 1998):

    z(delta) = (b - c - n delta) / sqrt(n (2 q + delta (1 - delta)))

where q is the likeliest P(second alone) if the loss were delta: the positive root of

    2 n q^2 + (2 n delta - b (1 + delta) - c (1 - delta)) q - c delta (1 - delta) = 0

It holds for few differing images, and for none: then the loss is below z^2 / (n + z^2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, sqrt
from statistics import NormalDist


@dataclass(frozen=True)
class Paired:
    """Counts of images from a paired comparison of two networks.

    lost: classified correctly by the first alone. gained: by the second alone. images: all.
    """

    lost: int
    gained: int
    images: int

    @property
    def loss(self) -> Fraction:
        """The share of images by which the second network is worse, an exact fraction."""
        return Fraction(self.lost - self.gained, self.images)

    def at_most(self, confidence: float) -> float:
        """The upper bound of the true loss, a share, at this one-sided confidence."""
        z = NormalDist().inv_cdf(confidence)
        return _crossing(lambda delta: self._score(delta) >= -z)

    def at_least(self, confidence: float) -> float:
        """The lower bound of the true loss, a share, at this one-sided confidence."""
        z = NormalDist().inv_cdf(confidence)
        return _crossing(lambda delta: self._score(delta) > z)

    @property
    def reach(self) -> float:
        """How far the bounds with z = 1 (68 %) lie from the loss at most, a share.

        A standard error is about as large, but 0 where no image differs.
        """
        sure, loss = NormalDist().cdf(1), float(self.loss)
        return max(self.at_most(sure) - loss, loss - self.at_least(sure))

    def images_to_settle(self, target: float, confidence: float) -> int | None:
        """About how many images would tell whether the true loss is at most the share `target`, if
        further images were like these; None where it is too close to it for any number.
        """
        score = self._score(target)  # grows with the square root of the number of images
        if score == 0:
            return None
        return max(1, ceil(self.images * (NormalDist().inv_cdf(confidence) / score) ** 2))

    def _score(self, delta: float) -> float:
        """z(delta) of the module's text; it falls as delta rises."""
        b, c, n = self.lost, self.gained, self.images
        half = (2 * n * delta - b * (1 + delta) - c * (1 - delta)) / (4 * n)
        q = sqrt(max(0.0, half * half + c * delta * (1 - delta) / (2 * n))) - half
        spread = n * (2 * q + delta * (1 - delta))
        distance = b - c - n * delta
        if spread <= 0:
            return 0.0 if distance == 0 else distance * float("inf")
        return distance / sqrt(spread)


def _crossing(holds: Callable[[float], bool]) -> float:
    """The delta in [-1, 1] where a condition that holds for smaller ones ceases to hold."""
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2
