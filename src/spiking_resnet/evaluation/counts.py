"""The running counts of an evaluation, whole numbers, so that it can stop and resume exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from spiking_resnet.codec import Record
from spiking_resnet.graph import Graph
from spiking_resnet.records import Curve, Metric, Point, Run, decisions, graver, wilson

_TOP = 5
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Tally(Record):
    """An evaluation's counts over the images so far, for each of the recorded `steps`.

    correct, top5, agreed: images; top5 is None for networks of up to 5 classes; agreed, lost (those
    that the ANN alone classifies correctly) and ann_correct without a network to agree
    with. spikes: of every layer. seconds: of simulation. metric "mse" has sums of mean squared
    differences in the place of decisions: squared and ann_squared from the targets, apart between
    the two networks.
    """

    steps: tuple[int, ...]
    metric: Metric = "accuracy"
    images: int = 0
    correct: tuple[int, ...] = ()
    top5: tuple[int, ...] | None = None
    agreed: tuple[int, ...] | None = None
    lost: tuple[int, ...] | None = None
    ann_correct: int | None = None
    ann_top5: int | None = None
    squared: tuple[float, ...] = ()
    apart: tuple[float, ...] | None = None
    ann_squared: float | None = None
    spikes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    engine: str = ""
    remark: str = ""

    @property
    def right(self) -> int:
        """The images classified correctly at the last step; 0 for the metric "mse"."""
        return self.correct[-1] if self.correct else 0

    def added(self, run: Run, labels: Tensor, reference: Tensor | None) -> "Tally":
        """A new Tally with the counts of one more batch; reference: the ANN's logits [N, K].

        labels: int64 [N], or float [N, K] for the metric "mse".
        This tally is not changed: after an interruption one of the two is complete.
        """
        logits = run.logits.cpu()
        judged = self._errors if self.metric == "mse" else self._decided
        found: dict[str, Any] = {
            "images": self.images + len(labels),
            "spikes": {
                name: _sum(self.spikes.get(name, ()), count.spikes.sum(1).tolist())
                for name, count in run.spikes.items()
            },
            "seconds": self.seconds + run.seconds,
            "engine": ", ".join(sorted({*self.engine.split(", "), run.engine} - {""})),
            "remark": graver(self.remark, run.remark),
        }
        return replace(self, **found, **judged(logits, labels, reference))

    def _decided(self, logits: Tensor, labels: Tensor, reference: Tensor | None) -> dict[str, Any]:
        """The counts of decisions, of logits [R, N, K]."""
        right, many = decisions(logits) == labels, logits.shape[2] > _TOP
        found: dict[str, Any] = {"correct": _sum(self.correct, right.sum(1).tolist())}
        if many:
            among = among_first(logits, labels, _TOP).sum(1).tolist()
            found["top5"] = _sum(self.top5 or (), among)
        if reference is None:
            return found
        known = decisions(reference)
        agreed, lost = decisions(logits) == known, ~right & (known == labels)
        found["agreed"] = _sum(self.agreed or (), agreed.sum(1).tolist())
        found["lost"] = _sum(self.lost or (), lost.sum(1).tolist())
        found["ann_correct"] = (self.ann_correct or 0) + int((known == labels).sum())
        if many:
            top = int(among_first(reference, labels, _TOP).sum())
            found["ann_top5"] = (self.ann_top5 or 0) + top
        return found

    def _errors(self, logits: Tensor, targets: Tensor, reference: Tensor | None) -> dict[str, Any]:
        """The sums of squared differences, of outputs [R, N, K]."""
        found: dict[str, Any] = {"squared": _sum(self.squared, _squared(logits, targets))}
        if reference is not None:
            found["apart"] = _sum(self.apart or (), _squared(logits, reference))
            own = _squared(reference[None], targets)[0]
            found["ann_squared"] = (self.ann_squared or 0.0) + own
        return found

    def curve(self, graph: Graph, hardware: str) -> Curve:
        """The Curve of accuracies, rates and errors that these counts give."""
        right = self.ann_correct
        return Curve(
            images=self.images,
            points=tuple(self._point(i, graph.neurons) for i in range(len(self.steps))),
            ann_accuracy=_share(right, self.images),
            ann_interval=None if right is None else wilson(right, self.images),
            ann_top5=_share(self.ann_top5, self.images),
            ann_error=_share(self.ann_squared, self.images),
            metric=self.metric,
            engine=self.engine,
            seconds=self.seconds,
            exact=not self.remark,
            remark=self.remark,
            hardware=hardware,
            notes=graph.notes,
        )

    def _point(self, index: int, neurons: Mapping[str, int]) -> Point:
        n, steps = self.images, self.steps[index]
        spikes = {name: count[index] / n for name, count in self.spikes.items()}
        correct, lost = _at(self.correct, index), _at(self.lost, index)
        gained = None
        if lost is not None and correct is not None and self.ann_correct is not None:
            gained = correct - (self.ann_correct - lost)
        return Point(
            steps=steps,
            accuracy=_share(correct, n),
            interval=None if correct is None else wilson(correct, n),
            agreement=_share(_at(self.agreed, index), n),
            spikes_per_image=sum(spikes.values()),
            firing_rate=sum(spikes.values()) / (sum(neurons.values()) * steps),
            layers={name: count / (neurons[name] * steps) for name, count in spikes.items()},
            top5=_share(_at(self.top5, index), n),
            lost=lost,
            gained=gained,
            error=_share(_at(self.squared, index), n),
            distance=_share(_at(self.apart, index), n),
        )


def among_first(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Whether the label [N] is among the `count` largest of logits [..., N, K], bool [..., N].

    Of equal logits the class of lower number comes first, as in argmax.
    """
    place = labels.expand(logits.shape[:-1])[..., None]
    own = logits.gather(-1, place)
    before = ~(logits <= own) | (
        (logits == own) & (torch.arange(logits.shape[-1], dtype=torch.int64) < place)
    )
    return before.sum(-1) < count


def _sum(one: tuple[Number, ...], other: list[Number]) -> tuple[Number, ...]:
    """The sums of two rows of counts; an empty row stands for zeros."""
    return tuple(a + b for a, b in zip(one or [0] * len(other), other, strict=True))


def _squared(outputs: Tensor, targets: Tensor) -> list[float]:
    """The sums over images of the mean squared differences of outputs [R, N, K], by row."""
    return (outputs.double() - targets.double()).square().mean(2).sum(1).tolist()


def _at(row: tuple[Number, ...] | None, index: int) -> Number | None:
    return row[index] if row else None


def _share(count: float | None, images: int) -> float | None:
    return None if count is None else count / images
