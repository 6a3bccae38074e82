"""Records as JSON and back: a frozen dataclass writes and reads itself by its type hints.

JSON has the fields of a `Record` by their own names, in their order. A record whose JSON is called
otherwise, or tells more, says so in `layout`; whoever reads it passes over what is derived.

Reading is strict: what is missing, unknown, or of another type is refused with its place, such as
"rows[2].facts.levels".
"""

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import MISSING, Field, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from spiking_resnet.shown import Shown

FIELDS = (("*", "*"),)  # in a layout: all fields that it does not name otherwise
ANY = ("*",)  # of `later`: all fields that have a default
Layout = tuple[tuple[str, str], ...]
_FORM = "json"  # of a field's metadata
_WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def same(*names: str) -> Layout:
    """The part of a layout in which attributes keep their own names."""
    return tuple((name, name) for name in names)


class RecordError(ValueError):
    """JSON that is not what a record writes; the message begins with the place."""


class Record(Shown):
    """A frozen dataclass that is JSON too.

    layout: the paths in JSON, in order, each with the attribute that stands there: a field, or a
    property whose value is derived. "a.b" lies within the object a; "a.*.b" in every item of the
    list a, and its attribute has a value for each. later: fields that older files do not have.
    """

    layout: ClassVar[Layout] = FIELDS
    later: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary, which `from_json` reads."""
        kind: Any = type(self)
        hints, known_fields, content = _hints(kind), _fields(kind), dict[str, Any]()
        for path, name in _paths(kind).items():
            known = known_fields.get(name)
            value = getattr(self, name)
            written = _written(value) if known is None else _told(known, hints[name], value)
            _put(content, path.split("."), written)
        return content

    def to_dict(self) -> dict[str, Any]:
        """The same as `to_json`."""
        return self.to_json()

    @classmethod
    def from_json(cls, found: Any, place: str = "") -> Self:
        """The record that wrote `found`; RecordError, with what lies at `place`, for others."""
        return _record(cls, deepcopy(found), place)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The record in a file: of its `to_json`, or what a command's `--json` wrote.

        What a command says besides (versions, data set, its own line) is passed over. Raises
        RecordError, with the file and the place in it, for other files; OSError.
        """
        kind: Any = cls
        try:
            found = json.loads(Path(path).read_text("utf-8-sig"))
            if not isinstance(found, dict):
                raise RecordError(f"it is {_shown(found)}, not a dictionary")
            own = {place.split(".")[0] for place in _paths(kind)}
            return cls.from_json({name: value for name, value in found.items() if name in own})
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{path} holds no {cls.__name__}: {error}") from error


def form(write: Callable[[Any], Any], read: Callable[[Any], Any]) -> dict[str, Any]:
    """The metadata of a field that is no record and has a JSON form of its own.

    read: raises ValueError, TypeError or KeyError for what `write` never gives.
    """
    return {_FORM: (write, read)}


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _fields(kind: Any) -> dict[str, Field[Any]]:
    return {each.name: each for each in fields(kind)}


@cache
def _paths(kind: Any) -> dict[str, str]:
    """The attribute at each path of a record's JSON."""
    found: dict[str, str] = {}
    named = {name for _, name in kind.layout}
    for path, name in kind.layout:
        if path == "*":
            found |= {one: one for one in _fields(kind) if one not in named}
        else:
            found[path] = name
    return found


def _told(known: Field[Any], hint: Any, value: Any) -> Any:
    """The JSON of a field."""
    if _FORM in known.metadata:
        return known.metadata[_FORM][0](value)
    rows = value is not None and _lists_records(hint)
    return list(map(_written, value)) if rows else _written(value)


def _lists_records(hint: Any) -> bool:
    """Whether a field is a row of records, or one or None."""
    if get_origin(hint) in (Union, UnionType):
        return any(map(_lists_records, get_args(hint)))
    first = next(iter(get_args(hint)), None)
    return get_origin(hint) is tuple and isinstance(first, type) and issubclass(first, Record)


def _written(value: Any) -> Any:
    """The JSON of a value."""
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _written(each) for name, each in value.items()}
    return deepcopy(value)


