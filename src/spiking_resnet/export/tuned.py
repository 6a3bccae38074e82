"""The way back: a graph of a module's tuned weights, on grids again, so that runs are exact."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet import arguments
from spiking_resnet.conversion.passes.snap import snapped
from spiking_resnet.engines.simulate import usual
from spiking_resnet.export.torch_module import TorchNetwork
from spiking_resnet.graph import Graph, Input, Node, Round, tensors, with_tensors
from spiking_resnet.graph.graph import with_remark
from spiking_resnet.graph.nodes import Weighted, rename_inputs
from spiking_resnet.graph.nodes.base import Summing
from spiking_resnet.images import finite
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed

BITS, SUM_BITS = 14, 16  # of grids, where the network does not note what it was converted with


@arguments.checked(
    steps=arguments.whole,
    bits=arguments.whole,
    sum_bits=arguments.whole,
)
def from_torch(
    module: nn.Module,
    steps: int | None = None,
    bits: int | None = None,
    sum_bits: int | None = None,
) -> Graph:
    """Return the spiking network of a module's tuned tensors, on grids again: its runs are exact.

    module: what `to_torch` made, tuned, compiled or not. steps: time steps that sums are to be
    exact for; bits, sum_bits: of the grids, as of the methods of conversion, whose own are taken
    where they are None. A network that was on no grid stays on none.

    The notes say what moved: "tuned" the largest change of every tensor by training, in thresholds,
    and by the way back to the grid. A module that has not changed gives the network it was made of.
    Raises InputError for other modules, and for tensors that are not finite or have other shapes.

    >>> module = sr.to_torch(snn)
    >>> sr.from_torch(module).neurons == snn.neurons
    True
    """
    own = getattr(module, "_orig_mod", module)  # of torch.compile
    if not isinstance(own, TorchNetwork):
        raise InputError(
            f"module is a {type(own).__name__}: give the one that to_torch returned, tuned"
        )
    _check(steps, bits, sum_bits)
    with undisturbed(), torch.no_grad():
        graph, held = own.graph, {node.name: _checked(own, node) for node in own.graph.nodes}
        moved = dict(_moved(graph, held))
        if not moved:
            return graph
        tuned = [with_tensors(node, held[node.name]) for node in graph.nodes]
        found = _on_grid(graph, tuned, steps, bits, sum_bits)
        return _told(found, held, moved)


def _check(steps: int | None, bits: int | None, sum_bits: int | None) -> None:
    """Raise InputError for numbers that no grid has."""
    for name, value, (low, high) in (
        ("steps", steps, (1, None)),
        ("bits", bits, (1, 20)),
        ("sum_bits", sum_bits, (16, 24)),
    ):
        if value is not None and (value < low or (high is not None and value > high)):
            wanted = f"at least {low}" if high is None else f"give {low} to {high}"
            raise InputError(f"{name} is {value}: {wanted}")


def _checked(module: TorchNetwork, node: Node) -> dict[str, Tensor]:
    """The module's tensors of a node by field, where the network's are; InputError for bad ones."""
    found = {}
    for field, before in tensors(node).items():
        after = module.tensor_of(node, field).detach()
        if after.shape != before.shape:
            raise InputError(
                f"{node.name!r}: its {field} has shape {tuple(after.shape)}, and had "
                f"{tuple(before.shape)}: only values may be tuned"
            )
        if after.is_meta:
            raise InputError(f"{node.name!r}: its {field} is on 'meta', without values: load them")
        if not finite(after):
            raise InputError(
                f"{node.name!r}: its {field} holds NaN or infinite numbers: train again, with a "
                "smaller learning rate"
            )
        found[field] = after.to(before).clone()
    return found


def _moved(graph: Graph, held: Mapping[str, dict[str, Tensor]]) -> Iterator[tuple[str, float]]:
    """By the name of each tensor that has changed, by how much at most."""
    for node in graph.nodes:
        for field, before in tensors(node).items():
            if most := _distance(before, held[node.name][field]):
                yield f"{node.name}.{field}", most


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).abs().max())


def _on_grid(
    graph: Graph, tuned: list[Node], steps: int | None, bits: int | None, sum_bits: int | None
) -> Graph:
    """The network of these nodes, snapped as `graph` was."""
    options = graph.notes.get("options", {})
    if all(node.grid is None for node in graph.integrators):
        return graph.with_nodes(tuned)

    def noted(name: str, given: int | None, default: int) -> int:
        own = options.get(name)
        if given is not None:
            return given
        return own if isinstance(own, int) else default

    loose = graph.with_nodes(_loosened(tuned))
    return snapped(
        loose,
        noted("steps", steps, usual(graph)),
        noted("grid", bits, BITS),
        noted("sum_bits", sum_bits, SUM_BITS),
    )


def _loosened(nodes: list[Node]) -> Iterator[Node]:
    """The nodes as they were before they were put on grids, but for what has been rounded."""
    read: dict[str, str] = {}
    for node in nodes:
        node = rename_inputs(node, read)
        if isinstance(node, Round):
            read[node.name] = node.inputs[0]
            continue
        free = with_tensors(node, {name: each.double() for name, each in tensors(node).items()})
        off: Any = {"grid": None}
        if isinstance(node, Summing):
            off.update(step_bound=0.0, wide=False)
        yield replace(free, **off) if isinstance(node, Weighted | Summing | Input) else free


def _told(graph: Graph, held: Mapping[str, dict[str, Tensor]], moved: dict[str, float]) -> Graph:
    """The network with what moved among its notes, and a sentence about it."""
    snapped = {
        f"{node.name}.{field}": _distance(held[node.name][field], after)
        for node in graph.nodes
        if node.name in held
        for field, after in tensors(node).items()
    }
    most, rounded = max(moved.values()), max(snapped.values(), default=0.0)
    remark = (
        f"{len(moved)} of {len(snapped)} tensors were tuned, by up to {most:.3g}, and moved by up "
        f"to {rounded:.3g} onto the grid; the artificial network beside it is as before tuning"
    )
    told = {name: {"tuned": by, "snapped": snapped.get(name, 0.0)} for name, by in moved.items()}
    return with_remark(graph.with_notes({"tuned": told}), remark)
