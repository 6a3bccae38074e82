"""Evaluate a spiking network: accuracy at every recorded time step from one simulation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from spiking_resnet import arguments
from spiking_resnet.capture.calls import TraceError
from spiking_resnet.capture.heads import with_heads
from spiking_resnet.capture.logits import own_logits
from spiking_resnet.capture.module import trace
from spiking_resnet.capture.sources import ALONE, module_of
from spiking_resnet.decided import per_class as by_class
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.environment import hardware
from spiking_resnet.evaluation.counts import Tally
from spiking_resnet.evaluation.progress_file import (
    Part,
    Progress,
    first_known,
    module_digest,
    packed,
    unpacked,
)
from spiking_resnet.evaluation.spans import Span, uncounted
from spiking_resnet.evaluation.stop_counts import StopCounts
from spiking_resnet.files import held
from spiking_resnet.graph import Graph, interpret
from spiking_resnet.images import LABELS, as_maps, expected, given_images, images_of
from spiking_resnet.labels import LabelError, class_labels
from spiking_resnet.processes.team import Team, current
from spiking_resnet.progress import Asked, partly, shown
from spiking_resnet.progress import Work as Bar
from spiking_resnet.records import Curve, InputError, Metric, Stop
from spiking_resnet.store import digest
from spiking_resnet.surroundings import undisturbed

STEPS = (8, 16, 32, 64, 128, 350)


@arguments.checked(
    graph=arguments.network,
    loader=arguments.batches,
    steps=arguments.wholes,
    engine=arguments.text,
    progress=arguments.progress,
    device=arguments.device,
    facts=arguments.mapping,
    metric=arguments.text,
    stop=arguments.stops,
    per_class=arguments.truth,
    decisions=arguments.truth,
)
def evaluate(
    graph: Graph,
    loader: Iterable[Any],
    steps: Sequence[int] | None = None,
    ann: nn.Module | Graph | None = None,
    engine: str = "auto",
    progress: Callable[[int, int], None] | Asked = None,
    device: torch.device | str = "cpu",
    resume: str | Path | Part | None = None,
    facts: Mapping[str, Any] | None = None,
    metric: Metric | None = None,
    stop: Stop | Sequence[Stop] = (),
    per_class: bool = False,
    decisions: bool = False,
) -> Curve:
    """Measure a spiking network's accuracy and spikes after each of `steps` time steps.

    The processes of a team (`processes.team.together`) share the batches, and all have the result;
    the first one keeps the counts of all, and calls `progress`, from a second thread too.

    steps: by default STEPS, or the one T that the network is made for (`Graph.made_for`).
    loader: batches (images [N, C, H, W], labels), or one pair of all images and labels as tensors;
        normalised as for the ANN. Labels are whole numbers of any type, [N] or [N, 1], in a tensor,
        an array or a list. A batch may be a dictionary: the labels are its label, labels, target or
        targets.
    ann: the ANN to agree with (default: the one that `graph` came from).
    progress: whether a bar is shown in a terminal or a notebook (elsewhere a line now and then),
        which it is unless False. Or a function that is called with (images done, images right at
        the last step) after every batch, and at the start where it goes on.
    resume: a file that keeps what was counted: after an interruption of any kind the same call goes
        on where it was, with as many processes as you like, and its numbers are those of an
        uninterrupted one. Or the part of a comparison that it is. facts: JSON-able; what else must
        be the same to go on, such as the name of the data set.
    metric: "accuracy" of the largest logit, labels int [N]; "binary", of one output that is above 0
        for label 1; "mse", the mean squared difference from float targets [N, K] or [N], for a
        network whose outputs are values. None: binary for one output, else accuracy.
    stop: rules by which images stop early, such as `calibrate_stop` finds: `Curve.stopped` has the
        results of each, from the same simulation. Their T is added to `steps`.
    per_class: `Curve.per_class` has accuracy, agreement and the confusion matrices of the classes.
    decisions: `Curve.decisions` has what was decided for every image, and which of them flipped.
    A KeyboardInterrupt has what was counted as its `partial`, a Curve of fewer images.
    Raises InputError for an empty loader, batches without labels, labels that the network does not
    know, or steps below 1; ResumeError for a file of another network, other data or options;
    BusyError for a file that another process is going on with.

    >>> curve = sr.evaluate(snn, loader, steps=(8, 32))
    >>> [point.steps for point in curve.points]
    [8, 32]
    """
    rules = (stop,) if isinstance(stop, Stop) else tuple(stop)
    steps = usual_steps(graph) if steps is None else steps
    if not steps:
        raise InputError("steps is empty: name at least one number of time steps")
    steps = tuple(sorted({*steps, *(rule.full for rule in rules)}))
    metric = _metric(graph, metric)
    _check_decided(rules, per_class or decisions, graph, metric)
    compared = graph.ann if ann is None else ann
    reference = None if compared is None else _Reference(compared, metric)
    kept_each = () if per_class or decisions else None
    tally = Tally(steps, metric, stops=tuple(map(StopCounts, rules)), decided=kept_each)
    team = current()
    known: str | None = None
    if isinstance(resume, str | Path) or team.count > 1:
        known, loader = first_known(loader)
    team.same("batches", str(known))
    with ExitStack() as stack:
        bar = stack.enter_context(shown(progress, "simulating", expected(loader)))
        counting = _Counting(tally, progress if callable(progress) else bar.images, bar)

        def begin() -> Tally:
            kept: Progress | Part | None = resume if isinstance(resume, Part) else None
            if isinstance(resume, str | Path):
                stack.enter_context(held(resume))
                own: dict[str, Any] = {
                    "network": digest(graph),
                    "steps": tally.steps,
                    "metric": metric,
                }
                said = {"engine": engine, "agreement": _identity(graph, ann)}
                if rules:
                    own["stop"] = [rule.to_json() for rule in rules]
                if kept_each is not None:
                    own["decisions"] = True
                kept = Progress(resume, {**own, **said, **(facts or {}), "first batch": known})
            return counting.go_on(kept)

        tally = team.handed(begin, packed, partial(unpacked, Tally))
        work = _Work(graph, tally, reference, engine, team.device(device))
        with partly(lambda: counting.tally.curve(graph, hardware())):
            counting.count(work, uncounted(loader, tally.counted, team), team)
        tally = team.handed(lambda: counting.tally, packed, partial(unpacked, Tally))
    if tally.images == 0:
        raise InputError("the loader gave no images: check the data set, --limit and the split")
    curve, each = tally.curve(graph, hardware()), tally.decisions(graph)
    if each is None:
        return curve
    counted = by_class(each) if per_class else None
    return replace(curve, per_class=counted, decisions=each if decisions else None)


@dataclass(frozen=True, eq=False)
class _Work:
    """What is done with every batch. tally: what is counted before."""

    graph: Graph
    tally: Tally
    reference: "_Reference | None"
    engine: str
    device: torch.device

    @undisturbed()
    def counts(self, first: int, batch: Any) -> Tally:
        """The counts of the batch whose first image is the loader's image `first`."""
        steps = self.tally.steps
        images, labels = judged(batch, self.graph.output.shape[0], self.tally.metric)
        record = {*steps, *(step for each in self.tally.stops for step in each.rule.steps)}
        run = simulate(self.graph, images.to(self.device), steps[-1], sorted(record), self.engine)
        decided = None if self.reference is None else self.reference.logits(batch)
        return self.tally.of_batch(first, run, labels, decided)


