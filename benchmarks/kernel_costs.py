"""Measure what the native kernels cost on this processor, and write it to the package.

    python benchmarks/kernel_costs.py                 # as this processor
    python benchmarks/kernel_costs.py --as avx2       # as what an instruction set costs in general

Every kernel of the table that this machine can run computes layers of several shapes, at several
firing rates; the nanoseconds of each term of its work are fitted to the times, so that their ratio
to what is predicted is near 1. The choice of a kernel (`engines/cpu/kernel_costs.py`) uses them.
"""

import argparse
import json
from dataclasses import dataclass
from statistics import median
from time import thread_time

import torch

from spiking_resnet.engines.cpu import kernel_costs, kernels, library
from spiking_resnet.engines.cpu.bit_code import Code
from spiking_resnet.engines.cpu.kernels import Call, Kernel
from spiking_resnet.engines.cpu.library import Planes, Population, Source
from spiking_resnet.environment import processor

RATES = [0.005, 0.03, 0.1, 0.3]  # of bits that are set
IMAGES, STEPS = 4, 16  # so that what is read again and again lies in the caches

SAME_CODE = ("madd", "scatter")  # kernels so named differ in the width of vectors alone


@dataclass(frozen=True)
class Shape:
    """A convolution between layers of one size. sizes: of differential neurons, before and behind
    it; 0: neurons integrate and fire. channelwise: depthwise. numbers: it reads numbers instead of
    spikes, and writes sums. kernel: 0 where there is no convolution, but a current.
    """

    channels: int
    size: int
    kernel: int
    wide: bool = False
    sizes: int = 0
    channelwise: bool = False
    numbers: bool = False

    @property
    def code(self) -> Code:
        return Code(2 ** (self.sizes - 1), True) if self.sizes else Code()

    @property
    def label(self) -> str:
        kinds = {"wide": self.wide, "depthwise": self.channelwise, "numbers": self.numbers}
        kinds[f"{self.sizes} sizes"] = self.sizes > 0
        sides = f"{self.channels} x {self.size} x {self.size}"
        sides += f", {self.kernel} x {self.kernel}" if self.kernel else ", a current"
        return ", ".join([sides, *(kind for kind, own in kinds.items() if own)])


LAYERS = [
    Shape(16, 32, 0), Shape(64, 16, 0), Shape(64, 112, 0), Shape(10, 1, 0),
    Shape(16, 32, 0, sizes=4),
    Shape(3, 32, 3), Shape(16, 32, 3), Shape(16, 32, 3, wide=True), Shape(32, 16, 3),
    Shape(64, 8, 3), Shape(64, 8, 3, wide=True), Shape(128, 14, 1), Shape(128, 7, 3),
    Shape(256, 4, 3), Shape(512, 1, 1), Shape(512, 7, 1, wide=True), Shape(16, 32, 3, sizes=4),
    Shape(32, 16, 3, sizes=4), Shape(64, 8, 3, sizes=4), Shape(96, 14, 1, sizes=1),
    Shape(96, 14, 3, channelwise=True), Shape(192, 7, 3, channelwise=True),
    Shape(64, 8, 3, numbers=True), Shape(96, 28, 1, numbers=True),
]  # fmt: skip


