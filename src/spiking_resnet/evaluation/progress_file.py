"""Progress files, by which a stopped evaluation or comparison resumes.

An evaluation keeps its counts, a comparison its finished parts. The files are written whole, and
are refused for another network, other data or other options.
"""

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from spiking_resnet.codec import Record, RecordError, form
from spiking_resnet.evaluation.counts import Tally
from spiking_resnet.evaluation.spans import ResumeError
from spiking_resnet.files import Pace, held, write_whole
from spiking_resnet.processes.team import current

__all__ = ["ResumeError"]  # where others have it from

VERSION = 2
_UNTOLD = re.compile(r"[0-9a-f]{32}|.{101}")  # of a fact as JSON: a hash, or a long one


@dataclass(frozen=True)
class Counted(Record):
    """The content of an evaluation's progress file."""

    version: int
    facts: Mapping[str, Any]
    tally: Tally


@dataclass(frozen=True)
class Begun(Record):
    """A comparison's unfinished part, with its counts. network: a digest."""

    key: str
    network: str
    tally: Tally


def _begun(found: Any) -> Begun | None:
    return Begun.from_json(found) if found else None


@dataclass(frozen=True)
class Parts(Record):
    """The content of a comparison's file; parts: JSON-able, by key. begun: in JSON {} for None."""

    version: int
    facts: Mapping[str, Any]
    parts: Mapping[str, Any]
    begun: Begun | None = field(
        default=None, metadata=form(lambda begun: begun.to_json() if begun else {}, _begun)
    )

    later = ("begun",)


C = TypeVar("C", Counted, Parts)
R = TypeVar("R", bound=Record)


def own_folder() -> Path | None:
    """The folder of progress files that nobody asked for, in the user's cache folder.

    None for a user without a home.
    """
    named = os.environ.get("SPIKING_RESNET_CACHE")
    try:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spiking-resnet"
    except RuntimeError:
        if not named:
            return None
    return (Path(named) if named else usual).absolute() / "progress"


def own(path: str | Path | None) -> bool:
    """Whether a progress file lies in our own folder, so that nobody asked for it."""
    return path is not None and Path(path).absolute().parent == own_folder()


class _Paced:
    """Something that saves the counts of a running evaluation, as often as that costs little."""

    def __init__(self) -> None:
        self._pace = Pace()

    def save(self, tally: Tally, now: bool = False) -> None:
        """Save the counts, at once (`now`) or as soon as that costs little."""
        if now or self._pace.due():
            with self._pace.saving():
                self._write(tally)

    def _write(self, tally: Tally) -> None:
        raise NotImplementedError


