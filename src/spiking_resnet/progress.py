"""Progress of long work: a bar in a terminal or a notebook, elsewhere a line now and then.

Whoever works tells a `Work` how far it is; one thread draws what is under way. What a work calls
shows nothing of its own, and of the processes of a team the first one speaks. Results never depend
on any of this.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol

from spiking_resnet.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

Asked = bool | None  # what a user may say of progress: None and True show it where that is usual

TICK = 0.25  # seconds between two looks at what is under way
PATIENCE = 1.0  # seconds before a bar appears
SILENCE = 5.0  # seconds without a line where there is no terminal
PAUSE = 30.0  # seconds between two lines
LONG = 20.0  # seconds of work that are worth an estimate
ENOUGH = 0.03  # of the work, from which the rest is estimated

_working: "ContextVar[Work | None]" = ContextVar("working", default=None)


class Work:
    """Work that is under way, and how far it is.

    what: is being done. done, total: in `unit` (images); without a unit they are shares. total:
    None where it is not known. note: what is measured meanwhile. plan: all that is to be done, for
    an estimate in one line. most: whether it may end before all is done.
    """

    def __init__(
        self, what: str, total: float | None = None, unit: str = "images", plan: str = "",
        most: bool = False,
    ) -> None:  # fmt: skip
        self.what, self.total, self.unit, self.plan = what, total, unit, plan
        self.most = "at most " if most else ""
        self.prefix = ""
        self.before, self.note = 0.0, ""
        self.began = self.started = time.monotonic()
        self.done = 0.0
        self.estimated = not plan

    def images(self, done: int, right: int | None = None) -> None:
        """Tell of images done, and how many of them were right."""
        if right is not None and done:
            self.note = f"accuracy {100 * right / done:.1f} %"
        self.done = done

    def part(self, what: str, done: float, total: float) -> None:
        """Tell what is being done, and the work done of all."""
        self.what, self.note = f"{self.prefix}{what}", ""
        self.done, self.total = done, total

    def planned(self, plan: str) -> None:
        """Tell what all of the work is, which begins now, for an estimate that is said once."""
        self.plan, self.estimated = f"{self.prefix}{plan}", False
        self.started = time.monotonic()

    def skip(self, amount: float) -> None:
        """Tell of work that was done before, and took none of this time."""
        self.before += amount

    @property
    def done(self) -> float:
        """What is done."""
        return self._done

    @done.setter
    def done(self, done: float) -> None:
        self._done, self._told = done, time.monotonic()

    @property
    def age(self) -> float:
        """The seconds since it began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float | None:
        """The seconds that it will still take, if it goes on like this; None if nobody knows."""
        now = self.done - self.before
        if self.total is None or now <= 0:
            return None
        taken = self._told - self.started
        since = time.monotonic() - self._told
        return max(0.0, taken * (self.total - self.done) / now - since)

    @property
    def known(self) -> bool:
        """Whether enough is done to say how long it will take."""
        if not self.total or self.left is None:
            return False
        enough = (self.done - self.before) / self.total >= ENOUGH
        return self.age > (SILENCE if enough else PAUSE)

    @property
    def amount(self) -> str:
        """How far it is, in words."""
        if not self.unit and self.most:
            return ""
        if not self.unit:
            return f"{100 * self.done / self.total:.0f} %" if self.total else ""
        of = "" if self.total is None else f" of {self.total:,.0f}"
        return f"{self.done:,.0f}{of} {self.unit}" if self.done or of else ""

    @property
    def line(self) -> str:
        """All of it in a line."""
        left = "" if self.left is None else f"{self.most}about {duration(self.left)} left"
        parts = (self.amount, self.note, f"{duration(self.age)}", left)
        return f"{self.what}: {', '.join(filter(None, parts))}"

    @property
    def estimate(self) -> str:
        """How long all of it takes, in words."""
        return f"{self.most}about {duration(self.age + (self.left or 0.0))}: {self.plan}"

    @property
    def stopped(self) -> str:
        """How far it was when it was stopped."""
        if self.unit or not self.amount:
            return f"stopped at {self.amount}" if self.amount else "stopped"
        return f"stopped after {self.amount} of the work"


def duration(seconds: float) -> str:
    """A time in words, with no more digits than an estimate has: "40 s", "12 min", "2.5 h"."""
    if seconds < 95:
        return f"{seconds:.0f} s" if seconds < 10 else f"{10 * round(seconds / 10)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"


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
        _board.enter(work)
    try:
        yield work
    except KeyboardInterrupt as stop:
        if outermost:
            stop.add_note(work.stopped)
        raise
    finally:
        _working.reset(before)
        if drawn:
            _board.leave(work)


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


