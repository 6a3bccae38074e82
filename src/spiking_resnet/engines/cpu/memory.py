"""Memory of the native engine: who owns it, and the one door by which it reaches C."""

from threading import Lock

import torch
from torch import Tensor

POISON = 0x5AA5A55A  # written over memory that nobody may read, where `poisoned`
poisoned = False  # a test's choice: whoever reads what was given back finds nonsense


class Buffer:
    """int32 numbers that belong to one holder, until `Memory.give` takes them back.

    Tensors made of `numbers` own nothing; after that they must not be read.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers: Tensor | None = numbers

    @property
    def numbers(self) -> Tensor:
        """The numbers, int32 [n]."""
        if self._numbers is None:
            raise _mistake("memory is used that was given back")
        return self._numbers

    def empty(self) -> Tensor:
        """The numbers, which from now on are no longer this buffer's."""
        numbers, self._numbers = self.numbers, None
        return numbers


class Memory:
    """Buffers to be used again: memory fresh from the system takes long to write to.

    Simulations in several threads may share one.
    """

    MOST = 2**26  # numbers kept

    def __init__(self) -> None:
        self._free: dict[int, list[Tensor]] = {}
        self._zeros = empty(0, torch.int32)
        self._lock = Lock()

    def take(self, number: int) -> Buffer:
        """A buffer of so many numbers, with nothing written to it yet."""
        with self._lock:
            kept = self._free.get(number)
            if kept:
                return Buffer(kept.pop())
        fresh = empty(number, torch.int32)
        return Buffer(fresh.fill_(POISON) if poisoned else fresh)

    def zeros(self, number: int) -> Tensor:
        """So many zeros, which all who ask share and nobody may write to."""
        with self._lock:
            if len(self._zeros) < number:
                self._zeros = empty(number, torch.int32).zero_()
            return self._zeros[:number]

    def give(self, buffer: Buffer) -> None:
        """Takes back a buffer whose numbers nobody reads any more."""
        numbers = buffer.empty()
        if poisoned:
            numbers.fill_(POISON)
        with self._lock:
            if sum(number * len(kept) for number, kept in self._free.items()) > self.MOST:
                self._free.clear()
            self._free.setdefault(len(numbers), []).append(numbers)


def empty(number: int, dtype: torch.dtype) -> Tensor:
    """Memory for so many values, with nothing written to it yet. Raises MemoryError."""
    try:
        return torch.empty(number, dtype=dtype, device="cpu")
    except RuntimeError as error:
        raise no_memory(number * dtype.itemsize) from error


def no_memory(asked: int) -> MemoryError:
    """The error for memory that there is not. asked: the bytes; 0 where that is unknown."""
    what = f"no memory for {asked:,} bytes" if asked else "no memory to work with"
    return MemoryError(
        f"the CPU engine found {what}: simulate fewer images at once or in shorter windows, or use "
        "fewer threads"
    )


def pointer(tensor: Tensor, dtype: torch.dtype, number: int) -> int:
    """Where C finds `number` values of `dtype`, one after the other: what the tensor must hold."""
    if tensor.dtype != dtype or tensor.device.type != "cpu":
        raise _mistake(f"values are {tensor.dtype} on {tensor.device}, not {dtype} on the CPU")
    if tensor.numel() != number or not tensor.is_contiguous():
        raise _mistake(
            f"a tensor of shape {tuple(tensor.shape)} and strides {tensor.stride()} does not hold "
            f"{number} values, one after the other"
        )
    return tensor.data_ptr()


def _mistake(what: str) -> RuntimeError:
    return RuntimeError(f"a defect of the CPU engine, please report it: {what}")
