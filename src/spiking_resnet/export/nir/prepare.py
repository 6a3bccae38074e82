"""What a reader of NIR does not know, put into the network itself: its image, its start, its reset.

A reader computes in float32, starts at 0 and resets as it likes. So pixels and the weights that
read them are rounded to grids whose products are exact, which makes the rounding of their sums
needless; the potential before the first step becomes a constant current v0 / T; and the reset is
the reader's. The network that comes out is what the file says, word for word.
"""

from dataclasses import replace
from math import floor, log2

import torch
from torch import Tensor

from spiking_resnet.export.format import ExportError
from spiking_resnet.export.nir.profiles import Profile
from spiking_resnet.graph import (
    Add,
    Affine,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Linear,
    Node,
    Output,
    Round,
)
from spiking_resnet.graph.exactness import bounded
from spiking_resnet.graph.grids import MANTISSA, to_grid
from spiking_resnet.graph.nodes.base import Summing
from spiking_resnet.graph.structure import bias_before, bias_carrier, with_bias

FEWEST_BITS = 4  # of pixels and of the weights that read them
MOST_BITS = 16


def with_exact_image(graph: Graph, steps: int) -> tuple[Graph, str]:
    """Return `graph` with pixels and first weights whose products float32 adds up exactly.

    Also what that changes, in words; "" where nothing is rounded. Raises ExportError for a rounding
    of other values than those of a convolution of the image.
    """
    skipped = {node.name: node.inputs[0] for node in graph.of(Round)}
    roundings = [node for node in graph.of(Round) if node.inputs != (graph.input.name,)]
    if not roundings:
        return graph, ""
    readers = [_reader(graph, node) for node in roundings]
    reached = {name for node in roundings for name in _populations(graph, node.name)}
    room = min(_room(graph[name], steps) for name in reached)
    pixels, weights = _shared(readers, room)
    new: dict[str, Node] = {graph.input.name: replace(graph.input, grid=pixels)}
    for node in readers:
        bias = None if node.bias is None else to_grid(node.bias, weights).float()
        rounded = to_grid(node.weight, weights).float()
        new[node.name] = replace(node, weight=rounded, bias=bias, grid=weights)
    for name in reached:
        integrator = graph[name]
        finer = max(pixels + weights, getattr(integrator, "grid", None) or 0)
        new[name] = replace(integrator, grid=finer)  # type: ignore[call-arg]
    nodes = [new.get(node.name, node) for node in graph.nodes if node.name not in skipped]
    made = graph.with_nodes(
        replace(node, inputs=tuple(skipped.get(name, name) for name in node.inputs))
        for node in nodes
    )
    told = (
        f"pixels are rounded to 2^-{pixels} and the weights that read them to 2^-{weights}, so "
        f"that float32 adds up {steps} steps exactly"
    )
    return bounded(made), told


def _reader(graph: Graph, rounding: Round) -> Conv2d | Linear:
    """Return the convolution of the image whose sums are rounded."""
    node = graph[rounding.inputs[0]]
    if isinstance(node, Conv2d | Linear):
        source = graph[node.inputs[0]]
        while isinstance(source, Round | Flatten):
            source = graph[source.inputs[0]]
        if source is graph.input:
            return node
    raise ExportError(
        f"{rounding.name!r} rounds what {node.name!r} gives, and NIR has no rounding: only sums of "
        "the image's convolution are exact without it; convert off the grid (grid=None)"
    )


def _populations(graph: Graph, name: str) -> list[str]:
    """Return the names of what sums up a current over time."""
    found: list[str] = []
    for reader in graph.consumers[name]:
        if isinstance(reader, Fire | Output):
            found.append(reader.name)
        elif isinstance(reader, Add):
            found += _populations(graph, reader.name)
        else:
            raise ExportError(
                f"{reader.name!r} reads {name!r}, which is rounded to a grid, and NIR has no "
                "rounding: convert off the grid (grid=None)"
            )
    return found


def _room(node: Node, steps: int) -> int:
    """Return the bits behind the point that sums over so many steps leave in float32."""
    assert isinstance(node, Summing)
    total = steps * node.step_bound + getattr(node, "potential_offset", 0.0)
    return floor(MANTISSA - log2(max(1.01 * total, 1.0)))


def _shared(readers: list[Conv2d | Linear], room: int) -> tuple[int, int]:
    """Return the bits of pixels and weights, `room` in all, that change currents least.

    The error of a sum is taken for that of pixels of variance 1.
    """
    power = sum(float(node.weight.double().square().sum()) / len(node.weight) for node in readers)
    taps = sum(node.weight[0].numel() for node in readers)
    most = min(room - FEWEST_BITS, MOST_BITS)
    if most < FEWEST_BITS:
        raise ExportError(
            f"{readers[0].name!r}: in float32 its sums over the time steps leave {room} bits for "
            "pixels and weights: export for fewer steps"
        )
    tried = [(pixels, min(room - pixels, MOST_BITS)) for pixels in range(FEWEST_BITS, most + 1)]
    return min(tried, key=lambda bits: power * 4.0 ** -bits[0] + taps * 4.0 ** -bits[1])


def with_constant_start(graph: Graph, steps: int) -> tuple[Graph, str]:
    """Return `graph` with potentials that start at 0, and v0 / T as a constant current.

    Also what that changes, in words. Raises ExportError where v0 differs from place to place.
    """
    started = [node for node in graph.of(Fire) if bool((node.neuron.initial_potential != 0).any())]
    if not started:
        return graph, ""
    nodes = {node.name: node for node in graph.nodes}
    before: dict[str, Node] = {}
    for node in started:
        start = node.neuron.initial_potential.double()
        if start.ndim == 3:
            raise ExportError(
                f"{node.name!r}: NIR knows no potential before the first step, and these differ "
                "from place to place: export with profile 'plain', or convert without them"
            )
        current = (start / steps).expand(node.shape[0])
        zero = torch.zeros((), dtype=node.neuron.initial_potential.dtype)
        quiet = replace(node, neuron=replace(node.neuron, initial_potential=zero))
        carrier = bias_carrier(graph, node)
        if carrier is not None:
            nodes[carrier] = _biased(nodes[carrier], current)
        else:
            affine, quiet = bias_before(quiet, node.shape, current.float())
            before[node.name] = _on_grid(affine, node.grid)
        nodes[node.name] = quiet
    made: list[Node] = []
    for name, each in nodes.items():
        made += [before[name], each] if name in before else [each]
    told = f"potentials start at 0, and a constant current of v0 / {steps} a step stands for v0"
    return bounded(graph.with_nodes(made)), told


def _biased(node: Node, current: Tensor) -> Node:
    assert isinstance(node, Conv2d | Linear)
    grid = node.grid if node.grid is not None else MANTISSA
    return with_bias(node, to_grid(current, grid).to(node.weight.dtype))


def _on_grid(node: Affine, grid: int | None) -> Affine:
    if grid is None or node.shift is None:
        return node
    return replace(node, shift=to_grid(node.shift, grid).float(), grid=grid)


def with_reset(graph: Graph, profile: Profile) -> tuple[Graph, str]:
    """Return `graph` with the reset of the profile's reader, and what that changes, in words."""
    reset = profile.reset
    if reset is None or all(node.neuron.reset == reset for node in graph.of(Fire)):
        return graph, ""
    words = {"zero": "to zero, losing what is above the threshold", "subtract": "by subtraction"}
    told = f"neurons reset {words[reset]}, as {profile.name} does"

    return graph.with_nodes(
        replace(node, neuron=replace(node.neuron, reset=reset)) if isinstance(node, Fire) else node
        for node in graph.nodes
    ), told
