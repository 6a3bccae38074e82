"""Differential coding: spikes correct what was sent before, by amplitudes that shrink with time.

One sequence of amplitudes for all populations is too slow for the first, whose input is there at
once so that its spikes could shrink as fast as in a successive approximation, and too fast for the
last, which must wait for what the layers before it still correct. `schedule` gives every population
its own geometric one, chosen in the order of the network for what it really receives: the amplitude
of the first step for every channel, and the ratio of the last to the first for the population, that
minimise

    sum over t of w(t) * E (e(t) - a)^2

with e(t) what a neuron has sent after step t, a the activation it stands for, and E a mean over
images and places. w is 1 from the population's deadline on: the last step for the last population,
a share `lead` of all steps earlier for the first, evenly spread between. This project's own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from spiking_resnet.conversion.layer_by_layer import portions
from spiking_resnet.conversion.simulated import Currents, Simulated, smallest
from spiking_resnet.graph import Fire, Graph, Input, Node, Output, ReLU
from spiking_resnet.neurons import Differential, State, per_channel

SAMPLES = 4096  # neurons of a channel, over images and places, that a choice is made by
MOST = 2**18  # neurons of all channels of a population that one is made by
LARGEST = tuple(2.0 ** (k / 2) for k in range(-5, 5))  # spikes of the first step, in thresholds
FINEST = 24  # half octaves from the largest amplitude of a run to the smallest one, some 2^-11
MARGIN = 1.5  # how far beyond the largest activation seen all spikes together must reach
SHORT = 1e3  # what is added to the error, in mean squared activations, of those that do not
COARSE = 8  # of so many of these neurons one decides which coarse ratio is made finer
CHUNK = 2**14  # neurons that are advanced at once: they stay in the cache
FINER = (2**0.5, 2**-0.5)  # times the best of these
AMPLITUDE_BITS = 3  # of an amplitude, so that spikes are whole numbers of few bits on a grid
MEAN_BITS = 5  # the same of amplitudes 1 / t


def geometric(first: float, last: float, steps: int) -> Tensor:
    """Return amplitudes [steps] from `first` to `last`, each the same share of the one before."""
    if not 0 < last <= first or steps < 1:
        raise ValueError(f"{steps} amplitudes from {first} to {last}: need 0 < last <= first")
    if steps == 1:
        return _short(torch.tensor([first], dtype=torch.float64))
    return _short(torch.logspace(0, 1, steps, base=last / first, dtype=torch.float64) * first)


def of_a_mean(steps: int, levels: int) -> Tensor:
    """Return amplitudes [steps] of the smallest of `levels` sizes; the largest is 1 / t at step t.

    t = 1, 2, ...: so much a spike of amplitude 1 weighs in a mean over t steps (DCGS).
    """
    return _short(2.0 ** (1 - levels) / torch.arange(1, steps + 1, dtype=torch.float64), MEAN_BITS)


def _short(heights: Tensor, bits: int = AMPLITUDE_BITS) -> Tensor:
    """Return positive amplitudes, float64, rounded to so many significant bits, float32."""
    unit = torch.exp2(torch.floor(torch.log2(heights)) + 1 - bits)
    return (torch.round(heights / unit) * unit).float()


def fire_differentially(
    graph: Graph,
    thresholds: Mapping[str, Tensor],
    heights: Tensor,
    levels: int,
    caution: float = 0.5,
    kind: type[Differential] = Differential,
) -> Graph:
    """Return `graph` with a population of differential neurons in the place of every ReLU.

    thresholds: by ReLU name, [] or [C]. heights: [T], amplitudes in thresholds. kind: of neuron
    (DCGS's: `Dcgs`). The image and all biases enter at the first step only, and the read-out sums
    up.
    """

    def spiking(node: Node) -> Node:
        if isinstance(node, Input):
            return replace(node, encoding="once")
        if isinstance(node, Output):
            return replace(node, readout="sum")
        if not isinstance(node, ReLU):
            return node
        threshold = thresholds[node.name]
        neuron = kind(
            threshold=threshold,
            initial_potential=torch.zeros((), dtype=torch.float32),
            amplitude=threshold,
            levels=levels,
            heights=heights,
            ceiling=None if node.ceiling is None else node.ceiling / threshold,
            caution=caution,
        )
        return Fire(
            name=node.name, inputs=node.inputs, shape=node.shape, source=node.source, neuron=neuron
        )

    return graph.with_nodes(spiking(node) for node in graph.nodes)


def schedule(
    ann: Graph, graph: Graph, images: Tensor, steps: int, lead: float
) -> tuple[Graph, dict[str, float]]:
    """Return `graph` with amplitudes of its own for every population, and their ratios.

    graph: differential, in the units of `ann`, whose ReLUs are its populations. images: calibration
    images [N, C, H, W]. lead: 0..1.
    """
    work = _Schedule(ann, graph, images, steps, lead)
    work.walk()
    return graph.with_nodes(work.nodes[node.name] for node in graph.nodes), work.ratios


class _Schedule(Simulated):
    """A choice under way. ratios: of the populations that have theirs."""

    def __init__(self, ann: Graph, graph: Graph, images: Tensor, steps: int, lead: float) -> None:
        super().__init__(ann, graph, images, steps)
        self.lead = lead
        self.ratios: dict[str, float] = {}
        self.places = {node.name: place for place, node in enumerate(graph.of(Fire))}

    def fire(self, node: Fire) -> None:
        """Choose a population's amplitudes."""
        currents = self.currents(node)
        neuron, self.ratios[node.name] = self._chosen(node, currents)
        sizes = [self._sizes(neuron, current) for _, current in currents()]
        self.keep(replace(node, neuron=neuron), sizes)

    def _sizes(self, neuron: Differential, current: Tensor) -> Tensor:
        """Return the sizes [T, n, ...] of the spikes that a current [T or 1, n, ...] makes."""
        unit = _in_thresholds(neuron)
        current = self.over_time(current, self.steps) / per_channel(neuron.threshold, current[0])
        found = torch.empty(current.shape, dtype=smallest(neuron.largest_size))
        begin = State(torch.zeros_like(current[0]))
        for t, (spikes, _) in enumerate(unit.steps(begin, current, self.steps)):
            found[t] = spikes.div(float(neuron.heights[t])).round_()
        return found

    def _chosen(self, node: Fire, currents: Currents) -> tuple[Differential, float]:
        """Return the population with the best amplitudes, and their ratio."""
        neuron = cast(Differential, node.neuron)  # all populations are
        seen, wanted = self._sampled(node, currents)
        deadline = self._deadline(node)

        def best(ratios: Iterable[float], every: int) -> tuple[float, float, Tensor]:
            return min(
                (
                    (float(errors.min(0).values.sum()), ratio, errors.argmin(0))
                    for ratio in ratios
                    for errors in [
                        _errors(neuron, seen[:, ::every], wanted[::every], ratio, deadline)
                    ]
                ),
                key=lambda found: found[0],
            )

        _, coarse, _ = best(_ratios(neuron), COARSE)
        _, ratio, choice = best((coarse, *(coarse * step for step in FINER)), 1)
        threshold = neuron.threshold * _firsts(neuron)[choice]
        heights = geometric(1.0, ratio, self.steps)
        return _with(neuron, threshold, heights), ratio

    def _deadline(self, node: Fire) -> int:
        """Return the first step after which errors count."""
        behind = 1 - self.places[node.name] / max(1, len(self.places) - 1)
        return round((self.steps - 1) * (1 - self.lead * behind))

    def _sampled(self, node: Fire, given: Currents) -> tuple[Tensor, Tensor]:
        """Return currents [T, M, C] and activations [M, C] of evenly spread images and places."""
        places = torch.Size(node.shape[1:]).numel()
        samples = min(SAMPLES, max(1, MOST // node.shape[0]))
        apart = max(1, len(self.images) * places // samples) | 1  # odd: every column has its turn
        currents, wanted = [], []
        for part, current in given():
            own = slice(-part.start * places % apart, None, apart)
            currents.append(self.over_time(_places_first(current)[:, own], self.steps))
            wanted.append(_places_first(self.ann_values[node.name][part][None])[0, own])
        return torch.cat(currents, 1), torch.cat(wanted)


def _places_first(values: Tensor) -> Tensor:
    """Return values [T, n, C, ...] as [T, n * places, C]."""
    return values.reshape(*values.shape[:3], -1).transpose(2, 3).flatten(1, 2)


def _ratios(neuron: Differential) -> tuple[float, ...]:
    """Return the ratios of the last amplitude to the first that are tried at first.

    They end where all the sizes of a spike, from the largest of the first step to the smallest of
    the last one, span FINEST.
    """
    return tuple(2.0 ** (-k / 2) for k in range(2, max(FINEST - 2 * neuron.levels, 6), 3))


def _firsts(neuron: Differential) -> Tensor:
    """Return the amplitudes of the first step that are tried, in thresholds, [F]."""
    return torch.tensor(LARGEST, dtype=torch.float32) * 2.0 ** (1 - neuron.levels)


def _with(neuron: Differential, threshold: Tensor, heights: Tensor) -> Differential:
    """Return the population with other amplitudes; its ceiling stays where it is."""
    ceiling = None
    if neuron.ceiling is not None:
        ceiling = neuron.ceiling * neuron.threshold / threshold
    return replace(
        neuron, threshold=threshold, amplitude=threshold, heights=heights, ceiling=ceiling
    )


def _in_thresholds(neuron: Differential, first: float = 1.0) -> Differential:
    """Return the population for currents in its thresholds, with `first` times its heights."""
    one = torch.ones((), dtype=torch.float32)
    return replace(neuron, threshold=one, amplitude=one, heights=neuron.heights * first)


def _errors(
    neuron: Differential, currents: Tensor, wanted: Tensor, ratio: float, deadline: int
) -> Tensor:
    """Return mean squared errors [F, C] from `deadline` on, for every first amplitude.

    currents: [T, M, C]. wanted: activations [M, C]. A first amplitude with which no channel's
    spikes reach far enough is passed over (its error is infinite), unless that is so for all.
    """
    steps, heights = len(currents), geometric(1.0, ratio, len(currents))
    tried = replace(neuron, heights=heights)
    currents, wanted = currents / neuron.threshold, wanted / neuron.threshold
    firsts, most = _firsts(neuron), wanted.amax(0)
    short = (firsts * 2.0 ** (neuron.levels - 1) * heights.sum())[:, None] < MARGIN * most
    hopeless = (short | (most == 0)).all(1)
    found = short.float() * SHORT * wanted.square().mean(0) * (steps - deadline)
    for index, first in enumerate(firsts.tolist()):
        if bool(hopeless[index]) and not bool(hopeless.all()):
            found[index] = torch.inf
            continue
        unit = _in_thresholds(tried, first)
        for some in portions(len(wanted), CHUNK // wanted.shape[1]):
            begin = State(torch.zeros_like(wanted[some]))
            advanced = unit.steps(begin, currents[:, some], steps)
            for t, (_, (_, sent)) in enumerate(advanced):
                if t >= deadline and sent is not None:
                    found[index] += (sent - wanted[some]).square_().sum(0) / len(wanted)
    return found * neuron.threshold.square() / (steps - deadline)
