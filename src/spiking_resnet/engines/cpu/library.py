"""The compiled kernels of `native/`, called with tensors."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from spiking_resnet.engines.cpu.bit_code import BINARY, Code
from spiking_resnet.engines.cpu.memory import Buffer, Memory, no_memory, pointer
from spiking_resnet.graph import MaxPool, Shape

folder = Path(__file__).parent  # where the compiled library lies
INTERFACE = 12  # the version of the C interface in native/kernels.cpp
BLOCK = 32  # positions in a word
INSTRUCTION_SETS = ("portable", "avx2", "avx512", "amx")  # `InstructionSet` of native/kernel.h
instruction_set = "amx"  # the best to be used; what the machine lacks is passed over
kernel: str | None = None  # the name of one, to use wherever it fits; None: the quickest
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
        *((name, ctypes.c_void_p) for name in ("numbers", "factors")),
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
        *((name, ctypes.c_int64) for name in ("planes", "minus", "levels", "is_signed")),
        ("emitted", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("firing_rule", "sizes")),
        *((name, ctypes.c_void_p) for name in ("amplitudes", "edges", "ceiling")),
        ("shift", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("sums", "stream", "numbers")),
        ("numbers_shift", ctypes.c_int64),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there are none that fit this file."""
    file = folder / "_kernels.so"
    if not file.is_file():
        return None
    found = ctypes.CDLL(str(file))
    if not hasattr(found, "interface_version") or found.interface_version() != INTERFACE:
        return None  # compiled from an older source
    number, address = ctypes.c_int64, ctypes.c_void_p
    for name, arguments in {
        "kernel_count": [],
        "kernel_info": [number],
        "feature_text": [number],
        "bytes_asked": [],
        "fail_allocation": [number],
        "features": [address, address, number],
        **{
            name: [address, address, number, number, address]
            for name in ("refused", "table_bytes", "prepare")
        },
        "work": [address, address, number, number, address, address],
        "run_window": [address, address, number, number, number],
        **{
            name: [address, address, number, address]
            for name in ("pack", "unpack", "count_neurons", "sum_channels")
        },
        "pool": [address, address, number, address, address, address],
    }.items():
        getattr(found, name).argtypes = arguments
        getattr(found, name).restype = number
    return found


def kernels() -> ctypes.CDLL:
    """The compiled kernels; for callers who know that there are some."""
    found = library()
    assert found is not None, INSTALL
    return found


def level() -> int:
    """The instruction set to be used, as an index of INSTRUCTION_SETS.

    A machine counts as one that has AMX only where the environment variable SPIKING_RESNET_AMX is 1
    when this is first asked: its kernel has never run on such a machine (native/amx_machine.h).
    """
    return min(INSTRUCTION_SETS.index(instruction_set), kernels().machine_level())


