"""Which numbers a C program meets, and the narrowest types that hold them."""

from dataclasses import replace

from spiking_resnet.export.c.layout import Layout, Population, Target
from spiking_resnet.export.c.memory import places
from spiking_resnet.export.c.text import BYTES, Types
from spiking_resnet.export.format import ExportError
from spiking_resnet.graph import Fire, Graph
from spiking_resnet.graph.exactness import bounds_of, largest
from spiking_resnet.graph.structure import carries_spikes

MOST = 2**31 - 1


def image_bits(graph: Graph) -> int:
    """The bits behind the point of a pixel; ExportError where pixels are too large for any."""
    bits = graph.input.grid
    if bits is None or bits < 0:
        raise ExportError(f"{graph.input.name!r} has pixels above 2^15: scale the images down")
    return bits


def _wide(graph: Graph) -> Graph:
    """The graph, its image of any pixels of 16 bits."""
    limit = 2.0 ** (15 - image_bits(graph))
    return graph.with_nodes(
        replace(node, limit=limit) if node is graph.input else node for node in graph.nodes
    )


def types(graph: Graph, found: Layout) -> Types:
    """The narrowest C types that hold the network's numbers."""
    bounds, spikes = bounds_of(_wide(graph)), carries_spikes(graph)
    tallest = max(largest(bounds[name]) for name, own in spikes.items() if own)
    targets = [*(o.target for o in found.operations if isinstance(o, Population)), found.output]
    heaviest = max(
        (int(s.weights.abs().max()) for t in targets for s in (*t.sources, *t.views)
         if s.weights is not None), default=0,
    )  # fmt: skip
    seen = max((_seen(target, graph) for target in targets), default=0.0)
    limits = {
        node.neuron.saturates_at * 2.0 ** (node.grid or 0)
        for node in graph.nodes
        if isinstance(node, Fire) and node.neuron.saturates_at is not None
    }
    if tallest > 2**15 - 1:
        raise ExportError(f"spikes and their sums reach {tallest:g}, and 16 bits hold 32767")
    if max(heaviest, seen) > MOST:
        raise ExportError(
            f"weights reach {heaviest:g}, and what pixels of 16 bits bring {seen:g}: beyond 32 bits"
        )
    limit = int(min(limits, default=MOST))
    where, size = places(found)
    return Types(
        weight=_signed(heaviest),
        spike=_signed(tallest),
        current=_signed(seen),
        potential=_signed(limit),
        limit=limit,
        places=where,
        spikes=size,
    )


def _signed(most: float) -> str:
    """The narrowest signed type that holds numbers up to `most`."""
    return next(
        kind for kind in ("int8_t", "int16_t", "int32_t") if most < 2 ** (8 * BYTES[kind] - 1)
    )


def _seen(target: Target, graph: Graph) -> float:
    """The most that pixels of 16 bits bring to a target."""
    total = 0.0
    for view in target.views:
        if view.weights is not None and view.shifts is not None:
            rows = view.weights.abs().sum((0, 1, 3)).flatten().double()  # by output channel
            sums = rows * 2.0 ** view.shifts.double()
        else:
            assert view.gains is not None
            sums = view.gains.abs().double()
        bias = 0.0 if view.bias is None else view.bias.abs().double()
        total += float((sums * 2.0 ** (15 - image_bits(graph)) + bias + 1).max())
    return total


def most_steps(graph: Graph) -> int:
    """In how many steps no sum leaves 32 bits."""
    bounds, steps = bounds_of(_wide(graph)), MOST
    for node in graph.integrators:
        unit = 2.0 ** (node.grid or 0)
        most_once = largest(bounds[node.inputs[0]]) * unit
        room = MOST - node.potential_offset * unit
        if isinstance(node, Fire) and node.neuron.saturates_at is not None:
            room, steps_here = room - most_once, MOST
        else:
            steps_here = int(room / max(most_once, 1.0))
        if room < 0 or steps_here < 1:
            raise ExportError(f"{node.name!r} may receive {most_once:g} in a step: beyond 32 bits")
        steps = min(steps, steps_here)
    return steps
