"""The gated neuron: the residual potential after its pre-steps decides how it starts again.

It runs `pre_steps` steps as an integrate-and-fire neuron with reset by subtraction, then starts
again at v0, corrected. Had its input arrived evenly, the residual potential v would lie in
[0, threshold): below, it fired too often; above, not often enough (unless more than a spike a step
was due).

    "srp"  v < 0: silent from here on   (Hao et al., "Reducing ANN-SNN conversion error through
           residual membrane potential", AAAI 2023: most such neurons stand for a zero activation)
    "cos"  v < 0: starts at v0 - threshold;  v >= threshold: at v0 + threshold   (Hao et al.,
           "Bridging the gap between ANNs and SNNs by calibrating offset spikes", ICLR 2023)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from spiking_resnet.neurons.base import State, per_channel
from spiking_resnet.neurons.integrate_and_fire import IntegrateAndFire
from spiking_resnet.rules import Rule, one_of, whole

Gate = Literal["srp", "cos"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Gated(IntegrateAndFire):
    """A population of neurons that start again after `pre_steps` steps, gated by their residuals.

    Memory: 1 where a neuron stays silent ("srp" only, from the last pre-step on).
    """

    pre_steps: int
    gate: Gate

    trait: ClassVar[str] = "is gated after pre-steps"
    rate_coded: ClassVar[bool] = False
    RULES: ClassVar[Mapping[str, Rule]] = {
        **IntegrateAndFire.RULES,
        "pre_steps": whole(1),
        "gate": one_of(get_args(Gate)),
    }

    def __post_init__(self) -> None:
        if self.pre_steps < 1 or self.gate not in get_args(Gate):
            raise ValueError(
                f"pre_steps {self.pre_steps}, gate {self.gate!r}: at least 1, and one of "
                f"{', '.join(get_args(Gate))}"
            )
        if self.reset == "zero" or not self.binary:
            raise ValueError("gated neurons fire 0 or 1 spike and reset by subtraction")

    @property
    def steps_before_counting(self) -> int:
        """The time steps that the read-out leaves out: the pre-steps."""
        return self.pre_steps

    @property
    def potential_offset(self) -> float:
        """The most that |potential| exceeds |summed currents|: that of `Neuron`, and one threshold
        more, by which the gate may shift the start.
        """
        return 2 * float(self.threshold.max()) + float(self.initial_potential.abs().max())

    def step(self, state: State, current: Tensor, time: int = 0) -> tuple[Tensor, State]:
        """Return (spikes, the state after the step)."""
        if time == self.pre_steps:
            state = state._replace(potential=self.again(state.potential))
        return super().step(state, current, time)

    def again(self, residual: Tensor) -> Tensor:
        """Return the potentials [N, C, ...] that the counted steps start at, given the residual
        ones.
        """
        first = self.initial_state(residual).potential
        if self.gate == "srp":
            return first
        threshold = per_channel(self.threshold, residual)
        few, many = (residual >= threshold).to(first.dtype), (residual < 0).to(first.dtype)
        return first + threshold * (few - many)

    def _fired(self, charged: Tensor, memory: Tensor | None, time: int) -> Tensor:
        fired = super()._fired(charged, memory, time)
        return fired if memory is None or time < self.pre_steps else fired * (1 - memory)

    def _memory(
        self, memory: Tensor | None, fired: Tensor, potential: Tensor, time: int
    ) -> Tensor | None:
        if self.gate == "srp" and time == self.pre_steps - 1:
            return (potential < 0).to(potential.dtype)
        return memory
