"""Signatures as `help` shows them: types by their short names."""

import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_ALIASES: dict[frozenset[Any], str] = {}


class Words(str):
    """Text that stands in a signature as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def alias(name: str, union: Any) -> None:
    """Let signatures call a union of types by this name from now on."""
    _ALIASES[frozenset(get_args(union))] = name


def shortened(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature with its types by their short names."""
    parameters = [
        one.replace(annotation=_annotated(one.annotation)) for one in signature.parameters.values()
    ]
    answer = _annotated(signature.return_annotation)
    return signature.replace(parameters=parameters, return_annotation=answer)


def _annotated(annotation: Any) -> Any:
    return annotation if annotation is inspect.Parameter.empty else Words(short(annotation))


def short(annotation: Any) -> str:
    """Return a type in few words: "Path | None" and not "pathlib.Path | None"."""
    if annotation in (None, NoneType):
        return "None"
    if isinstance(annotation, str):
        return annotation
    origin, own = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _union(own)
    if isinstance(annotation, list):  # the arguments of a Callable
        return f"[{', '.join(map(short, annotation))}]"
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, own))}]"
    if annotation is ...:
        return "..."
    name = str(getattr(origin or annotation, "__name__", annotation))
    if origin is Callable or name == "Callable":
        return "Callable"
    if own in ((Any,), ()):
        return name
    return f"{name}[{', '.join(map(short, own))}]"


def _union(members: tuple[Any, ...]) -> str:
    """Return a union, its members that go by an alias as that."""
    named, left = [], list(members)
    for known, name in sorted(_ALIASES.items(), key=lambda each: -len(each[0])):
        if known <= set(left):
            named.append(name)
            left = [each for each in left if each not in known]
    return " | ".join([*named, *map(short, left)])
