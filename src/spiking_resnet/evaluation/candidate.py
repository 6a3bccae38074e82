"""One conversion method on one network: accuracy, loss and SynOps on images not calibrated on.

Losses are differences on the same images: of n images let the ANN alone classify b correctly
and the spiking network alone c. The loss is l = (b - c) / n, and its standard error

    sqrt(((b + c) / n - l^2) / n)

which is McNemar's for paired decisions.
"""

import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import sqrt
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from spiking_resnet import rules
from spiking_resnet.codec import Record
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.convert import traced_alike
from spiking_resnet.conversion.methods import Method
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.pools import relu_first
from spiking_resnet.conversion.statistics import Measured
from spiking_resnet.costs.operations import Costs, costs
from spiking_resnet.evaluation.conditions import Facts, facts
from spiking_resnet.evaluation.evaluate import check_labels, evaluate, labelled
from spiking_resnet.evaluation.paired import Paired
from spiking_resnet.evaluation.progress_file import Part
from spiking_resnet.graph import Graph, interpret
from spiking_resnet.images import image_digest, images_of, parts_of
from spiking_resnet.processes.team import current
from spiking_resnet.records import Curve, InputError, Point, decisions
from spiking_resnet.shares import standard_error
from spiking_resnet.store import digest, packed, unpacked
from spiking_resnet.surroundings import undisturbed

Images = Tensor | Iterable[Any]


@dataclass(frozen=True)
class Reading(Record):
    """Results of one method after T time steps (layer-serial neurons: T time steps for each layer).

    accuracy, agreement (with the ANN's decisions): fractions; interval: accuracy's 95 % Wilson
    interval; standard_error: its binomial one. loss: percentage points below the ANN; loss_error:
    its standard error, in points. lost, gained: images that the ANN alone, or the spiking network
    alone, classifies correctly. operations: SynOps of an image (`costs.operations`);
    spikes_per_image, firing_rate: as in Point. top5: a fraction; None for networks of up to 5
    classes. seconds: of simulation, of an image, up to the last T that was read out. latency: the
    time steps until the answer is there, those before the counted ones included. Raises ValueError
    for numbers that cannot be.
    """

    steps: int
    accuracy: float
    interval: tuple[float, float]
    standard_error: float
    loss: float
    loss_error: float
    agreement: float
    lost: int
    gained: int
    operations: float
    spikes_per_image: float
    firing_rate: float
    engine: str
    exact: bool
    top5: float | None = None
    seconds: float | None = field(default=None, compare=False)
    latency: int | None = None

    later = ("top5", "seconds", "latency")
    RULES: ClassVar[rules.Rules] = {
        "steps": rules.whole(1),
        **dict.fromkeys(("accuracy", "standard_error", "agreement"), rules.number(0, 1)),
        "interval": rules.pair(rules.number(0, 1)),
        "loss": rules.number(-100, 100),
        "loss_error": rules.number(0, 100),
        **dict.fromkeys(("lost", "gained"), rules.whole()),
        **dict.fromkeys(("operations", "spikes_per_image", "firing_rate"), rules.number()),
        "top5": rules.optional(rules.number(0, 1)),
        "seconds": rules.optional(rules.number(0)),
        "latency": rules.optional(rules.whole()),
    }

    def __post_init__(self) -> None:
        rules.check(self, self.RULES)

    def paired(self, images: int) -> Paired:
        """The lost and gained images behind the loss, of `images` in all."""
        return Paired(self.lost, self.gained, images)

    def told_error(self, images: int) -> float:
        """The loss's error in points as it is printed: where it is 0, `Paired.reach` instead."""
        return self.loss_error or 100 * self.paired(images).reach


@dataclass(frozen=True, eq=False)
class Subject:
    """A traced network with its calibration and test images, on which methods are compared.

    traced: the network. ann: the same, as methods take it. calibration: measured once for all
    methods that need the same of it. loader: the test batches, `images` in all. seen, judged:
    digests of the calibration images and of the test images.
    """

    traced: Graph
    ann: Graph
    calibration: Measured
    loader: Iterable[Any]
    images: int
    ann_accuracy: float
    seen: str
    judged: str


def prepared(model: nn.Module | str | Path, calibration: Images, loader: Iterable[Any]) -> Subject:
    """Trace the network and read both sets of images once: the Subject of a comparison.

    A batch without labels takes the ANN's decisions as its labels. Raises InputError for sets that
    are empty, can be read only once, or share an image, TraceError for networks that cannot be
    converted.
    """
    for what, source in (("calibration", calibration), ("judged images", loader)):
        if isinstance(source, Iterator):
            raise InputError(
                f"the {what} can be read only once: give a tensor, a list or a DataLoader"
            )
    return looked_through(traced_alike(model, Calibration(calibration).first), calibration, loader)


