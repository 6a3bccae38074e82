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
                            many KiB, linear between, and as on the last stretch beyond
    [ann]                   a multiply-add of the artificial network by its numbers (fp32, int32,
                            int8, quantised) = { pj, source }, of a bit as above

What a model has no constant for is uncounted, and whoever shows joules names it.
"""

import json
import tomllib
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Price(Record):
    """What one operation or access takes, in picojoules: each one, or each bit of it."""

    pj: float
    source: str
    each: Literal["one", "bit"] = "one"

    later = ("each",)

    def __post_init__(self) -> None:
        if not 0 <= self.pj < float("inf"):
            raise ValueError("a constant is a number from 0 on")

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
        ascending = all(0 < a < b for a, b in pairwise(self.kib))
        if len(self.kib) != len(self.pj) or len(self.kib) < 2 or not ascending:
            raise ValueError("by_size needs ascending sizes kib, and as many pj, two at least")

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
    """The models of names and files by commas, or all; InputError as for one."""
    wanted = list(known()) if names == "all" else names.split(",")
    return [model(name.strip()) for name in wanted]


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
        text = path.read_bytes().decode()
        found: Any = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} is no cost model that can be read: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is no cost model: it holds no tables")
    try:
        return Model.from_json({"name": path.stem, **found})
    except RecordError as error:
        raise InputError(f"{path} is no sound cost model: {error}") from error
