"""What shows works: bars in a terminal, a line that changes in a notebook, lines elsewhere."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from spiking_resnet.printable import printable
from spiking_resnet.progress import times
from spiking_resnet.progress.work import Work

if TYPE_CHECKING:
    from rich.console import Console


class Display(Protocol):
    """Something that shows works."""

    def draw(self, works: list[Work]) -> None:
        """Show the works as they are now."""

    def say(self, text: str) -> None:
        """Show a line that stays."""

    def close(self) -> None:
        """Show works no longer."""


def display_for(console: "Callable[[], Console] | None", out: Any, err: Any) -> Display:
    """What shows works here: on a console, or else in a notebook or on standard error."""
    if console is None and _in_notebook():
        return NotebookLine()
    there = _terminal(err) if console is None else console().is_terminal
    if there and os.environ.get("TERM") != "dumb":
        return Bars(console, out, err)
    return Lines(err)


def _terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; None is none."""
    return stream is not None and bool(stream.isatty())


def _in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    known = sys.modules.get("IPython")
    shell = None if known is None else known.get_ipython()
    return hasattr(shell, "kernel")


class Lines:
    """A line for a work that lasts, and another one now and then."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.told: dict[int, float] = {}

    def draw(self, works: list[Work]) -> None:
        """Print the lines that are due."""
        for work in works:
            last = self.told.get(id(work))
            if work.age > times.SILENCE if last is None else work.age - last > times.PAUSE:
                self.told[id(work)] = work.age
                self.say(work.line)

    def say(self, text: str) -> None:
        """Print a line."""
        if self.stream is not None:
            print(printable(text), file=self.stream, flush=True)

    def close(self) -> None:
        """Do nothing: what was printed stays."""


class Bars:
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
        now = {id(work): work for work in works if work.age >= times.PATIENCE}
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


class NotebookLine:
    """A line of text in a notebook's cell that changes, and is gone at the end."""

    def __init__(self) -> None:
        from IPython import display  # type: ignore[import-not-found, unused-ignore]

        show: Any = display.display
        self.show = show
        self.handle = show({"text/plain": ""}, raw=True, display_id=True)

    def draw(self, works: list[Work]) -> None:
        """Show the works as they are now."""
        shown = [
            f"{_bar(work)}{printable(work.line)}" for work in works if work.age >= times.PATIENCE
        ]
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
