"""Find a network's weights in a file, by the names and shapes that the network needs.

Files wrap them (`state_dict`, `model`, …, several deep), their names carry what wrapped the network
in training (`module.`, `_orig_mod.`, `model.`, …), and other weights stand beside them: running
averages, a teacher, a loss. None of these words decides; what fits is taken.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet.ann.weight_files import CheckpointError

_DEEPEST = 8
_WRAPPERS = {"module", "_orig_mod"}  # of DataParallel and of torch.compile, anywhere in a name
_COUNTERS = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")  # not needed
_AVERAGED = {"ema", "swa", "averaged", "average", "avg", "shadow", "polyak"}


@dataclass(frozen=True, eq=False)
class Part:
    """Tensors of a file that may be a network's weights.

    label: the keys that lead to them and the prefix of their names, by dots; empty for the whole
    file. tensors: by their names without that prefix. beside: tensors of other prefixes.
    """

    label: str
    tensors: dict[str, Tensor]
    beside: int = 0

    @property
    def averaged(self) -> bool:
        """Whether its label says that it is a running average of weights."""
        return bool(_AVERAGED & set(re.split(r"[^a-z]+", self.label.lower())))

    @property
    def name(self) -> str:
        """The label as it is shown."""
        return repr(self.label) if self.label else "those at the top"

    @property
    def first_names(self) -> str:
        """A few of its names with their shapes, as they are shown."""
        return _some(list(self.tensors), {key: each.shape for key, each in self.tensors.items()})

    def equals(self, other: "Part") -> bool:
        """Whether both hold the same numbers under the same names."""
        return self.tensors.keys() == other.tensors.keys() and all(
            torch.equal(value, other.tensors[key]) for key, value in self.tensors.items()
        )


def dictionaries(content: Any) -> list[Part]:
    """Every dictionary of a file that holds tensors, however deep."""
    return list(_within(content, "", _DEEPEST))


def _within(content: Any, label: str, depth: int) -> Iterator[Part]:
    if not isinstance(content, Mapping):
        return
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if tensors:
        yield Part(label, tensors)
    for key, value in content.items():
        if depth:
            yield from _within(value, _joined(label, str(key)), depth - 1)


def _joined(label: str, key: str) -> str:
    return f"{label}.{key}" if label and key else label or key


def named(parts: list[Part], key: str | None, path: Path) -> list[Part]:
    """The parts that a weights key names: whole labels first, else any piece of them.

    CheckpointError, listing the labels, where there are none.
    """
    if key is None:
        return parts
    begun = [part for part in parts if f"{part.label}.".startswith(f"{key}.")]
    found = begun or [part for part in parts if f".{key}." in f".{part.label}."]
    if not found:
        known = sorted({part.label for part in parts if part.label and "." not in part.label})
        raise CheckpointError(
            f"{path} holds no weights called {key!r}: choose among "
            f"{', '.join(known) or 'none, leave the key out'}"
        )
    return found


class Wanted:
    """The names and shapes of a network's weights, without what wraps it."""

    def __init__(self, model: nn.Module) -> None:
        own = model.state_dict()
        self.kind = type(model).__name__
        self.rename: Callable[[str], str] = _unwrapped
        if len({_unwrapped(key) for key in own}) < len(own):
            self.rename = str
        self.names = {self.rename(key): key for key in own}  # the network's own, by plain ones
        self.shapes = {self.rename(key): value.shape for key, value in own.items()}
        self.needed = [key for key in self.shapes if not _counter(key)]

    def candidates(self, part: Part) -> list[Part]:
        """The tensors of a dictionary by every prefix that some of the needed names follow."""
        tensors = {self.rename(key): value for key, value in part.tensors.items()}
        if len(tensors) < len(part.tensors):
            tensors = part.tensors
        prefixes = Counter({"": 0})
        for key in tensors:
            pieces = key.split(".")
            for at in range(len(pieces)):
                if ".".join(pieces[at:]) in self.shapes:
                    prefixes[".".join(pieces[:at])] += 1
        found = []
        for prefix, _ in prefixes.most_common():
            start = f"{prefix}." if prefix else ""
            inside = {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}
            outside = sum(not k.startswith(start) and not _counter(k) for k in tensors)
            found.append(Part(_joined(part.label, prefix), inside, outside))
        return found

    def fitting(self, part: Part) -> int:
        """How many of the needed weights a part has, in the right shape."""
        return sum(key in part.tensors and part.tensors[key].shape == self.shapes[key]
                   for key in self.needed)  # fmt: skip

    def misfit(self, part: Part) -> str:
        """What keeps a part from being this network's weights; an empty text where nothing does."""
        missing = [key for key in self.needed if key not in part.tensors]
        extra = [key for key in part.tensors if key not in self.shapes and not _counter(key)]
        found = {key: value.shape for key, value in part.tensors.items()}
        remedy = (
            f"choose the file of this {self.kind}, or build the network that the file belongs to"
        )
        if missing or extra:
            needs = [f"missing {_some(missing, self.shapes)}"] if missing else []
            needs += [f"unexpected {_some(extra, found)}"] if extra else []
            return f"{'; '.join(needs)}; {remedy}"
        other = [key for key in self.needed if found[key] != self.shapes[key]]
        if not other:
            return ""
        first, more = other[0], len(other) - 1
        text = (
            f"{first!r} has shape {list(found[first])}, the {self.kind} needs "
            f"{list(self.shapes[first])}" + (f" ({more} more keys differ)" if more else "")
        )
        return f"{text}{self._of_head(other, found)}; {remedy}"

    def _of_head(self, differing: list[str], found: Mapping[str, torch.Size]) -> str:
        """What to add where only the last layer's number of classes differs."""
        last, first = self.needed[-1].rpartition(".")[0], differing[0]
        own, theirs = self.shapes[first], found[first]
        if any(key.rpartition(".")[0] != last for key in differing) or own[1:] != theirs[1:]:
            return ""
        return f": only the last layer differs, it knows {theirs[0]} classes and not {own[0]}"

    def own_names(self, part: Part) -> dict[str, Tensor]:
        """The tensors of a part that fits, by the network's own names."""
        return {self.names[k]: v for k, v in part.tensors.items() if k in self.names}


