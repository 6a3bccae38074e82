"""The integrate-and-fire neuron whose potential is kept in a register of fixed width: it saturates.

Charge, spikes and reset are those of the integrate-and-fire neuron, in as many bits as they need;
what is kept for the next step is

    v <- clip(v, -limit, limit)

A register of w bits holds limit = 2^(w - 1) - 1 units of the grid: the range is symmetric, so that
no potential has its negative missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spiking_resnet.neurons.base import Neuron, State
from spiking_resnet.neurons.integrate_and_fire import IntegrateAndFire
from spiking_resnet.rules import Rule, positive


@dataclass(frozen=True, eq=False, kw_only=True)
class Saturating(IntegrateAndFire):
    """A population of integrate-and-fire neurons whose potentials saturate at -limit and limit.

    limit: in the unit of the input current, above every threshold and initial potential; on the
    population's grid, if it has one. Raises ValueError for one that is not above them.
    """

    limit: float

    trait: ClassVar[str] = "has potentials that saturate"
    RULES: ClassVar[Mapping[str, Rule]] = {**IntegrateAndFire.RULES, "limit": positive()}

    def __post_init__(self) -> None:
        super().__post_init__()
        most = max(float(self.threshold.max()), float(self.initial_potential.abs().max()))
        if not self.limit > most:
            raise ValueError(
                f"potentials saturate at {self.limit:g}, and thresholds and initial potentials "
                f"reach {most:g}: allow wider potentials"
            )

    @property
    def keeps_charge(self) -> bool:
        """Whether nothing is lost but fired thresholds: never, as potentials saturate."""
        return False

    @property
    def saturates_at(self) -> float:
        """The largest |potential| that is kept from step to step."""
        return self.limit

    def step(self, state: State, current: Tensor, time: int = 0) -> tuple[Tensor, State]:
        """Return (spikes, state after the step), its potentials clipped."""
        spikes, after = super().step(state, current, time)
        return spikes, after._replace(potential=after.potential.clamp(-self.limit, self.limit))

    def run(
        self,
        state: State,
        currents: Tensor,
        number: int,
        time: int = 0,
        watch: Callable[[Tensor], None] | None = None,
    ) -> tuple[Tensor, State]:
        """Run as in `Neuron`, step by step."""
        return Neuron.run(self, state, currents, number, time, watch)
