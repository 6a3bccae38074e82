"""Early stopping: thresholds on the margin of the read-out, found on training images.

An image stops at the first step at which the largest logit is so far above the second that the
decision is not expected to change any more. Thresholds of every step, found on training images by
the decisions of the full run, are those of Wu, Jin, Yu, Yi and Huang, "Optimising Event-Driven
Spiking Neural Network with Regularisation and Cutoff" (2023, arXiv 2301.09522). They hold for one,
and an image meets many and may be misjudged at any. So each step is asked for a larger share, the
smallest with which all the images that the rule is found on keep the confidence together.

For a share q, with n_t(x) images whose margin at step t is at least x, s_t(x) of which decide there
as at T:

    threshold_t = the smallest x with s_u(y) >= q n_u(y) for all y >= x and all steps u >= t

A larger q gives larger thresholds, so a larger confidence stops no image earlier. Margins on
training images are larger than on others, as the ANN knows them: what the rule keeps elsewhere is
measured (`Stopped.kept`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil, inf
from typing import Any

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.codec import Record
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.evaluation.progress_file import first_known, packed, unpacked
from spiking_resnet.evaluation.spans import uncounted
from spiking_resnet.graph import Graph
from spiking_resnet.images import expected, images_of, parts_of
from spiking_resnet.processes.team import current
from spiking_resnet.progress import Asked, shown
from spiking_resnet.records import InputError, Stop, decisions
from spiking_resnet.records import margins as margins_of
from spiking_resnet.store import digest
from spiking_resnet.surroundings import undisturbed

STEPS = 64  # where a network serves any number, and how often the read-out is looked at
BATCH = 50


@arguments.checked(
    graph=arguments.network,
    loader=arguments.batches,
    steps=arguments.whole,
    confidence=arguments.numbers,
    every=arguments.whole,
    engine=arguments.text,
    progress=arguments.progress,
    device=arguments.device,
    notes=arguments.mapping,
)
def calibrate_stop(
    graph: Graph,
    loader: Tensor | Iterable[Any],
    steps: int | None = None,
    confidence: float | Sequence[float] = 0.99,
    every: int | None = None,
    engine: str = "auto",
    progress: Callable[[int], None] | Asked = None,
    device: torch.device | str = "cpu",
    notes: dict[str, Any] | None = None,
) -> tuple[Stop, ...]:
    """Find rules by which images stop early, one for each confidence, from one simulation.

    The processes of a team share the batches, as in `evaluate`.

    loader: training images as for `convert`, normalised as for the ANN; labels are not looked at.
        They must not be among the images that are judged later.
    steps: T of the full run; by default the one that the network is made for, or 64.
    confidence: in (0, 1], one or several: the share of these images that are to decide as at T. 1
        changes none of their decisions.
    every: how many steps lie between two read-outs; by default as many as make at most 64. Each
        read-out costs time of simulation. None is before the steps that the network's own read-out
        leaves out.
    progress: as of `evaluate`; a function is called with the images done. notes: JSON-able, kept
        in the rules.
    Raises InputError for no images, a confidence outside (0, 1], and steps that cannot be.

    >>> (rule,) = sr.calibrate_stop(snn, calibration, steps=16, confidence=0.95)
    >>> rule.confidence
    0.95
    """
    wanted = (confidence,) if isinstance(confidence, float | int) else tuple(confidence)
    read = read_outs(graph, _steps(graph) if steps is None else steps, every)
    for each in wanted or (0,):
        Stop(each, read, (None,) * (len(read) - 1))  # refuses what is no confidence
    team = current()
    batches = parts_of(loader, BATCH)
    if team.count > 1:
        known, batches = first_known(batches)
        team.same("training images", str(known))
    with shown(progress, "finding when to stop", expected(loader)) as bar:
        found = _Collected(progress if callable(progress) else bar.images)
        with team.shared(found.add, packed, partial(unpacked, _Images)) as give:
            for _, batch in uncounted(batches, (), team):
                give(_looked_at(graph, batch, read, engine, team.device(device)))

    def rules() -> _Rules:
        margins, same = found.all()
        own: dict[str, Any] = {"network": digest(graph), "notes": notes or {}}
        return _Rules(tuple(rule(margins, same, read, each, **own) for each in wanted))

    return team.handed(rules, packed, partial(unpacked, _Rules)).rules


def read_outs(graph: Graph, steps: int, every: int | None = None) -> tuple[int, ...]:
    """The steps at which an image may stop: `every` so many, back from the last, `steps`."""
    before = max(graph.pre_steps, graph.output.delay)
    if steps < 1 or (every is not None and every < 1):
        raise InputError(f"steps is {steps} and every {every}: both must be at least 1")
    apart = every or max(1, ceil((steps - before) / STEPS))
    return tuple(sorted(range(steps, min(before, steps - 1), -apart)))


def _steps(graph: Graph) -> int:
    return graph.made_for or graph.pre_steps + STEPS


@dataclass(frozen=True)
class _Image(Record):
    """An image's margins at every read-out, and whether it is decided there as at the last."""

    margins: tuple[float, ...]
    same: tuple[bool, ...]


