"""Find where a spiking network loses accuracy: in which population, and by which cause.

A population's rate, times the amplitude of its spikes, should be the ANN's activation. Between the
two lie four values that can be computed, and their differences have names. They add up to the
whole error, exactly:

    a             the ANN's activation
      inherited     the populations before already differ
    a'            the same layer of the ANN, reading the spiking network's rates
      weights       what conversion did to the synapses (grid, compensation, unconverted shortcuts;
                    `calibrated`: refitted on purpose) and to the image (spike coding)
    h             ReLU of the mean current that the spiking neurons received
      clipping      a neuron's rate cannot exceed its threshold
    clip(h)
      quantisation  it sends whole spikes: in T steps clip(floor((v0 + sum) / threshold), 0, T)
    even          the rate if the same current arrived evenly over time
      unevenness    it does not: spikes come too early, or too late to be answered
    rate          what the neurons fired

Where the image enters once and spikes add up to activations, sums are in the place of rates, and
neurons say what they had best receive (`Neuron.arrival`, `best_sent`): layer-serial ones their
whole input before they fire, which they do, so that nothing is uneven; differential ones everything
at the first step, so that unevenness is what later corrections cost, and quantisation what the
amplitudes of the steps leave. Of gated neurons all is counted after their pre-steps.

All but the first are a population's own doing. To see what they cost, each value in turn is put
into the ANN, with the spiking network's rates in all populations before it: the
decisions that change are the price of that contribution at that population, and these prices add up
to the whole loss of agreement. The names are those of Bu et al. 2022, "Optimal ANN-SNN Conversion
for High-accuracy and Ultra-low-latency Spiking Neural Networks" (ICLR); there each error is seen
apart from the others, here on the way that the values really take.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.engines.simulate import usual
from spiking_resnet.evaluation.diagnosis import CONTRIBUTIONS, OWN, Diagnosis, LayerError, Part
from spiking_resnet.evaluation.evaluate import labelled
from spiking_resnet.evaluation.rates import Counterpart, counterparts, divisor, summed_currents
from spiking_resnet.evaluation.sent import Sent, sent
from spiking_resnet.graph import Fire, Graph, Node, ReLU, interpret
from spiking_resnet.images import expected
from spiking_resnet.neurons import per_channel
from spiking_resnet.progress import Asked, note, shown
from spiking_resnet.records import InputError, decisions
from spiking_resnet.surroundings import undisturbed


@arguments.checked(
    graph=arguments.network,
    loader=arguments.batches,
    steps=arguments.whole,
    engine=arguments.text,
    progress=arguments.progress,
)
def diagnose(
    graph: Graph,
    loader: Iterable[Any],
    steps: int | None = None,
    engine: str = "auto",
    progress: Callable[[int, int], None] | Asked = None,
) -> Diagnosis:
    """Find where the spiking network `graph` loses decisions within `steps` time steps.

    steps: None as in `simulate`.
    loader: batches (images [N, C, H, W], labels [N]), normalised as for the ANN.
    progress: as of `evaluate`; a function is called with (images done, images right).
    Raises InputError for an empty loader, for a graph that does not know what it came from, and for
    max pools of each step's spikes (rule "instant").

    >>> diagnosis = sr.diagnose(snn, loader, steps=8)
    >>> [layer.name for layer in diagnosis.layers][:2]
    ['relu', 'layer1.0.relu1']
    """
    steps = usual(graph) if steps is None else steps
    with undisturbed():
        running = _Running(graph, counterparts(graph), steps)
    with shown(progress, "diagnosing", expected(loader)) as bar:
        tell = progress if callable(progress) else bar.images
        for batch in loader:
            with undisturbed():
                images, labels = labelled(batch)
                running.add(images, labels, sent(graph, images, steps, engine))
            tell(running.images, running.correct)
    if running.images == 0:
        raise InputError("the loader gave no images: check the data set, --limit and the split")
    return running.diagnosis()


def _values(
    counterpart: Counterpart, total: Tensor, sums: Tensor, steps: int, over: int
) -> tuple[Tensor, ...]:
    """A population's own four values [N, ...]: h, clip(h), even, rate (see this file's head).

    total: its summed current. sums: what its neurons sent. over: the divisor of sums.
    """
    assert counterpart.fire is not None
    neuron, twin = counterpart.fire.neuron, counterpart.twin
    drive = counterpart.drive(total, over)
    received = twin.value(drive) if isinstance(twin, ReLU) else drive.clamp(0)
    most = counterpart.amplitude * neuron.most_sent(steps) / over
    clipped = torch.minimum(received, per_channel(most, received))
    even = counterpart.activations(neuron.best_sent(total, steps), over)
    return received, clipped, even, counterpart.activations(sums, over)


def _decision(counterpart: Counterpart, value: Tensor, total: Tensor, steps: int) -> Tensor:
    """The classes [N] decided by output neurons of rates `value`, ties by membrane potential."""
    assert counterpart.fire is not None
    neuron, counts = counterpart.fire.neuron, value * steps / counterpart.amplitude
    remaining = neuron.initial_potential.double() + total - neuron.threshold.double() * counts
    return (counts + torch.softmax(remaining, 1)).argmax(1)


def _continued(ann: Graph, images: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """The classes [N] that the ANN decides for where nodes are replaced by the values `given`."""
    needed = {ann.output.name}
    for node in reversed(ann.nodes):
        if node.name in needed and node.name not in given:
            needed.update(node.inputs)
    nodes = [
        replace(node, inputs=()) if node.name in given else node
        for node in ann.nodes
        if node.name in needed
    ]
    return decisions(interpret.last(interpret.walk(nodes, images, {}, 0, given)))


def _reading(ann: Graph, images: Tensor, rates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ANN's activations where each layer reads the spiking network's rates before it."""
    nodes: list[Node] = []
    given: dict[str, Tensor] = {}
    for node in ann.nodes:
        names = tuple(f"{name} rate" if name in rates else name for name in node.inputs)
        nodes.append(replace(node, inputs=names))
        if node.name in rates:
            nodes.append(Node(name=f"{node.name} rate", inputs=(), shape=node.shape))
            given[f"{node.name} rate"] = rates[node.name].float()
    wanted = {*rates, ann.output.name}
    walked = interpret.walk(nodes, images, {}, 0, given)
    return {node.name: value for node, value in walked if node.name in wanted}