class Layer:
    """A layer of that shape, whose neurons fire about as often as its inputs."""

    def __init__(self, shape: Shape, rate: float, known: list[Kernel]) -> None:
        channels, size, kernel, code = shape.channels, shape.size, shape.kernel, shape.code
        drawn = (STEPS, IMAGES, channels, size, size)
        spikes = (torch.rand(drawn) < rate).to(torch.int8)
        if shape.sizes:
            spikes *= 2 ** torch.randint(shape.sizes, drawn) * (2 * torch.randint(2, drawn) - 1)
        self.planes = Planes.packed(spikes, code)
        self.numbers = spikes.permute(1, 0, 3, 4, 2).to(torch.int16).contiguous()
        top = 6000 if shape.wide else 60
        groups = channels if shape.channelwise else 1
        inner = (channels, channels // groups, kernel, kernel)
        self.current = torch.full((IMAGES, channels, size, size), int(rate * 100 * top)).int()
        self.weights = torch.randint(-top, top + 1, inner, dtype=torch.int32)
        self.bias = torch.full((channels,), int(rate * 100 * top), dtype=torch.int32)
        self.threshold = torch.full((channels,), 100 * top, dtype=torch.int32)
        blocks = library.blocks(size * size)
        self.start = torch.zeros(blocks * 32 * channels, dtype=torch.int32)
        self.spikes = torch.empty(self.planes.words.numel(), dtype=torch.int32)
        self.counts = torch.zeros(2, IMAGES, dtype=torch.int64)
        self.amplitudes = torch.full((STEPS,), 10 * top, dtype=torch.int32)
        sizes = 2 ** torch.arange(max(shape.sizes, 1), dtype=torch.int32)
        self.edges = (self.amplitudes[:, None] * sizes).contiguous()
        self.sums = torch.empty(drawn, dtype=torch.int32)
        population = Population(
            *(STEPS, IMAGES, size, size, channels), start=self.start.data_ptr(),
            bias=self.bias.data_ptr(), threshold=self.threshold.data_ptr(),
            spikes=self.spikes.data_ptr(), counts=self.counts[0].data_ptr(),
            bits=self.counts[1].data_ptr(), planes=code.planes, minus=code.signed,
            levels=code.levels, is_signed=code.signed, wide=shape.wide,
            firing_rule=shape.sizes > 0, sizes=shape.sizes,
            amplitudes=self.amplitudes.data_ptr(), edges=self.edges.data_ptr(),
            sums=self.sums.data_ptr() if shape.numbers else None,
            constant=None if kernel else self.current.data_ptr(),
        )  # fmt: skip
        pad = kernel // 2
        geometry = (size, size, channels, kernel, kernel, 1, 1, pad, pad, 1, 1, groups, 0)
        given = {"numbers": self.numbers.data_ptr()} if shape.numbers else {}
        words = self.planes.words.data_ptr()
        source = Source(words, self.weights.data_ptr(), *geometry, **given)
        self.call = Call(population, [source] if kernel else [])
        self.fitting = [each for each in known if not self.call.refusals(each)]
        self.tables = {each: self.call.tables(each) for each in self.fitting}

    def nanoseconds(self, kernel: Kernel) -> float:
        """What a time step of an image takes."""
        self.call.population.tables = self.tables[kernel].data_ptr()
        begin = thread_time()
        self.call.run(kernel, 1)
        return (thread_time() - begin) * 1e9 / IMAGES / STEPS


@dataclass(frozen=True)
class Sample:
    """One layer at one rate: its work by kernel and term, and the nanoseconds it took."""

    label: str
    work: dict[str, dict[str, float]]
    took: dict[str, float]


def measured(known: list[Kernel], repeats: int) -> list[Sample]:
    """All layers at all rates, by every one of these kernels that takes them, at best.

    In turns: what else runs on the machine for a while only makes some of them longer.
    """
    samples = []
    for shape in LAYERS:
        for rate in RATES:
            layer = Layer(shape, rate, known)
            label = f"{shape.label}, {rate:.1%}"
            rates = [layer.planes.density()] if shape.kernel else []
            work = {each.name: layer.call.work(each, rates) for each in layer.fitting}
            took = {each.name: float("inf") for each in layer.fitting}
            samples.append((layer, Sample(label, work, took)))
    for _ in range(repeats):
        for layer, sample in samples:
            for each in layer.fitting:
                took = layer.nanoseconds(each)
                sample.took[each.name] = min(sample.took[each.name], took)
    return [sample for _, sample in samples]


def fitted(kernel: Kernel, samples: list[Sample]) -> dict[str, float]:
    """The nanoseconds of every term, by least squares of relative errors; none is negative."""
    own = [each for each in samples if kernel.name in each.took]
    work = torch.tensor([[each.work[kernel.name][term] for term in kernel.terms] for each in own])
    took = torch.tensor([each.took[kernel.name] for each in own])
    kept = list(range(len(kernel.terms)))
    while True:
        rows = work[:, kept].double() / took[:, None].double()
        ones = torch.ones((len(own), 1), dtype=torch.float64)
        found = torch.linalg.lstsq(rows, ones).solution[:, 0]
        if bool((found >= 0).all()):
            break
        kept.pop(int(found.argmin()))
    costs = dict.fromkeys(kernel.terms, 0.0)
    return costs | {kernel.terms[i]: round(float(x), 4) for i, x in zip(kept, found, strict=True)}


def widest(known: list[Kernel]) -> list[Kernel]:
    """Those of these kernels that are neither portable, where others are not, nor the code of
    another one with narrower vectors.

    Such a one is hardly ever the quicker: where its costs say so, it is an error of the fit.
    """
    sets = {each.name: each.instruction_set for each in known}

    def narrow(each: Kernel) -> bool:
        family = each.name.partition("-")[0]
        same = [level for name, level in sets.items() if name.partition("-")[0] == family]
        return family in SAME_CODE and each.instruction_set < max(same)

    if max(sets.values()) > 0:
        known = [each for each in known if each.instruction_set > 0]
    return [each for each in known if not narrow(each)]


def report(samples: list[Sample], costs: dict[str, dict[str, float]]) -> None:
    """Print every time and prediction, and whether the kernel chosen is the quickest."""
    worst, lost = 1.0, []
    for each in samples:
        predicted = {
            name: sum(costs[name][term] * amount for term, amount in work.items())
            for name, work in each.work.items()
        }
        chosen = min(predicted, key=lambda name: predicted[name])
        ratio = each.took[chosen] / min(each.took.values())
        worst = max(worst, ratio)
        lost.append(ratio)
        columns = ", ".join(
            f"{name} {each.took[name] / 1e3:.1f} ({predicted[name] / 1e3:.1f})"
            for name in predicted
        )
        print(f"{each.label:36} {columns} µs -> {chosen}, {ratio:.2f} times the quickest")
    print(f"the chosen kernel takes {median(lost):.2f} times the quickest one, at most {worst:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--as", dest="name", default=kernel_costs.processor())
    parser.add_argument("--repeats", type=int, default=25)
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"{processor()} as {options.name!r}: measured (predicted), for a time step of an image")
    known = kernels.available()
    if options.name in library.INSTRUCTION_SETS:  # only its own: others' times are others'
        level = library.INSTRUCTION_SETS.index(options.name)
        known = [each for each in known if each.instruction_set == level]
    else:
        known = widest(known)
    samples = measured(known, options.repeats)
    found = {each.name: fitted(each, samples) for each in known}
    report(samples, found)
    table = {**kernel_costs.measured(), options.name: found}
    lines = ",\n".join(
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in costs.items())
        + "\n  }"
        for name, costs in table.items()
    )
    kernel_costs.FILE.write_text(f"{{\n{lines}\n}}\n")
    print(f"written to {kernel_costs.FILE}")


if __name__ == "__main__":
    main()
