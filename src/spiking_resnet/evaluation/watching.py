"""A spiking network watched on one image: what it says and fires as time steps go by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.engines.simulate import simulate
from spiking_resnet.graph import Graph
from spiking_resnet.records import InputError, decisions


@dataclass(frozen=True, eq=False)
class Moment:
    """What is known after `step` time steps.

    logits: the read-out [K], in the ANN's units. decision: its class; since: the step from which on
    it is this one; flips: how often it became another one (both among the steps looked at).
    now: spikes per neuron and step of every population since the moment before; mean: of all steps.
    spikes: of every population so far. remark: as of a Run.
    """

    step: int
    logits: Tensor
    decision: int
    since: int
    flips: int
    now: Mapping[str, float]
    mean: Mapping[str, float]
    spikes: Mapping[str, int]
    remark: str = ""


def moments(
    graph: Graph, image: Tensor, steps: int, every: int = 1, engine: str = "auto"
) -> Iterator[Moment]:
    """Yield a Moment after every `every` time steps, and after the last.

    image: [1, C, H, W], normalised as for the ANN. Each is simulated when it is asked for, from the
    state of the one before, so memory does not grow with the steps. Raises InputError.
    """
    if len(image) != 1:
        raise InputError(f"there are {len(image)} images: one at a time can be watched")
    if steps < 1 or every < 1:
        raise InputError(f"steps is {steps} and every {every}: both must be at least 1")
    neurons = graph.neurons
    spikes = dict.fromkeys(neurons, 0)
    state, done, decision, since, flips = None, 0, None, 0, 0
    while done < steps:
        more = min(every, steps - done)
        run = simulate(graph, image, more, engine=engine, state=state, keep_state=True)
        state, done = run.state, done + more
        fired = {name: int(count.spikes[-1, 0]) for name, count in run.spikes.items()}
        spikes = {name: spikes[name] + count for name, count in fired.items()}
        logits = run.logits[-1, 0].cpu()
        chosen = int(decisions(logits))
        if chosen != decision:
            flips += decision is not None
            decision, since = chosen, done
        yield Moment(
            step=done,
            logits=logits,
            decision=chosen,
            since=since,
            flips=flips,
            now={name: count / (neurons[name] * more) for name, count in fired.items()},
            mean={name: count / (neurons[name] * done) for name, count in spikes.items()},
            spikes=spikes,
            remark=run.remark,
        )


def largest(logits: Tensor, count: int) -> list[int]:
    """The classes of the largest logits [K], the first ones first; of equal ones as in argmax."""
    return torch.sort(logits, descending=True, stable=True).indices[:count].tolist()