class _Sums:
    """Sums, over all images and neurons of one population, that its LayerError is made of."""

    def __init__(self) -> None:
        self.values = 0
        self.squares = torch.zeros(2, dtype=torch.float64)  # of activations, of the error
        self.parts = torch.zeros(len(CONTRIBUTIONS), 3, dtype=torch.float64)
        self.agreed = torch.zeros(len(OWN), dtype=torch.int64)
        self.alone = 0

    def add(self, values: list[Tensor]) -> None:
        """Add the six values [N, ...] of a batch, from activation to rate."""
        error = values[-1] - values[0]
        self.values += error.numel()
        self.squares += torch.stack([values[0].square().sum(), error.square().sum()])
        for row, (before, after) in zip(self.parts, pairwise(values), strict=True):
            part = after - before
            row += torch.stack([part.sum(), part.square().sum(), (part * error).sum()])

    def layer(self, counterpart: Counterpart, before: float, images: int) -> LayerError:
        """The LayerError from these sums. before: the agreement before this population."""
        activation, error = (float(square / self.values) ** 0.5 for square in self.squares)
        agreed = [before, *(self.agreed.double() / images).tolist()]
        lost = [0.0, *(a - b for a, b in pairwise(agreed))]
        unit = activation or 1.0
        parts = {
            name: Part(
                mean=float(row[0]) / self.values,
                rms=(float(row[1]) / self.values) ** 0.5 / unit,
                share=float(row[2] / self.squares[1]) if error > 0 else 0.0,
                lost=drop,
            )
            for name, row, drop in zip(CONTRIBUTIONS, self.parts, lost, strict=True)
        }
        return LayerError(
            name=counterpart.name,
            neurons=torch.Size(counterpart.twin.shape).numel(),
            activation=activation,
            mean=sum(part.mean for part in parts.values()),
            rms=error / unit,
            agreement=agreed[-1],
            parts=parts,
            alone=self.alone / images,
        )


