"""Cost models: tables of what an operation or an access takes, with a source for every constant.

A model is a TOML file (or JSON with the same tables), one of `tables/` or a user's own:

    title, source, note     texts
    includes                kinds of operations that the model's other constants contain
    [operations]            kind = { pj, source }, kinds as in `work.KINDS`
    [addressing]            spike, accumulation = { pj, source }, for each that arrives; of the
                            artificial network an accumulation for each value read and written
    [memory]                weight_reads, state_reads, state_writes, moved, activations:
                            { pj, source } or { pj, each = "bit", source }, or "by size"
    [by_size]               word_bits, kib = [...], pj = [...], source: an access of a memory of so
                            many KiB, both ascending; linear between, as on the last stretch beyond
    [ann]                   a multiply-add of the artificial network by its numbers (fp32, int32,
                            int8, quantised) = { pj, source }, of a bit as above

It is called by its `name`, or as its file; not as one that comes with the package. What a model has
no constant for is uncounted, and whoever shows joules names it.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Literal

from spiking_resnet.codec import Record, RecordError
from spiking_resnet.costs.work import KINDS, MEMORY
from spiking_resnet.records import InputError

FOLDER = Path(__file__).parent / "tables"
ACCESSES = (*MEMORY, "activations")
ADDRESSED = ("spike", "accumulation")
TWINS = ("fp32", "int32", "int8", "quantised")
LEAST = 2.0**-13  # KiB of a memory: a bit
LARGEST = 1e30  # of any number: sums of joules stay numbers


@dataclass(frozen=True)
class Price(Record):
    """What one operation or access takes, in picojoules: each one, or each bit of it."""

    pj: float
    source: str
    each: Literal["one", "bit"] = "one"

    later = ("each",)

    def __post_init__(self) -> None:
        if not 0 <= self.pj <= LARGEST:
            raise ValueError(f"a constant is a number from 0 to {LARGEST:g}")

    def joules(self, bits: float) -> float:
        """The joules of one, of so many bits."""
        return 1e-12 * self.pj * (bits if self.each == "bit" else 1)


@dataclass(frozen=True)
class BySize(Record):
    """What an access of one word takes, by the size of the memory that it goes to."""

    word_bits: int
    kib: tuple[float, ...]
    pj: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        ascending = all(LEAST <= a < b <= LARGEST for a, b in pairwise(self.kib))
        if len(self.kib) != len(self.pj) or len(self.kib) < 2 or not ascending:
            raise ValueError("by_size needs ascending sizes kib, and as many pj, two at least")
        if not all(0 <= a <= b <= LARGEST for a, b in pairwise(self.pj)):
            raise ValueError("by_size needs pj from 0 on, and none less than that of a smaller kib")
        if not 1 <= self.word_bits <= LARGEST:
            raise ValueError(f"word_bits is {self.word_bits}: at least 1")

    def joules(self, kib: float, bits: int) -> float:
        """The joules of an access of so many bits, in whole words, to a memory of so many KiB; to
        the smallest where it is less.
        """
        stretches = list(pairwise(zip(self.kib, self.pj, strict=True)))
        (low, least), (high, most) = next(
            (each for each in stretches if kib <= each[1][0]), stretches[-1]
        )
        word = least + max(0.0, kib - low) * (most - least) / (high - low)
        return 1e-12 * word * ceil(bits / self.word_bits)


@dataclass(frozen=True)
class Model(Record):
    """A cost model; its file's tables are its fields, see this module's text."""

    name: str
    title: str
    source: str
    operations: Mapping[str, Price]
    note: str = ""
    includes: tuple[str, ...] = ()
    addressing: Mapping[str, Price] = field(default_factory=dict)
    memory: Mapping[str, Price | Literal["by size"]] = field(default_factory=dict)
    by_size: BySize | None = None
    ann: Mapping[str, Price] = field(default_factory=dict)

    later = ("note", "includes", "addressing", "memory", "by_size", "ann")

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("name is empty")
        known = {
            "includes": (self.includes, (*KINDS, *MEMORY)),
            "operations": (self.operations, tuple(KINDS)),
            "addressing": (self.addressing, ADDRESSED),
            "memory": (self.memory, ACCESSES),
            "ann": (self.ann, TWINS),
        }
        for table, (names, kinds) in known.items():
            for name in names:
                if name not in kinds:
                    raise ValueError(f"{table}: {name!r} is none of {', '.join(kinds)}")
        for name, price in [*self.operations.items(), *self.addressing.items()]:
            if price.each == "bit":
                raise ValueError(f"{name}: an operation has no bits: a constant is of each one")
        for name in self.includes:
            if name in self.operations or name in self.memory:
                raise ValueError(f"includes: {name!r} has a constant of its own")
        if "by size" in self.memory.values() and self.by_size is None:
            raise ValueError("memory is by size, and there is no table by_size")

    def access(self, kind: str, values: int, bits: int) -> float | None:
        """The joules of an access of `kind` to one of so many values, of so many bits each.

        None where the model has no constant for it.
        """
        price = self.memory.get(kind)
        if isinstance(price, Price):
            return price.joules(bits)
        if price is None or self.by_size is None:
            return None
        return self.by_size.joules(values * bits / 8 / 1024, bits)


@cache
def known() -> Mapping[str, Model]:
    """The models that come with this package, by name."""
    return {path.stem: read(path) for path in sorted(FOLDER.glob("*.toml"))}


def named(names: str) -> list[Model]:
    """The models of names and files by commas, "all" being all of the package; InputError as for
    one, and for two of one name.
    """
    wanted = [name.strip() for name in names.split(",")]
    found = [
        each for name in wanted for each in (known().values() if name == "all" else (model(name),))
    ]
    check_names(found)
    return found


def check_names(models: Iterable[Model]) -> None:
    """Raise InputError for models that could be taken for one another."""
    seen: set[str] = set()
    for each in models:
        if each.name in seen:
            raise InputError(f"two cost models are called {each.name!r}: leave out or rename one")
        if each != known().get(each.name, each):
            raise InputError(
                f"the cost model {each.title!r} is called {each.name!r}, as another one that comes "
                "with the package: rename it"
            )
        seen.add(each.name)


def model(wanted: str | Path) -> Model:
    """A model by its name, or from a file; InputError for what is neither, or damaged."""
    own = known()
    if str(wanted) in own:
        return own[str(wanted)]
    path = Path(wanted)
    if path.suffix.lower() not in (".toml", ".json"):
        raise InputError(
            f"there is no cost model {str(wanted)!r}: use one of {', '.join(own)}, or a .toml or "
            ".json file of your own"
        )
    return read(path)


def read(path: Path) -> Model:
    """The model of a file, called by the file's name."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        found = _json(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
        if not isinstance(found, dict):
            raise RecordError("it holds no tables")
        return Model.from_json({"name": path.stem, **found})
    except RecordError as error:
        raise InputError(f"{path} is no sound cost model: {error}") from error
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no cost model that can be read: {error}") from error


def _json(text: str) -> Any:
    """What JSON holds; ValueError for a name that stands twice in a table, as in TOML."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"a name stands twice among {', '.join(name for name, _ in pairs)}")
        return found

    return json.loads(text, object_pairs_hook=once)