def blocks(positions: int) -> int:
    """The words of a plane of so many positions."""
    return -(-positions // BLOCK)


def positions(shape: Shape) -> int:
    """The positions of a layer [C, H, W] or [C]."""
    return torch.Size(shape[1:]).numel()


def call(name: str, *arguments: object) -> None:
    """Calls a function of the library; MemoryError or OSError where it had to give up.

    What it was to write is worthless then.
    """
    status = getattr(kernels(), name)(*arguments)
    if status == 1:
        raise no_memory(kernels().bytes_asked())
    if status == 2:
        raise OSError(
            "the system starts no more threads for the CPU engine: use fewer "
            "(torch.set_num_threads, --threads)"
        )
    if status == 3:
        raise RuntimeError("a defect of the CPU engine, please report it: a kernel does not fit")
    if status:
        raise RuntimeError(f"a defect of the CPU engine, please report it: {name} gave up")


@cache
def _set_openmp_threads() -> Callable[[int], None] | None:
    """The function of torch's own OpenMP that sets the threads of the calling thread alone."""
    try:
        found = ctypes.CDLL(None).omp_set_num_threads
    except (TypeError, OSError, AttributeError):  # Windows; none; one that torch keeps to itself
        return None
    found.argtypes, found.restype = [ctypes.c_int], None
    return found


@contextmanager
def alone() -> Iterator[None]:
    """Keeps torch to one thread, in this thread: for kernels that use all themselves.

    Torch's threads go on spinning for a while after every operation they share. Not by
    torch.set_num_threads, which threads that start meanwhile would inherit for good.
    """
    threads, set_threads = torch.get_num_threads(), _set_openmp_threads()
    if set_threads is None:
        yield
        return
    set_threads(1)
    try:
        yield
    finally:
        set_threads(threads)


@dataclass(frozen=True, eq=False)
class Planes:
    """The spikes of one layer over a window of time: words int32 [N, blocks, steps * planes, C].

    Bit i of block b is of the spikes at position p = 32 b + i = y * width + x. shape: of the layer,
    [C, H, W] or [C]. code: what the bits of the planes, which follow each other in every step,
    count. count: how many bits are set, if known. buffer: the memory of the words, if these planes
    own it, to be given back when nobody reads them any more; others only read somebody's words.
    """

    words: Tensor
    shape: Shape
    count: int | None = None
    code: Code = BINARY
    buffer: Buffer | None = None

    @classmethod
    def empty(
        cls, memory: Memory, images: int, steps: int, shape: Shape, code: Code = BINARY
    ) -> "Planes":
        """Planes with memory of their own and nothing written to it yet."""
        size = torch.Size((images, blocks(positions(shape)), steps * code.planes, shape[0]))
        buffer = memory.take(size.numel())
        return cls(buffer.numbers.view(size), shape, None, code, buffer)

    @classmethod
    def silent(
        cls, memory: Memory, images: int, steps: int, shape: Shape, code: Code = BINARY
    ) -> "Planes":
        """Planes without any spike; they own no memory."""
        size = torch.Size((images, blocks(positions(shape)), steps * code.planes, shape[0]))
        return cls(memory.zeros(size.numel()).view(size), shape, 0, code)

    @classmethod
    def packed(cls, spikes: Tensor, code: Code = BINARY, memory: Memory | None = None) -> "Planes":
        """The planes of int8 or uint8 spikes [steps, N, ...]."""
        steps, images, *shape = spikes.shape
        if code.planes > 1:
            bits = torch.stack([spikes >> plane & 1 for plane in range(code.planes)], 1)
            spikes = bits.flatten(0, 1)
        made = cls.empty(memory or Memory(), images, steps, tuple(shape), code)
        bits = spikes.transpose(0, 1).to(torch.uint8).contiguous()
        _move("pack", made, bits)
        return replace(made, count=int(torch.count_nonzero(bits)))

    @classmethod
    def joined(cls, words: Sequence[Tensor], shape: Shape, code: Code, memory: Memory) -> "Planes":
        """Planes with memory of their own, to which words [N, blocks, steps * planes, part of C]
        are copied side by side.
        """
        images, _, planes, _ = words[0].shape
        made = cls.empty(memory, images, planes // code.planes, shape, code)
        torch.cat(list(words), -1, out=made.words)
        return made

    @classmethod
    def following(cls, parts: Sequence["Planes"]) -> "Planes":
        """The planes of windows that follow each other, of one layer; one part is handed on."""
        if len(parts) == 1:
            return parts[0]
        words = torch.cat([part.words for part in parts], 2)
        count = sum(part.count or 0 for part in parts)
        return replace(parts[0], words=words, count=count, buffer=None)

    def during(self, start: int, stop: int) -> "Planes":
        """The spikes of the steps start … stop - 1; they own no memory to give back."""
        planes = self.code.planes
        if stop - start == self.words.shape[2] // planes:
            return replace(self, buffer=None)
        words = self.words[:, :, start * planes : stop * planes].contiguous()
        return Planes(words, self.shape, None, self.code)

    def pointer(self) -> int:
        """Where C finds the words."""
        images, _, steps, _ = self.words.shape
        places = blocks(positions(self.shape))
        return pointer(self.words, torch.int32, images * places * steps * self.shape[0])

    def unpacked(self) -> Tensor:
        """The spikes as uint8, or int8 where they are more than 0 and 1, [steps, N, ...]."""
        images, _, steps, _ = self.words.shape
        bits = torch.empty((images, steps, *self.shape), dtype=torch.uint8, device="cpu")
        _move("unpack", self, bits)
        if self.code.planes > 1:
            return self._weighed(bits.to(torch.int8), self.code.weights).transpose(0, 1)
        return bits.transpose(0, 1)

    def sums(self) -> Tensor:
        """The spikes of every channel at every step, float32 [steps, N, C]."""
        return self._weighed(self._bits_set(), self.code.weights).transpose(0, 1).float()

    def density(self) -> float:
        """The share of bits that are set."""
        count = int(self._bits_set().sum()) if self.count is None else self.count
        images, _, steps, channels = self.words.shape
        return count / (images * steps * channels * positions(self.shape))

    def count_into(self, counts: Tensor) -> None:
        """Adds every neuron's spikes to counts, int64 [N, *shape]."""
        if self.code.units is not None:
            counts += self.code.counted(self.unpacked()).sum(0, dtype=torch.int64)
            return
        for plane, weight in enumerate(self.code.weights):
            words = self.words[:, :, plane :: self.code.planes].contiguous()
            found = counts if weight == 1 else torch.zeros_like(counts)
            _move("count_neurons", Planes(words, self.shape), found)
            if weight != 1:
                counts += weight * found

    def coded(self, code: Code) -> "Planes":
        """The same spikes in a code of more planes; they own no memory to give back."""
        missing = code.planes - self.code.planes
        if missing == 0:
            return replace(self, code=code, buffer=None)
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
        """The set bits of every channel in every plane, int32 [N, steps * planes, C]."""
        images, _, steps, channels = self.words.shape
        found = torch.empty((images, steps, channels), dtype=torch.int32, device="cpu")
        _move("sum_channels", self, found)
        return found


def _move(name: str, planes: Planes, other: Tensor) -> None:
    """One of the library's functions between words and other numbers."""
    images, _, steps, channels = planes.words.shape
    places = positions(planes.shape)
    dtype, number = {
        "pack": (torch.uint8, images * steps * channels * places),
        "unpack": (torch.uint8, images * steps * channels * places),
        "count_neurons": (torch.int64, images * channels * places),
        "sum_channels": (torch.int32, images * steps * channels),
    }[name]
    ends = planes.pointer(), pointer(other, dtype, number)
    given, made = reversed(ends) if name == "pack" else ends
    extent = (ctypes.c_int64 * 4)(images, steps, channels, places)
    call(name, given, extent, torch.get_num_threads(), made)


def pool(node: MaxPool, spikes: Planes, counts: tuple[Tensor, Tensor], memory: Memory) -> Planes:
    """The spikes of a cumulative max pool. counts: the spikes of its inputs [N, C, H, W] and its
    outputs [N, C, H', W'] so far, int32; brought up to date.
    """
    images, _, steps, channels = spikes.words.shape
    made = Planes.empty(memory, images, steps, node.shape)
    geometry = (ctypes.c_int64 * 15)(
        *(images, steps, channels, *spikes.shape[1:]),
        *(*node.kernel, *node.stride, *node.padding, *node.dilation, *node.shape[1:]),
    )
    ins, outs = (
        pointer(count, torch.int32, images * channels * positions(planes.shape))
        for count, planes in zip(counts, (spikes, made), strict=True)
    )
    threads = torch.get_num_threads()
    call("pool", spikes.pointer(), geometry, threads, ins, outs, made.pointer())
    return made