class _Counting:
    """The counts of a running evaluation, in its only process or the first: kept and told."""

    def __init__(self, tally: Tally, progress: Callable[[int, int], None], bar: Bar) -> None:
        self.tally, self.progress, self.bar = tally, progress, bar
        self.saved, self.kept = tally, cast(Progress | Part | None, None)

    def go_on(self, kept: Progress | Part | None) -> Tally:
        """Begin with what was kept, and return it."""
        self.kept = kept
        if kept is not None and kept.tally is not None:
            self.tally = self.saved = kept.tally
            self.bar.skip(self.tally.images)
            self._tell()
        return self.tally

    def count(self, work: _Work, batches: Iterable[tuple[Span, Any]], team: Team) -> None:
        """Count this process's batches; the first one saves what all count, whatever ends it."""
        try:
            with team.shared(self._add, packed, partial(unpacked, Tally)) as give:
                for (first, _), batch in batches:
                    give(work.counts(first, batch))
        finally:
            if self.kept is not None and self.tally is not self.saved:
                self.kept.save(self.tally, now=True)

    def _add(self, more: Tally) -> None:
        self.tally = self.tally.plus(more)
        if self.kept is not None:
            self.kept.save(self.tally)
        self._tell()

    def _tell(self) -> None:
        if self.tally.images:
            self.progress(self.tally.images, self.tally.right)


def usual_steps(graph: Graph) -> tuple[int, ...]:
    """The time steps at which a network is read out by default."""
    if graph.made_for is not None:
        return (graph.made_for,)
    return tuple(graph.pre_steps + steps for steps in STEPS)


def _metric(graph: Graph, metric: Metric | None) -> Metric:
    """The metric to use; InputError for one that does not fit the network's outputs."""
    one = graph.output.shape == (1,)
    if metric is None:
        return "binary" if one else "accuracy"
    if metric not in get_args(Metric):
        raise InputError(f"metric is {metric!r}: use one of {', '.join(get_args(Metric))}")
    if metric != "mse" and one != (metric == "binary"):
        raise InputError(
            f"metric is {metric!r}, and the network has {graph.output.shape[0]} outputs: "
            f"use {'binary' if one else 'accuracy'}, or mse for outputs that are values"
        )
    return metric


