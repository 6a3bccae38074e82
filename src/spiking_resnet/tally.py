"""What an evaluation has counted so far: whole numbers, so that it can stop and go on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.graph import Graph
from spiking_resnet.records import Curve, Point, Run, wilson

_TOP = 5


@dataclass(frozen=True)
class Tally:
    """Counts over the images so far, for each of the recorded `steps`.

    correct, top5, agreed: images; top5 is None for networks of up to 5 classes, agreed and
    ann_correct without a network to agree with. spikes: of every layer. seconds: of simulation.
    """

    steps: tuple[int, ...]
    images: int = 0
    correct: tuple[int, ...] = ()
    top5: tuple[int, ...] | None = None
    agreed: tuple[int, ...] | None = None
    ann_correct: int | None = None
    ann_top5: int | None = None
    spikes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    engine: str = ""
    remark: str = ""

    def added(self, run: Run, labels: Tensor, reference: Tensor | None) -> "Tally":
        """These counts and those of one batch; reference: the artificial network's logits [N, K].

        This tally stays as it is: whatever happens on the way, one of the two is whole.
        """
        logits = run.logits.cpu()
        chosen = logits.argmax(2)  # [R, N]
        many = logits.shape[2] > _TOP
        found: dict[str, Any] = {
            "images": self.images + len(labels),
            "correct": _sum(self.correct, (chosen == labels).sum(1)),
            "spikes": {
                name: _sum(self.spikes.get(name, ()), count.spikes.sum(1).cpu())
                for name, count in run.spikes.items()
            },
            "seconds": self.seconds + run.seconds,
            "engine": run.engine,
            "remark": self.remark or run.remark,
        }
        if many:
            found["top5"] = _sum(self.top5 or (), among_first(logits, labels, _TOP).sum(1))
        if reference is not None:
            decisions = reference.argmax(1)
            found["agreed"] = _sum(self.agreed or (), (chosen == decisions).sum(1))
            found["ann_correct"] = (self.ann_correct or 0) + int((decisions == labels).sum())
        if reference is not None and many:
            right = int(among_first(reference, labels, _TOP).sum())
            found["ann_top5"] = (self.ann_top5 or 0) + right
        return replace(self, **found)

    def curve(self, graph: Graph, hardware: str) -> Curve:
        """The shares that the counts come to."""
        right = self.ann_correct
        return Curve(
            images=self.images,
            points=tuple(self._point(i, graph.neurons) for i in range(len(self.steps))),
            ann_accuracy=None if right is None else right / self.images,
            ann_interval=None if right is None else wilson(right, self.images),
            ann_top5=None if self.ann_top5 is None else self.ann_top5 / self.images,
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
        return Point(
            steps=steps,
            accuracy=self.correct[index] / n,
            interval=wilson(self.correct[index], n),
            agreement=None if self.agreed is None else self.agreed[index] / n,
            spikes_per_image=sum(spikes.values()),
            firing_rate=sum(spikes.values()) / (sum(neurons.values()) * steps),
            layers={name: count / (neurons[name] * steps) for name, count in spikes.items()},
            top5=None if self.top5 is None else self.top5[index] / n,
        )

    def to_json(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)


def tally_from_json(found: Mapping[str, Any]) -> Tally:
    """The Tally that `Tally.to_json` described; TypeError or KeyError for anything else."""
    several = ("steps", "correct", "top5", "agreed")
    counts = {name: None if found[name] is None else tuple(found[name]) for name in several}
    spikes = {name: tuple(count) for name, count in found["spikes"].items()}
    return Tally(**{**found, **counts, "spikes": spikes})


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


def _sum(one: tuple[int, ...], other: Tensor) -> tuple[int, ...]:
    """The sums of two rows of counts; an empty row stands for zeros."""
    counts = [int(count) for count in other]
    return tuple(a + b for a, b in zip(one or [0] * len(counts), counts, strict=True))
