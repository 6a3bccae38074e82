"""What the options that several methods have may be."""

from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from spiking_resnet import arguments


def check(method: Any) -> None:
    """Nothing; ValueError, naming the option, for values no method takes.

    Numbers of numpy and torch become Python's, so that notes can be written.
    """
    for option, hint in get_type_hints(type(method)).items():
        if get_origin(hint) is not ClassVar:
            object.__setattr__(method, option, _as_hinted(option, getattr(method, option), hint))
    percentile = getattr(method, "percentile", 100)
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile is {percentile}: it must lie in (0, 100]")
    initial = getattr(method, "initial_potential", 0)
    if not 0 <= initial < 1:
        raise ValueError(f"initial_potential is {initial}: it must lie in [0, 1) thresholds")
    bits = getattr(method, "sum_bits", 16)
    if not 16 <= bits <= 24:
        raise ValueError(f"sum_bits is {bits}: it must lie in 16..24")


def _as_hinted(option: str, value: Any, hint: Any) -> Any:
    """A value as its option's type asks for: of a union, the first that it can be."""
    union = get_origin(hint) in (Union, UnionType)
    kinds = get_args(hint) if union else (hint,)
    choices = tuple(choice for kind in kinds for choice in get_args(kind))  # of Literals
    if (value is None and NoneType in kinds) or (isinstance(value, str) and value in choices):
        return value
    rules = [_RULES[kind] for kind in kinds if kind in _RULES]
    if rules and not (isinstance(value, str) and choices):
        return rules[0](option, value)
    raise arguments.expected(option, value, f"one of {choices}")


def _flag(option: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise arguments.expected(option, value, "give True or False")


_RULES: dict[Any, arguments.Rule] = {
    int: arguments.whole,
    float: arguments.number,
    bool: _flag,
}
