"""Standard output and error for commands: a failure to print never loses a result."""

import io
import os
import sys
from contextlib import suppress
from typing import Any


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr, whichever `name` says, as it is now; writing never ends the work.

    Once its reader is gone (`| head`) nothing is shown any more. problem: any other reason why
    something was not shown. Characters that it does not have are shown as "?".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem: OSError | None = None

    @property
    def _now(self) -> Any:
        """The stream itself, not rich's around it while a bar is drawn."""
        found = getattr(sys, self.name)
        return getattr(found, "rich_proxied_file", found)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream as it is now."""
        return getattr(self._now, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._now is not None and bool(self._now.isatty())

    def fileno(self) -> int:
        """The number of the open file; OSError where there is none."""
        if self._now is None:
            raise io.UnsupportedOperation("fileno")
        return int(self._now.fileno())

    def write(self, text: str) -> int:
        """Write the text if that is possible; returns its number of characters either way."""
        try:
            if self._now is not None:
                self._write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self._now.write(text)
        except UnicodeEncodeError:
            self._now.write(text.encode(self.encoding, "replace").decode(self.encoding))

    def flush(self) -> None:
        """Flush the stream, if that is possible."""
        try:
            if self._now is not None:
                self._now.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Discard what is buffered and all later output."""
        if not isinstance(error, BrokenPipeError):
            self.problem = self.problem or error
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self.fileno())
            finally:
                os.close(nowhere)


def take_numbers() -> None:
    """Occupy the file numbers 0, 1 and 2 where they are closed, so that no other file gets them.

    Writing there directly, as to /dev/stdout, fails as it should.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest that is free