class _Display(Protocol):
    """Something that shows works."""

    def draw(self, works: list[Work]) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class _Board:
    """All works that are shown, of all threads, and the thread that draws them."""

    def __init__(self) -> None:
        self.begin_anew()
        self.console: Callable[[], Console] | None = None

    def begin_anew(self) -> None:
        """Show nothing; in a forked process too, where the thread that draws is not."""
        self.lock = threading.Lock()
        self.works: list[Work] = []
        self.display: _Display | None = None
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
        while not ended.wait(TICK):
            with self.lock, suppress(Exception):  # as in `_close`
                if not ended.is_set():
                    self._look()

    def _look(self) -> None:
        if all(work.age < PATIENCE for work in self.works):
            return
        self.display = self.display or _display(self.console, *self.streams)
        for work in self.works:
            if not work.estimated and work.known:
                work.estimated = True
                if work.age + (work.left or 0.0) > LONG:
                    self.display.say(work.estimate)
        self.display.draw(self.works)


def _display(console: "Callable[[], Console] | None", out: Any, err: Any) -> _Display:
    """What shows works here: on a console, or else in a notebook or on standard error."""
    if console is None and _in_notebook():
        return _Notebook()
    there = _terminal(err) if console is None else console().is_terminal
    if there and os.environ.get("TERM") != "dumb":
        return _Terminal(console, out, err)
    return _Lines(err)


def _terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; None is none."""
    return stream is not None and bool(stream.isatty())


def _in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    known = sys.modules.get("IPython")
    shell = None if known is None else known.get_ipython()
    return hasattr(shell, "kernel")


class _Lines:
    """A line for a work that lasts, and another one now and then."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.told: dict[int, float] = {}

    def draw(self, works: list[Work]) -> None:
        """Print the lines that are due."""
        for work in works:
            last = self.told.get(id(work))
            if work.age > SILENCE if last is None else work.age - last > PAUSE:
                self.told[id(work)] = work.age
                self.say(work.line)

    def say(self, text: str) -> None:
        """Print a line."""
        if self.stream is not None:
            print(printable(text), file=self.stream, flush=True)

    def close(self) -> None:
        """Do nothing: what was printed stays."""


class _Terminal:
    """A bar for each work in a terminal, below what is printed meanwhile."""

    def __init__(self, console: "Callable[[], Console] | None", out: Any, err: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        texts = ("{task.description}", "{task.fields[amount]}", "{task.fields[rest]}")
        first, *others = (TextColumn(text, markup=False) for text in texts)
        self.console = Console(file=err) if console is None else console()
        self.bar = Progress(
            SpinnerColumn(), first, BarColumn(bar_width=20), *others, console=self.console,
            transient=True, auto_refresh=False,
            # What is printed meanwhile comes above, unless it goes elsewhere just now.
            redirect_stdout=sys.stdout is out and _terminal(out),
            redirect_stderr=sys.stderr is err and _terminal(err),
        )  # fmt: skip
        self.tasks: dict[int, Any] = {}
        self.bar.start()

    def draw(self, works: list[Work]) -> None:
        """Draw the bars as they are now."""
        now = {id(work): work for work in works if work.age >= PATIENCE}
        for gone in self.tasks.keys() - now.keys():
            self.bar.remove_task(self.tasks.pop(gone))
        for key, work in now.items():
            left = "" if work.left is None else f"left: {work.most}{_clock(work.left)}"
            rest = "  ".join(filter(None, (work.note, _clock(work.age), left)))
            told: dict[str, Any] = {
                "description": printable(work.what), "completed": work.done, "total": work.total,
                "amount": printable(work.amount), "rest": printable(rest),
            }  # fmt: skip
            if key in self.tasks:
                self.bar.update(self.tasks[key], **told)
            else:
                self.tasks[key] = self.bar.add_task(**told)
        self.bar.refresh()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        from rich.text import Text

        self.console.print(Text(printable(text)))

    def close(self) -> None:
        """Remove the bars."""
        for task in self.tasks.values():
            self.bar.remove_task(task)
        self.bar.stop()


class _Notebook:
    """A line of text in a notebook's cell that changes, and is gone at the end."""

    def __init__(self) -> None:
        from IPython import display  # type: ignore[import-not-found, unused-ignore]

        show: Any = display.display
        self.show = show
        self.handle = show({"text/plain": ""}, raw=True, display_id=True)

    def draw(self, works: list[Work]) -> None:
        """Show the works as they are now."""
        shown = [f"{_bar(work)}{printable(work.line)}" for work in works if work.age >= PATIENCE]
        self.handle.update({"text/plain": "\n".join(shown)}, raw=True)

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self.show({"text/plain": printable(text)}, raw=True)

    def close(self) -> None:
        """Empty the line."""
        self.handle.update({"text/plain": ""}, raw=True)


def _bar(work: Work) -> str:
    """A bar of characters; none where nobody knows how much there is."""
    if not work.total:
        return ""
    filled = round(20 * min(1.0, work.done / work.total))
    return f"{'█' * filled}{'░' * (20 - filled)} "


def _clock(seconds: float) -> str:
    """A time as "0:12:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


_board = _Board()
atexit.register(_board.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_board.begin_anew)


def draw_on(console: "Callable[[], Console] | None") -> None:
    """Draw on this console from now on, whatever standard error is; None as it was."""
    _board.console = console
