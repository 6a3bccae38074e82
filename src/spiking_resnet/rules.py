"""Rules for single values, such as options: a test, and the words for its error message."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST = 2**31 - 1  # of whole numbers without a limit of their own: what 32 bits hold
LARGEST = 2.0**60  # magnitude of any number: beyond it float32 overflows within a few layers
WRITTEN = 60  # characters of a value that a message shows


@dataclass(frozen=True)
class Rule:
    """A test of a value. words: what it asks for, as in "it must be …"."""

    words: str
    holds: Callable[[Any], bool]

    def problem(self, field: str, value: Any) -> str:
        """What is wrong with this value of `field`, or an empty text."""
        return "" if self.holds(value) else f"{field} is {shown(value)}; it must be {self.words}"


Rules = Mapping[str, Rule]  # by the name of a field


def broken(rules: Rules, holder: Any, prefix: str = "") -> Iterator[str]:
    """Yield what is wrong with the fields of `holder` that have rules."""
    for field, rule in rules.items():
        if problem := rule.problem(f"{prefix}{field}", getattr(holder, field)):
            yield problem


def check(holder: Any, rules: Rules) -> None:
    """Raise ValueError for the first field that does not keep its rule."""
    if problem := next(broken(rules, holder), ""):
        raise ValueError(problem)


def shown(value: Any) -> str:
    """A value as a message shows it: its beginning, where it is long."""
    text = repr(value)
    return text if len(text) <= WRITTEN else f"{text[:WRITTEN]}…"


def whole(low: int = 0, high: int = MOST) -> Rule:
    """A whole number (True and False are none) from `low` to `high`."""
    return Rule(
        f"a whole number in {low}..{high}",
        lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float = -LARGEST, high: float = LARGEST) -> Rule:
    """A finite number from `low` to `high`."""
    return Rule(
        f"a number in {low:g}..{high:g}",
        lambda value: type(value) in (int, float) and low <= value <= high,
    )


def positive(high: float = LARGEST) -> Rule:
    """A number above 0, up to `high`."""
    return Rule(
        f"a positive number up to {high:g}",
        lambda value: type(value) in (int, float) and 0 < value <= high,
    )


def one_of(words: tuple[str, ...]) -> Rule:
    """One of some words."""
    return Rule(
        f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words
    )


def text() -> Rule:
    """Any text."""
    return Rule("a text", lambda value: isinstance(value, str))


def truth(only: bool | None = None) -> Rule:
    """True or False, or `only` one of them."""
    allowed = (True, False) if only is None else (only,)
    return Rule(
        " or ".join(str(value) for value in allowed),
        lambda value: type(value) is bool and value in allowed,
    )


def optional(rule: Rule) -> Rule:
    """None, or what another rule asks for."""
    return Rule(f"None or {rule.words}", lambda value: value is None or rule.holds(value))


def several(rule: Rule, least: int = 0, most: int | None = None) -> Rule:
    """A tuple of `least` to `most` values, of which each keeps the rule."""
    size = (
        f"{least}" if least == most else f"{least} or more" if most is None else f"{least}..{most}"
    )
    return Rule(
        f"a tuple of {size}, each {rule.words}",
        lambda value: (
            isinstance(value, tuple)
            and least <= len(value) <= (len(value) if most is None else most)
            and all(rule.holds(entry) for entry in value)
        ),
    )


def pair(rule: Rule) -> Rule:
    """Two values, of which each keeps the rule."""
    return several(rule, 2, 2)
