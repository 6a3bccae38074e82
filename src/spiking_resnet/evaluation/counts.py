"""The running counts of an evaluation, which add up to the same in any order.

They are whole numbers, and fractions where they are no numbers of images: so an evaluation can stop
and resume exactly, and processes can share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import isfinite
from typing import Any, TypeVar

import torch
from torch import Tensor

from spiking_resnet.codec import Record, form
from spiking_resnet.costs.operations import costs
from spiking_resnet.decided import Decisions
from spiking_resnet.decided import joined as all_decisions
from spiking_resnet.evaluation.spans import Span, joined
from spiking_resnet.evaluation.stop_counts import StopCounts, read_out_at
from spiking_resnet.graph import Graph
from spiking_resnet.records import (
    Curve,
    InputError,
    Metric,
    Point,
    Run,
    decisions,
    graver,
    margins,
)
from spiking_resnet.shares import wilson

_TOP = 5
Number = TypeVar("Number", int, Fraction)
# Of a Tally, what adds up number by number.
_SUMS = (
    *("correct", "top5", "agreed", "lost", "ann_correct", "ann_top5"),
    *("squared", "apart", "ann_squared"),
)


def _fractions(found: Any) -> tuple[Fraction, ...]:
    """What `_texts` wrote; floats, which older files have, are fractions too."""
    return tuple(_fraction(value) for value in found)


def _fraction(found: Any) -> Fraction:
    if isinstance(found, str):
        numerator, _, denominator = found.partition("/")
        if int(denominator or "1") < 1:
            raise ValueError("not a number")
        return Fraction(int(numerator), int(denominator or "1"))
    if isinstance(found, bool) or not isfinite(found):
        raise ValueError("not a number")
    return Fraction(found)


def _texts(sums: tuple[Fraction, ...]) -> list[str]:
    return [str(each) for each in sums]


_EXACT = form(_texts, _fractions)
_EXACT_OR_NONE = form(
    lambda sums: None if sums is None else _texts(sums),
    lambda found: None if found is None else _fractions(found),
)
_ONE_OR_NONE = form(
    lambda one: None if one is None else str(one),
    lambda found: None if found is None else _fraction(found),
)


@dataclass(frozen=True)
class Tally(Record):
    """An evaluation's counts over the images so far, for each of the recorded `steps`.

    correct, top5, agreed: images; top5 is None for networks of up to 5 classes; agreed, lost (those
    that the ANN alone classifies correctly) and ann_correct without a network to agree
    with. spikes: of every layer. seconds: of simulation. metric "mse" has sums of mean squared
    differences in the place of decisions: squared and ann_squared from the targets, apart between
    the two networks. remark: the gravest, of the first batch that has it, which begins at image
    remark_at. spans: which images of the loader they are; (): the first ones. stops: of the images
    that stop by a rule, for each rule. decided: the decisions of every batch; None where they are
    not kept.
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
    squared: tuple[Fraction, ...] = field(default=(), metadata=_EXACT)
    apart: tuple[Fraction, ...] | None = field(default=None, metadata=_EXACT_OR_NONE)
    ann_squared: Fraction | None = field(default=None, metadata=_ONE_OR_NONE)
    spikes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    engine: str = ""
    remark: str = ""
    remark_at: int = 0
    spans: tuple[Span, ...] = ()
    stops: tuple[StopCounts, ...] = ()
    decided: tuple[Decisions, ...] | None = None

    later = ("remark_at", "spans", "stops", "decided")

    def __post_init__(self) -> None:
        if self.spans and sum(end - first for first, end in joined(self.spans)) != self.images:
            raise ValueError(f"spans are not of {self.images} images")

    @property
    def right(self) -> int:
        """The images classified correctly at the last step; 0 for the metric "mse"."""
        return self.correct[-1] if self.correct else 0

    @property
    def counted(self) -> tuple[Span, ...]:
        """Which images of the loader are counted."""
        return self.spans or (((0, self.images),) if self.images else ())

    def of_batch(self, first: int, run: Run, labels: Tensor, reference: Tensor | None) -> "Tally":
        """The counts of one batch alone, whose first image is the loader's image `first`.

        run: read out at `steps`, and at those of the rules. labels: int64 [N], or float [N, K] for
        the metric "mse". reference: the ANN's logits [N, K].
        """
        judged = _errors if self.metric == "mse" else _decided
        stops = tuple(each.of_batch(run, labels, reference) for each in self.stops)
        run = read_out_at(run, self.steps)
        kept = None
        if self.decided is not None and len(labels):
            kept = (_each(self.steps, first, run.logits.cpu(), labels, reference),)
        return Tally(
            self.steps,
            self.metric,
            len(labels),
            spikes={name: tuple(c.spikes.sum(1).tolist()) for name, c in run.spikes.items()},
            seconds=run.seconds,
            engine=run.engine,
            remark=run.remark,
            remark_at=first if run.remark else 0,
            spans=((first, first + len(labels)),) if first and len(labels) else (),
            stops=stops,
            decided=kept,
            **judged(run.logits.cpu(), labels, reference),
        )

    def plus(self, other: "Tally") -> "Tally":
        """The counts of both, which have no image in common: the same in any order.

        Neither is changed: after an interruption one of the two is complete.
        """
        spans = joined((*self.counted, *other.counted))
        early, late = sorted((self, other), key=lambda one: one.remark_at if one.remark else -1)
        remark = graver(early.remark, late.remark)
        return replace(
            self,
            images=self.images + other.images,
            spikes={
                name: _sum(self.spikes.get(name, ()), other.spikes.get(name, ()))
                for name in {**self.spikes, **other.spikes}
            },
            seconds=self.seconds + other.seconds,
            engine=", ".join(sorted({*self.engine.split(", "), *other.engine.split(", ")} - {""})),
            remark=remark,
            remark_at=early.remark_at if remark == early.remark else late.remark_at,
            spans=() if len(spans) == 1 and spans[0][0] == 0 else spans,
            stops=tuple(a.plus(b) for a, b in zip(self.stops, other.stops, strict=True)),
            decided=_both_kept(self.decided, other.decided),
            **{name: _both(getattr(self, name), getattr(other, name)) for name in _SUMS},
        )

    def decisions(self, graph: Graph) -> Decisions | None:
        """The decisions for all images, in their order; None where they were not kept."""
        if not self.decided:
            return None
        names = tuple(graph.notes.get("classes") or ())
        return replace(all_decisions(self.decided), names=names)

    def curve(self, graph: Graph, hardware: str) -> Curve:
        """The Curve of accuracies, rates and errors that these counts give."""
        right = self.ann_correct
        points = {t: self._point(i, graph.neurons) for i, t in enumerate(self.steps)}
        spent = costs(graph) if self.stops else None
        return Curve(
            images=self.images,
            points=tuple(points.values()),
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
            stopped=tuple(
                each.stopped(points[each.rule.full], spent) for each in self.stops if spent
            ),
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


def _decided(logits: Tensor, labels: Tensor, reference: Tensor | None) -> dict[str, Any]:
    """The counts of decisions, of logits [R, N, K]."""
    right, many = decisions(logits) == labels, logits.shape[2] > _TOP
    found: dict[str, Any] = {"correct": tuple(right.sum(1).tolist())}
    if many:
        found["top5"] = tuple(among_first(logits, labels, _TOP).sum(1).tolist())
    if reference is None:
        return found
    known = decisions(reference)
    found["agreed"] = tuple((decisions(logits) == known).sum(1).tolist())
    found["lost"] = tuple((~right & (known == labels)).sum(1).tolist())
    found["ann_correct"] = int((known == labels).sum())
    if many:
        found["ann_top5"] = int(among_first(reference, labels, _TOP).sum())
    return found


def _each(
    steps: tuple[int, ...], first: int, logits: Tensor, labels: Tensor, reference: Tensor | None
) -> Decisions:
    """The decisions of logits [R, N, K] for the images from the loader's image `first` on."""
    return Decisions(
        steps=steps,
        classes=max(2, logits.shape[2]),
        images=tuple(range(first, first + len(labels))),
        labels=tuple(labels.tolist()),
        ann=None if reference is None else tuple(decisions(reference).tolist()),
        snn=tuple(map(tuple, decisions(logits).tolist())),
        margins=tuple(map(tuple, margins(logits).tolist())),
        ann_margins=None if reference is None else tuple(margins(reference).tolist()),
    )


def _both_kept(
    one: tuple[Decisions, ...] | None, other: tuple[Decisions, ...] | None
) -> tuple[Decisions, ...] | None:
    """The decisions of both, in the order of their images."""
    if one is None or other is None:
        return other if one is None else one
    return tuple(sorted((*one, *other), key=lambda block: block.images))


def _errors(logits: Tensor, targets: Tensor, reference: Tensor | None) -> dict[str, Any]:
    """The sums of squared differences, of outputs [R, N, K]."""
    found: dict[str, Any] = {"squared": _squared(logits, targets)}
    if reference is not None:
        found["apart"] = _squared(logits, reference)
        (found["ann_squared"],) = _squared(reference[None], targets)
    return found


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


def _sum(one: tuple[Number, ...], other: tuple[Number, ...]) -> tuple[Number, ...]:
    """The sums of two rows of counts; an empty row stands for zeros."""
    return tuple(a + b for a, b in zip(one, other, strict=True)) if one and other else one or other


def _both(one: Any, other: Any) -> Any:
    """The sum of two numbers or rows; None stands for none."""
    if one is None or other is None:
        return other if one is None else one
    return _sum(one, other) if isinstance(one, tuple) else one + other


def _squared(outputs: Tensor, targets: Tensor) -> tuple[Fraction, ...]:
    """The sums over images of the mean squared differences of outputs [R, N, K], by row."""
    sums = (outputs.double() - targets.double()).square().mean(2).sum(1).tolist()
    if not all(map(isfinite, sums)):
        raise InputError("the outputs are NaN or infinite, or as far from the targets as that")
    return tuple(map(Fraction, sums))


def _at(row: tuple[Number, ...] | None, index: int) -> Number | None:
    return row[index] if row else None


def _share(count: int | Fraction | None, images: int) -> float | None:
    return None if count is None else float(count / images)
