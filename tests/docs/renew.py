"""Write anew what the code of a page prints: into the ```text block that follows each block.

Run: python tests/docs/renew.py docs/tutorial.md …
"""

import io
import os
import re
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from docs.blocks import GIVEN, PYTHON, blocks, says

_TEXT = re.compile(r"\n+```text\n.*?^```", re.MULTILINE | re.DOTALL)


def printed(page):
    """Yield (code, what it prints) for the Python blocks of a page that run."""
    names = {"__name__": "__main__"}
    if says(page, "given"):
        exec(GIVEN, names)
    for block in blocks(page):
        if block.language == PYTHON and not block.mark.startswith("not run"):
            with redirect_stdout(io.StringIO()) as told:
                exec(block.code, names)
            lines = (line.rstrip() for line in told.getvalue().splitlines())
            yield block.code, "\n".join(lines).strip("\n")


def renewed(page):
    """Return the page with what its code prints now."""
    text = page.read_text()
    for code, told in printed(page):
        begin = text.index(code) + len(code) + len("```")
        old = _TEXT.match(text, begin)
        if old:
            text = f"{text[:begin]}\n\n```text\n{told}\n```{text[old.end() :]}"
    return text


if __name__ == "__main__":
    os.environ.update(COLUMNS="92", MPLBACKEND="agg")
    for name in sys.argv[1:]:
        page = Path(name).resolve()
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            found = renewed(page)
        page.write_text(found)