def _put(content: Any, path: list[str], value: Any) -> None:
    """Put a value at a path of JSON that is being written."""
    first, *rest = path
    if first == "*":
        for item, each in zip(content, value, strict=True):
            _put(item, rest, each)
    elif rest:
        _put(content.setdefault(first, {}), rest, value)
    else:
        content[first] = value


def _taken(content: Any, path: list[str], place: str) -> Any:
    """What lies at a path of JSON, which is taken out; MISSING where nothing does."""
    first, *rest = path
    if first == "*":
        for item in content if isinstance(content, list | tuple) else ():
            if isinstance(item, dict):  # what else there is, is refused where the items are read
                _taken(item, rest, place)
        return MISSING
    if not isinstance(content, dict):
        raise RecordError(f"{place or 'it'} is {_shown(content)}, not a dictionary")
    if not rest:
        return content.pop(first, MISSING)
    return _taken(content[first], rest, _at(place, first)) if first in content else MISSING


def _record(kind: Any, content: Any, place: str) -> Any:
    """The record of a kind; its JSON is used up."""
    hints, values, paths = _hints(kind), dict[str, Any](), _paths(kind)
    known = _fields(kind)
    for path in sorted(paths, key=lambda path: paths[path] in known):  # what is derived goes first
        name, where = paths[path], _at(place, path)
        value = _taken(content, path.split("."), place)
        if name not in known:
            continue
        if value is not MISSING:
            own = known[name].metadata.get(_FORM)
            values[name] = _read(hints[name], value, where, own and own[1])
        elif not _may_be_missing(kind, known[name]):
            raise RecordError(f"{where} is missing")
    if (left := next(_left(content, paths, place), None)) is not None:
        raise RecordError(f"{left or repr(left)} is unknown")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:  # a record may check its own fields
        raise RecordError(f"{place or 'it'}: {error}") from error


def _may_be_missing(kind: Any, known: Field[Any]) -> bool:
    default = known.default is not MISSING or known.default_factory is not MISSING
    return known.name in kind.later or (kind.later == ANY and default)


def _left(content: dict[str, Any], paths: Mapping[str, str], place: str) -> Iterator[str]:
    """Where there is something that no path of the layout leads to."""
    for name, value in content.items():
        inner = {path.partition(".")[2] for path in paths if path.startswith(f"{name}.")}
        if not inner:
            yield _at(place, name)
        elif isinstance(value, dict):
            yield from _left(value, dict.fromkeys(inner, ""), _at(place, name))


def _read(hint: Any, value: Any, place: str, own: Callable[[Any], Any] | None = None) -> Any:
    """The value of a type that JSON holds at a place."""
    if own is not None:
        try:
            return own(value)
        except (ValueError, TypeError, KeyError) as error:
            raise RecordError(f"{place} is {_shown(value)}: {error}") from error
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if isinstance(hint, type) and issubclass(hint, Record):
        return _record(hint, value, place)
    if origin in (Union, UnionType):
        return _one_of(inner, value, place)
    if origin is Literal:
        if value in inner:
            return value
        raise _wrong(value, place, f"one of {', '.join(map(repr, inner))}")
    if origin is tuple:
        return _row(inner, value, place)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise _wrong(value, place, "a dictionary")
        return {name: _read(inner[1], each, _at(place, name)) for name, each in value.items()}
    return _plain(hint, value, place)


def _one_of(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """A value that may be of several types, or None: the first that it fits."""
    if value is None and NoneType in kinds:
        return None
    *first, last = [kind for kind in kinds if kind is not NoneType]
    for kind in first:
        try:
            return _read(kind, value, place)
        except RecordError:
            continue
    return _read(last, value, place)


def _row(kinds: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(value, place, "a list")
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise _wrong(value, place, f"a list of {len(kinds)}")
    pairs = zip(kinds, value, strict=True)
    return tuple(_read(kind, each, f"{place}[{i}]") for i, (kind, each) in enumerate(pairs))


def _plain(kind: Any, value: Any, place: str) -> Any:
    """A text, a number, or a truth. Whole numbers are numbers and stay what they are."""
    allowed = (int, float) if kind is float else (kind,)
    if isinstance(value, allowed) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _wrong(value, place, _WORDS[kind])


def _wrong(value: Any, place: str, wanted: str) -> RecordError:
    return RecordError(f"{place or 'it'} is {_shown(value)}, not {wanted}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