def looked_through(traced: Graph, calibration: Images, loader: Iterable[Any]) -> Subject:
    """The Subject of a network that is traced already; both sets can be read several times."""
    seen = _digests(calibration)
    ann = relu_first(fold_bn(traced))
    labelled_loader, team = _Labelled(loader, ann), current()
    hashed, known, count, right = blake2b(digest_size=16), set(seen), 0, 0
    for number, (images, labels) in enumerate(labelled_loader):
        check_labels(labels, max(2, ann.output.shape[0]))
        own = [image_digest(image) for image in images]
        if shared := sum(one in known for one in own):
            raise InputError(
                f"{shared} images of a judged batch are calibration images too, so accuracy on "
                "them says little: choose others"
            )
        hashed.update(b"".join(own) + labels.numpy().tobytes())
        if number % team.count == team.rank:
            right += int((_decided(ann, images) == labels).sum())
        count += len(labels)
    if count == 0:
        raise InputError("the loader gave no images: check the data set, --limit and the split")
    joined = blake2b(b"".join(sorted(seen)), digest_size=16).hexdigest()
    team.same("network", digest(traced))
    team.same("judged images", hashed.hexdigest())
    right = team.total(right)
    return Subject(
        traced,
        ann,
        Measured(calibration),
        labelled_loader,
        count,
        right / count,
        joined,
        hashed.hexdigest(),
    )


class _Labelled:
    """Batches (images, labels) of a loader; where it has no labels, the ANN's decisions are."""

    def __init__(self, loader: Iterable[Any], ann: Graph) -> None:
        self.loader, self.ann = loader, ann

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in parts_of(self.loader, 64):
            if isinstance(batch, Tensor):
                images = images_of(batch)
                yield images, _decided(self.ann, images)
            else:
                yield labelled(batch)


@undisturbed()
def _decided(ann: Graph, images: Tensor) -> Tensor:
    """The classes [N] that the ANN decides for."""
    return decisions(interpret.logits(ann, images))


def _digests(source: Images) -> list[bytes]:
    return [image_digest(image) for part in parts_of(source, 500) for image in images_of(part)]


@dataclass(frozen=True, eq=False)
class Made:
    """A spiking network made by one method. seconds: the time of the conversion."""

    graph: Graph
    facts: Facts
    costs: Costs
    seconds: float


def make(subject: Subject, method: Method) -> Made:
    """Convert a subject by this method, and time it; of a team it is the first that does."""

    def convert() -> tuple[Graph, float]:
        begin = time.perf_counter()
        return method.apply(subject.traced, subject.calibration), time.perf_counter() - begin

    graph, seconds = current().handed(convert, _packed, _unpacked)
    return Made(graph, facts(graph), costs(graph), seconds)


def given(subject: Subject, graph: Graph) -> Made:
    """A network that is made already; InputError where its images or classes are others."""
    own, asked = ((each.input.shape, each.output.shape) for each in (graph, subject.ann))
    if own != asked:
        raise InputError(
            f"it takes images {own[0]} and gives {own[1][0]} logits, the model {asked[0]} and "
            f"{asked[1][0]}: compare networks for the same images"
        )
    return Made(graph, facts(graph), costs(graph), 0.0)


def _packed(made: tuple[Graph, float]) -> bytes:
    graph, seconds = made
    return struct.pack("<d", seconds) + packed(graph)


def _unpacked(content: bytes) -> tuple[Graph, float]:
    (seconds,) = struct.unpack("<d", content[:8])
    return unpacked(content[8:]), seconds


def judge(
    subject: Subject,
    made: Made,
    steps: Sequence[int],
    engine: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    kept: Part | None = None,
) -> tuple[Reading, ...]:
    """Evaluate a converted network on the subject's test images: a Reading for each of `steps`.

    kept: where its counts are saved as it goes, and what was counted before.
    """
    latency = made.graph.latency
    before = made.graph.pre_steps  # not among the T counted ones
    # layer-serial neurons take T steps a layer
    at = tuple(before + step for step in steps) if latency is None else (latency,)
    curve = evaluate(made.graph, subject.loader, at, subject.ann, engine, progress, resume=kept)
    ends = [point.steps - before for point in curve.points]
    named = ends if latency is None else [steps[-1]]
    return tuple(
        _reading(curve, point, made.costs, step)
        for point, step in zip(curve.points, named, strict=True)
    )


def _reading(curve: Curve, point: Point, costs: Costs, steps: int) -> Reading:
    assert curve.ann_accuracy is not None
    assert point.accuracy is not None  # decisions are counted
    assert point.interval is not None
    assert point.lost is not None
    assert point.gained is not None
    assert point.agreement is not None  # it had the network to agree with
    loss = (point.lost - point.gained) / curve.images
    differing = (point.lost + point.gained) / curve.images
    return Reading(
        steps=steps,
        accuracy=point.accuracy,
        interval=point.interval,
        standard_error=standard_error(point.accuracy, curve.images),
        loss=100 * loss,
        loss_error=100 * sqrt((differing - loss**2) / curve.images),
        agreement=point.agreement,
        lost=point.lost,
        gained=point.gained,
        operations=costs.operations(point),
        spikes_per_image=point.spikes_per_image,
        firing_rate=point.firing_rate,
        engine=curve.engine,
        exact=curve.exact,
        top5=point.top5,
        seconds=curve.seconds / curve.images,
        latency=point.steps,
    )
