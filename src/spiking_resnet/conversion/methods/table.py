"""Generator of the table of all methods' options in docs/methods.md.

`python -m spiking_resnet.conversion.methods.table docs/methods.md` writes it anew.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from spiking_resnet.conversion.methods import METHODS
from spiking_resnet.conversion.methods.option import by_text, first_line, options_of

FIRST = (
    "<!-- Made by `python -m spiking_resnet.conversion.methods.table docs/methods.md` from what "
    "the methods declare. -->"
)
LAST = "<!-- The end of what is made. -->"


def table() -> str:
    """Return all methods, and all options with their defaults by method, as Markdown."""
    return "\n".join(
        [FIRST, "", "| method | |", "|---|---|", *_methods(), "", *_head(), *_options(), "", LAST]
    )


def renewed(text: str) -> str:
    """Return a text with this table in the place of the one it has."""
    before, found, rest = text.partition(FIRST)
    _, ended, after = rest.partition(LAST)
    if not (found and ended):
        raise ValueError(f"the text has no place for the table: a line {FIRST!r} and one {LAST!r}")
    return f"{before}{table()}{after}"


def _methods() -> Iterator[str]:
    for name, kind in METHODS.items():
        yield f"| `{name}` | {first_line(kind)} |"


def _head() -> Iterator[str]:
    yield f"| option | flag | {' | '.join(METHODS)} | |"
    yield "|---" * (len(METHODS) + 3) + "|"


def _options() -> Iterator[str]:
    """Yield a row for every option, in the order of the methods."""
    owned = {method: options_of(kind) for method, kind in METHODS.items()}
    for name in dict.fromkeys(name for options in owned.values() for name in options):
        own = {method: options[name] for method, options in owned.items() if name in options}
        defaults = [own[method].usual if method in own else "" for method in METHODS]
        flag = ", ".join(next(iter(own.values())).flag)
        said = by_text({method: option.help for method, option in own.items()})
        yield f"| `{name}` | `{flag}` | {' | '.join(defaults)} | {said} |"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
