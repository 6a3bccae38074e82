"""What a kernel call is given: spikes, numbers and currents that reach a population or a sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.fuse import Fused, Synapses
from spiking_resnet.engines.cpu.integers import Integers, fits_numbers
from spiking_resnet.engines.cpu.library import Planes
from spiking_resnet.engines.cpu.memory import Memory, pointer
from spiking_resnet.engines.cpu.streams import MOST
from spiking_resnet.engines.plan import OutOfRange

# Spikes; a signed stream; or [window, N, ...], [1, N, ...] where constant in time.
Value = Planes | Integers | Tensor


def numbers_of(value: Value) -> Tensor:
    """A value as float [window, N, ...]."""
    if isinstance(value, Planes):
        return value.code.values(value.unpacked())
    return value.floats() if isinstance(value, Integers) else value


def in_units(name: str, values: Tensor, grid: int) -> tuple[Tensor, int]:
    """(currents or potentials in units of 2^-grid, the largest of them, without its sign).

    Raises OutOfRange where 32 bits do not hold what reaches `name`.
    """
    scaled = values.mul(2.0**grid).round_()
    low, high = (float(end) for end in torch.aminmax(scaled))
    if not (low > -MOST and high < MOST):  # NaN is not
        raise OutOfRange(f"what {name!r} receives")
    return scaled.to(torch.int32).contiguous(), int(max(-low, high))


@dataclass(frozen=True, eq=False)
class Currents:
    """What is added beside synapses, int32 in units of a grid; None where there is nothing.

    constant: at every step, [N, ...]. current: [N, window, ...]. stream: [N, window, positions, C].
    highest: the largest of `constant`, without its sign.
    """

    constant: Tensor | None = None
    current: Tensor | None = None
    stream: Tensor | None = None
    highest: int = 0
    _moving: int = 0  # the largest of `current`

    @property
    def varying(self) -> int:
        """The largest of one step, without its sign and without `constant`."""
        if self.stream is None:
            return self._moving
        low, high = (int(end) for end in torch.aminmax(self.stream))
        return self._moving + max(-low, high)

    @classmethod
    def of(cls, name: str, grid: int, values: Sequence[Value]) -> "Currents":
        """The sums of values that reach `name`. Raises OutOfRange."""
        if not values:
            return cls()
        streams = [value for value in values if isinstance(value, Integers)]
        numbers = [numbers_of(value) for value in values if not isinstance(value, Integers)]
        constant = [value[0] for value in numbers if len(value) == 1]
        varying = [value for value in numbers if len(value) > 1]
        fixed = moving = stream = None
        largest = most = 0
        if constant:
            fixed, largest = in_units(name, sum(constant[1:], constant[0]), grid)
        if varying:
            total = sum(varying[1:], varying[0]).transpose(0, 1)
            moving, most = in_units(name, total, grid)
        if streams:
            units = [_on(value, grid) for value in streams]
            stream = sum(units[1:], units[0])
        return cls(fixed, moving, stream, largest, most)


@dataclass(frozen=True, eq=False)
class Sources:
    """The inputs of synapses, as kernels are told of them. held: what these point to."""

    given: list[library.Source]
    held: list[Planes | Tensor]

    @classmethod
    def of(
        cls,
        fused: Fused,
        values: Mapping[str, Value],
        time: int,
        extent: tuple[int, int],
        memory: Memory,
    ) -> "Sources":
        """Those of a window that begins at step `time`.

        values: those that are missing are 0. extent: images and steps.
        """
        held = list[Planes | Tensor]()
        given = []
        for synapses in fused.synapses:
            value = _read(fused, synapses, values, extent, memory)
            given.append(_source(fused, synapses, value, time, extent))
            held.append(value)
        return cls(given, held)

    def rates(self) -> list[float]:
        """Of each source, the share of bits that are set; of numbers 1."""
        return [each.density() if isinstance(each, Planes) else 1.0 for each in self.held]


def _read(
    fused: Fused,
    synapses: Synapses,
    values: Mapping[str, Value],
    extent: tuple[int, int],
    memory: Memory,
) -> Planes | Tensor:
    """Planes in the code of all of them, or numbers, int16 [N, steps, positions, C]."""
    value = values.get(synapses.spikes)
    if synapses.numbers is None:
        value = Planes.silent(memory, *extent, synapses.shape) if value is None else value
        assert isinstance(value, Planes)
        same = value.code.planes == fused.code.planes
        return value if same else value.coded(fused.code)
    if value is None:
        channels, *size = synapses.shape
        places = torch.Size((*extent, torch.Size(size).numel(), channels))
        return torch.zeros(places, dtype=torch.int16, device="cpu")
    if not isinstance(value, Integers):
        numbers = numbers_of(value)  # of one step, where they are the same at all
        numbers = numbers.expand(extent[1], *numbers.shape[1:])
        value = Integers.of(numbers, synapses.numbers, torch.int32)
    if value.units.dtype != torch.int16:
        fits_numbers(synapses.spikes, value.units)
    return value.units.to(torch.int16)


def _source(
    fused: Fused,
    synapses: Synapses,
    value: Planes | Tensor,
    time: int,
    extent: tuple[int, int],
) -> library.Source:
    (images, steps), (height, width, channels) = extent, synapses.geometry[:3]
    made = library.Source.from_buffer_copy(synapses.source)
    if isinstance(value, Planes):
        words = images * library.blocks(height * width) * steps * fused.code.planes * channels
        made.spikes = pointer(value.words, torch.int32, words)
    else:
        made.numbers = pointer(value, torch.int16, images * steps * height * width * channels)
    if synapses.factors is not None:
        made.factors = ints(synapses.factors[time : time + steps], steps)
    return made


def _on(value: Integers, grid: int) -> Tensor:
    """The units of a stream on a grid that is as fine as its own or finer, int32."""
    units = value.units.to(torch.int32)
    return units if value.grid == grid else units << (grid - value.grid)


def ints(tensor: Tensor | None, number: int) -> int | None:
    """Where C finds so many int32 numbers; nothing where there are none."""
    return None if tensor is None else pointer(tensor, torch.int32, number)
