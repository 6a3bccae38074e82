"""Surrogate gradients: derivatives that stand in for those of a spike, which are 0 or infinite.

Values stay what they are, bit for bit: what is added is x - x, whose value is 0 and whose gradient
is that of x. With u = v / threshold, the potential before the reset in thresholds, a neuron that
fires s = clip(floor(u), low, levels) is given

    ds/du = g(d / width) / width,   d = the distance of u from the edges, 1 ... levels

(of a plain neuron |u - 1|; of a signed one the edges begin at 1 - levels), where g is

    triangle   max(1 - |x|, 0)        (Esser et al., PNAS 2016; Bellec et al., NeurIPS 2018)
    arctan     1 / (1 + (pi x)^2)     (Fang et al., ICCV 2021, with alpha = 2 / width)
    rectangle  1 where |x| < 1 / 2    (Wu et al., Frontiers in Neuroscience 2018)

each of area 1. The reset by subtraction hands the gradient on as well, v <- v - threshold * s, so
that a charge counts once in the spikes that follow it; that to zero does not. A differential neuron
sends e, the (clipped) ReLU of its input so far, so its spikes are given the derivative of the
growth of that. Rounding to a grid is given the derivative 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from spiking_resnet.graph import Fire, Input, Node, Round
from spiking_resnet.graph.nodes import Memory, field_names
from spiking_resnet.neurons import State, per_channel

SURROGATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "triangle": lambda x: (1 - x).clamp(min=0),
    "arctan": lambda x: 1 / (1 + (pi * x) ** 2),
    "rectangle": lambda x: (x < 0.5).to(x.dtype),
}  # of |x|


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftFire(Fire):
    """A population whose spikes have a surrogate gradient.

    surrogate: a name from SURROGATES. width: of it, in thresholds.
    """

    surrogate: str
    width: float

    def advance(self, inputs: Sequence[Tensor], memory: Memory, time: int) -> Tensor:
        """Return the spikes that its neurons fire for the current, and update `memory`."""
        if not torch.is_grad_enabled():
            return super().advance(inputs, memory, time)
        current = self.received(inputs[0])
        before = self.state(memory, current)
        spikes = super().advance(inputs, memory, time)
        if not self.neuron.may_fire(time):
            return spikes
        more = nothing_but_gradient(self._soft(before, current, time))
        self._reset(memory, per_channel(self.neuron.threshold, current) * more)
        return spikes + (per_channel(self.neuron.amplitude, current) * more).to(spikes.dtype)

    def _soft(self, before: State, current: Tensor, time: int) -> Tensor:
        """Return what has the derivative of the number of spikes in step `time`."""
        neuron = self.neuron
        state = neuron.restarted(before, time)
        charged = (state.potential + current) / per_channel(neuron.threshold, current)
        first, last = (1 - neuron.levels if neuron.signed else 1), neuron.levels
        away = (first - charged).clamp(min=0) + (charged - last).clamp(min=0)
        slope = SURROGATES[self.surrogate](away.detach() / self.width) / self.width
        silent = neuron.silent(state, time)
        return charged * (slope if silent is None else slope * (1 - silent))

    def _reset(self, memory: Memory, spent: Tensor) -> None:
        """Hand on to the potentials the gradient of what the spikes took off them."""
        if self.neuron.keeps_charge:
            memory[self.name] = memory[self.name] - spent


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftDifferential(SoftFire):
    """A population whose spikes have the derivative of the growth of the ReLU that they send."""

    def _soft(self, before: State, current: Tensor, time: int) -> Tensor:
        """Return by how much the (clipped) ReLU of the input so far grows in this step."""
        threshold = per_channel(self.neuron.threshold, current)
        ceiling = getattr(self.neuron, "ceiling", None)
        sent = 0 if before.memory is None else before.memory

        def sending(potential: Tensor) -> Tensor:
            found = (potential / threshold + sent).clamp(min=0)
            return found if ceiling is None else torch.minimum(found, per_channel(ceiling, current))

        return sending(before.potential + current) - sending(before.potential)

    def _reset(self, memory: Memory, spent: Tensor) -> None:
        """Do nothing: what was sent is no part of the input so far."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftRound(Round):
    """A rounding whose derivative is 1."""

    def value(self, x: Tensor) -> Tensor:
        """Return x rounded in float64."""
        rounded = super().value(x)
        if not torch.is_grad_enabled():
            return rounded
        return rounded + nothing_but_gradient(x).to(rounded.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftInput(Input):
    """An image whose rounding to a grid has the derivative 1."""

    def present(self, images: Tensor, time: int) -> Tensor:
        """Return what it presents of `images` [N, C, H, W] at step `time` (0 is the first)."""
        shown = super().present(images, time)
        none = self.encoding == "poisson" or (self.encoding == "once" and time > 0)
        if none or not torch.is_grad_enabled():
            return shown
        return shown + nothing_but_gradient(images).to(shown.dtype)


def nothing_but_gradient(x: Tensor) -> Tensor:
    """Return zeros that have the derivative of x."""
    return x - x.detach()


def softened(node: Node, surrogate: str, width: float) -> Node:
    """Return `node` with a derivative wherever it has none of use; its values stay."""
    own = {name: getattr(node, name) for name in field_names(type(node))}
    if isinstance(node, Fire):
        kind = SoftDifferential if node.neuron.unit_varies else SoftFire
        return kind(**own, surrogate=surrogate, width=width)
    if isinstance(node, Round):
        return SoftRound(**own)
    return SoftInput(**own) if isinstance(node, Input) else node
