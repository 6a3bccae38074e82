"""What a network consists of, as tables and in words."""

from collections import Counter
from typing import TYPE_CHECKING

from spiking_resnet.evaluation.inspect import (
    FOLDED,
    SIGNED,
    Inspection,
    NodeFacts,
    Population,
    Range,
)
from spiking_resnet.report.table import cells, count

if TYPE_CHECKING:
    from rich.table import Table

POPULATIONS = (
    "λ: firing threshold in the artificial network's units; spikes: the same in units of the "
    "spikes that come in; exact: for how many steps its sums are certain to be"
)
SYNAPSES = "; synapses: those that end at the population"
NODES = (
    "For one image. MACs: dense, products with the zeros of the padding included; synapses: "
    "connections between values that exist, per time step"
)


_NAMED = 4  # layers; of more the rest are not named
_WIDE = 100  # characters of a terminal that has room for all columns


def populations(found: Inspection, width: int = 120) -> "Table":
    """A rich table of a network's spiking populations, in the order of computation.

    width: of the terminal; a narrow one gets no columns of synapses and grids.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    wide = width >= _WIDE
    caption = POPULATIONS + (SYNAPSES if wide else "")
    table = Table(box=SIMPLE, caption=caption, caption_justify="left", padding=(0, 1, 0, 0))
    table.add_column("population", overflow="fold")
    shown = ["shape", "neurons", "λ", "spikes", "exact"]
    if wide:
        shown = ["shape", "neurons", "synapses", "λ", "spikes", "grid", "exact"]
    for heading in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.populations:
        facts = _population(one)
        table.add_row(*cells((one.name, *(facts[heading] for heading in shown))))
    return table


def _population(one: Population) -> dict[str, str]:
    return {
        "shape": _shape(one.shape),
        "neurons": _whole(one.neurons),
        "synapses": _whole(one.synapses),
        "λ": "-" if one.scale is None else _values(one.scale),
        "spikes": _values(one.threshold),
        "grid": "-" if one.grid is None else f"2^-{one.grid}",
        "exact": _steps(one.exact_steps),
    }


def nodes(found: Inspection, width: int = 120) -> "Table":
    """A rich table of all nodes of a network in the order of computation, with their sums.

    width: of the terminal; a narrow one gets no columns of source lines and remarks.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, caption=NODES, caption_justify="left", padding=(0, 1, 0, 0))
    table.add_column("node", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for heading in ("shape", "params", "neurons", "MACs", "synapses"):
        table.add_column(heading, justify="right", no_wrap=True)
    wide = width >= _WIDE
    for heading in ("line", "in conversion") if wide else ():
        table.add_column(heading, overflow="fold")
    for node in found.nodes:
        table.add_row(*cells(_node(node) if wide else _node(node)[:-2]))
    table.add_section()
    total = found.total
    sums = (total.parameters, total.neurons, total.macs, total.synapses)
    table.add_row("total", "", "", *(_whole(number) for number in sums), style="bold")
    return table


def _node(node: NodeFacts) -> list[str]:
    size = node.size
    numbers = (size.parameters, size.neurons, size.macs, size.synapses)
    counts = [_whole(number) if number else "" for number in numbers]
    line = ":".join(node.source.split(":")[:2])
    return [node.name, node.kind, _shape(node.shape), *counts, line, node.remark]


def exactness(found: Inspection) -> str:
    """How far simulation is exact, in words."""
    grids = [one.grid for one in found.populations if one.grid is not None]
    if not grids:
        return "not on a grid: simulation is not exact"
    return (
        f"weights on grids of 2^-{max(grids)} or coarser, on which simulation is exact for "
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
    """Whether an artificial network can be converted; if not, every problem with its remedy."""
    if found.problems:
        listed = "\n".join(f"  {number}. {text}" for number, text in enumerate(found.problems, 1))
        return f"It cannot be converted as it is; {len(found.problems)} problem(s):\n{listed}"
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


def _whole(number: int) -> str:
    """A number in full where it is short."""
    return f"{number:,}" if number < 10_000 else count(number)


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
