"""Check the arguments of public functions, and convert them to the types they work with.

A rule takes an argument's name and value, and gives the value, or raises InputError with the name
and what is expected there. Whether a number is large enough is the function's own question.
"""

import functools
import inspect
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar
from warnings import warn

import numpy as np
import torch
from torch import Tensor, nn

from spiking_resnet.graph import Graph
from spiking_resnet.graph.interpret import State
from spiking_resnet.images import paired
from spiking_resnet.records import InputError, Stop
from spiking_resnet.signatures import shortened

P = ParamSpec("P")
R = TypeVar("R")
Rule = Callable[[str, Any], Any]


def checked(**rules: Rule) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function's arguments of these names go through their rules.

    An argument that is left out, or given as its default, does not.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:  # it does not name the function
                raise TypeError(f"{function.__name__}() {error}") from None
            for name, value in bound.arguments.items():
                if name in rules and value is not signature.parameters[name].default:
                    bound.arguments[name] = rules[name](name, value)
            return function(*bound.args, **bound.kwargs)

        wrapper.__signature__ = shortened(signature)  # type: ignore[attr-defined]
        return wrapper

    return decorate


def expected(name: str, value: Any, what: str) -> InputError:
    """The error for an argument that is something else."""
    kind, shown = type(value).__name__, repr(value)
    shown = f"{shown} ({kind})" if len(shown) <= 40 else f"a {kind}"
    return InputError(f"{name} is {shown}: {what}")


def unknown(what: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name there is not, with those that are near it, and all."""
    listed, text = list(known), str(name)
    near = get_close_matches(text, listed, 3, 0.6)
    near += [each for each in listed if text and text in each and each not in near]
    said = f"did you mean {' or '.join(near[:3])}? There are" if near else "use one of"
    return InputError(f"there is no {what} {name!r}: {said} {', '.join(listed)}")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: arguments that are called otherwise now, by their old names, with a warning."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in names.items():
                if old in kwargs:
                    warn(f"{old}= is now {new}=", DeprecationWarning, stacklevel=2)
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def _plain(value: Any) -> Any:
    """A number of numpy's or torch's as Python's."""
    single = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1)
    return value.item() if single else value


def whole(name: str, value: Any) -> int:
    """A whole number, also of numpy, torch, or a float without a fraction."""
    value = _plain(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise expected(name, value, "give a whole number")


def wholes(name: str, value: Any) -> tuple[int, ...]:
    """Whole numbers, one or several."""
    if isinstance(value, str | bytes | Mapping):
        raise expected(name, value, "give whole numbers, such as (8, 16)")
    several = isinstance(value, Iterable) and not (isinstance(value, Tensor) and value.ndim == 0)
    return tuple(whole(name, entry) for entry in (value if several else [value]))


def number(name: str, value: Any) -> float:
    """A number, also of numpy or torch."""
    plain = _plain(value)
    if isinstance(plain, int | float) and not isinstance(plain, bool):
        return plain
    raise expected(name, value, "give a number")


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Numbers, one or several."""
    if isinstance(value, str | bytes | Mapping):
        raise expected(name, value, "give numbers, such as (0.95, 0.99)")
    several = isinstance(value, Iterable) and not (isinstance(value, Tensor) and value.ndim == 0)
    return tuple(number(name, entry) for entry in (value if several else [value]))


def truth(name: str, value: Any) -> bool:
    """True or False."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise expected(name, value, "give True or False")


def text(name: str, value: Any) -> str:
    """A text."""
    if isinstance(value, str):
        return value
    raise expected(name, value, "give a name")


def names(name: str, value: Any) -> tuple[str, ...]:
    """Names, one or several."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Iterable):
        entries = tuple(value)
        if all(isinstance(entry, str) for entry in entries):
            return entries
    raise expected(name, value, "give names of layers, such as ['layer1.0.relu']")


def network(name: str, value: Any) -> Graph:
    """A Graph."""
    if isinstance(value, Graph):
        return value
    if isinstance(value, str | os.PathLike):
        raise expected(name, value, "give a Graph; of a file, load(path)")
    if isinstance(value, nn.Module):
        raise expected(name, value, "give a Graph; of a module, convert(module, calibration)")
    raise expected(name, value, "give a Graph, such as convert and load return")


def image_batch(name: str, value: Any) -> Tensor:
    """A tensor."""
    if isinstance(value, Tensor):
        return value
    raise expected(name, value, "give one tensor [N, C, H, W]")


def state(name: str, value: Any) -> State:
    """What a run has left."""
    if isinstance(value, State) and isinstance(value.memory, Mapping):
        return replace(value, time=whole(f"{name}.time", value.time))
    raise expected(name, value, "give the state of a Run, of simulate(..., keep_state=True)")


def stops(name: str, value: Any) -> tuple[Stop, ...]:
    """Rules of stopping, one or several."""
    if isinstance(value, Stop):
        return (value,)
    entries = tuple(value) if isinstance(value, Iterable) else (value,)
    if all(isinstance(entry, Stop) for entry in entries):
        return entries
    raise expected(name, value, "give a Stop or several, such as calibrate_stop returns")


def batches(name: str, value: Any) -> Any:
    """Something that gives batches; a tensor or a pair (images, labels) of a whole set, too."""
    plain = isinstance(value, str | bytes | os.PathLike | nn.Module | type | Mapping)
    if not plain and (isinstance(value, Iterable) or hasattr(value, "__getitem__")):
        return paired(value)
    raise expected(name, value, "give a loader, or any iterable of batches of images [N, C, H, W]")


def path(name: str, value: Any) -> Any:
    """A path."""
    if isinstance(value, str | os.PathLike) and str(value) and "\0" not in str(value):
        return value
    raise expected(name, value, "give the path of a file")


def function(name: str, value: Any) -> Any:
    """Something that can be called."""
    if callable(value):
        return value
    raise expected(name, value, "give a function")


def progress(name: str, value: Any) -> Any:
    """What is said of progress: whether it is shown, or a function that is told of it."""
    if value is None or isinstance(value, bool) or callable(value):
        return value
    raise expected(name, value, "give True, False, or a function that is told how far it is")


def mapping(name: str, value: Any) -> Any:
    """A dictionary."""
    if isinstance(value, Mapping):
        return value
    raise expected(name, value, "give a dictionary")


def device(name: str, value: Any) -> torch.device:
    """A device that is there."""
    try:
        found = torch.device(value)
        if not isinstance(value, bool):
            torch.empty(0, dtype=torch.uint8, device=found)
            return found
    except (TypeError, RuntimeError, AssertionError):
        pass
    raise expected(name, value, "give a device that this machine has, such as 'cpu'")


def image_shape(name: str, value: Any) -> tuple[int, ...]:
    """(C, H, W): three numbers of at least 1."""
    return _sizes(name, value, fewest=3)


def input_shape(name: str, value: Any) -> tuple[int, ...]:
    """(C, H, W) of an image, (C, L) of a signal or (F,) of features: numbers of at least 1."""
    return _sizes(name, value, fewest=1)


def _sizes(name: str, value: Any, fewest: int) -> tuple[int, ...]:
    try:
        sizes = wholes(name, value) if isinstance(value, Iterable) else ()
    except InputError:
        sizes = ()
    if not fewest <= len(sizes) <= 3 or min(sizes) < 1:
        raise expected(name, value, "give (C, H, W) of one image, such as (3, 224, 224)")
    return sizes
