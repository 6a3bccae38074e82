"""The output files of a command: checked before any work, written at its end."""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from spiking_resnet.ann.data import DATA_VARIABLE
from spiking_resnet.ann.pictures import SUFFIXES
from spiking_resnet.cli.terminal import say, show_elsewhere
from spiking_resnet.files import is_special, open_file, write_whole
from spiking_resnet.records import InputError

STANDARD_OUTPUT = Path("/dev/stdout")
_RESULTS = {".json", ".md", ".svg", ".pdf", ".safetensors", *SUFFIXES}

Outputs = Mapping[str, Path | None]


def standard(path: Path) -> Path:
    """The path itself, or that of standard output for "-"."""
    return STANDARD_OUTPUT if path == Path("-") else path


def check_outputs(outputs: Outputs, inputs: Mapping[str, str | Path | None] | None = None) -> None:
    """Raise, before any work, where a file could not be written at its end.

    outputs, inputs: by what the user calls them. InputError where an output is an input or another
    output; OSError where a folder cannot be written to. Where standard output takes a file, all
    that is said goes to standard error.
    """
    wanted = {name: standard(path) for name, path in outputs.items() if path is not None}
    given = {name: Path(path) for name, path in (inputs or {}).items() if path is not None}
    for name, path in wanted.items():
        for other, source in given.items():
            if source.is_file() and _same(path, source):
                raise InputError(f"{name} {path} is {other}: name another file")
        check_writable(path)
    for (one, path), (other, second) in combinations(wanted.items(), 2):
        if _same(path, second) and not is_special(path):
            raise InputError(f"{one} and {other} are both {path}: name two files")
    if any(open_file(path) == 1 for path in wanted.values()):
        show_elsewhere()


def say_wrote(path: Path, replaced: bool = False) -> None:
    """Print which file was written, and whether another was there; nothing for standard output."""
    if standard(path) != STANDARD_OUTPUT:
        say(f"wrote {path}{', which replaces the one that was there' if replaced else ''}")


def check_data(outputs: Outputs, name: str, data: Path | None) -> None:
    """Raise InputError where an output would replace a file of the data set `name`, or lie among
    its images.

    data: as for `load_dataset`.
    """
    root = data or os.environ.get(DATA_VARIABLE)
    place = Path(name) if Path(name).exists() or not root else Path(root) / name
    if not place.exists():  # digits, or a set that will be missed
        return
    for option, path in outputs.items():
        if path is None:
            continue
        if _same(path, place):
            raise InputError(f"{option} {path} is the data set: name another file")
        own, folder = _real(path), _real(place)
        suffix, nested = own.suffix.lower(), own.parent != folder
        among = nested and suffix in SUFFIXES
        if own.is_relative_to(folder) and (among or (own.is_file() and suffix not in _RESULTS)):
            raise InputError(
                f"{option} {path} is one of the files of the data set {name}, or would be: name "
                "one outside its folder"
            )


def check_writable(path: Path) -> None:
    """Raise InputError for a folder, OSError where a file could not be written."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    if open_file(path) is not None or is_special(path):
        return
    folder = next(parent for parent in _real(path).parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write {path}: {folder}: {error.strerror}") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON to `path` (-: standard output): all of it, or nothing and OSError.

    Raises InputError, with its place, for a number that JSON does not have.
    """
    for place, value in _numbers(content, ()):
        if not math.isfinite(value):
            raise InputError(f"cannot write {path}: {'.'.join(place)} is {value}, which is no JSON")
    write_whole(standard(path), (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _numbers(content: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every float in JSON-able content, and where it is."""
    if isinstance(content, float):
        yield place, content
    listed = dict(enumerate(content)) if isinstance(content, list | tuple) else content
    for name, part in listed.items() if isinstance(listed, Mapping) else ():
        yield from _numbers(part, (*place, str(name)))


def _same(one: Path, other: Path) -> bool:
    """Whether two paths name one file, which need not exist."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return _real(one) == _real(other)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
