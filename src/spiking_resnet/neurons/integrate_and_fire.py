"""The integrate-and-fire neuron, binary or with several levels and signed spikes.

Hu, Tang, Pan, "Spiking Deep Residual Network", arXiv 1805.01352, and Rueckauer et al. 2017 for the
reset by subtraction:

    v <- v + I;   s = [v >= threshold];   v <- v - threshold * s     (reset by subtraction)
                                          v <- v * (1 - s)           (reset to zero)

There is no leak and no refractory period; at v = threshold exactly the neuron fires.

A neuron that may fire several spikes in a step, and signed ones, is the same with

    s = clip(floor(v / threshold), low, levels);   low = -min(levels, spikes so far) if signed, or 0

which is s = [v >= threshold] for one level and no sign. Several levels are the burst neuron (Li and
Zeng, "Efficient and Accurate Conversion of Spiking Neural Network with Burst Spikes", IJCAI 2022)
and, with levels = 2^n - 1, the n thresholds of binary weights of the multi-threshold neuron (its
thresholds are tried from the largest to the smallest, which is what floor and clip do). A sign is
the neuron that corrects what it fired too early (Wang et al., "Signed Neuron with Memory", IJCAI
2022): with v0 = threshold / 2 it does so below -threshold / 2 of what it should have fired.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.neurons.base import Neuron, State, per_channel, room


@dataclass(frozen=True, eq=False, kw_only=True)
class IntegrateAndFire(Neuron):
    """A population of integrate-and-fire neurons; parameters as in `Neuron`.

    levels: the most spikes in one step. signed: whether a neuron may fire negative spikes, as many
        as it has fired positive ones. Both go with the reset by subtraction only.
    """

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"levels is {self.levels}: a neuron fires at least 1 spike in a step")
        if self.reset == "zero" and not self.binary:
            raise ValueError("several levels and signs need the reset by subtraction")

    def step(self, state: State, current: Tensor, time: int = 0) -> tuple[Tensor, State]:
        """Return (spikes, state after the step); a signed neuron's memory is its spikes so far."""
        charged = state.potential + current
        fired = self._fired(charged, state.memory, time)
        if self.reset == "subtract":
            rest = charged - per_channel(self.threshold, current) * fired
        else:
            rest = charged * (1 - fired)
        spikes = per_channel(self.amplitude, current) * fired
        return spikes, State(rest, self._memory(state.memory, fired, rest, time))

    def _fired(self, charged: Tensor, memory: Tensor | None, time: int) -> Tensor:
        """Return how many spikes potentials [N, C, ...] fire at step `time`."""
        threshold = per_channel(self.threshold, charged)
        if self.binary:
            return (charged >= threshold).to(charged.dtype)
        fired = torch.floor(charged / threshold).clamp(max=self.levels)
        if not self.signed:
            return fired.clamp(min=0.0)
        so_far = torch.zeros_like(charged) if memory is None else memory
        return fired.clamp(min=-so_far.clamp(max=self.levels))

    def _memory(
        self, memory: Tensor | None, fired: Tensor, potential: Tensor, time: int
    ) -> Tensor | None:
        """Return the memory after step `time`, which fired so many and left these potentials."""
        if not self.signed:
            return None
        return fired if memory is None else memory + fired

    def run(
        self,
        state: State,
        currents: Tensor,
        number: int,
        time: int = 0,
        watch: Callable[[Tensor], None] | None = None,
    ) -> tuple[Tensor, State]:
        """Run as in `Neuron`; binary neurons that reset by subtraction are advanced in place."""
        potential = state.potential
        plain = type(self) is IntegrateAndFire and self.binary and self.reset == "subtract"
        if not plain or not potential.dtype == currents.dtype == self.threshold.dtype:
            return super().run(state, currents, number, time, watch)
        spikes = room(potential, number)
        threshold = per_channel(self.threshold, potential)
        units = bool((self.threshold == 1).all())
        for index in range(number):
            potential += currents[index if len(currents) > 1 else 0]
            torch.ge(potential, threshold, out=spikes[index])
            potential -= spikes[index] if units else spikes[index] * threshold
            if watch is not None:
                watch(potential)
        if not bool((self.amplitude == 1).all()):
            spikes *= per_channel(self.amplitude, potential)
        return spikes, State(potential)

    def even_count(self, total: Tensor, steps: int) -> Tensor:
        """Return the spike counts [N, C, ...], whole, float64, if the input arrived evenly.

        total: [N, C, ...], the sum of the input current over all steps, which is presented in equal
        parts. With the reset by subtraction that is clip(floor((v0 + total) / threshold), 0,
        steps * levels); with the reset to zero a neuron needs the same number of steps for every
        spike after its first. The initial potential must lie in [0, threshold).
        """
        total = total.double()
        threshold = per_channel(self.threshold.double(), total)
        initial = per_channel(self.initial_potential.double(), total)
        if self.reset == "subtract":
            return torch.floor((initial + total) / threshold).clamp(0, steps * self.levels)
        rising = torch.where(total > 0, total, 1.0)
        first = torch.ceil((threshold - initial) * steps / rising)
        period = torch.ceil(threshold * steps / rising)
        spikes = 1 + torch.floor((steps - first) / period)
        return torch.where((total > 0) & (first <= steps), spikes, 0.0)
