"""A signed stream and all that leads to it, computed by one call of a compiled kernel."""

from collections.abc import Mapping

import torch

from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.fitting import Fitting
from spiking_resnet.engines.cpu.fuse import Fused
from spiking_resnet.engines.cpu.inputs import Currents, Sources, Value, ints
from spiking_resnet.engines.cpu.integers import Integers, fits_numbers
from spiking_resnet.engines.cpu.kernels import Call, Kernel
from spiking_resnet.engines.cpu.memory import Memory, pointer
from spiking_resnet.graph import Node


class Sums:
    """A node's sums over a window of time, ready for the kernels; in any number of threads."""

    def __init__(self, node: Node, fused: Fused) -> None:
        self.node, self.fused = node, fused
        self.fitting = Fitting()

    @property
    def bytes(self) -> int:
        """What an image's sums of one step take."""
        each = 4 * self.fused.kept + 2 * (self.fused.numbers is not None)
        return each * torch.Size(self.node.shape).numel()

    @property
    def holds_once(self) -> bool:
        """Whether what enters once can be added to the sums of the first step: none are rounded."""
        rounded = self.fused.shift > 0 or self.fused.numbers is not None
        return not (rounded and self.fused.first.any())

    def run(
        self,
        kernel: Kernel | None,
        values: Mapping[str, Value],
        time: int,
        extent: tuple[int, int],
        threads: int,
        memory: Memory,
        watched: bool = False,
    ) -> tuple[dict[str, Integers], Kernel]:
        """(the sums and the numbers they are rounded to, by name; the kernel that computed them).

        kernel: None in the first window. values: what arrives; those that are missing are 0. time:
        the window's first step. extent: images and steps. watched: whether values may be larger
        than their bounds say. Raises OutOfRange where numbers of 16 bits do not hold the sums.
        """
        (images, steps), shape, fused = extent, self.node.shape, self.fused
        added = [values[name] for name in fused.currents if name in values]
        currents = Currents.of(self.node.name, fused.grid, added)
        joined = time == 0 and steps > 1  # the first step is in one window with others
        bias = fused.bias if joined else fused.bias_at(time)
        sources = Sources.of(fused, values, time, extent, memory)
        places = images * library.positions(shape) * shape[0]
        found, pointers = dict[str, Integers](), dict[str, int]()
        sums = None
        if fused.kept or watched:
            sums = Integers.empty(memory, images, steps, shape, fused.grid, torch.int32)
            pointers["sums"] = pointer(sums.units, torch.int32, steps * places)
            if fused.kept:
                found[self.node.name] = sums
        if fused.numbers is not None:
            name, grid = fused.numbers
            numbers = Integers.empty(memory, images, steps, shape, grid, torch.int16)
            found[name] = numbers
            pointers["numbers"] = pointer(numbers.units, torch.int16, steps * places)
            pointers["numbers_shift"] = fused.grid - grid
        population = library.Population(
            *(steps, images, *(*shape[1:], 1, 1)[:2], shape[0]),
            constant=ints(currents.constant, places),
            current=ints(currents.current, steps * places),
            bias=ints(bias, shape[0]),
            wide=fused.wide,
            planes=fused.code.planes,
            minus=fused.code.signed,
            levels=1,
            shift=fused.shift,
            stream=ints(currents.stream, steps * places),
            **pointers,
        )
        call = Call(population, sources.given)
        if kernel is None or call.features() & ~kernel.honours:
            kernel = self.fitting.choice(call, sources.rates())
        tables = self.fitting.tables(kernel, call)
        population.tables = pointer(tables, torch.uint8, len(tables))
        call.run(kernel, threads)
        if watched and sums is not None and fused.numbers is not None:
            fits_numbers(self.node.name, sums.units, fused.grid - fused.numbers[1])
        if joined and fused.first.any():
            found[self.node.name].units[:, 0] += fused.first
        return found, kernel