def _check_decided(rules: tuple[Stop, ...], decided: bool, graph: Graph, metric: Metric) -> None:
    """Raise InputError for rules of stopping that do not fit, and where nothing is decided."""
    if (rules or decided) and metric == "mse":
        asked = "stop goes" if rules else "per_class and decisions go"
        raise InputError(f"{asked} by decisions, and the metric mse has none: leave out one")
    known = {rule.network for rule in rules} - {""}
    if known and known != {digest(graph)}:
        raise InputError(
            "a rule of stopping was found for another network: find it for this one, with "
            "calibrate_stop"
        )


def judged(batch: Any, outputs: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """Images of a batch and its labels or targets, for a network of `outputs` outputs."""
    if metric == "mse":
        return _with_targets(batch, outputs)
    images, labels = labelled(batch)
    check_labels(labels, max(2, outputs))
    return images, labels


def _with_targets(batch: Any, outputs: int) -> tuple[Tensor, Tensor]:
    """Images and float targets [N, K] of one batch."""
    images, beside = images_of(batch), _beside(batch)
    try:
        targets = beside if isinstance(beside, Tensor) else torch.from_numpy(np.asarray(beside))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"targets are a {type(beside).__name__} of what are no numbers, or of rows of "
            f"different lengths ({error}): the metric mse needs float targets [N, {outputs}]"
        ) from error
    if targets.is_complex():
        raise InputError(f"targets are {targets.dtype}: the metric mse needs real numbers")
    targets = targets.to("cpu", torch.float64)
    if targets.shape == (len(images),):
        targets = targets[:, None]
    if targets.shape != (len(images), outputs):
        raise InputError(
            f"targets are {list(targets.shape)}: the metric mse needs batches of (images "
            f"[N, C, H, W], targets [N, {outputs}])"
        )
    if not bool(torch.isfinite(targets).all()):
        raise InputError("a batch of targets holds NaN or infinite numbers")
    return images, targets.detach()


def _beside(batch: Any) -> Any:
    """The labels or targets of a batch as given; InputError where it has none."""
    if isinstance(batch, Mapping):
        named = [batch[name] for name in LABELS if name in batch]
        if not named:
            raise InputError(
                f"a batch's dictionary has no labels among {', '.join(map(str, batch))}: call them "
                f"by one of {', '.join(LABELS)}"
            )
        return named[0]
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        return batch[1]
    raise InputError("evaluation needs batches of (images [N, C, H, W], labels [N])")


def labelled(batch: Any) -> tuple[Tensor, Tensor]:
    """Images (see `images_of`) and labels, int64 [N], of one batch.

    Labels are the second entry, or a dictionary's one of LABELS. InputError where there are none.
    """
    images, labels = images_of(batch), _beside(batch)
    try:
        return images, class_labels(labels, len(images))
    except LabelError as error:
        raise InputError(
            f"a batch's {error}; of values to come close to, say metric='mse'"
        ) from error


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise InputError for labels outside the network's classes."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, the network knows "
            f"{classes} classes: use the data set that it was trained on"
        )


def _identity(graph: Graph, ann: nn.Module | Graph | None) -> str:
    """The identity of the ANN to agree with, for the progress file."""
    if ann is None or ann is graph.ann:
        return "graph"
    if isinstance(ann, Graph):
        return digest(ann)
    with ALONE:
        return module_digest(module_of(ann))


class _Reference:
    """The ANN whose decisions the spiking network is compared with.

    What a sigmoid at the end of a module makes of a logit of 0 is 0 again where signs decide.
    """

    def __init__(self, ann: nn.Module | Graph, metric: Metric) -> None:
        self.graph = ann if isinstance(ann, Graph) else None
        self.module = None if isinstance(ann, Graph) else module_of(ann)
        self.zero: float | None = None if metric == "binary" and self.module is not None else 0.0

    @undisturbed()
    def logits(self, batch: Any) -> Tensor:
        """The logits [N, K] of a batch's images as they were given."""
        images = given_images(batch)
        if self.graph is not None:
            return interpret.logits(self.graph, as_maps(images))
        assert self.module is not None
        if self.zero is None:
            self.zero = _zero(self.module, images.shape[1:])
        return own_logits(self.module, images) - self.zero


def _zero(module: nn.Module, shape: Sequence[int]) -> float:
    """What a module with one output returns for a logit of 0; 0 where its end is unknown."""
    try:
        traced = trace(module, shape)
    except TraceError:
        return 0.0
    return float(with_heads(traced, torch.zeros((1, 1), dtype=torch.float32, device="cpu")))
