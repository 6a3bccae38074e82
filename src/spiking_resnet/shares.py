"""How certain a share of some images is."""

from math import sqrt


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a fraction correct / total (Wilson 1927)."""
    z = 1.959964
    share = correct / total
    centre = share + z * z / (2 * total)
    spread = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return (max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def standard_error(share: float, total: int) -> float:
    """The standard error sqrt(p (1 - p) / n) of a fraction p of n images."""
    return sqrt(share * (1 - share) / total)


def told_error(share: float, total: int) -> float:
    """The standard error as it is printed: of no or all images, where it is 0, a bound instead.

    It is that of the score interval with z = 1 (68 %): 1 / (n + 1).
    """
    return standard_error(share, total) or 1 / (total + 1)
