"""What stands in the way of a conversion: places that have one cause are told as one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from spiking_resnet.capture.calls import TraceError
from spiking_resnet.codec import Record
from spiking_resnet.graph import Node

NAMED = 3  # places of one cause
_OWN = re.compile(r"'[^']*'|\d+(, \d+)*")  # names and sizes, which differ from place to place


@dataclass(frozen=True)
class Problem:
    """One place that cannot be converted.

    source: its line of code, or what it is; "" where unknown. kind: places of several kinds have
    several causes, whatever is said of them.
    """

    name: str
    source: str
    cause: str
    kind: str = ""

    @property
    def culprit(self) -> str:
        """The place: its name, and its source."""
        return f"{self.name!r} ({self.source})" if self.source else repr(self.name)

    def __str__(self) -> str:
        return f"{self.culprit}: {self.cause}"


@dataclass(frozen=True)
class Cause(Record):
    """What stands in the way of a conversion at one or more places.

    text: what it is and what to do, in the words of the first place. places: their names, in order.
    source: the first one's line of code, or its kind.
    """

    text: str
    places: tuple[str, ...]
    source: str = ""

    def __str__(self) -> str:
        first = f"{self.places[0]!r} ({self.source})" if self.source else repr(self.places[0])
        if len(self.places) == 1:
            return f"{first}: {self.text}"
        others = dict.fromkeys(self.places)  # a name may stand for several operations
        named = [first, *map(repr, list(others)[1:NAMED])]
        left = len(self.places) - len(named)
        rest = f" and {left:,} more" if left else ""
        return f"{self.text}\n     {len(self.places):,} places: {', '.join(named)}{rest}"


def causes(problems: Iterable[Problem]) -> tuple[Cause, ...]:
    """The problems by cause, those of most places first.

    Two have one cause where nothing but names and sizes differ in what is said.
    """
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.kind, _OWN.sub("#", problem.cause)), []).append(problem)
    found = [
        Cause(group[0].cause, tuple(each.name for each in group), group[0].source)
        for group in groups.values()
    ]
    return tuple(sorted(found, key=lambda cause: -len(cause.places)))


def told(found: Iterable[Cause | str]) -> str:
    """Causes as numbered paragraphs."""
    return "\n".join(f"  {number}. {cause}" for number, cause in enumerate(found, 1))


def refusal(problems: Iterable[Problem], nodes: Iterable[Node] = ()) -> TraceError:
    """The error for a network with these problems; nodes: what could be traced."""
    listed = tuple(problems)
    found = causes(listed)
    of = f", for {len(found)} causes" if 1 < len(found) < len(listed) else ""
    message = f"{len(listed)} operation(s) cannot be converted{of}:\n{told(found)}"
    error = TraceError(message, map(str, listed), nodes)
    error.causes = found
    return error