class _Running:
    """A diagnosis in progress: sums over the batches so far."""

    def __init__(self, graph: Graph, counterparts: tuple[Counterpart, ...], steps: int) -> None:
        assert graph.ann is not None  # or there would be no counterparts
        self.graph, self.ann, self.counterparts = graph, graph.ann, counterparts
        self.steps = steps - graph.pre_steps
        self.over = divisor(graph, self.steps)
        self.sums = [_Sums() for _ in counterparts]
        self.images = self.correct = self.ann_correct = 0
        self.engine, self.exact = "", True

    def add(self, images: Tensor, labels: Tensor, run: Sent) -> None:
        """Add the counts and sums of one batch."""
        names = {counterpart.twin.name for counterpart in self.counterparts}
        activations = interpret.values(self.ann, images, names)
        expected = decisions(activations[self.ann.output.name])
        chosen = decisions(run.logits)
        self.images += len(labels)
        self.correct += int((chosen == labels).sum())
        self.ann_correct += int((expected == labels).sum())
        self.engine, self.exact = run.engine, self.exact and run.exact
        rates = {
            counterpart.twin.name: counterpart.activations(run.sums[counterpart.name], self.over)
            for counterpart in self.counterparts
            if counterpart.fire is not None
        }
        reading = _reading(self.ann, images, rates)
        currents = summed_currents(self.graph, images, run.sums, self.steps)
        before: dict[str, Tensor] = {}
        pairs = zip(self.counterparts, self.sums, strict=True)
        for number, (counterpart, sums) in enumerate(pairs, 1):
            note(f"layer {number} of {len(self.sums)}")
            twin = counterpart.twin.name
            first = [activations[twin].double(), reading[twin].double()]
            if counterpart.fire is None:  # a read-out without neurons: its logits are all there is
                logits = run.logits.double()
                sums.add([*first, *[logits] * len(OWN)])
                sums.agreed += (chosen == expected).sum()
                sums.alone += int((decisions(first[0] + logits - first[1]) == expected).sum())
                continue
            _, total = next(currents)
            own = _values(counterpart, total, run.sums[counterpart.name], self.steps, self.over)
            first = [value.clamp(min=0) for value in first]
            sums.add(first + list(own))
            last = counterpart.twin is self.ann.output
            alone = (first[0] + own[-1] - first[1]).clamp(min=0)
            put = decisions(alone) if last else _continued(self.ann, images, {twin: alone.float()})
            sums.alone += int((put == expected).sum())
            for index, value in enumerate(own):
                if not last:
                    found = _continued(self.ann, images, {**before, twin: value.float()})
                elif index < len(OWN) - 1:
                    found = _decision(counterpart, value, total, self.steps)
                else:
                    found = chosen
                sums.agreed[index] += (found == expected).sum()
            before[twin] = own[-1].float()

    def diagnosis(self) -> Diagnosis:
        """The Diagnosis of the batches so far."""
        layers: list[LayerError] = []
        for counterpart, sums in zip(self.counterparts, self.sums, strict=True):
            before = layers[-1].agreement if layers else 1.0
            layers.append(sums.layer(counterpart, before, self.images))
        return Diagnosis(
            images=self.images,
            steps=self.steps + self.graph.pre_steps,
            agreement=layers[-1].agreement,
            accuracy=self.correct / self.images,
            ann_accuracy=self.ann_correct / self.images,
            layers=tuple(layers),
            engine=self.engine,
            exact=self.exact,
            notes=self.graph.notes,
            arrival=", ".join(sorted({node.neuron.arrival for node in self.graph.of(Fire)})),
            remade=self.graph.made_for is not None,
        )
