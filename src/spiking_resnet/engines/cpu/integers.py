"""Values between populations that are no spikes, as integers: what kernels read and write."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.engines.cpu.memory import Buffer, Memory
from spiking_resnet.engines.cpu.streams import FACTOR
from spiking_resnet.engines.plan import OutOfRange
from spiking_resnet.graph import Shape
from spiking_resnet.graph.grids import MANTISSA


def fits_numbers(name: str, units: Tensor, shift: int = 0) -> None:
    """Raises OutOfRange unless integers, of any shape, divided by 2^shift fit 16 bits. name: of the
    node whose values they are.
    """
    low, high = (int(end) for end in torch.aminmax(units))
    if max(-low, high) > FACTOR << shift:
        raise OutOfRange(f"the numbers of {name!r}")


@dataclass(frozen=True, eq=False)
class Integers:
    """Values of a layer over a window of time, multiples of 2^-grid.

    units: int32 or int16 [N, steps, positions, C]. shape: of the layer, [C, H, W] or [C]. buffer:
    the memory of the units, if these own it, to be given back when nobody reads them any more.
    """

    units: Tensor
    shape: Shape
    grid: int
    buffer: Buffer | None = None

    @classmethod
    def empty(
        cls, memory: Memory, images: int, steps: int, shape: Shape, grid: int, dtype: torch.dtype
    ) -> "Integers":
        """Integers with memory of their own and nothing written to it yet."""
        size = torch.Size((images, steps, torch.Size(shape[1:]).numel(), shape[0]))
        buffer = memory.take(-(-size.numel() * dtype.itemsize // 4))
        return cls(buffer.numbers.view(dtype)[: size.numel()].view(size), shape, grid, buffer)

    @classmethod
    def of(cls, values: Tensor, grid: int, dtype: torch.dtype) -> "Integers":
        """The integers of values [steps, N, ...] that lie on the grid."""
        steps, images, *shape = values.shape
        units = (values * 2.0**grid).round_().reshape(steps, images, shape[0], -1)
        moved = units.permute(1, 0, 3, 2).to(dtype).contiguous()
        return cls(moved, tuple(shape), grid)

    def floats(self) -> Tensor:
        """The values [steps, N, ...], float32, or float64 where that is too short for them."""
        units = self.units.permute(1, 0, 3, 2)
        low, high = (int(end) for end in torch.aminmax(self.units))
        dtype = torch.float32 if max(-low, high) <= 2**MANTISSA else torch.float64
        found = units.to(dtype, memory_format=torch.contiguous_format)
        return found.mul_(2.0**-self.grid).view(*found.shape[:2], *self.shape)
