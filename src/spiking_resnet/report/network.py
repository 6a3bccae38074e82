"""What a spiking network consists of, as a table and as a few numbers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spiking_resnet.graph import Fire, Graph, tensors
from spiking_resnet.passes.snap import exact_steps

if TYPE_CHECKING:
    from rich.table import Table


CAPTION = (
    "λ: firing threshold in the artificial network's units; threshold: the same in units of the "
    "spikes that come in"
)


@dataclass(frozen=True)
class Totals:
    """A network in numbers; exact_steps is 0 off the grid, grid is (fewest, most) bits or None."""

    nodes: int
    populations: int
    neurons: int
    parameters: int
    grid: tuple[int, int] | None
    exact_steps: int


def totals(graph: Graph) -> Totals:
    """The numbers of a spiking network; parameters are weights, gains and biases."""
    grids = [node.grid for node in graph.of(Fire) if node.grid is not None]
    own = [
        tensor.numel()
        for node in graph.nodes
        for name, tensor in tensors(node).items()
        if not name.startswith("neuron.")
    ]
    return Totals(
        nodes=len(graph.nodes),
        populations=len(graph.of(Fire)),
        neurons=sum(graph.neurons.values()),
        parameters=sum(own),
        grid=(min(grids), max(grids)) if grids else None,
        exact_steps=exact_steps(graph),
    )


def render(graph: Graph) -> "Table":
    """A rich table of a network's spiking populations, in the order of computation."""
    from rich.table import Table

    table = Table(caption=CAPTION, caption_justify="left")
    table.add_column("population", overflow="fold")
    for heading in ("shape", "neurons", "λ", "threshold", "reset", "grid"):
        table.add_column(heading, justify="right", no_wrap=True)
    for node in graph.of(Fire):
        table.add_row(
            node.name,
            " x ".join(str(size) for size in node.shape),
            f"{graph.neurons[node.name]:,}",
            _scale(graph, node),
            _values(node.neuron.threshold),
            node.neuron.reset,
            "-" if node.grid is None else f"2^-{node.grid}",
        )
    return table


def _values(threshold: Tensor) -> str:
    """One number, or the lowest and the highest."""
    low, high = float(threshold.min()), float(threshold.max())
    return f"{low:.4g}" if low == high else f"{low:.4g} - {high:.4g}"


def _scale(graph: Graph, node: Fire) -> str:
    """The threshold that calibration found for a population; a dash where it took another's."""
    last = node.name in graph.output.inputs and graph.output.readout != "mean"
    found = graph.notes.get("thresholds", {}).get(graph.output.name if last else node.name)
    return "-" if found is None else _values(torch.tensor(found))
