"""The differential neuron of the DCGS paper, which decodes a mean over time.

Huang et al., "Differential Coding for Training-Free ANN-to-SNN Conversion", ICML 2025. At step
t = 1, 2, ... it receives x(t), holds the running means e_in of its input and e_out of its output
(e_in starts as the bias), and fires a spike s(t), one of threshold / 2^k, k = 0 ... levels - 1,
with a sign, or none:

    m <- m + x(t) + e_in - e_out;   s = sign(m) * the largest with |m| >= 3/4 threshold / 2^k
    m <- m - s;   e_in <- e_in + x(t) / t;   e_out <- e_out + s / t

where a negative spike must leave e_out >= 0. That is the multi-threshold neuron; a signed
integrate-and-fire neuron with v0 = threshold / 2 in its place has one size, fired from half of it
on. By induction m = t (e_in - e_out) after every step. So m needs no memory of its own: it is the
differential neuron with v = m / t, amplitude threshold / (2^(levels - 1) t) of the smallest spike,
what a spike of step t weighs in e_out as its value, and another rule for s. An image that enters at
the first step is the mean of a constant one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.neurons.differential import Differential


@dataclass(frozen=True, eq=False, kw_only=True)
class Dcgs(Differential):
    """A population of the DCGS paper's differential neurons.

    heights: [T], amplitude of the smallest spike at each step: 2^(1 - levels) / t for a mean.
    caution: from what share of a size on it is fired: 3/4, the middle between it and its half, for
    several of them; 1/2 is the signed integrate-and-fire neuron with v0 = threshold / 2.
    """

    caution: float = 0.75

    def _edges(self) -> Iterator[float]:
        """Yield from what |ahead| on, in amplitudes, a spike of each size is fired."""
        return (self.caution * 2.0**level for level in range(self.levels))

    def _size(self, ahead: Tensor, sent: Tensor, time: int) -> Tensor:
        """Return the largest size of which |ahead| is the share `caution`, with its sign; negative
        ones are no larger than what was `sent`.
        """
        share, found = self.heights[time], torch.zeros_like(ahead)
        for level, edge in enumerate(self.edges[time]):
            size = 2.0**level
            allowed = (ahead > 0) | (sent >= size * share)
            found = torch.where((ahead.abs() >= edge) & allowed, size, found)
        return found * ahead.sign()