@dataclass(frozen=True)
class _Images(Record):
    images: tuple[_Image, ...]


@dataclass(frozen=True)
class _Rules(Record):
    rules: tuple[Stop, ...]


@dataclass(frozen=True)
class _Collected:
    """The margins of all images, in the first process."""

    progress: Callable[[int], None]
    images: list[_Image] = field(default_factory=list)

    def add(self, more: _Images) -> None:
        self.images.extend(more.images)
        self.progress(len(self.images))

    def all(self) -> tuple[Tensor, Tensor]:
        """(margins float64 [R, N], the decision is that of T bool [R, N])."""
        if not self.images:
            raise InputError("there are no images to find a rule of stopping on: give some")
        known = torch.tensor([each.margins for each in self.images], dtype=torch.float64)
        same = torch.tensor([each.same for each in self.images], dtype=torch.bool)
        return known.T.contiguous(), same.T.contiguous()


@undisturbed()
def _looked_at(
    graph: Graph, batch: Any, read: tuple[int, ...], engine: str, device: torch.device
) -> _Images:
    images = images_of(batch).to(device)
    logits = simulate(graph, images, read[-1], read, engine).logits.cpu()
    decided = decisions(logits)
    pairs = zip(margins_of(logits).T.tolist(), (decided == decided[-1]).T.tolist(), strict=True)
    return _Images(tuple(_Image(tuple(known), tuple(same)) for known, same in pairs))


@undisturbed()
def rule(
    known: Tensor, same: Tensor, steps: tuple[int, ...], confidence: float, **facts: Any
) -> Stop:
    """The rule of a confidence for images with these margins [R, N] at R steps, the last is T.

    same: whether they decide there as at T, bool [R, N]. facts: further fields of the Stop.
    """
    images = known.shape[1]
    if images == 0:
        raise InputError("there are no images to find a rule of stopping on: give some")
    allowed = int((1 - confidence) * images + 1e-9)
    for errors in range(allowed, -1, -1):  # until all together keep the confidence
        share = 1 - errors / images
        found = Stop(confidence, steps, thresholds(known[:-1], same[:-1], share), share)
        ends = found.ends(known)
        agreeing = int(same.gather(0, ends[None]).sum())
        if images - agreeing <= allowed:
            break
    taken = torch.tensor(steps, dtype=torch.float64)[ends]
    return Stop(
        confidence, steps, found.thresholds, share, images, agreeing / images,
        float(taken.mean()), **facts,
    )  # fmt: skip


def thresholds(known: Tensor, same: Tensor, share: float) -> tuple[float | None, ...]:
    """The threshold of every step, None where no image may stop; see the top of this file.

    known, same: margins and whether the decision is that of T, [R, N].
    """
    margins, order = known.sort(1, descending=True)
    agreeing = same.gather(1, order).cumsum(1)
    counts = torch.arange(1, known.shape[1] + 1, dtype=torch.float64)
    last = torch.ones_like(margins, dtype=torch.bool)  # of the images of one margin
    last[:, :-1] = margins[:, 1:] < margins[:, :-1]
    kept = (agreeing >= share * counts - 1e-9) | ~last
    fitting = kept.int().cumprod(1).bool() & last
    own = torch.where(fitting, margins, inf).amin(1)
    least = own.flip(0).cummax(0).values.flip(0) if len(own) else own
    return tuple(None if each == inf else each for each in least.tolist())
