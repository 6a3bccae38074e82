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

    Memory: 1 where a neuron stays silent ("srp" only, after the pre-steps).
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

    @property
    def turns(self) -> tuple[int, ...]:
        """The step before which neurons start again."""
        return (self.pre_steps,)

    @property
    def silences(self) -> bool:
        """Whether neurons may fall silent: by the gate "srp"."""
        return self.gate == "srp"

    @property
    def remembers(self) -> bool:
        """Whether a neuron keeps something beside its potential: that it is silent."""
        return self.silences

    def restarted(self, state: State, time: int) -> State:
        """Return the state that step `time` begins from: after the pre-steps a new start."""
        if time != self.pre_steps:
            return state
        residual = state.potential
        first = self.initial_state(residual).potential
        negative = (residual < 0).to(first.dtype)
        if self.gate == "srp":
            return State(first, negative)
        threshold = per_channel(self.threshold, residual)
        many = (residual >= threshold).to(first.dtype)
        return State(first + threshold * (many - negative), state.memory)

    def silent(self, state: State, time: int) -> Tensor | None:
        """Return 1 where a neuron is silent after the pre-steps, [N, C, ...]; None before."""
        return state.memory if time >= self.pre_steps and self.silences else None

    def step(self, state: State, current: Tensor, time: int = 0) -> tuple[Tensor, State]:
        """Return (spikes, the state after the step)."""
        return super().step(self.restarted(state, time), current, time)

    def _fired(self, charged: Tensor, memory: Tensor | None, time: int) -> Tensor:
        fired = super()._fired(charged, memory, time)
        silent = self.silent(State(charged, memory), time)
        return fired if silent is None else fired * (1 - silent)

    def _memory(
        self, memory: Tensor | None, fired: Tensor, potential: Tensor, time: int
    ) -> Tensor | None:
        return memory
