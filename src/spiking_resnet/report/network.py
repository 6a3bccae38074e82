"""The blocks of an inspected network: its nodes or populations, as tables and in words."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from spiking_resnet.capture.problems import told
from spiking_resnet.evaluation.inspect import (
    FOLDED,
    SIGNED,
    Inspection,
    NodeFacts,
    Population,
    Range,
)
from spiking_resnet.graph import Graph
from spiking_resnet.report.block import Alternatives, Block, Column, Row, Table, Text
from spiking_resnet.report.numbers import whole

POPULATIONS = (
    "λ: firing threshold in the ANN's units; spikes: the same in units of the "
    "spikes that come in; exact: for how many steps its sums are certain to be"
)
SYNAPSES = "; synapses: those that end at the population"
NODES = (
    "For one image. MACs: dense, products with the zeros of the padding included; synapses: "
    "connections between values that exist, per time step"
)
ALL = ("shape", "neurons", "synapses", "λ", "spikes", "grid", "exact")
FEW = ("shape", "neurons", "λ", "spikes", "exact")

_LISTED = 8  # numbers of a list in a network's notes; longer ones are summed up
_NAMED = 4  # layers; of more the rest are not named
_WIDE = 100  # characters of a terminal that has room for all columns


def _named(heading: str) -> Column:
    """A column of names, which may be long."""
    return Column(heading, align="left", folds=True)


_NODE = (
    _named("node"),
    Column("kind", align="left"),
    *map(Column, ("shape", "params", "neurons", "MACs", "synapses")),
    _named("line"),
    _named("in conversion"),
)


def source(found: Inspection, model: str) -> list[Block]:
    """The blocks of an ANN called `model`: its nodes, and whether it can be converted."""
    shape = found.nodes[0].shape if found.nodes else ()
    said = [Text(f"{model}, images of {_shape(shape)}")]
    if not found.nodes:
        return [*said, Text(verdict(found))]
    return [*said, nodes(found), Text(summary(found)), Text(verdict(found))]


def spiking(found: Inspection, graph: Graph, path: Path) -> list[Block]:
    """The blocks of a spiking network in a file: its populations, and how it was made."""
    image = f"image {graph.input.shape}, {graph.input.encoding} input"
    resets = " and ".join(sorted({one.reset for one in found.populations}))
    kept = "in the file" if graph.ann else "not in the file"
    return [
        Text(f"{path}: {path.stat().st_size:,} bytes"),
        Text(f"{image}; {graph.output.shape[0]} classes"),
        populations(found),
        Text(summary(found)),
        Text(f"{len(found.populations)} populations; {exactness(found)}"),
        Text(f"reset: {resets}; read-out: {graph.output.readout}"),
        Text(f"ANN it came from: {kept}"),
        Text("notes:"),
        Text(json.dumps(_short(dict(graph.notes)), indent=2), "code"),
    ]


def _short(content: Any) -> Any:
    """JSON-able content, long lists of numbers told by their number, ends and median."""
    if isinstance(content, Mapping):
        return {name: _short(part) for name, part in content.items()}
    if not isinstance(content, list | tuple):
        return content
    numbers = [float(one) for one in _leaves(content)]
    if len(numbers) <= _LISTED:
        return content if len(content) > _LISTED else [_short(part) for part in content]
    return (
        f"{_shape(_lengths(content))} numbers: {min(numbers):.4g} .. {max(numbers):.4g}, median "
        f"{median(numbers):.4g}"
    )


def _leaves(content: Any) -> Iterator[float]:
    """The numbers in nested lists; nothing where there is anything else."""
    if not isinstance(content, list | tuple):
        return
    for part in content:
        if isinstance(part, int | float) and not isinstance(part, bool):
            yield part
        else:
            yield from _leaves(part)


def _lengths(content: Any) -> tuple[int, ...]:
    """The lengths of nested lists."""
    return (len(content), *_lengths(content[0])) if isinstance(content, list | tuple) else ()


def blocks(found: Inspection) -> list[Block]:
    """The populations of a spiking network, or the nodes of an ANN and whether it converts."""
    if found.populations:
        return [populations(found), Text(summary(found)), Text(exactness(found))]
    return [nodes(found), Text(summary(found)), Text(verdict(found))]


def populations(found: Inspection) -> Alternatives:
    """The spiking populations of a network, in the order of computation.

    On a narrow terminal without columns of synapses and grids.
    """
    facts = [(one.name, _population(one)) for one in found.populations]

    def table(names: tuple[str, ...], footnote: str, room: int | None) -> Table:
        return Table(
            columns=(_named("population"), *map(Column, names)),
            rows=tuple(Row((name, *(cells[each] for each in names))) for name, cells in facts),
            footnotes=(footnote,),
            shape="long",
            room=room,
        )

    return Alternatives(
        ((table(ALL, POPULATIONS + SYNAPSES, _WIDE),), (table(FEW, POPULATIONS, None),))
    )


def _population(one: Population) -> dict[str, str]:
    return {
        "shape": _shape(one.shape),
        "neurons": whole(one.neurons),
        "synapses": whole(one.synapses),
        "λ": "-" if one.scale is None else _values(one.scale),
        "spikes": _values(one.threshold),
        "grid": "-" if one.grid is None else f"2^-{one.grid}",
        "exact": _steps(one.exact_steps),
    }


def nodes(found: Inspection) -> Alternatives:
    """All nodes of a network in the order of computation, with their sums.

    On a narrow terminal without columns of source lines and remarks.
    """
    total = found.total
    sums = (total.parameters, total.neurons, total.macs, total.synapses)
    last = ("total", "", "", *(whole(number) for number in sums), "", "")
    rows = (*(Row(_node(node)) for node in found.nodes), Row(last, "strong", ruled=True))
    full = Table(_NODE, rows, footnotes=(NODES,), shape="long", room=_WIDE)
    few = tuple(replace(row, cells=row.cells[:-2]) for row in rows)
    return Alternatives(((full,), (replace(full, columns=_NODE[:-2], rows=few, room=None),)))


def _node(node: NodeFacts) -> tuple[str, ...]:
    size = node.size
    numbers = (size.parameters, size.neurons, size.macs, size.synapses)
    counts = [whole(number) if number else "" for number in numbers]
    line = ":".join(node.source.split(":")[:2])
    return (node.name, node.kind, _shape(node.shape), *counts, line, node.remark)


def exactness(found: Inspection) -> str:
    """How far simulation is exact, in words."""
    grids = [one.grid for one in found.populations if one.grid is not None]
    if not grids:
        return "not on a grid: simulation is not exact"
    return (
        f"potentials on grids of 2^-{max(grids)} or coarser, on which simulation is exact for "
        f"{found.exact_steps:,} steps"
    )


def summary(found: Inspection) -> str:
    """A network in a few lines: nodes by kind, and the totals in full."""
    kinds = Counter(node.kind for node in found.nodes)
    total = found.total
    size = (
        f"{total.parameters:,} weights, gains and biases; {total.neurons:,} neurons; "
        f"{total.synapses:,} synapses; {total.macs:,} dense multiply-accumulates"
    )
    return f"{len(found.nodes)} nodes: {_listed(kinds)}\n{size}"


def verdict(found: Inspection) -> str:
    """Whether an ANN can be converted; if not, every problem with its remedy."""
    if found.problems:
        several = f", of {len(found.causes)} causes" if len(found.causes) > 1 else ""
        listed = told(found.causes or found.problems)
        number = len(found.problems)
        return f"It cannot be converted as it is; {number} problem(s){several}:\n{listed}"
    layers = sum(node.kind == "ReLU" for node in found.nodes)
    text = f"It can be converted: {layers} ReLUs become populations of spiking neurons"
    folded = sum(node.remark == FOLDED for node in found.nodes)
    text += f", {folded} BatchNorms are folded." if folded else "."
    if signed := [node.name for node in found.nodes if node.remark == SIGNED]:
        text += (
            f" {len(signed)} layers read a signed residual stream, which is exact but slow: "
            f"{', '.join(signed[:_NAMED])}{', ...' if len(signed) > _NAMED else '.'}"
        )
    return "\n".join([text, *found.remarks])


def _listed(kinds: Counter[str]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _values(ends: Range) -> str:
    """One number, or the lowest and the highest."""
    low, high = ends
    return f"{low:.4g}" if low == high else f"{low:.2g} .. {high:.2g}"


def _steps(steps: int) -> str:
    return "-" if steps == 0 else f"{steps:,}" if steps < 1_000_000 else "> 1 M"
