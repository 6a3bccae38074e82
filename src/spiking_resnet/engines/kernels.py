"""The compiled kernels of `native/`, called with tensors."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from spiking_resnet.engines.code import BINARY, Code
from spiking_resnet.graph import MaxPool, Shape

folder = Path(__file__).parent  # where the compiled library lies
INTERFACE = 8  # the version of the C interface in native/kernels.cpp
BLOCK = 32  # positions in a word
INSTRUCTION_SETS = ("portable", "avx2", "avx512")
# `Way` of native/kernels.cpp:
WAYS = ("scatter-portable", "scatter-avx2", "lookup", "walk", "triples")
FITS = ("lookup_fits", "walk_fits", "triples_fits")
instruction_set = "avx512"  # the best to be used; what the machine lacks is passed over
way: str | None = None  # one of WAYS, to use wherever it fits; None: the quickest
INSTALL = (
    "its kernels were not compiled: install a C++ compiler (g++ or clang), then "
    "`pip install --force-reinstall --no-deps spiking-resnet`"
)


class Source(ctypes.Structure):
    """`Source` of native/planes.h."""

    _fields_ = [
        ("spikes", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("kernel_height", "kernel_width")),
        *((name, ctypes.c_int64) for name in ("stride_height", "stride_width")),
        *((name, ctypes.c_int64) for name in ("padding_height", "padding_width")),
        *((name, ctypes.c_int64) for name in ("dilation_height", "dilation_width")),
        *((name, ctypes.c_int64) for name in ("groups", "identity")),
    ]


class Population(ctypes.Structure):
    """`Population` of native/planes.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "images", "height", "width", "channels")),
        *((name, ctypes.c_void_p) for name in ("start", "potential")),
        *((name, ctypes.c_void_p) for name in ("constant", "current", "bias", "threshold")),
        ("reset_to_zero", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("spikes", "counts", "peaks", "tables")),
        ("wide", ctypes.c_int64),
        ("bits", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("planes", "minus", "levels", "takes_back")),
        ("emitted", ctypes.c_void_p),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there are none that fit this file."""
    for file in sorted(folder.glob("_cpu_kernels*.so")):
        found = ctypes.CDLL(str(file))
        if not hasattr(found, "interface_version") or found.interface_version() != INTERFACE:
            continue  # compiled from an older source
        number, pointer = ctypes.c_int64, ctypes.c_void_p
        for name, arguments in {
            **{name: [pointer, pointer, number] for name in FITS},
            "table_size": [pointer, pointer, number, number],
            "fill_tables": [pointer, pointer, number, number, pointer],
            "run_window": [pointer, pointer, number, number, number],
            **{
                name: [pointer, pointer, number, pointer]
                for name in ("pack", "unpack", "count_neurons", "sum_channels")
            },
            "pool": [pointer, pointer, number, pointer, pointer, pointer],
        }.items():
            getattr(found, name).argtypes = arguments
            getattr(found, name).restype = None
        for name in (*FITS, "table_size"):
            getattr(found, name).restype = number
        return found
    return None


def kernels() -> ctypes.CDLL:
    """The compiled kernels; for callers who know that there are some."""
    found = library()
    assert found is not None, INSTALL
    return found


def level() -> int:
    """The instruction set to be used, as an index of INSTRUCTION_SETS."""
    return min(INSTRUCTION_SETS.index(instruction_set), kernels().machine_level())


def blocks(positions: int) -> int:
    """The words of a plane of so many positions."""
    return -(-positions // BLOCK)


def positions(shape: Shape) -> int:
    """The positions of a layer [C, H, W] or [C]."""
    return torch.Size(shape[1:]).numel()


@contextmanager
def alone() -> Iterator[None]:
    """Keeps torch to one thread: for kernels that use all themselves.

    Torch's threads go on spinning for a while after every operation they share.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Memory:
    """int32 tensors to be used again: memory fresh from the system takes long to write to."""

    MOST = 2**26  # numbers kept

    def __init__(self) -> None:
        self.free: dict[int, list[Tensor]] = {}

    def take(self, *size: int) -> Tensor:
        """A tensor of this size with nothing written to it yet."""
        number = torch.Size(size).numel()
        try:
            flat = self.free[number].pop()
        except (KeyError, IndexError):
            flat = torch.empty(number, dtype=torch.int32)
        return flat.view(size)

    def give(self, tensor: Tensor) -> None:
        """Takes back a tensor that nobody reads any more."""
        if sum(number * len(kept) for number, kept in self.free.items()) > self.MOST:
            self.free.clear()
        self.free.setdefault(tensor.numel(), []).append(tensor.view(-1))