class Progress(_Paced):
    """The progress file of one evaluation: its counts, and what must be the same to resume.

    facts: JSON-able, by a name that an error message can show (network, data, steps, …). tally: the
    counts that were in the file, or None. Raises ResumeError for a file of another evaluation.
    """

    def __init__(self, path: str | Path, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.path, self.facts = Path(path), as_json(facts)
        found = _read(Counted, self.path, "evaluation", self.facts)
        self.tally = None if found is None else found.tally

    def _write(self, tally: Tally) -> None:
        _write(self.path, Counted(VERSION, self.facts, tally))


class Ledger:
    """The progress file of a comparison: its finished parts, by their keys.

    path: None keeps nothing on disk. found: what is in the file, or None. parts: JSON-able, by key.
    begun: the unfinished part.
    """

    def __init__(self, path: Path | None, facts: Mapping[str, Any], found: Parts | None) -> None:
        self.path, self.facts = path, facts
        self.parts: dict[str, Any] = {} if found is None else dict(found.parts)
        self.begun = None if found is None else found.begun

    @property
    def content(self) -> Parts:
        """What the file holds: all finished parts, and the unfinished one."""
        return Parts(VERSION, self.facts, self.parts, self.begun)

    def keep(self, key: str, part: Any) -> None:
        """Add a finished part and write the file."""
        self.parts[key], self.begun = part, None
        self.write()

    def write(self) -> None:
        """Write the file."""
        if self.path is not None:
            _write(self.path, self.content)


@contextmanager
def ledger(path: str | Path | None, facts: Mapping[str, Any]) -> Iterator[Ledger | None]:
    """A context with the ledger at `path`, locked; of a team it is the first that writes it.

    facts: as of Progress. None for no path. Raises ResumeError for a file of another comparison,
    BusyError for one that is in use.
    """
    if path is None:
        yield None
        return
    plain, target = as_json(facts), Path(path)
    with ExitStack() as stack:

        def opened_here() -> Ledger:
            stack.enter_context(held(path))
            return Ledger(target, plain, _read(Parts, target, "comparison", plain))

        yield current().handed(
            opened_here,
            lambda own: packed(own.content),
            lambda content: Ledger(None, plain, unpacked(Parts, content)),
        )


class Part(_Paced):
    """One part of a comparison, whose counts its ledger saves while it is evaluated.

    network: a digest. tally: the counts of the same part and network that were kept, or None.
    """

    def __init__(self, ledger: Ledger, key: str, network: str) -> None:
        super().__init__()
        self.ledger, self.key, self.network = ledger, key, network
        found = ledger.begun
        same = found is not None and (found.key, found.network) == (key, network)
        self.tally = found.tally if found is not None and same else None

    def _write(self, tally: Tally) -> None:
        self.ledger.begun = Begun(self.key, self.network, tally)
        self.ledger.write()


def as_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they are read from JSON again: tuples are lists."""
    found: dict[str, Any] = json.loads(json.dumps(dict(facts)))
    return found


def _write(path: Path, content: Record) -> None:
    """Write a progress file; one that nobody asked for need not be written where that fails."""
    with suppress(OSError) if own(path) else nullcontext():
        write_whole(path, (json.dumps(content.to_json(), indent=1) + "\n").encode())


def _read(kind: type[C], path: Path, what: str, facts: Mapping[str, Any]) -> C | None:
    """The content of a progress file whose facts are these; None where there is no file."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        if (version := found["version"]) != VERSION:
            raise ResumeError(
                f"{path} has format version {version}, and this one reads {VERSION}: go on with "
                "the version of this package that wrote it, or name another file"
            )
        content = kind.from_json(found)
    except ResumeError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        told = str(error) if isinstance(error, RecordError) else repr(error)
        article = "an" if what == "evaluation" else "a"
        raise ResumeError(
            f"{path} holds no progress of {article} {what} ({told}): name another file, or delete "
            "it to begin again"
        ) from error
    _refuse_other(path, what, content.facts, facts)
    return content


def _refuse_other(path: Path, what: str, facts: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ResumeError, naming what differs, for a file of other facts."""
    if told := differing(facts, now):
        raise ResumeError(
            f"{path} belongs to another {what}: {told}. Go on with the same network, data and "
            "options, or name another file"
        )


def differing(facts: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is another in two sets of facts, in words, counts first; nothing where they are equal.

    Of hashes and long values the names are told.
    """
    names = [name for name in sorted(facts.keys() | now.keys()) if facts.get(name) != now.get(name)]
    pairs = {name: (json.dumps(facts.get(name)), json.dumps(now.get(name))) for name in names}
    short = [name for name in names if not any(map(_UNTOLD.search, pairs[name]))]
    short.sort(key=lambda name: not all(text.isdigit() for text in pairs[name]))
    told = [f"{name} was {pairs[name][0]}, now {pairs[name][1]}" for name in short]
    others = ", ".join(name for name in names if name not in short)
    return "; ".join([*told, *([f"not the same {others}"] if others else [])])


def packed(content: Record) -> bytes:
    """A record as bytes, for another process."""
    return json.dumps(content.to_json()).encode()


def unpacked(kind: type[R], content: bytes) -> R:
    """The record that was packed."""
    return kind.from_json(json.loads(content))


def first_known(loader: Iterable[Any]) -> tuple[str | None, Iterable[Any]]:
    """(a hash of a loader's first batch, a loader of the same batches); None where there is none.

    An evaluation knows its images again by it: a loader must give the same batches each time.
    """
    stream = iter(loader)
    first = next(stream, None)
    known = None if first is None else _digest(first)
    if hasattr(loader, "spans"):  # as `ann.Batches`, which reads only what is asked for
        return known, loader
    return known, itertools.chain([] if first is None else [first], stream)


def _digest(batch: Any) -> str:
    """A hash of a batch's images and labels."""
    if isinstance(batch, Tensor):
        return _hashed([batch])
    return _hashed(batch.values() if isinstance(batch, Mapping) else batch)


def module_digest(model: nn.Module) -> str:
    """A hash of a module's parameters and buffers."""
    return _hashed(model.state_dict().values())


def _hashed(values: Iterable[Any]) -> str:
    """A hash of the numbers in tensors, arrays and lists: the same for the same numbers only.

    Anything else is ignored.
    """
    content = blake2b(digest_size=16)
    for value in values:
        if isinstance(value, Tensor):
            plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
            content.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
            content.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, np.ndarray):
            content.update(f"{value.dtype}{value.shape}".encode())
            content.update(value.tobytes())
        elif isinstance(value, list | tuple):
            content.update(repr(value).encode())
    return content.hexdigest()
