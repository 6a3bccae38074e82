"""Options of a conversion method, each declared once, in the method's class.

`steps: int = option(32, "time steps", least=1)` is all there is to write. From it come the option's
check, its entry in the class's docstring, its flag and help on the command line, and its row in
docs/methods.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from inspect import signature
from textwrap import wrap
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from spiking_resnet import arguments
from spiking_resnet.records import InputError
from spiking_resnet.signatures import shortened

T = TypeVar("T")
C = TypeVar("C", bound=type)
_KEY = "option"  # in the metadata of a dataclass's field


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """An interval of numbers, with its ends (least, most) or without them (above, below)."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def hold(self, value: float) -> bool:
        """Return whether a number lies in the interval."""
        return not (
            (self.least is not None and not value >= self.least)
            or (self.above is not None and not value > self.above)
            or (self.most is not None and not value <= self.most)
            or (self.below is not None and not value < self.below)
        )

    def __str__(self) -> str:
        low = self.least if self.above is None else self.above
        high = self.most if self.below is None else self.below
        if high is None:
            return "" if low is None else f"above {low}" if self.least is None else f"from {low} on"
        if self.above is None and self.below is None:
            return f"in {low}..{high}"
        left, right = "(" if self.least is None else "[", ")" if self.most is None else "]"
        return f"in {left}{low}, {high}{right}"

    @property
    def rule(self) -> str:
        """Return the condition on a number, as the end of an error."""
        if self.least is not None and self.most is None and self.below is None:
            return f"numbers start at {self.least}"
        return f"it must lie {self}"


@dataclass(frozen=True)
class Option:
    """The declaration of one option of a method.

    text: one line, with the unit. flags: of an option that is on or off, what turns it on and what
    off; by default --name and --no-name. unset: what a default of None stands for. kinds: the
    types of its annotation.
    """

    text: str
    bounds: Bounds = Bounds()
    flags: tuple[str, str] | None = None
    unset: str = ""
    name: str = ""
    default: Any = None
    kinds: tuple[Any, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that the option can be."""
        return tuple(word for kind in self.kinds for word in get_args(kind))

    @property
    def number(self) -> type[int] | type[float] | None:
        """The type of the numbers that the option can be: int, float, or None for neither."""
        return next((kind for kind in self.kinds if kind in (int, float)), None)

    @property
    def switch(self) -> bool:
        """Whether the option is on or off."""
        return self.kinds == (bool,)

    @property
    def flag(self) -> tuple[str, ...]:
        """The command-line flags of the option; of a switch, for on and for off."""
        name = self.name.replace("_", "-")
        if self.switch:
            return self.flags or (f"--{name}", f"--no-{name}")
        return (f"--{name}",)

    @property
    def values(self) -> str:
        """The values that the option can have, in words."""
        if self.switch:
            return "on or off"
        number = "a whole number" if self.number is int else "a number"
        spread = f"{number} {self.bounds}".strip()
        parts = [*([spread] if self.number else []), *self.choices]
        if NoneType in self.kinds:
            parts.append("none")
        return either(parts)

    @property
    def help(self) -> str:
        """The option's text, with its values where they do not go without saying."""
        bounded = self.bounds.most is not None or self.bounds.below is not None
        said = not self.switch and (bounded or len(self.kinds) > 1 or self.choices)
        return f"{self.text} ({self.values})" if said else self.text

    def shown(self, value: Any) -> str:
        """Return a value as it is typed and shown."""
        if self.switch:
            return "on" if value else "off"
        return "none" if value is None else str(value)

    @property
    def usual(self) -> str:
        """The option's default, in words."""
        return self.unset if self.default is None and self.unset else self.shown(self.default)

    def check(self, value: Any) -> Any:
        """Return the value, as its annotation has it; InputError for one that it cannot be.

        Numbers of numpy and torch become Python's, so that notes can be written.
        """
        known = isinstance(value, str) and value in self.choices
        if known or (value is None and NoneType in self.kinds):
            return value
        if self.switch:
            return _flag(self.name, value)
        if self.number is None or (isinstance(value, str) and self.choices):
            raise arguments.expected(self.name, value, f"one of {', '.join(self.choices)}")
        rule = arguments.whole if self.number is int else arguments.number
        found = rule(self.name, value)
        if not self.bounds.hold(found):
            raise InputError(f"{self.name} is {found}: {self.bounds.rule}")
        return found

    def parse(self, text: str) -> Any:
        """Return the value of a text of the command line; InputError, with the flag, for others."""
        if text in self.choices:
            return text
        if text == "none" and NoneType in self.kinds:
            return None
        try:
            value = None if self.number is None else self.number(text)
        except ValueError:
            value = None
        if value is None or not self.bounds.hold(value):
            raise InputError(f"{self.flag[0]} {text!r}: give {self.values}")
        return value

    def typed(self, value: Any) -> list[str]:
        """Return what to type for a value on the command line."""
        if self.switch:
            return [self.flag[0] if value else self.flag[1]]
        return [self.flag[0], self.shown(value)]


def option(
    default: T,
    text: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    flags: tuple[str, str] | None = None,
    unset: str = "",
) -> T:
    """Declare an option in a method's class; `Option` explains the arguments."""
    bounds = Bounds(least=least, above=above, most=most, below=below)
    declared: T = field(default=default, metadata={_KEY: Option(text, bounds, flags, unset)})
    return declared


def options_of(method: type[Any]) -> dict[str, Option]:
    """Return the options of a method's class by name, in their order."""
    hints = get_type_hints(method)
    return {
        entry.name: replace(
            entry.metadata[_KEY],
            name=entry.name,
            default=entry.default,
            kinds=_kinds(hints[entry.name]),
        )
        for entry in fields(method)
    }


def documented(method: C) -> C:
    """Return the method's class, with its options in its docstring, and a short signature."""
    method.__doc__ = "\n".join([(method.__doc__ or "").rstrip(), "", *_listed(method)])
    method.__signature__ = shortened(signature(method))  # type: ignore[attr-defined]
    return method


def _listed(method: type[Any]) -> Iterable[str]:
    for name, one in options_of(method).items():
        line = f"{name}: {one.text} ({one.values}; default: {one.usual})."
        yield from wrap(line, 100, initial_indent="    ", subsequent_indent="        ")


def first_line(method: type[Any]) -> str:
    """Return the first line of a method's docstring."""
    return (method.__doc__ or "").partition("\n")[0]


def by_text(texts: Mapping[str, str], always: bool = False) -> str:
    """Return each text once, after the methods it belongs to, unless it belongs to all.

    texts: by method. always: methods are named even there.
    """
    methods: dict[str, list[str]] = {}
    for method, text in texts.items():
        methods.setdefault(text, []).append(method)
    if len(methods) == 1 and not always:
        return next(iter(methods))
    return "; ".join(f"{', '.join(own)}: {text}" for text, own in methods.items())


def either(words: Iterable[str]) -> str:
    """Return words as a choice: "a, b or c"."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    parts = get_args(hint)
    single = not parts or all(
        isinstance(part, str) for part in parts
    )  # a Literal's parts are words
    return (hint,) if single else parts


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise arguments.expected(name, value, "give True or False")
