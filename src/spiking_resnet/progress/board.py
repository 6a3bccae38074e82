"""All works that are shown, of all threads: what verbs tell, and the one thread that draws."""

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from spiking_resnet.progress import times
from spiking_resnet.progress.displays import Display, display_for
from spiking_resnet.progress.work import Work

if TYPE_CHECKING:
    from rich.console import Console

_working: "ContextVar[Work | None]" = ContextVar("working", default=None)


@contextmanager
def shown(
    progress: object, what: str, total: float | None = None, unit: str = "images",
    plan: str = "", most: bool = False,
) -> Iterator[Work]:  # fmt: skip
    """A context whose Work is shown while it lasts; an interruption is told how far it was.

    progress: what the user said. False shows nothing; nor does a function, which the caller tells.
    """
    work = Work(what, total, unit, plan, most)
    outermost = _working.get() is None
    drawn = (progress is None or progress is True) and outermost and _first()
    before = _working.set(work if outermost else _working.get())
    if drawn:
        board.enter(work)
    try:
        yield work
    except KeyboardInterrupt as stop:
        if outermost:
            stop.add_note(work.stopped)
        raise
    finally:
        _working.reset(before)
        if drawn:
            board.leave(work)


@contextmanager
def partly(found: Callable[[], Any]) -> Iterator[None]:
    """A context that adds to an interruption what was found so far, as its `partial`."""
    try:
        yield
    except KeyboardInterrupt as stop:
        with suppress(ValueError, ArithmeticError):  # of nothing
            stop.partial = found()  # type: ignore[attr-defined]
        raise


def note(text: str) -> None:
    """Say what the work that is under way is doing just now, if somebody shows it."""
    work = _working.get()
    if work is not None:
        work.note = text


def _first() -> bool:
    """Whether this is the one of torchrun's processes that speaks."""
    return os.environ.get("RANK", "0") == "0"


class Board:
    """All works that are shown, of all threads, and the thread that draws them."""

    def __init__(self) -> None:
        self.begin_anew()
        self.console: Callable[[], Console] | None = None

    def begin_anew(self) -> None:
        """Show nothing; in a forked process too, where the thread that draws is not."""
        self.lock = threading.Lock()
        self.works: list[Work] = []
        self.display: Display | None = None
        self.ended = threading.Event()
        self.streams: tuple[Any, Any] = None, None

    def enter(self, work: Work) -> None:
        """Show a work from now on."""
        with self.lock:
            self.works.append(work)
            if len(self.works) > 1:
                return
            self.ended = threading.Event()
            self.streams = sys.stdout, sys.stderr  # as they are now: works may redirect them
            own = copy_context()  # by which a notebook knows the cell
            drawing = threading.Thread(
                target=own.run, args=(self._draw, self.ended), daemon=True, name="progress"
            )
        drawing.start()

    def leave(self, work: Work) -> None:
        """Show a work no longer; with the last one all is removed."""
        with self.lock:
            if work in self.works:  # not if it was forked away
                self.works.remove(work)
            if not self.works:
                self._close()

    def end(self) -> None:
        """Remove what is shown of works in threads that end with the process."""
        if self.lock.acquire(timeout=1.0):
            self._close()
            self.lock.release()

    def _close(self) -> None:
        self.ended.set()
        display, self.display = self.display, None
        if display is not None:
            with suppress(Exception):  # the stream is closed, or one that refuses
                display.close()

    def _draw(self, ended: threading.Event) -> None:
        while not ended.wait(times.TICK):
            with self.lock, suppress(Exception):  # as in `_close`
                if not ended.is_set():
                    self._look()

    def _look(self) -> None:
        if all(work.age < times.PATIENCE for work in self.works):
            return
        self.display = self.display or display_for(self.console, *self.streams)
        for work in self.works:
            if not work.estimated and work.known:
                work.estimated = True
                if work.age + (work.left or 0.0) > times.LONG:
                    self.display.say(work.estimate)
        self.display.draw(self.works)


board = Board()
atexit.register(board.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=board.begin_anew)


def draw_on(console: "Callable[[], Console] | None") -> None:
    """Draw on this console from now on, whatever standard error is; None as it was."""
    board.console = console
