"""What can be stopped and go on: evaluations by their counts, comparisons by their parts.

Their files are written whole, and are refused for another network, other data or other options.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spiking_resnet.codec import RecordError
from spiking_resnet.evaluation.counts import Tally
from spiking_resnet.files import Pace, write_whole
from spiking_resnet.images import images_of
from spiking_resnet.records import InputError

VERSION = 2


class ResumeError(InputError):
    """A progress file that does not belong to this evaluation; the message says what differs."""


class Progress:
    """The file at `path`, which keeps a Tally and what must be the same to go on with it.

    facts: JSON-able, by a name that an error message can show (network, data, steps, …). tally: the
    counts that were in the file, or None. Raises ResumeError for a file of another evaluation.
    """

    def __init__(self, path: str | Path, facts: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.facts: dict[str, Any] = json.loads(json.dumps(dict(facts)))
        self.tally = self._load() if self.path.is_file() else None
        self._pace = Pace()

    def _load(self) -> Tally | None:
        try:
            found = json.loads(self.path.read_text())
            version, facts = found["version"], found["facts"]
            tally = Tally.from_json(found["tally"]) if version == VERSION else None
        except _DAMAGED as error:
            raise _no_progress(self.path, "an evaluation", error) from error
        _refuse_other(self.path, "evaluation", version, facts, self.facts)
        return tally

    def save(self, tally: Tally, now: bool = False) -> None:
        """Nothing; the file holds the counts, at once or as soon as that costs little."""
        if not now and not self._pace.due():
            return
        content = {"version": VERSION, "facts": self.facts, "tally": tally.to_json()}
        with self._pace.saving():
            write_whole(self.path, (json.dumps(content, indent=1) + "\n").encode())


class Ledger:
    """The file at `path`, which keeps finished parts of a comparison by their keys.

    facts: as of Progress. parts: JSON-able, by key; those that were in the file. begun: key,
    network and counts of the part that was under way. Raises ResumeError for a file of another
    comparison.
    """

    def __init__(self, path: str | Path, facts: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.facts: dict[str, Any] = json.loads(json.dumps(dict(facts)))
        self.parts: dict[str, Any] = {}
        self.begun: dict[str, Any] = {}
        if self.path.is_file():
            self.parts, self.begun = self._load()

    def _load(self) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            found = json.loads(self.path.read_text())
            version, facts, parts = found["version"], found["facts"], dict(found["parts"])
            begun = dict(found.get("begun", {}))
            if begun and version == VERSION:
                Tally.from_json(begun["tally"])
        except _DAMAGED as error:
            raise _no_progress(self.path, "a comparison", error) from error
        _refuse_other(self.path, "comparison", version, facts, self.facts)
        return parts, begun

    def keep(self, key: str, part: Any) -> None:
        """Nothing; the file holds this part too."""
        self.parts[key], self.begun = part, {}
        self.write()

    def write(self) -> None:
        """Nothing; the file holds all parts, and the one that is under way."""
        content = {
            "version": VERSION, "facts": self.facts, "parts": self.parts, "begun": self.begun
        }  # fmt: skip
        write_whole(self.path, (json.dumps(content, indent=1) + "\n").encode())


class Part:
    """The evaluation in one part of a comparison, kept in its ledger while it is under way.

    network: a digest. tally: the counts of the same part and network that were kept, or None.
    """

    def __init__(self, ledger: Ledger, key: str, network: str) -> None:
        self.ledger, self.own = ledger, {"key": key, "network": network}
        found = ledger.begun
        same = {name: found.get(name) for name in self.own} == self.own
        self.tally = Tally.from_json(found["tally"]) if same else None
        self._pace = Pace()

    def save(self, tally: Tally, now: bool = False) -> None:
        """Nothing; the ledger's file holds the counts, at once or as soon as that costs little."""
        if not now and not self._pace.due():
            return
        self.ledger.begun = {**self.own, "tally": tally.to_json()}
        with self._pace.saving():
            self.ledger.write()

    def rest(self, batches: Iterable[Any]) -> Iterable[Any]:
        """The batches that are left to do."""
        return _rest(batches, 0 if self.tally is None else self.tally.images)


_DAMAGED = (ValueError, TypeError, KeyError, AttributeError)


def _no_progress(path: Path, what: str, error: Exception) -> ResumeError:
    return ResumeError(
        f"{path} holds no progress of {what} ({_told(error)}): name another file, or delete it to "
        "begin again"
    )


def _told(error: Exception) -> str:
    """What is wrong with a file's content."""
    return str(error) if isinstance(error, RecordError) else repr(error)


def _refuse_other(
    path: Path, what: str, version: int, facts: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Nothing; ResumeError, with what differs, for a file of another version or other facts."""
    if version != VERSION:
        raise ResumeError(
            f"{path} has format version {version}, and this one reads {VERSION}: go on with the "
            "version of this package that wrote it, or name another file"
        )
    differing = [
        f"{name} was {_short(facts.get(name))}, now {_short(now.get(name))}"
        for name in sorted(facts.keys() | now.keys())
        if facts.get(name) != now.get(name)
    ]
    if differing:
        raise ResumeError(
            f"{path} belongs to another {what}: {'; '.join(differing)}. Go on with the same "
            "network, data and options, or name another file"
        )


def opened(
    path: str | Path, facts: Mapping[str, Any], loader: Iterable[Any]
) -> tuple[Progress, Iterable[Any]]:
    """(the progress in a file, the batches of `loader` that are left to do).

    The first batch is one of the facts: a loader must give the same batches each time.
    """
    stream = iter(loader)
    first = next(stream, None)
    whole = itertools.chain([] if first is None else [first], stream)
    progress = Progress(path, {**facts, "first batch": None if first is None else _digest(first)})
    done = 0 if progress.tally is None else progress.tally.images
    if done and hasattr(loader, "after"):  # as `ann.Batches`: nothing is read twice
        return progress, loader.after(done)
    return progress, _rest(whole, done)


def _rest(batches: Iterable[Any], images: int) -> Iterator[Any]:
    """The batches after so many images; ResumeError where no batch ends there."""
    seen = 0
    for batch in batches:
        if seen == images:
            yield batch
            continue
        seen += len(images_of(batch))
        if seen > images:
            raise ResumeError(
                f"the progress ends after {images} images, where no batch does: use the same "
                "batch size"
            )
    if seen < images:
        raise ResumeError(f"the progress has {images} images, the loader only {seen}")


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

    What else there is says nothing.
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


def _short(fact: Any) -> str:
    text = json.dumps(fact)
    return text if len(text) <= 60 else f"{text[:57]}..."