@dataclass(frozen=True, eq=False)
class Planes:
    """The spikes of one layer over a window of time: words int32 [N, blocks, steps * planes, C].

    Bit i of block b is of the spikes at position p = 32 b + i = y * width + x. shape: of the layer,
    [C, H, W] or [C]. code: what the bits of the planes, which follow each other in every step,
    count. count: how many bits are set, if known.
    """

    words: Tensor
    shape: Shape
    count: int | None = None
    code: Code = BINARY

    @classmethod
    def empty(cls, images: int, steps: int, shape: Shape) -> "Planes":
        """Planes of 0 and 1 with nothing written to them yet."""
        size = (images, blocks(positions(shape)), steps, shape[0])
        return cls(torch.empty(size, dtype=torch.int32), shape)

    @classmethod
    def packed(cls, spikes: Tensor, code: Code = BINARY) -> "Planes":
        """The planes of int8 or uint8 spikes [steps, N, ...]."""
        if code.planes > 1:
            bits = torch.stack([spikes >> plane & 1 for plane in range(code.planes)], 1)
            spikes = bits.flatten(0, 1)
        found = cls.empty(spikes.shape[1], spikes.shape[0], tuple(spikes.shape[2:]))
        found._call("pack", spikes.transpose(0, 1).contiguous(), found.words)
        return replace(found, code=code)

    def unpacked(self) -> Tensor:
        """The spikes as uint8, or int8 where they are more than 0 and 1, [steps, N, ...]."""
        images, _, steps, _ = self.words.shape
        bits = torch.empty((images, steps, *self.shape), dtype=torch.uint8)
        self._call("unpack", self.words, bits)
        if self.code.planes > 1:
            return self._weighed(bits.to(torch.int8), self.code.weights).transpose(0, 1)
        return bits.transpose(0, 1)

    def sums(self) -> Tensor:
        """The spikes of every channel at every step, float32 [steps, N, C]."""
        return self._weighed(self._bits_set(), self.code.weights).transpose(0, 1)

    def density(self) -> float:
        """The share of bits that are set."""
        count = float(self._bits_set().sum()) if self.count is None else self.count
        images, _, steps, channels = self.words.shape
        return count / (images * steps * channels * positions(self.shape))

    def count_into(self, counts: Tensor) -> None:
        """Adds every neuron's spikes to counts, int64 [N, *shape]."""
        for plane, weight in enumerate(self.code.weights):
            words = self.words[:, :, plane :: self.code.planes].contiguous()
            found = counts if weight == 1 else torch.zeros_like(counts)
            replace(self, words=words)._call("count_neurons", words, found)
            if weight != 1:
                counts += weight * found

    def coded(self, code: Code) -> "Planes":
        """The same spikes in a code of more planes."""
        missing = code.planes - self.code.planes
        if missing == 0:
            return replace(self, code=code)
        images, places, _, channels = self.words.shape
        own = self.words.view(images, places, -1, self.code.planes, channels)
        more = own[..., -1:, :] if self.code.signed else torch.zeros_like(own[..., :1, :])
        words = torch.cat([own, more.expand(-1, -1, -1, missing, -1)], -2).flatten(2, 3)
        return Planes(words, self.shape, None if self.code.signed else self.count, code)

    def _weighed(self, bits: Tensor, weights: tuple[int, ...]) -> Tensor:
        """The numbers [N, steps, ...] that bits [N, steps * planes, ...] make."""
        split = bits.unflatten(1, (-1, self.code.planes))
        total = split[:, :, 0] * weights[0]
        for plane, weight in enumerate(weights[1:], 1):
            total += split[:, :, plane] * weight
        return total

    def _bits_set(self) -> Tensor:
        """The set bits of every channel in every plane, float32 [N, steps * planes, C]."""
        images, _, steps, channels = self.words.shape
        found = torch.empty((images, steps, channels), dtype=torch.float32)
        self._call("sum_channels", self.words, found)
        return found

    def _call(self, name: str, given: Tensor, made: Tensor) -> None:
        images, _, steps, channels = self.words.shape
        extent = (ctypes.c_int64 * 4)(images, steps, channels, positions(self.shape))
        function = getattr(kernels(), name)
        function(given.data_ptr(), extent, torch.get_num_threads(), made.data_ptr())


def pool(node: MaxPool, spikes: Planes, memory: tuple[Tensor, Tensor]) -> Planes:
    """The spikes of a cumulative max pool. memory: the spike counts of its inputs [N, C, H, W] and
    its outputs [N, C, H', W'] so far, int32; brought up to date.
    """
    images, _, steps, channels = spikes.words.shape
    found = Planes.empty(images, steps, node.shape)
    geometry = (ctypes.c_int64 * 15)(
        *(images, steps, channels, *spikes.shape[1:]),
        *(*node.kernel, *node.stride, *node.padding, *node.dilation, *node.shape[1:]),
    )
    kernels().pool(
        *(spikes.words.data_ptr(), geometry, torch.get_num_threads()),
        *(memory[0].data_ptr(), memory[1].data_ptr(), found.words.data_ptr()),
    )
    return found


class Call:
    """A population and its sources, to be computed in one of the ways."""

    def __init__(self, population: Population, sources: Sequence[Source]) -> None:
        self.population = population
        self.sources = (Source * max(len(sources), 1))(*sources)
        self.number = len(sources)

    def fits(self, way: str) -> bool:
        """Whether that way, "lookup", "walk" or "triples", takes the population."""
        function = getattr(kernels(), f"{way}_fits")
        return bool(function(ctypes.byref(self.population), self.sources, self.number))

    def tables(self, way: str) -> Tensor:
        """What that way needs made of the weights; bytes."""
        given = ctypes.byref(self.population), self.sources, self.number, WAYS.index(way)
        found = torch.empty(kernels().table_size(*given), dtype=torch.uint8)
        kernels().fill_tables(*given, found.data_ptr())
        return found

    def run(self, way: str, threads: int) -> None:
        """One window of time."""
        given = ctypes.byref(self.population), self.sources, self.number
        kernels().run_window(*given, threads, WAYS.index(way))
