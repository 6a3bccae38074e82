"""Write files atomically: whatever happens, a reader finds the old content or the new one.

Content goes to a temporary file beside its target, which then takes the target's name. It is locked
while it is written: one that nobody has locked was left by a process that was killed, and whoever
writes the same target next removes it.
"""

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from glob import escape
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex

if sys.platform != "win32":
    import fcntl

WORK_PER_SAVING = 20.0  # times what a saving costs: what is done between two savings
_LONGEST_NAME = 200  # bytes; most file systems allow 255, and temporary names are longer
_OPEN_FILE = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


_elsewhere: ContextVar[bool] = ContextVar("elsewhere", default=False)


@contextmanager
def written_elsewhere() -> Iterator[None]:
    """A context in which this thread writes no files, because another process writes the same."""
    before = _elsewhere.set(True)
    try:
        yield
    finally:
        _elsewhere.reset(before)


class BusyError(ValueError):
    """A file that another process is working with; the message names it."""


def write_whole(path: str | Path, content: bytes, folders: bool = True) -> None:
    """Write the content to `path` and onto the disk; it is as it was where that fails (OSError).

    Nothing happens where it is `written_elsewhere`.
    Of a symbolic link it is the target that is written; an existing file's permissions stay. What
    cannot be replaced is written directly: devices, pipes, and open files such as /dev/stdout.
    folders: those that are missing are made.
    """
    if _elsewhere.get():
        return
    try:
        _write(Path(path), content, folders)
    except OSError as error:
        why = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write {path}: {why}") from error


def _write(path: Path, content: bytes, folders: bool) -> None:
    if (number := open_file(path)) is not None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()  # what was said before comes before
        with open(number, "wb", closefd=False) as file:
            file.write(content)
    elif is_special(path):
        path.write_bytes(content)
    else:
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if folders:
            target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, content)


def slug(label: str) -> str:
    """A label as part of a file name: its letters, digits, points and underscores."""
    kept = "".join(c if c.isalnum() or c in "._" else " " for c in label.replace("θ", "theta"))
    return "-".join(kept.split())


def open_file(path: str | Path) -> int | None:
    """The number of the open file that a path like /dev/stdout, or a link to it, stands for."""
    name = os.path.abspath(path)
    for _ in range(40):  # links that go round end somewhere
        if found := _OPEN_FILE.fullmatch(name):
            return int(found[1])
        if not os.path.islink(name):
            break
        name = os.path.abspath(os.path.join(os.path.dirname(name), os.readlink(name)))
    return None


def is_special(path: str | Path) -> bool:
    """Whether there is something that is neither a file nor a folder: a device, a pipe."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _replace(target: Path, content: bytes) -> None:
    _clear(target)
    handle, partial = _fresh(target)
    try:
        with open(handle, "wb") as file:  # and the lock ends
            file.write(content)
            file.flush()
            _dress_like(target, handle)
            os.fsync(handle)
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    _settle(target.parent)


def _prefix(target: Path) -> str:
    """How the names of a target's temporary files begin."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return f".{name}."


def _fresh(target: Path) -> tuple[int, Path]:
    """A new temporary file, open and locked, and its path."""
    while True:
        partial = target.with_name(f"{_prefix(target)}{token_hex(4)}.part")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if _lock(handle) is not False and partial.exists():
            return handle, partial
        os.close(handle)  # another process took it for one that was left, and removes it


def _clear(target: Path) -> None:
    """Remove temporary files of this target that nobody is writing any more."""
    for left in target.parent.glob(f"{escape(_prefix(target))}{'[0-9a-f]' * 8}.part"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY)
            try:
                if _lock(handle):
                    left.unlink()
            finally:
                os.close(handle)


def _lock(handle: int) -> bool | None:
    """Whether an open file is locked by us now; None where the system has no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems of a network
        return None
    return True


def _dress_like(target: Path, handle: int) -> None:
    """Give an open file the permissions of a target that exists, and its owner where allowed.

    Changing the owner clears some permissions, so that is first.
    """
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return
    if sys.platform != "win32":
        with suppress(PermissionError):
            os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, stat.S_IMODE(old.st_mode))


def _settle(folder: Path) -> None:
    """Bring a folder's names onto the disk too, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def held(path: str | Path | None) -> Iterator[None]:
    """A context that locks `path`, which need not exist; BusyError where another process holds it.

    None holds nothing. The lock is a file beside it, and ends with the process, however that ends.
    """
    if path is None:
        yield
        return
    target = Path(os.path.realpath(path))
    if open_file(path) is not None or is_special(path):
        yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f"{_prefix(target)}lock")
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        if _lock(handle) is False:
            os.close(handle)
            raise BusyError(
                f"{path} is in use by another process: wait for its end, or name another file"
            )
        if _is_at(handle, lock):
            break
        os.close(handle)  # the one who had it before has removed it
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


class Pace:
    """Decides when to save: as soon as the work since the last saving outweighs its cost by far."""

    def __init__(self) -> None:
        self.since, self.cost = time.monotonic(), 0.0

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self.since >= WORK_PER_SAVING * self.cost

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A context whose duration is measured as the cost of a saving."""
        begin = time.monotonic()
        yield
        self.since = time.monotonic()
        self.cost = self.since - begin
