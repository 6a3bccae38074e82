"""Which kernel is the quickest: the time of each, by what its work consists of.

`kernel_costs.json` has the nanoseconds of every term of a kernel's work, by processor and, for
processors that were not measured, by instruction set. `benchmarks/kernel_costs.py` measures them.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.kernels import Call, Kernel

FILE = Path(__file__).with_name("kernel_costs.json")

Costs = Mapping[str, Mapping[str, float]]  # nanoseconds, by kernel and term


@cache
def processor() -> str:
    """Vendor, family and model of this machine's CPU, as Linux tells them; "" where it does not."""
    found = dict[str, str]()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    wanted = ("vendor_id", "cpu family", "model")
    return "-".join(found[key] for key in wanted) if all(key in found for key in wanted) else ""


@cache
def measured() -> Mapping[str, Costs]:
    """All that has been measured, by processor or instruction set."""
    found: Mapping[str, Costs] = json.loads(FILE.read_text())
    return found


def price(costs: Costs, kernel: Kernel, call: Call, rates: Sequence[float]) -> float:
    """The nanoseconds of a time step of an image.

    A term that was not measured on this processor takes what it does in general.
    """
    general = measured()[library.INSTRUCTION_SETS[kernel.instruction_set]][kernel.name]
    each = {**general, **costs[kernel.name]}
    return sum(each[term] * amount for term, amount in call.work(kernel, rates).items())


def quickest(kernels: Sequence[Kernel], call: Call, rates: Sequence[float]) -> Kernel:
    """The one of these kernels that takes the least time.

    rates: of every source, the share of bits that are set. Where the processor was not measured,
    or not with the instruction set that is in use, the best instruction set decides among its own
    kernels; what was never measured is used last.
    """
    tables = [library.INSTRUCTION_SETS[level] for level in reversed(range(library.level() + 1))]
    own = measured().get(processor(), {})
    if all(name in own for name in measured().get(tables[0], {})):
        tables.insert(0, processor())
    for name in tables:
        costs = measured().get(name, {})
        priced = [kernel for kernel in kernels if kernel.name in costs]
        if priced:
            return min(priced, key=lambda kernel: price(costs, kernel, call, rates))
    return kernels[0]
