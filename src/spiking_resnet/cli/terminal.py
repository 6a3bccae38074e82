"""What commands print: results, warnings, and expected errors in one message."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EPIPE
from typing import IO, Any, TextIO, cast

import torch
import typer
from rich.console import Console

from spiking_resnet.ann.remarks import Remark
from spiking_resnet.ann.train import TrainError
from spiking_resnet.cli.context import DEBUG, arguments
from spiking_resnet.cli.sharing import sharing
from spiking_resnet.cli.signals import exit_code, stoppable
from spiking_resnet.cli.stream import Stream, take_numbers
from spiking_resnet.processes.team import Team
from spiking_resnet.progress import draw_on
from spiking_resnet.report import terminal
from spiking_resnet.report.block import Report, Text

_shown = Stream("stdout")
# No markup: "[red]" may be the name of a layer.
_STYLE: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
out = Console(file=cast(IO[str], _shown), **_STYLE)
err = Console(file=cast(IO[str], Stream("stderr")), **_STYLE)

EXIT_SYSTEM, EXIT_USER = 1, 2
_EXPECTED = (ValueError, TrainError, OSError, MemoryError)
_NO_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "ALLOC_FAILED")  # of torch


def carry_out(ctx: typer.Context, run: Callable[[], Any]) -> Any:
    """Run a command, and print expected errors in red, without a traceback.

    The exit code is 2 for what the user can put right (bad options, files, networks, data) and 1
    where the system refuses (full disk, no permission, no memory). One that is asked to stop says
    how far it came, and how to go on. Anything else is a defect of this package and keeps its
    traceback.
    """
    take_numbers()
    _shown.name, _shown.problem = "stdout", None
    command = next((one for one in arguments(ctx) if not one.startswith("-")), "")
    with sharing(command) as team:
        if team is None:  # another process does it alone
            return None
        err.quiet = not team.first
        draw_on(lambda: err)
        try:
            return _carry_out(ctx, run, team)
        finally:
            draw_on(None)
            err.quiet = False


def _carry_out(ctx: typer.Context, run: Callable[[], Any], team: Team) -> Any:
    try:
        with stoppable(), _remarks_shown():
            result = run()
    except KeyboardInterrupt as stop:
        notes = list(getattr(stop, "__notes__", ()))
        said = [] if notes and notes[0].startswith("stopped") else ["stopped"]
        terminal.say(err, "; ".join([*said, *notes]), "bold yellow")
        raise typer.Exit(exit_code(stop)) from stop
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if _unread(error):
            raise  # typer ends the command without a word
        user = isinstance(error, ValueError | FileNotFoundError | TrainError)
        code = EXIT_USER if user else getattr(error, "exit_code", EXIT_SYSTEM)
        if not team.speaks(error):
            raise typer.Exit(code) from error
        err.quiet = False
        if ctx.meta.get(DEBUG) or not (isinstance(error, _EXPECTED) or _no_memory(error)):
            raise
        say_error(_message(error))
        team.has_spoken()
        raise typer.Exit(code) from error
    if _shown.problem is not None:
        say_error(f"the results could not be shown: {_shown.problem.strerror}")
        raise typer.Exit(EXIT_SYSTEM)
    return result


def _unread(error: BaseException) -> bool:
    """Whether the reader of what was printed is gone (`--help | head`); a file's error names it."""
    return isinstance(error, BrokenPipeError) and error.strerror == os.strerror(EPIPE)


def _no_memory(error: BaseException) -> bool:
    """Whether memory was asked for that is not there; torch says so in a RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _NO_MEMORY)


def _message(error: BaseException) -> str:
    if _no_memory(error):
        return f"out of memory ({error}): use a smaller --batch-size"
    return str(error) or type(error).__name__


def show_elsewhere() -> None:
    """Print on standard error from now on, because standard output takes a file."""
    _shown.name = "stderr"


def say(text: str = "") -> None:
    """Print lines as they are, in what characters the terminal has."""
    terminal.say(out, text)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    show((Text(text, "remark"),))


def show(blocks: Report) -> None:
    """Print blocks, as wide as the terminal is; remarks to standard error."""
    terminal.show(blocks, out, err)


@contextmanager
def _remarks_shown() -> Iterator[None]:
    """Remarks of the source networks and their data are warnings of the command's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", Remark)
        usual = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int,
            file: TextIO | None = None, line: str | None = None,
        ) -> None:  # fmt: skip
            if issubclass(category, Remark):
                warn(str(message))
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def say_error(text: str) -> None:
    """Print an error to standard error."""
    terminal.say(err, f"error: {text}", "bold red")