def _unwrapped(key: str) -> str:
    return ".".join(piece for piece in key.split(".") if piece not in _WRAPPERS)


def _counter(key: str) -> bool:
    return key.rpartition(".")[2] in _COUNTERS


def _some(keys: list[str], shapes: Mapping[str, torch.Size]) -> str:
    """The first few keys with their shapes, and how many more there are."""
    more = f" and {len(keys) - 3} more keys" if len(keys) > 3 else ""
    return ", ".join(f"{key!r} {list(shapes[key])}" for key in keys[:3]) + more


def chosen(content: Any, wanted: Wanted, path: Path, key: str | None) -> tuple[Part, str]:
    """(the part of a file that is the network's weights, a remark on what was left or chosen).

    key: the part's name, where the user chose one. Of several that fit, the one that is no running
    average; CheckpointError where there are more of these, and where nothing fits.
    """
    parts = dictionaries(content)
    if not parts:
        raise CheckpointError(f"{path}: holds no dict of tensors; save model.state_dict()")
    every = named([each for part in parts for each in wanted.candidates(part)], key, path)
    fitting = _distinct([part for part in every if not wanted.misfit(part)])
    if not fitting:
        nearest = max(every, key=wanted.fitting)
        if not wanted.fitting(nearest):
            nearest = max(parts, key=lambda part: len(part.tensors))
        where = f"{path} ({nearest.label})" if nearest.label else f"{path}"
        raise CheckpointError(f"{where}: {wanted.misfit(nearest)}")
    plain = [part for part in fitting if not part.averaged] or fitting
    if len(plain) > 1:
        names = ", ".join(part.name for part in plain)
        raise CheckpointError(
            f"{path} holds several weights that fit: {names}; choose one by --weights-key "
            "(weights_key=)"
        )
    (taken,) = plain
    return taken, "" if key is not None else _remark(taken, fitting, every, wanted, path)


def _distinct(parts: list[Part]) -> list[Part]:
    """The parts without those that repeat an earlier one's numbers."""
    found: list[Part] = []
    for part in parts:
        if not any(part.equals(other) for other in found):
            found.append(part)
    return found


def _remark(taken: Part, fitting: list[Part], every: list[Part], wanted: Wanted, path: Path) -> str:
    """What to say of the other weights in a file; an empty text where there are none."""
    choose = "choose by --weights-key (weights_key=)"
    others = [part for part in fitting if part is not taken]
    if others:
        names = ", ".join(part.name for part in others)
        return f"{path}: took the weights {taken.name}; running averages fit too: {names}; {choose}"
    left = [part for part in every if part.averaged and not part.equals(taken)]
    half = [part for part in left if 2 * wanted.fitting(part) > len(wanted.needed)]
    if half:
        names = ", ".join(part.name for part in half)
        return f"{path}: took the weights {taken.name}; {names}: not complete, left out"
    if taken.beside:
        return f"{path}: took the weights {taken.name}, left out {taken.beside} others beside them"
    return ""
