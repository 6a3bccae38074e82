"""What the processes of a team write to their store: things handed on, given, and errors."""

import builtins
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any, Generic, Self, TypeVar

import torch

_DISTRIBUTED: Any = torch.distributed  # its types know of texts alone
_PART = 2**22  # bytes in one value of the store; it takes no more than 2**23
_LISTENING = 0.1  # seconds between two looks for what was given
_WELL = b"well"

T = TypeVar("T")


class Step:
    """The keys of one step of a team; it ends well, or by the first problem that was told."""

    def __init__(self, store: Any, number: int) -> None:
        self._store = _DISTRIBUTED.PrefixStore(f"step {number}", store)

    def add(self, key: str, number: int) -> int:
        """Add to the number at a key, and return the sum."""
        return int(self._store.add(key, number))

    def set(self, key: str, content: bytes) -> None:
        """Write bytes."""
        self._store.set(key, content)

    def get(self, key: str) -> bytes:
        """Read the bytes of a key that is there."""
        return bytes(self._store.get(key))

    def holds(self, key: str) -> bool:
        """Whether a key is there."""
        return bool(self._store.check([key]))

    def remove(self, key: str) -> None:
        """Remove a key."""
        self._store.delete_key(key)

    def clear(self) -> None:
        """Remove what was handed on, which all have taken."""
        for part in range(int(self.get("parts"))):
            self.remove(f"part {part}")

    def end(self, problem: bytes = _WELL) -> bytes:
        """End the step, unless it is ended; returns what ended it."""
        return bytes(self._store.compare_set("end", "", problem))

    def ended(self) -> bool:
        """Whether the step is over."""
        return self.holds("end")


def problem_of(step: Step) -> bytes:
    """The problem by which a step ended; empty if it ended well, or goes on."""
    found = step.get("end") if step.ended() else _WELL
    return b"" if found == _WELL else found


def put(step: Step, content: bytes) -> None:
    """Write bytes of any number for the others."""
    parts = [content[at : at + _PART] for at in range(0, len(content), _PART)]
    for number, part in enumerate(parts):
        step.set(f"part {number}", part)
    step.set("parts", str(len(parts)).encode())


def taken(step: Step) -> bytes:
    """The bytes that were put."""
    return b"".join(step.get(f"part {number}") for number in range(int(step.get("parts"))))


class Given(Generic[T]):
    """What another process than the first gives: it is written to the store, under a number."""

    def __init__(self, step: Step, pack: Callable[[T], bytes]) -> None:
        self.step, self.pack = step, pack

    def give(self, value: T) -> None:
        """Give it to the first; raises what another process failed by."""
        if problem := problem_of(self.step):
            raise raised(problem)
        content = self.pack(value)
        self.step.set(str(self.step.add("given", 1)), content)


class Collected(Generic[T]):
    """What the first process receives: by itself, and in a thread what the others give."""

    def __init__(
        self, step: Step, receive: Callable[[T], None], unpack: Callable[[bytes], T]
    ) -> None:
        self.step, self.receive, self.unpack = step, receive, unpack
        self.lock, self.over = Lock(), Event()
        self.done, self.problem = 0, list[BaseException]()
        self.thread = Thread(target=self._listen, daemon=True)

    def give(self, value: T) -> None:
        """Receive what is this process's own; raises what another process failed by."""
        with self.lock:
            self.receive(value)
        self._check()

    def complete(self, others: int) -> bool:
        """Whether all have ended, and all that was given is received."""
        self._check()
        return self.step.add("ended", 0) == others and self.done == self.step.add("given", 0)

    def _check(self) -> None:
        if self.problem:
            raise self.problem[0]
        if problem := problem_of(self.step):
            raise raised(problem)

    def _take(self, through: int | None = None) -> None:
        """Receive what is there, in its order; of one that was killed a number may be missing."""
        with self.lock:
            while through is None or self.done < through:
                key = str(self.done + 1)
                if self.step.holds(key):
                    self.receive(self.unpack(self.step.get(key)))
                    self.step.remove(key)
                elif through is None:
                    return
                self.done += 1

    def _listen(self) -> None:
        try:
            while not self.over.wait(_LISTENING):
                self._take()
        except BaseException as error:
            self.problem.append(error)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        if not self.problem:
            with suppress(RuntimeError):  # the store is gone
                self._take(self.step.add("given", 0))


def told(error: BaseException) -> bytes:
    """An error as bytes: its classes, the nearest first, and its message."""
    kinds = [f"{kind.__module__}:{kind.__qualname__}" for kind in type(error).__mro__]
    return json.dumps([kinds, str(error) or type(error).__name__]).encode()


def raised(problem: bytes) -> Exception:
    """The error that another process told; `elsewhere` knows it."""
    kinds, text = json.loads(problem)
    found = next(_made(kinds, text), RuntimeError(text))
    found.__dict__["elsewhere"] = True
    return found


def elsewhere(error: BaseException) -> bool:
    """Whether an error is another process's, which tells it."""
    return bool(error.__dict__.get("elsewhere"))


def _made(kinds: list[str], text: str) -> Iterator[Exception]:
    """The error made anew, of every class that is known here and takes a message."""
    for name in kinds:
        module, _, kind = name.partition(":")
        found = getattr(sys.modules.get(module, builtins), kind, None)
        if isinstance(found, type) and issubclass(found, Exception):
            with suppress(Exception):
                made = found(text)
                if str(made) == text:
                    yield made
