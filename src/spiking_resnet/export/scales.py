"""The scale of integer weights: a threshold for every neuron's channel, a shift for every kernel.

A population's unit of potential is 1 / threshold of what its neurons fire at, so a weight W (in
units of the firing threshold) becomes

    w * 2^shift,   w = clip(round(W * threshold / 2^shift), -most, most),   most = 2^(bits - 1) - 1

Thresholds are whole numbers of `top` bits, 2^(top - 1) < threshold <= 2^top; which one, and which
shift each kernel has, is found by trying: what makes sum_j c_j (W_j - w_j 2^shift / threshold)^2
smallest, with c_j = 1, or the variance of input j. All kernels of a population share its threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CANDIDATES = 32  # thresholds that are tried, in geometric steps of an octave


@dataclass(frozen=True, eq=False)
class Kernel:
    """Weights [channels, inputs] in units of the firing threshold.

    cost: [channels or 1, inputs or 1]. bits: of the integers.
    """

    weights: Tensor
    cost: Tensor
    bits: int

    @property
    def most(self) -> int:
        """The largest integer weight."""
        return 2 ** (self.bits - 1) - 1

    def rounded(self, threshold: Tensor, shift: Tensor) -> Tensor:
        """The integers w [channels, inputs], for thresholds and shifts [] or [channels]."""
        scale = (threshold / 2.0**shift).expand(len(self.weights))[:, None]
        return torch.round(self.weights * scale).clamp(-self.most, self.most)

    def error(self, threshold: Tensor, shift: Tensor) -> Tensor:
        """The weighted squared errors [channels]."""
        scale = (threshold / 2.0**shift).expand(len(self.weights))[:, None]
        return ((self.weights - self.rounded(threshold, shift) / scale) ** 2 * self.cost).sum(1)

    def shifts(self, threshold: Tensor, each: bool) -> tuple[Tensor, Tensor]:
        """The better of the least shift without clipping and the one below, and its error.

        threshold: [] or [channels]. each: whether every channel has a shift of its own, [channels];
        else [].
        """
        largest = self.weights.abs().amax(1) * threshold
        largest = largest if each else largest.amax()
        least = torch.ceil(torch.log2((largest / (self.most + 0.5)).clamp(min=1.0)))
        lower = (least - 1).clamp(min=0)
        errors = [self.error(threshold, shift) for shift in (least, lower)]
        if not each:
            errors = [error.sum().expand(len(self.weights)) for error in errors]
        better = errors[1] < errors[0]
        shift = torch.where(better if each else better[0], lower, least)
        return shift, torch.minimum(*errors)


@dataclass(frozen=True, eq=False)
class Scale:
    """What a population's integers count: thresholds and, for each kernel, shifts; [] or [C]."""

    threshold: Tensor
    shifts: tuple[Tensor, ...]


def best(kernels: Sequence[Kernel], top: int, shared: bool, each: bool, fixed: bool) -> Scale:
    """Return the scale with the least error.

    top: bits of thresholds. shared: whether all channels have one threshold. each: whether every
    channel of a kernel has a shift of its own. fixed: the threshold is 2^top.
    """
    steps = torch.arange(1, CANDIDATES + 1, dtype=torch.float64, device="cpu") / CANDIDATES
    tried = torch.round(2.0 ** (top - 1 + steps)).unique().flip(0)  # the largest where errors tie
    tried = tried[tried > 2 ** (top - 1)]
    tried = tried[:1] if fixed or not kernels else tried
    found = [[kernel.shifts(threshold, each) for kernel in kernels] for threshold in tried]
    if shared or not kernels:
        totals = torch.stack(
            [torch.stack([e.sum() for _, e in row] or [tried[0] * 0]).sum() for row in found]
        )
        index = int(totals.argmin())
        return Scale(tried[index], tuple(shift for shift, _ in found[index]))
    errors = torch.stack([torch.stack([error for _, error in row]).sum(0) for row in found])
    index_of = errors.argmin(0)  # by channel
    chosen = tuple(
        torch.stack([row[i][0].expand(len(index_of)) for row in found]).gather(0, index_of[None])[0]
        for i in range(len(kernels))
    )
    return Scale(tried[index_of], chosen)
