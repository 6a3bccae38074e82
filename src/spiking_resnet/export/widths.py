"""How wide the numbers of an integer form are: bits, with sign, that certainly hold them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.export.format import ExportError
from spiking_resnet.export.trees import trees
from spiking_resnet.graph import Affine, Fire, Graph, Node
from spiking_resnet.graph.exactness import bounds_of, largest
from spiking_resnet.graph.nodes import Mixing, Weighted
from spiking_resnet.graph.nodes.base import Summing


@dataclass(frozen=True)
class Width:
    """The bits, with sign, of the numbers of a population or of the read-out, `name`.

    weights: of kernels, without their shifts (0 where there are none). shift: the largest. gains:
    of identity shortcuts. bias, threshold; step: of what arrives in one step. potential: of a
    potential, or a sum of the read-out, between steps, in a run of `steps` steps.
    """

    name: str
    entries: int
    weights: int
    shift: int
    gains: int
    bias: int
    threshold: int
    step: int
    potential: int


def widths(graph: Graph, steps: int) -> tuple[Width, ...]:
    """Return the widths of an integer form for `steps` time steps, in the order of computation.

    Raises ExportError for another graph.
    """
    if "integer_form" not in graph.notes:
        raise ExportError("the network is in no integer form: to_integers makes it")
    bounds, found = bounds_of(graph), trees(graph)
    roots: list[Summing] = [*graph.of(Fire), graph.output]
    return tuple(
        _width(
            graph,
            root,
            largest(bounds[root.inputs[0]]) * _unit(root),
            [graph[name] for name in found[root.name].nodes] if root.name in found else [],
            steps,
        )
        for root in roots
    )


def _width(graph: Graph, root: Summing, arriving: float, nodes: list[Node], steps: int) -> Width:
    unit, weights, shift, gains = _unit(root), 0, 0, 0
    bias = 0.0
    for node in nodes:
        if not isinstance(node, Weighted):
            continue
        bias += 0.0 if node.added is None else float(node.added.abs().max()) * unit
        if isinstance(node, Mixing):
            whole, powers = shifted(node.weight.double() * unit)
            weights = max(weights, _bits(float(whole.abs().max())))
            shift = max(shift, int(powers.max()))
        elif isinstance(node, Affine):
            gains = max(gains, _bits(float(node.scale.abs().max()) * unit))
    threshold = 0
    kept = steps * arriving + root.potential_offset * unit
    if isinstance(root, Fire):
        threshold = _bits(float(root.neuron.threshold.max()) * unit)
        if root.neuron.saturates_at is not None:
            kept = root.neuron.saturates_at * unit
    entries = torch.Size(root.shape).numel()
    return Width(
        root.name, entries, weights, shift, gains, _bits(bias), threshold, _bits(arriving),
        _bits(kept),
    )  # fmt: skip


def _unit(root: Summing) -> float:
    """What integers are times the values."""
    return 2.0 ** (root.grid or 0)


def _bits(most: float) -> int:
    """The bits, with sign, of whole numbers up to `most`; 0 where there are none."""
    return int(most).bit_length() + 1 if most >= 1 else 0


def shifted(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole weights [out, ...] without the powers of 2 that each channel's share, and these, [out].

    Both int64.
    """
    rows = weight.flatten(1).long()
    shifts = torch.zeros(len(rows), dtype=torch.int64)
    while bool((even := (rows % 2 == 0).all(1) & (rows != 0).any(1)).any()):
        rows = torch.where(even[:, None], rows.div(2, rounding_mode="floor"), rows)
        shifts = shifts + even
    return rows.view(weight.shape), shifts
