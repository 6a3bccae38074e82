"""What every neuron sent in a simulation: the sums of its spikes' values."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.engines.simulate import simulate
from spiking_resnet.graph import Fire, Graph
from spiking_resnet.neurons import Neuron
from spiking_resnet.records import InputError, Run

ROOM = 2**27  # spikes that are held at once, where the step decides what one is worth


@dataclass(frozen=True, eq=False)
class Sent:
    """What neurons sent, after the steps that the read-out leaves out.

    sums: of the values of every neuron's spikes [N, ...], in amplitudes, float64, by population;
    their number, where all are worth the same. logits: [N, K]. engine, exact: as of a Run.
    """

    sums: Mapping[str, Tensor]
    logits: Tensor
    engine: str
    exact: bool


def sent(graph: Graph, images: Tensor, steps: int, engine: str = "auto") -> Sent:
    """Simulate images [N, C, H, W] for `steps` steps, pre-steps included.

    Raises InputError for steps that are no more than the pre-steps.
    """
    if steps <= graph.pre_steps:
        raise InputError(
            f"steps is {steps}, and the first {graph.pre_steps} precede the counted ones: give more"
        )
    varying = {node.name: node.neuron for node in graph.of(Fire) if node.neuron.unit_varies}
    per_image = steps * sum(graph.neurons[name] for name in varying)
    parts = images.split(max(1, ROOM // per_image)) if per_image else (images,)
    found = [_sent(graph, part, steps, engine, varying) for part in parts]
    return Sent(
        sums={name: torch.cat([each.sums[name] for each in found]) for name in graph.neurons},
        logits=torch.cat([each.logits for each in found]),
        engine=found[0].engine,
        exact=all(each.exact for each in found),
    )


def _sent(
    graph: Graph, images: Tensor, steps: int, engine: str, varying: Mapping[str, Neuron]
) -> Sent:
    """What is sent by images that are simulated at once."""
    counted = [name for name in graph.neurons if name not in varying]
    before, state = graph.pre_steps, None
    first: Run | None = None
    if before:
        first = simulate(graph, images, before, engine=engine, keep_state=True)
        state = first.state
    run = simulate(
        graph, images, steps - before, engine=engine, neurons=counted, trains=tuple(varying),
        state=state,
    )  # fmt: skip
    sums = {name: run.neuron_spikes[name].double() for name in counted}
    sums |= {name: _decoded(neuron, run.trains[name]) for name, neuron in varying.items()}
    return Sent(sums, run.logits[-1], run.engine, run.exact and (first is None or first.exact))


def _decoded(neuron: Neuron, sizes: Tensor) -> Tensor:
    """The sums [N, ...] of the values of spikes of these signed sizes [T, N, ...]."""
    total = torch.zeros(sizes.shape[1:], dtype=torch.float64)
    for time, size in enumerate(sizes):
        total += neuron.decode(size[None].double(), time)[0]
    return total
