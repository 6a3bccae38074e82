"""Observe a spiking network on a few images, step by step: how decisions form, and which neurons
fire.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from spiking_resnet.codec import Record
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.graph import Fire, Graph, interpret
from spiking_resnet.records import InputError, Run, decisions
from spiking_resnet.surroundings import undisturbed

T = TypeVar("T")

CLASSES = 4  # whose read-out is kept of an image
NEURONS = 64  # whose spikes are kept of a population
STEPS = 128  # of which spikes are kept


@dataclass(frozen=True)
class Sample(Record):
    """The decision on one image as it forms.

    image: its place among those that were given. decision: after all steps; ann: the ANN's, None
    where it is not known. settled: the step from which on the decision stays. flips: the steps at
    which it becomes another one. classes: those with the largest read-outs at the end, and the
    label. readout: by class, after every step, in the ANN's units.
    """

    image: int
    label: int
    decision: int
    ann: int | None
    settled: int
    flips: tuple[int, ...]
    classes: tuple[int, ...]
    readout: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Raster(Record):
    """The spikes of some neurons of a population for one image.

    shown: which neurons, spread evenly over all `neurons` of it. spikes: for each of them its
    spikes of the first steps, negative ones and several at once included. activity: spikes per
    neuron of the whole population in each of these steps, for this image.
    """

    population: str
    neurons: int
    shown: tuple[int, ...]
    spikes: tuple[tuple[int, ...], ...]
    activity: tuple[float, ...]


@dataclass(frozen=True)
class Observation(Record):
    """What was seen of a network on a few images over `steps` time steps.

    samples: from the one that settles first to the one that settles last of `observed` images,
    evenly spread. rasters: all of the image `raster_image`, which is the first sample's.
    """

    steps: int
    observed: int
    samples: tuple[Sample, ...]
    raster_image: int
    rasters: tuple[Raster, ...]


def observe(
    graph: Graph,
    images: Tensor,
    labels: Tensor,
    steps: int,
    samples: int = 6,
    populations: Sequence[str] | None = None,
    engine: str = "auto",
) -> Observation:
    """Simulate a few images [N, C, H, W], and keep the decisions on `samples` of them.

    populations: whose spikes are kept; None: three, spread over the depth. Raises InputError for
    names of no population, and what `simulate` raises.
    """
    names = usual(graph) if populations is None else known(graph, populations)
    run = simulate(graph, images, steps, range(1, steps + 1), engine)
    expected = _expected(graph, images)
    found = [_sample(run, place, int(label), expected) for place, label in enumerate(labels)]
    chosen = spread(sorted(found, key=lambda one: (one.settled, one.image)), samples)
    first = chosen[0].image if chosen else 0
    seen = simulate(graph, images[first : first + 1], min(steps, STEPS), (), engine, trains=names)
    return Observation(
        steps=steps,
        observed=len(images),
        samples=tuple(chosen),
        raster_image=first,
        rasters=tuple(_raster(name, seen.trains[name]) for name in names),
    )


def known(graph: Graph, populations: Iterable[str]) -> tuple[str, ...]:
    """The names, each once; InputError for one of no population."""
    names = tuple(dict.fromkeys(populations))
    if unknown := [name for name in names if name not in graph.neurons]:
        raise InputError(
            f"no population is called {unknown[0]!r}: choose of {', '.join(graph.neurons)}"
        )
    return names


def usual(graph: Graph, count: int = 3) -> tuple[str, ...]:
    """The names of some populations, spread over the depth of a network."""
    named = [node.name for node in graph.of(Fire) if node.name not in graph.output.inputs]
    return tuple(spread(named or list(graph.neurons), count))


def spread(items: Sequence[T], count: int) -> list[T]:
    """So many of the items, or all, evenly spread from the first to the last."""
    if count >= len(items) or count < 2:
        return list(items[: max(0, count)])
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]


@undisturbed()
def _expected(graph: Graph, images: Tensor) -> Tensor | None:
    """The ANN's decisions [N]."""
    return None if graph.ann is None else decisions(interpret.logits(graph.ann, images))


def _sample(run: Run, place: int, label: int, expected: Tensor | None) -> Sample:
    """The decision on one image of a run that was read out after every step."""
    logits = run.logits[:, place]
    decided = decisions(logits).tolist()
    pairs = enumerate(pairwise(decided), 2)
    flips = tuple(step for step, (one, other) in pairs if one != other)
    largest = logits[-1].argsort(descending=True)[:CLASSES].tolist()
    named = [label] if label < logits.shape[1] else []
    classes = tuple(dict.fromkeys([*largest[: CLASSES - 1], *named, *largest]))[:CLASSES]
    return Sample(
        image=place,
        label=label,
        decision=decided[-1],
        ann=None if expected is None else int(expected[place]),
        settled=flips[-1] if flips else 1,
        flips=flips,
        classes=classes,
        readout=tuple(tuple(logits[:, one].tolist()) for one in classes),
    )


def _raster(name: str, trains: Tensor) -> Raster:
    """What is kept of the spikes [T, 1, ...] of a population."""
    spikes = trains[:, 0].flatten(1).short()
    neurons = spikes.shape[1]
    shown = spread(range(neurons), NEURONS)
    return Raster(
        population=name,
        neurons=neurons,
        shown=tuple(shown),
        spikes=tuple(tuple(row) for row in spikes[:, shown].T.tolist()),
        activity=tuple((spikes.abs().sum(1, dtype=torch.int64).double() / neurons).tolist()),
    )
