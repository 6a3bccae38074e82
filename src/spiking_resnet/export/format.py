"""The contract of a format: what a user may ask of it, and how it writes a network's file."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType

from torch import Tensor

from spiking_resnet.graph import Graph
from spiking_resnet.records import InputError


class ExportError(ValueError):
    """A network that a format cannot express; the message names the node."""


class Caution(str):
    """A sentence about a written file that its user should beware of."""

    __slots__ = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """What a user may ask of a format; None where it was not asked for.

    steps: time steps T that the file is for. profile: the client that will read it. bits: of a
    weight. images: float32 [N, C, H, W], normalised, whose spikes are written beside the network.
    per_layer: True for one scale of a layer's weights, not one of each channel. potential_bits: of
    a membrane potential.
    """

    steps: int | None = None
    profile: str | None = None
    bits: int | None = None
    images: Tensor | None = None
    per_layer: bool | None = None
    potential_bits: int | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of what was asked for."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file that a spiking network can be exported to.

    name: of `--to`. suffix: of its files, with the dot. extra: of this package, which installs what
    the format needs ("" for nothing). beside: suffixes of the files that it writes beside it.
    honours: fields of `Asked` that it knows. summary: one line for the help. write: writes the file
    of a graph, whole or not at all, and returns sentences that say what a user should know of it,
    each a `Caution` where it warns.
    """

    name: str
    suffix: str
    extra: str
    write: Callable[[Graph, Path, Asked], tuple[str, ...]]
    beside: tuple[str, ...] = ()
    honours: tuple[str, ...] = ()
    summary: str = ""

    def export(self, graph: Graph, path: Path, asked: Asked) -> tuple[str, ...]:
        """Write the file of `graph`, and return sentences about it.

        Raises InputError for what is asked for and not honoured, and what `write` raises.
        """
        self.check(asked)
        return self.write(graph, path, asked)

    def check(self, asked: Asked) -> None:
        """Raise InputError for what is asked for and not honoured."""
        unknown = [name for name in asked.given if name not in self.honours]
        if unknown:
            known = ", ".join(map(_option, self.honours)) or "nothing"
            raise InputError(
                f"format {self.name!r} does not honour {_option(unknown[0])}: leave it out (it "
                f"knows {known})"
            )


def _option(name: str) -> str:
    """How the command calls a field of `Asked`."""
    return "--golden" if name == "images" else f"--{name.replace('_', '-')}"


def needed(module: str, extra: str) -> ModuleType:
    """The module of an optional package; InputError that says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{module.partition('.')[0]} is not installed: pip install "
            f'"spiking-resnet[{extra}]" ({error})'
        ) from error
