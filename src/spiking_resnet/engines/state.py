"""The state that a run begins from, checked against the graph and the images it is given with.

A state is `interpret.State`: the steps done, and tensors by name. All engines read and write the
same one, so a run that began on one engine can go on on another.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from spiking_resnet.graph import Fire, Graph, MaxPool, Output, Shape, interpret
from spiking_resnet.graph.nodes.base import emitted_by, left_out
from spiking_resnet.records import InputError


def fitting(state: interpret.State, graph: Graph, images: Tensor) -> interpret.State:
    """`state` with its tensors where the images are; InputError unless the network can go on.

    images: [..., N, C, H, W], of as many images as the state is of.
    """
    if state.time < 1:
        raise InputError(f"the state is after {state.time} steps: give none to begin at the first")
    shapes = dict(_shapes(graph, state))
    _check_names(state, graph, shapes)
    for name, tensor in state.memory.items():
        _check_tensor(name, tensor, (images.shape[-4], *shapes[name]))
    for node in graph.integrators:
        _check_grid(node, state.memory[node.name])
    memory = {name: tensor.to(images.device) for name, tensor in state.memory.items()}
    return interpret.State(state.time, memory)


def within_bounds(state: interpret.State | None, graph: Graph) -> bool:
    """Whether no sum of the state is larger than its steps can have made it.

    `exact_steps` counts on that.
    """
    if state is None:
        return True
    arriving = graph.arriving_steps
    steps = state.time if arriving is None else min(state.time, arriving)
    return all(
        float(state.memory[node.name].abs().max())
        <= node.potential_offset + steps * node.step_bound
        for node in graph.integrators
    )


def _shapes(graph: Graph, state: interpret.State) -> Iterator[tuple[str, Shape]]:
    """The names that a state of the network has, with the shape of one image's tensor."""
    for node in graph.integrators:
        yield node.name, graph[node.inputs[0]].shape if isinstance(node, MaxPool) else node.shape
        emitted = emitted_by(node.name)
        if isinstance(node, Fire) and (node.neuron.signed or emitted in state.memory):
            yield emitted, node.shape
        if isinstance(node, Output) and 0 < node.delay <= state.time:
            yield left_out(node.name), node.shape


def _check_names(state: interpret.State, graph: Graph, shapes: dict[str, Shape]) -> None:
    """Raises InputError unless the state holds what the network carries, and nothing else."""
    missing = [name for name in shapes if name not in state.memory]
    unknown = [name for name in state.memory if name not in shapes]
    if missing or unknown:
        what = f"has nothing for {missing[0]!r}" if missing else f"knows {unknown[0]!r}"
        raise InputError(
            f"the state {what}, it is of another network or another time: give the state of a run "
            f"of this network ({graph!r})"
        )


def _check_tensor(name: str, tensor: object, shape: Shape) -> None:
    """Raises InputError for a tensor of another shape, or of what are no numbers."""
    if not isinstance(tensor, Tensor):
        raise InputError(f"the state's {name!r} is of type {type(tensor).__name__}: give a tensor")
    if tensor.shape != shape:
        raise InputError(
            f"the state's {name!r} has shape {list(tensor.shape)}, and the network and the images "
            f"need {list(shape)}: give as many images as the state is of, in the same order"
        )
    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise InputError(f"the state's {name!r} holds numbers that are not finite floats")


def _check_grid(node: Fire | MaxPool | Output, sums: Tensor) -> None:
    """Raises InputError for sums that lie off the node's grid, as no run of it makes them."""
    units = sums.double() * 2.0 ** (node.grid or 0)
    if node.grid is not None and not torch.equal(units, units.round()):
        raise InputError(
            f"the state's {node.name!r} lies off its grid 2^-{node.grid}: give the state of a run "
            "of this network"
        )
