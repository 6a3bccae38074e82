"""Reading the file: NIR nodes, each checked, in an order in which each can be computed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from spiking_resnet.export.format import needed
from spiking_resnet.export.nir import storage
from spiking_resnet.records import InputError
from spiking_resnet.rules import shown

TIME_STEP = 1.0
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError)  # of h5py


class NirError(ValueError):
    """A file that is no sound NIR graph, or one that cannot become a network here."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A sound NIR graph: its nodes in an order of computation, what each reads, its metadata."""

    nodes: Mapping[str, Any]
    reads: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, Any]

    @property
    def input(self) -> str:
        """The name of the one input."""
        return next(name for name, node in self.nodes.items() if kind(node) == "Input")

    @property
    def output(self) -> str:
        """The name of the one output."""
        return next(name for name, node in self.nodes.items() if kind(node) == "Output")


def check_steps(steps: int | None) -> None:
    """Raise InputError for fewer than one time step."""
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}: at least 1")


def kind(node: Any) -> str:
    """Return what NIR calls a node."""
    return type(node).__name__


def sheet(source: Any) -> Sheet:
    """Return what is in a file (a path) or an NIRGraph; NirError for an unsound one.

    Raises FileNotFoundError.
    """
    nir = needed("nir", "nir")
    if isinstance(source, str | Path):
        return _read(Path(source))
    if not isinstance(source, nir.NIRGraph):
        raise NirError(f"{shown(source)} is no NIRGraph, and no path of a file")
    return _ordered("the graph", dict(source.nodes), list(source.edges), dict(source.metadata))


def _read(path: Path) -> Sheet:
    nir, h5py = needed("nir", "nir"), needed("h5py", "nir")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: make it with `spiking-resnet export`")
    if not path.is_file():
        raise NirError(f"{path} is a folder or a device: give the path of an NIR file")
    try:
        with h5py.File(path, "r", locking=False) as file:  # files are replaced, never changed
            storage.check(file)
            found = nir.serialization.hdf2dict(file["node"])
    except DAMAGE as error:
        raise NirError(f"{path} is not a complete NIR file ({error}): export it again") from error
    if found.get("type") != "NIRGraph" or not isinstance(found.get("nodes"), dict):
        raise NirError(f"{path} holds no graph of NIR nodes")
    nodes = {name: _node(name, plain) for name, plain in found["nodes"].items()}
    try:
        edges = [(_text(a), _text(b)) for a, b in found["edges"]]
    except (KeyError, TypeError, ValueError) as error:
        raise NirError(f"{path}: its edges are no pairs of names ({error})") from error
    facts = found.get("metadata", {})
    facts = facts if isinstance(facts, dict) else {}
    for name, told in in_json(facts, "nodes").items():
        if name in nodes and isinstance(told, dict):
            nodes[name].metadata = told
    return _ordered(str(path), nodes, edges, facts)


def in_json(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a dictionary that stands in the metadata as JSON; empty where there is none."""
    try:
        found = json.loads(facts.get(name, "{}"))
    except (TypeError, ValueError, RecursionError) as error:
        raise NirError(f"its metadata {name!r} is no JSON ({error})") from error
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _node(name: str, plain: Any) -> Any:
    """Return one node from its dictionary; NirError with its name for what it lacks."""
    nir = needed("nir", "nir")
    if not isinstance(plain, dict) or not isinstance(plain.get("type"), str):
        raise NirError(f"{name!r} does not say what kind of NIR node it is")
    try:
        made = nir.dict2NIRNode(dict(plain))
    except (AssertionError, KeyError) as error:
        known = plain["type"] in nir.__all__
        what = f"lacks a field ({error})" if known else f"is of unknown kind {plain['type']!r}"
        raise NirError(f"{name!r} {what}") from error
    except Exception as error:  # whatever NIR's classes make of nonsense
        raise NirError(f"{name!r} is no sound {plain['type']} ({error})") from error
    for field, value in vars(made).items():
        if isinstance(value, np.ndarray) and value.dtype.kind not in "fiub":
            raise NirError(f"{name!r}: its {field} are no numbers")
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            raise NirError(f"{name!r}: its {field} has entries that are no finite numbers")
    return made


def _ordered(
    where: str, nodes: dict[str, Any], edges: list[tuple[str, str]], facts: dict[str, Any]
) -> Sheet:
    for what in ("Input", "Output"):
        count = sum(kind(node) == what for node in nodes.values())
        if count != 1:
            raise NirError(f"{where} has {count} {what} nodes; a network here has exactly one")
    reads: dict[str, list[str]] = {name: [] for name in nodes}
    for one, other in edges:
        if one in reads.get(other, ()):
            raise NirError(f"{where} has the edge from {one!r} to {other!r} twice")
        for name in (one, other):
            if name not in nodes:
                raise NirError(f"{where} has an edge of {name!r}, which no node is called")
        reads[other].append(one)
    for name, sources in reads.items():
        if not sources and kind(nodes[name]) != "Input":
            raise NirError(f"{name!r} reads nothing: it has no edge")
    try:
        order = list(TopologicalSorter(reads).static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise NirError(f"{circle} is a cycle, and recurrent networks are not read") from error
    _check_facts(where, facts)
    ordered = {name: nodes[name] for name in _stable(order, nodes)}
    return Sheet(ordered, {name: tuple(reads[name]) for name in ordered}, facts)


def _stable(order: list[str], nodes: Mapping[str, Any]) -> list[str]:
    """Return an order of computation, the input first and the output last."""
    inner = [name for name in order if kind(nodes[name]) not in ("Input", "Output")]
    first = [name for name in order if kind(nodes[name]) == "Input"]
    return [*first, *inner, *(name for name in order if kind(nodes[name]) == "Output")]


def _check_facts(where: str, facts: Mapping[str, Any]) -> None:
    steps = facts.get("steps", 1)
    if not isinstance(steps, int | np.integer) or steps < 1:
        raise NirError(
            f"{where} says that it is for {shown(steps)} steps: a whole number from 1 on"
        )
    for name in ("profile", "fires"):
        if not isinstance(facts.get(name, ""), str):
            raise NirError(f"{where}: its metadata {name!r} is no text")
    step = facts.get("dt", TIME_STEP)
    if not isinstance(step, float | int | np.number) or float(step) != TIME_STEP:
        raise NirError(
            f"{where} was made for time steps of {shown(step)}; here a step is {TIME_STEP}: export "
            "it with r = 1 / dt and dt = 1"
        )
