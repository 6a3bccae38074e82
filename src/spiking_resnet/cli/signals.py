"""Handle signals that stop a command: Ctrl-C, SIGTERM, the end of the terminal."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from spiking_resnet.processes import started
from spiking_resnet.processes.team import current

_ASKING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
_LATER = b"\nstopping after this step; once more: at once\n"


class Stopped(KeyboardInterrupt):
    """A signal that asks to stop."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(stop: KeyboardInterrupt) -> int:
    """What a shell expects of a program that was stopped so: 130 for Ctrl-C."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def stoppable() -> Iterator[None]:
    """A context in which signals raise Stopped, as Ctrl-C raises KeyboardInterrupt.

    Those that are ignored (nohup) stay so, and processes that torchrun started are left to it,
    except a team: it stops once, though both the terminal and torchrun ask for it.
    """
    asked: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if not asked or current().count == 1:
            asked.append(number)
            raise Stopped(number)

    with _handled(stop):
        yield


@contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """A context that defers a signal until the function it yields is called; not a second one."""
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked:
            raise Stopped(number)
        asked.append(number)
        os.write(2, _LATER)  # whatever is being printed meanwhile

    def look() -> None:
        if asked:
            raise Stopped(asked[0])

    with _handled(ask):
        yield look


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    ours = started() == 1 or current().count > 1
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ASKING}
    try:
        for number, known in before.items():
            if known is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, known in before.items():
            if known is not None:  # set by something that is not Python
                signal.signal(number, known)
