"""The two ends of a network: Input, the image, and Output, the read-out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from spiking_resnet.graph.grids import coarsest_grid, to_grid
from spiking_resnet.graph.nodes.base import (
    MOST_BITS,
    SUMMED,
    Bounds,
    GraphError,
    Memory,
    Node,
    Shape,
    Summing,
    left_out,
)
from spiking_resnet.rules import Rules, number, one_of, optional, positive, whole

Encoding = Literal["constant", "poisson", "once"]
Readout = Literal["mean", "spikes+membrane", "sum"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """The image, presented to the network at every time step by its encoding.

    encoding: "constant" presents it as the same input current at every step (the paper);
        "poisson" presents, at each step, a spike of `amplitude` with the pixel's sign with
        probability min(|x| / scale, 1), drawn from (seed, step, pixel position) alone; "once"
        presents it at the first step and nothing later, and so all biases (differential coding).
    grid: pixels are rounded to multiples of 2^-grid, as float64 (None: taken as they are).
    limit: the largest |x| met in calibration (bounds the exact range; 0 when unknown).
    """

    encoding: Encoding = "constant"
    scale: float = 1.0
    amplitude: float = 1.0
    seed: int = 0
    grid: int | None = None
    limit: float = 0.0

    RULES: ClassVar[Rules] = {
        "encoding": one_of(get_args(Encoding)),
        "scale": positive(),
        "amplitude": positive(),
        "seed": whole(-(2**63), 2**63 - 1),
        "grid": optional(whole(-MOST_BITS, MOST_BITS)),  # coarser than 1 where pixels are huge
        "limit": number(0),
    }
    ARITY = 0

    def output_shape(self) -> Shape:
        """Return its own shape: any will do."""
        return self.shape

    def advance(self, inputs: Sequence[Tensor], memory: Memory, time: int) -> Tensor:
        """Return what it presents of the images in step `time`."""
        return self.present(inputs[0], time)

    def present(self, images: Tensor, time: int) -> Tensor:
        """Return what it presents of `images` [N, C, H, W] at step `time` (0 is the first)."""
        if self.encoding != "poisson":
            pixels = images if self.grid is None else to_grid(images, self.grid)
            return torch.zeros_like(pixels) if self.encoding == "once" and time > 0 else pixels
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + time) % 2**64)
        chance = torch.rand(self.shape, generator=generator, dtype=torch.float32).to(images.device)
        spikes = images.abs() > chance * self.scale  # the same draw for every image of a batch
        return images.sign() * spikes * self.amplitude

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds of its spikes, or of the pixels met in calibration."""
        size = torch.zeros((), dtype=torch.float64)
        size = size + (self.amplitude if self.encoding == "poisson" else self.limit)
        rounding = 0.0 if self.grid is None else 2.0 ** -(self.grid + 1)
        return -size - rounding, size + rounding

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the grid of its pixels, or of the amplitude of its spikes."""
        return coarsest_grid(self.amplitude) if self.encoding == "poisson" else self.grid

    def carries_spikes(self, inputs: Sequence[bool]) -> bool:
        """Return whether pixels are encoded as spikes."""
        return self.encoding == "poisson"

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the amplitude of its spikes; 1 where it has none."""
        return torch.ones((), dtype=torch.float64) * self.amplitude

    def with_unit_spikes(self) -> Node:
        """Return the node with spikes of amplitude 1."""
        return replace(self, amplitude=1.0)

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 everywhere."""
        return torch.ones(1, *self.shape, dtype=torch.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Output(Summing):
    """The read-out: logits after T steps, in the ANN's units.

    readout "mean": `scale / T * (sum of the input over T steps)`; for an ANN T = 1.
    readout "spikes+membrane": the input is a Fire node; `scale / T * (spike count + softmax(v))`,
    where v is the final membrane potential, which breaks ties (the paper's).
    readout "sum": `scale * (sum of the input over T steps)`, of differential neurons.
    delay: "mean" leaves out so many first steps, in which spikes have not yet passed all
        layers, and divides by T - delay (delayed evaluation: Bu et al., CVPR 2025). Where there
        are no later steps it is the mean of all.
    grid, step_bound, wide: of the sum, as in `Summing`.
    """

    readout: Readout = "mean"
    scale: float = 1.0
    delay: int = 0
    grid: int | None = None
    step_bound: float = 0.0
    wide: bool = False

    RULES: ClassVar[Rules] = {
        "readout": one_of(get_args(Readout)),
        "scale": positive(),
        "delay": whole(),
        **SUMMED,
    }

    @property
    def integrates(self) -> bool:
        """Whether it sums up over time: always."""
        return True

    def advance(self, inputs: Sequence[Tensor], memory: Memory, time: int) -> Tensor:
        """Return its input of this step, and add it to the sum."""
        self.sum_up(memory, self.received(inputs[0]), time + 1)
        return inputs[0]

    def sum_up(self, memory: Memory, total: Tensor, time: int) -> None:
        """Add to the sum the `total` [N, K] of the steps that end with `time` of them done.

        They end with its delay, or do not reach across it.
        """
        memory[self.name] = memory[self.name] + total if self.name in memory else total
        if time == self.delay:
            memory[left_out(self.name)] = memory[self.name]

    def logits(self, memory: Mapping[str, Tensor], steps: int) -> Tensor:
        """Return the logits [N, K] after so many steps, in the ANN's units."""
        total = memory[self.name]
        if self.readout == "spikes+membrane":
            total = total + torch.softmax(memory[self.inputs[0]], -1)
        if self.readout == "mean" and 0 < self.delay < steps:
            total, steps = total - memory[left_out(self.name)], steps - self.delay
        return total.float() * (self.scale / (1 if self.readout == "sum" else steps))

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the logits, (K,)."""
        if len(shape) != 1:
            raise GraphError(
                f"{self.name!r}: logits of shape {shape} should have one axis, of classes"
            )
        return shape

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the bounds of its input in one step."""
        return inputs[0]

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the grid of its input."""
        return inputs[0]

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return `scale`, which the logits are to be divided by."""
        return scale

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 everywhere."""
        return torch.ones(1, *self.shape, dtype=torch.float64)
