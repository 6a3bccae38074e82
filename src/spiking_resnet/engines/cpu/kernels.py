"""The table of the compiled kernels: what each is, honours and costs, and calls of one of them.

The table itself is C++ (`KERNELS` of native/kernels.cpp); nothing here knows any kernel by name.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.library import Population, Source
from spiking_resnet.engines.cpu.memory import empty, pointer

TERMS = 5  # of a kernel's work, at most
LAYOUTS = ("by position", "by block", "even positions first")  # `Layout` of native/kernel.h


class _Info(ctypes.Structure):
    """The beginning of `Kernel` of native/kernel.h."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        *((name, ctypes.c_int64) for name in ("instruction_set", "layout", "honours")),
        ("terms", ctypes.c_char_p * TERMS),
    ]


@dataclass(frozen=True)
class Kernel:
    """A line of the table.

    index: in the table. instruction_set: what it needs, an index of `library.INSTRUCTION_SETS`.
    layout: how its potentials lie, one of LAYOUTS. honours: the features it always honours, as
    bits. terms: what its work consists of (native/kernel.h has all of them).
    """

    index: int
    name: str
    instruction_set: int
    layout: str
    honours: int
    terms: tuple[str, ...]


@cache
def table() -> tuple[Kernel, ...]:
    """All kernels, those of the best instruction set first; for callers who know there are some."""
    found = library.kernels()
    found.kernel_info.restype = ctypes.POINTER(_Info)
    return tuple(
        _kernel(index, found.kernel_info(index).contents) for index in range(found.kernel_count())
    )


def _kernel(index: int, info: _Info) -> Kernel:
    terms = tuple(term.decode() for term in info.terms if term is not None)
    layout = LAYOUTS[info.layout]
    return Kernel(index, info.name.decode(), info.instruction_set, layout, info.honours, terms)


def named(name: str) -> Kernel:
    """The kernel of that name; ValueError where there is none."""
    for kernel in table():
        if kernel.name == name:
            return kernel
    known = ", ".join(kernel.name for kernel in table())
    raise ValueError(f"there is no kernel {name!r}: the kernels are {known}")


def available() -> list[Kernel]:
    """The kernels that the instruction set to be used has."""
    return [kernel for kernel in table() if kernel.instruction_set <= library.level()]


@cache
def features() -> tuple[str, ...]:
    """What a kernel may honour or not, in words, by bit."""
    text, found = library.kernels().feature_text, list[str]()
    text.restype = ctypes.c_char_p
    while (words := text(len(found))) is not None:
        found.append(words.decode())
    return tuple(found)


def texts(bits: int) -> list[str]:
    """Features in words."""
    return [words for bit, words in enumerate(features()) if bits >> bit & 1]


class Call:
    """A population and its sources, to be computed by one of the kernels."""

    def __init__(self, population: Population, sources: Sequence[Source]) -> None:
        self.population = population
        self.sources = (Source * max(len(sources), 1))(*sources)
        self.number = len(sources)

    def features(self) -> int:
        """The features that the population asks for, as bits."""
        return int(library.kernels().features(*self._given()))

    def refused(self, kernel: Kernel) -> int:
        """Those that the kernel honours, but not for its geometry, weights and neurons, as bits.

        It may take as long as some time steps of a small image.
        """
        return self._found("refused", kernel)

    def refusals(self, kernel: Kernel) -> list[str]:
        """Why the kernel does not take the population, in words; nothing where it does."""
        return texts((self.features() & ~kernel.honours) | self.refused(kernel))

    def tables(self, kernel: Kernel) -> Tensor:
        """What the kernel makes of the weights; bytes."""
        made = empty(self.table_bytes(kernel), torch.uint8)
        to = pointer(made, torch.uint8, len(made))
        library.call("prepare", *self._given(), kernel.index, to)
        return made

    def table_bytes(self, kernel: Kernel) -> int:
        """The bytes of these tables."""
        return self._found("table_bytes", kernel)

    def work(self, kernel: Kernel, rates: Sequence[float]) -> dict[str, float]:
        """How much of each term the kernel does in a time step of an image.

        rates: of every source, the share of bits that are set.
        """
        given = (ctypes.c_double * max(len(rates), 1))(*rates)
        amounts = (ctypes.c_double * TERMS)()
        library.call("work", *self._given(), kernel.index, given, amounts)
        return dict(zip(kernel.terms, amounts, strict=False))

    def run(self, kernel: Kernel, threads: int) -> None:
        """One window of time."""
        library.call("run_window", *self._given(), kernel.index, threads)

    def _found(self, name: str, kernel: Kernel) -> int:
        """The number that one of the library's functions finds."""
        found = ctypes.c_int64()
        library.call(name, *self._given(), kernel.index, ctypes.byref(found))
        return found.value

    def _given(self) -> tuple[object, ...]:
        return ctypes.byref(self.population), self.sources, self.number
