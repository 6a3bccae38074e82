"""Methods side by side: the same network, the same images, and what each method asks for.

Every recipe is converted on calibration images and judged on others. Losses are differences on the
same images: of n images, let a share d be decided otherwise than by the artificial network. Then at
most these can change the accuracy, and the standard error of a loss l is at most

    sqrt((d - l^2) / n)

which is McNemar's for paired decisions, with all that differs counted as gained or lost.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet import interpret
from spiking_resnet.convert import traced_alike
from spiking_resnet.evaluate import check_labels, evaluate, hardware, labelled
from spiking_resnet.fairness import Facts, facts, facts_from_json
from spiking_resnet.graph import Graph
from spiking_resnet.methods import Method
from spiking_resnet.operations import Costs, costs
from spiking_resnet.passes.fold_bn import fold_bn
from spiking_resnet.passes.pools import relu_first
from spiking_resnet.recipes import RECIPES, Recipe
from spiking_resnet.records import (
    Calibration,
    Curve,
    InputError,
    Point,
    image_digest,
    images_of,
    standard_error,
    wilson,
)
from spiking_resnet.resume import Ledger
from spiking_resnet.store import digest
from spiking_resnet.synapses import sizes

STEPS = (2, 4, 8, 16, 32, 64, 128, 350)
Images = Tensor | Iterable[Any]
Progress = Callable[[str, int, int], None]
FAILURES = (ValueError, RuntimeError, ArithmeticError, MemoryError)  # of one method, not of all


@dataclass(frozen=True)
class Reading:
    """One method after T steps; where neurons wait for their whole input, after T steps a layer.

    accuracy, agreement (with the artificial network's decisions): fractions; interval: accuracy's
    95 % Wilson interval; standard_error: its binomial one. loss: points below the artificial
    network; loss_error: the most its standard error can be, in points. operations: synaptic
    operations of an image (operations.py); spikes_per_image, firing_rate: as in Point.
    """

    steps: int
    accuracy: float
    interval: tuple[float, float]
    standard_error: float
    loss: float
    loss_error: float
    agreement: float
    operations: float
    spikes_per_image: float
    firing_rate: float
    engine: str
    exact: bool


@dataclass(frozen=True)
class Entry:
    """One conversion, judged.

    method: its name and options. seconds: of its making. image_macs: multiply-accumulates of the
    layers that read the image, once an image; operations of readings are without them.
    """

    method: Mapping[str, Any]
    facts: Facts
    seconds: float
    image_macs: int
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Row:
    """One recipe: what was converted, once or for each T. problem: why there is not all, or ""."""

    recipe: str
    description: str
    per_steps: bool
    entries: tuple[Entry, ...]
    problem: str = ""

    @property
    def facts(self) -> Facts | None:
        """Those of the first conversion; None where nothing could be converted."""
        return self.entries[0].facts if self.entries else None

    @property
    def seconds(self) -> float:
        """Of all its conversions."""
        return sum(entry.seconds for entry in self.entries)

    @property
    def readings(self) -> dict[int, Reading]:
        """By T."""
        return {each.steps: each for entry in self.entries for each in entry.readings}

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary of all fields."""
        return {**asdict(self), "entries": [entry_to_json(entry) for entry in self.entries]}


@dataclass(frozen=True)
class Comparison:
    """Recipes on the same network and images; see `compare`.

    ann_accuracy: the artificial network's, on the same images; ann_macs: its multiply-accumulates.
    """

    images: int
    steps: tuple[int, ...]
    ann_accuracy: float
    ann_interval: tuple[float, float]
    ann_macs: int
    rows: tuple[Row, ...]
    hardware: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary: images, steps, ann, rows, hardware."""
        return {
            "images": self.images,
            "steps": list(self.steps),
            "ann": {
                "accuracy": self.ann_accuracy,
                "interval": list(self.ann_interval),
                "standard_error": standard_error(self.ann_accuracy, self.images),
                "multiply_accumulates": self.ann_macs,
            },
            "rows": [row.to_json() for row in self.rows],
            "hardware": self.hardware,
        }


@dataclass(frozen=True, eq=False)
class Subject:
    """What methods are compared on.

    traced: the network. ann: the same, as methods take it. seen, judged: digests of the two sets of
    images; `images` is the number of those that judge.
    """

    traced: Graph
    ann: Graph
    calibration: Images
    loader: Iterable[Any]
    images: int
    ann_accuracy: float
    seen: str
    judged: str


def compare(
    model: nn.Module | str | Path,
    calibration: Images,
    loader: Iterable[Any],
    recipes: Sequence[Recipe] = tuple(RECIPES.values()),
    steps: Sequence[int] = STEPS,
    engine: str = "auto",
    progress: Progress | None = None,
    resume: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Comparison:
    """Every recipe's accuracy at every one of `steps`, with what it costs and asks for.

    model, calibration: as for `convert`, but that calibration is read once for each conversion.
    loader: the batches (images, labels) to judge by, read as often; none of them may be among the
    calibration images. progress: called with (what is being done, work done, all work), in images
    times steps. resume: a file that keeps every finished conversion: the same call goes on where it
    was. options: JSON-able; what else must be the same to go on.

    What a single method cannot do (an unsupported network, numbers that run away) becomes the
    `problem` of its row. Raises what `convert` raises for the network and the images, InputError
    for steps and images that cannot be used, ResumeError for a file of another comparison.
    """
    subject = prepared(model, calibration, loader)
    return compared(subject, recipes, steps, engine, progress, resume, options)


def compared(
    subject: Subject,
    recipes: Sequence[Recipe],
    steps: Sequence[int],
    engine: str = "auto",
    progress: Progress | None = None,
    resume: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Comparison:
    """`compare` for a subject that is prepared."""
    wanted = tuple(sorted(set(steps)))
    if not wanted or wanted[0] < 1:
        raise InputError(f"steps is {tuple(steps)}: name numbers of time steps, each at least 1")
    if not recipes or len({recipe.name for recipe in recipes}) < len(recipes):
        raise InputError("name at least one recipe, and none twice")
    facts_of_all = {
        "network": digest(subject.traced),
        "calibration images": subject.seen,
        "judged images": subject.judged,
        "engine": engine,
        **(options or {}),
    }
    ledger = None if resume is None else Ledger(resume, facts_of_all)
    work = _Work(progress, subject.images * sum(_work(recipe, wanted) for recipe in recipes))
    return Comparison(
        images=subject.images,
        steps=wanted,
        ann_accuracy=subject.ann_accuracy,
        ann_interval=wilson(round(subject.ann_accuracy * subject.images), subject.images),
        ann_macs=sum(size.macs for size in sizes(subject.ann.nodes).values()),
        rows=tuple(_row(subject, recipe, wanted, engine, work, ledger) for recipe in recipes),
        hardware=hardware(),
    )


def prepared(model: nn.Module | str | Path, calibration: Images, loader: Iterable[Any]) -> Subject:
    """The network traced, and both sets of images looked through once.

    A batch without labels is judged by the artificial network's decisions. Raises InputError for
    sets that are empty, can be read only once, or share an image.
    """
    for what, source in (("calibration", calibration), ("judged images", loader)):
        if isinstance(source, Iterator):
            raise InputError(
                f"the {what} can be read only once: give a tensor, a list or a DataLoader"
            )
    seen = _digests(calibration)
    if not seen:
        raise InputError("the calibration set is empty: give it some training images")
    traced = traced_alike(model, Calibration(calibration).first)
    ann = relu_first(fold_bn(traced))
    judging = _Judging(loader, ann)
    hashed, known, count, right = blake2b(digest_size=16), set(seen), 0, 0
    with torch.inference_mode():
        for images, labels in judging:
            check_labels(labels, ann.output.shape[0])
            own = [image_digest(image) for image in images]
            if shared := sum(one in known for one in own):
                raise InputError(
                    f"{shared} images of a judged batch are calibration images too, so accuracy on "
                    "them says little: choose others"
                )
            hashed.update(b"".join(own) + labels.numpy().tobytes())
            right += int((interpret.logits(ann, images).argmax(1) == labels).sum())
            count += len(labels)
    if count == 0:
        raise InputError("the loader gave no images: check the data set, --limit and the split")
    joined = blake2b(b"".join(sorted(seen)), digest_size=16).hexdigest()
    return Subject(
        traced, ann, calibration, judging, count, right / count, joined, hashed.hexdigest()
    )


class _Judging:
    """Batches (images, labels) of a loader; labels are the network's decisions if it has none."""

    def __init__(self, loader: Iterable[Any], ann: Graph) -> None:
        self.loader, self.ann = loader, ann

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        parts = self.loader.split(64) if isinstance(self.loader, Tensor) else self.loader
        for batch in parts:
            if isinstance(batch, Tensor):
                with torch.inference_mode():
                    yield images_of(batch), interpret.logits(self.ann, images_of(batch)).argmax(1)
            else:
                yield labelled(batch)


def _digests(source: Images) -> list[bytes]:
    parts = source.split(500) if isinstance(source, Tensor) else source
    return [image_digest(image) for part in parts for image in images_of(part)]


@dataclass(frozen=True, eq=False)
class Made:
    """A method's network for a subject. seconds: of its making."""

    graph: Graph
    method: Method
    facts: Facts
    costs: Costs
    seconds: float


def make(subject: Subject, method: Method) -> Made:
    """The spiking network of a subject by this method."""
    begin = time.perf_counter()
    graph = method.apply(subject.traced, Calibration(subject.calibration))
    seconds = time.perf_counter() - begin
    return Made(graph, method, facts(graph), costs(graph), seconds)


def judge(
    subject: Subject,
    made: Made,
    steps: Sequence[int],
    engine: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Reading, ...]:
    """What a network reaches on the judged images after each of `steps`."""
    latency = made.graph.latency
    before = made.graph.pre_steps  # not among the T counted ones
    # neurons that wait take T steps a layer
    at = tuple(before + step for step in steps) if latency is None else (latency,)
    curve = evaluate(made.graph, subject.loader, at, subject.ann, engine, progress)
    ends = [point.steps - before for point in curve.points]
    named = ends if latency is None else [steps[-1]]
    return tuple(
        _reading(curve, point, made.costs, step)
        for point, step in zip(curve.points, named, strict=True)
    )


def _reading(curve: Curve, point: Point, costs: Costs, steps: int) -> Reading:
    assert curve.ann_accuracy is not None
    assert point.agreement is not None  # it had the network to agree with
    loss, differing = curve.ann_accuracy - point.accuracy, 1 - point.agreement
    return Reading(
        steps=steps,
        accuracy=point.accuracy,
        interval=point.interval,
        standard_error=standard_error(point.accuracy, curve.images),
        loss=100 * loss,
        loss_error=100 * sqrt(max(0.0, differing - loss**2) / curve.images),
        agreement=point.agreement,
        operations=costs.operations(point),
        spikes_per_image=point.spikes_per_image,
        firing_rate=point.firing_rate,
        engine=curve.engine,
        exact=curve.exact,
    )


def _groups(recipe: Recipe, steps: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The time steps that each conversion of a recipe is read out at."""
    return [(step,) for step in steps] if recipe.per_steps else [steps]


def _work(recipe: Recipe, steps: tuple[int, ...]) -> int:
    return sum(group[-1] for group in _groups(recipe, steps))


class _Work:
    """How much of the work is done, in images times steps."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def tell(self, what: str, within: int = 0) -> None:
        """Nothing; reports what is being done, and how much of it."""
        if self.progress is not None:
            self.progress(what, self.done + within, self.total)

    def finish(self, amount: int) -> None:
        """Nothing; so much is done."""
        self.done += amount


def _row(
    subject: Subject,
    recipe: Recipe,
    steps: tuple[int, ...],
    engine: str,
    work: _Work,
    ledger: Ledger | None,
) -> Row:
    """A recipe's row; what fails in it is said, and tried again in another run."""
    entries, problems = [], []
    for group in _groups(recipe, steps):
        label = f"{recipe.name}, T = {group[0]}" if recipe.per_steps else recipe.name
        try:
            entries.append(_entry(subject, recipe, group, engine, label, work, ledger))
        except FAILURES as error:
            where = f"T = {group[0]}: " if recipe.per_steps else ""
            problems.append(f"{where}{reason(error)}")
        work.finish(subject.images * group[-1])
        work.tell(label)
    problem = "; ".join(problems)
    return Row(recipe.name, recipe.description, recipe.per_steps, tuple(entries), problem)


def _entry(
    subject: Subject,
    recipe: Recipe,
    group: tuple[int, ...],
    engine: str,
    label: str,
    work: _Work,
    ledger: Ledger | None,
) -> Entry:
    """One conversion, judged; from the ledger if it is there."""
    method = recipe.make(group[-1])
    key = json.dumps([recipe.name, method.describe(), group])
    if ledger is not None and key in ledger.parts:
        return _entry_from_json(ledger.parts[key])
    work.tell(f"{label}: converting")
    made = make(subject, method)
    progress = lambda done, _: work.tell(f"{label}: simulating", done * group[-1])  # noqa: E731
    readings = judge(subject, made, group, engine, progress)
    entry = Entry(method.describe(), made.facts, made.seconds, made.costs.image, readings)
    if ledger is not None:
        ledger.keep(key, entry_to_json(entry))
    return entry


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    lines = str(error).splitlines()
    return " ".join(line.strip() for line in lines) or type(error).__name__


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """A JSON-able dictionary of an entry."""
    return {**asdict(entry), "facts": entry.facts.to_json()}


def _entry_from_json(found: Mapping[str, Any]) -> Entry:
    return Entry(
        method=found["method"],
        facts=facts_from_json(found["facts"]),
        seconds=found["seconds"],
        image_macs=found["image_macs"],
        readings=tuple(
            Reading(**{**each, "interval": tuple(each["interval"])}) for each in found["readings"]
        ),
    )
