"""What a command keeps of its work, so that it can be stopped and go on."""

import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from spiking_resnet.cli.context import arguments
from spiking_resnet.cli.terminal import show, warn
from spiking_resnet.evaluation.progress_file import own_folder
from spiking_resnet.processes import started
from spiking_resnet.records import InputError
from spiking_resnet.report.block import Report

OLD = 30 * 24 * 3600  # seconds after which what was kept and never gone on with is removed

_NAME = re.compile(r"\.?[a-z]+-\d{8}-\d{6}-\d+\.json(\.lock|\.[0-9a-f]{8}\.part)?")


@contextmanager
def going_on(ctx: typer.Context, kept: Path | None) -> Iterator[None]:
    """A context that adds to an interruption the command to type to go on.

    kept: the file of the progress; without it there is nothing to go on from.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if kept is not None:
            stop.add_note(f"go on with: {_again(ctx)}")
        raise


@contextmanager
def keeping(ctx: typer.Context, asked: Path | None) -> Iterator[Path | None]:
    """A context with the file that keeps what is done: the one asked for, or one of our own.

    Our own lies in the user's cache folder and is removed once all is done. Whatever else ends the
    work, what to type to go on from it is said.
    """
    own = _own_file(ctx) if asked is None else None
    with going_on(ctx, asked):
        try:
            yield asked or own
        except BaseException as error:
            if own is not None and own.is_file():
                again = f"go on with: {_again(ctx, own)}"
                if isinstance(error, KeyboardInterrupt):
                    error.add_note(again)
                else:
                    warn(f"what was done is kept; {again}")
            raise
    if own is not None:
        own.unlink(missing_ok=True)


@contextmanager
def so_far(blocks: Callable[[Any], Report]) -> Iterator[None]:
    """A context that shows what an interrupted work has found so far, made of these blocks."""
    try:
        yield
    except KeyboardInterrupt as stop:
        found = getattr(stop, "partial", None)
        if found is not None:
            show(blocks(found))
        raise


def refuse_failed(failed: int, rows: int) -> None:
    """Raise InputError, which ends a command, where methods failed; their reasons were shown."""
    if failed:
        raise InputError(
            f"{failed} of {rows} methods failed, see the warnings above: the same command tries "
            "them again"
        )


def _own_file(ctx: typer.Context) -> Path | None:
    """A new file's path in our own folder; None where nothing can be written there."""
    folder = own_folder()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return None
        for old in filter(_made_here, folder.iterdir()):
            if time.time() - old.stat().st_mtime > OLD:
                old.unlink(missing_ok=True)
    except OSError:
        return None
    command = next((one for one in arguments(ctx) if not one.startswith("-")), "work")
    when = time.strftime("%Y%m%d-%H%M%S")
    return folder / f"{command}-{when}-{os.getpid()}.json"


def _made_here(path: Path) -> bool:
    """Whether a file has a name that `_own_file` gives, or stands beside such a one."""
    return _NAME.fullmatch(path.name) is not None and path.is_file()


def _again(ctx: typer.Context, kept: Path | None = None) -> str:
    """The command that goes on, from a file of our own where one is given."""
    typed = [part for part in arguments(ctx) if part != "--no-resume"]
    more = [] if kept is None else ["--resume", str(kept)]
    return shlex.join([*_program(), *typed, *more])


def _program() -> list[str]:
    """What begins a command, by torchrun where that started it."""
    if started() == 1:
        return ["spiking-resnet"]
    here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return ["torchrun", "--nproc-per-node", here, "-m", "spiking_resnet.cli"]
