"""The layer-serial neuron: it integrates its whole input before it fires.

The "parallel" neuron of Hao et al., "Faster and Stronger: When ANN-SNN Conversion Meets Parallel
Spiking Calculation", ICML 2025, one spike a step: the integrate-and-fire neuron with reset by
subtraction, but s = 0 at all but `window` steps from `start` on. Once everything has arrived it
fires clip(floor(v / threshold), 0, window) spikes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spiking_resnet.neurons.base import per_channel
from spiking_resnet.neurons.integrate_and_fire import IntegrateAndFire
from spiking_resnet.rules import Rule, whole


@dataclass(frozen=True, eq=False, kw_only=True)
class Serial(IntegrateAndFire):
    """A population of layer-serial neurons.

    It may fire at steps start ... start + window - 1 (0 is the first), one spike a step.
    """

    start: int
    window: int

    trait: ClassVar[str] = "waits for its whole input"
    layer_serial: ClassVar[bool] = True
    rate_coded: ClassVar[bool] = False
    arrival: ClassVar[str] = "before it fires"
    RULES: ClassVar[Mapping[str, Rule]] = {
        **IntegrateAndFire.RULES,
        "start": whole(),
        "window": whole(1),
    }

    def __post_init__(self) -> None:
        if self.start < 0 or self.window < 1:
            raise ValueError(f"start {self.start}, window {self.window}: at least 0, and 1")
        if self.reset == "zero" or not self.binary:
            raise ValueError("layer-serial neurons fire 0 or 1 spike and reset by subtraction")

    @property
    def firing_steps(self) -> int:
        """The most time steps in which a neuron fires: its window."""
        return self.window

    @property
    def latency(self) -> int:
        """The time steps until the neuron has fired all its spikes."""
        return self.start + self.window

    @property
    def turns(self) -> tuple[int, ...]:
        """The steps before which neurons begin and cease to fire."""
        return self.start, self.latency

    def most_sent(self, steps: int) -> Tensor:
        """Return how many of its steps lie among the first `steps`: a spike in each."""
        fired = min(max(steps - self.start, 0), self.window)
        return torch.tensor(float(fired), dtype=torch.float64)

    def best_sent(self, total: Tensor, steps: int) -> Tensor:
        """Return clip(floor((v0 + total) / threshold), 0, most_sent), float64."""
        total = total.double()
        charged = total + per_channel(self.initial_potential.double(), total)
        spikes = torch.floor(charged / per_channel(self.threshold.double(), total))
        return spikes.clamp(0, float(self.most_sent(steps)))

    def may_fire(self, time: int) -> bool:
        """Return whether the step lies in the window."""
        return self.start <= time < self.latency

    def _fired(self, charged: Tensor, memory: Tensor | None, time: int) -> Tensor:
        if not self.may_fire(time):
            return torch.zeros_like(charged)
        return super()._fired(charged, memory, time)
