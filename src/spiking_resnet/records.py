"""The results of simulation and evaluation, as plain frozen records."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from spiking_resnet import moved
from spiking_resnet.codec import FIELDS, Record, same
from spiking_resnet.decided import Decisions, PerClass
from spiking_resnet.graph.interpret import State
from spiking_resnet.shares import standard_error
from spiking_resnet.shown import Short, Shown

Metric = Literal["accuracy", "binary", "mse"]  # what an evaluation measures


class InputError(ValueError):
    """Images, batches or numbers that cannot be used; the message says which and what to do."""


@dataclass(frozen=True, eq=False)
class LayerCount(Short):
    """The spike counts of one population.

    neurons: their number per image. spikes: int64 [R, N], up to each of R recorded steps, for each
    of N images.
    """

    neurons: int
    spikes: Tensor

    def rate(self, steps: Iterable[int]) -> Tensor:
        """Spikes per neuron and step, [R], up to each of the recorded `steps`."""
        return self.spikes.double().mean(1) / (
            self.neurons * torch.tensor(list(steps), dtype=torch.float64)
        )


def packed(spikes: Tensor) -> Tensor:
    """Spikes [t, N, ...], each entry 0 or 1, as uint8 [t, N, bytes]: neuron i is bit i % 8 of byte
    i // 8.
    """
    flat = spikes.to("cpu", torch.uint8).flatten(2).numpy()
    return torch.from_numpy(np.packbits(flat, axis=2, bitorder="little"))


class Trains(Mapping[str, Tensor]):
    """Spike trains by layer, held as bits: `trains[layer]` unpacks them to uint8 [T, N, ...].

    bits: what `packed` makes of them; of neurons that fire several sizes or signs, the signed sizes
    [T, N, ...], int8 (int32 where they are above 127). shapes: of the layers, without images and
    steps.
    """

    def __init__(self, bits: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.bits, self.shapes = dict(bits), dict(shapes)

    def __getitem__(self, name: str) -> Tensor:
        """The sizes of one layer's spikes [T, N, ...]: uint8, or int8 or int32 beyond 0 and 1."""
        bits, shape = self.bits[name], self.shapes[name]
        if bits.dtype != torch.uint8:
            return bits
        flat = np.unpackbits(
            bits.numpy(), axis=2, count=torch.Size(shape).numel(), bitorder="little"
        )
        return torch.from_numpy(flat).unflatten(2, shape)

    def __repr__(self) -> str:
        return f"<Trains: spikes of {len(self)} layers>"

    def __iter__(self) -> Iterator[str]:
        return iter(self.bits)

    def __len__(self) -> int:
        return len(self.bits)


@dataclass(frozen=True, eq=False)
class Run(Shown):
    """The result of one simulation of N images.

    record: the steps T at which it was read out. logits: [len(record), N, K], in the
    ANN's units. spikes: by layer name. engine, seconds: which engine ran, and for how long.
    exact: whether every sum stayed in the range where any engine gives the same spikes; if not,
    remark says where it left it. trains: sizes of spikes [T, N, ...] of the layers asked for.
    neuron_spikes: for the layers asked for, every neuron's spikes [N, ...] (int64) over the run, as
    `Neuron.count` counts them: negative ones are taken off; one of n levels is n, a differential
    one is one whatever its size.
    state: what the next run goes on from, if it was asked for. Steps and spikes of a run that began
    from a state are its own; its logits are those after all steps, the earlier ones included.
    """

    record: tuple[int, ...]
    logits: Tensor
    spikes: Mapping[str, LayerCount]
    engine: str
    seconds: float
    exact: bool = True
    remark: str = ""
    trains: Mapping[str, Tensor] = field(default_factory=dict)
    neuron_spikes: Mapping[str, Tensor] = field(default_factory=dict)
    state: State | None = None

    @property
    def images(self) -> int:
        """N, the number of images."""
        return self.logits.shape[1]

    def to_dict(self) -> dict[str, Any]:
        """What was run and how much fired, JSON-able; tensors are left out.

        layers: by name, the number of neurons, and for every recorded step the mean spikes of an
        image and the rate (spikes per neuron and step).
        """
        return {
            "record": list(self.record),
            "images": self.images,
            "engine": self.engine,
            "seconds": self.seconds,
            "exact": self.exact,
            "remark": self.remark,
            "layers": {
                name: {
                    "neurons": layer.neurons,
                    "spikes_per_image": layer.spikes.double().mean(1).tolist(),
                    "rate": layer.rate(self.record).tolist(),
                }
                for name, layer in self.spikes.items()
            },
        }


UNRELIABLE = "Do not rely on this result"  # in remarks of runs that left the exact range by far


def graver(one: str, other: str) -> str:
    """The graver of two runs' remarks on exactness; an empty one says that a run is exact."""
    if not one or (UNRELIABLE in other and UNRELIABLE not in one):
        return other
    return one


@dataclass(frozen=True)
class Point(Record):
    """A spiking network's results after `steps` time steps, over all images.

    accuracy and agreement (with the ANN's decisions) are fractions; interval is
    accuracy's 95 % Wilson interval. firing_rate: spikes per neuron and step; layers: by layer.
    top5: how often the label is among the five largest logits (None for up to 5 classes).
    lost, gained: images that the ANN alone, or this network alone, classifies correctly.
    error: of the metric "mse", the mean squared difference from the targets; distance: from the
    ANN's outputs. Accuracy and all that belongs to it is then None.
    """

    steps: int
    accuracy: float | None
    interval: tuple[float, float] | None
    agreement: float | None
    spikes_per_image: float
    firing_rate: float
    layers: Mapping[str, float]
    top5: float | None = None
    lost: int | None = None
    gained: int | None = None
    error: float | None = None
    distance: float | None = None

    later = ("top5", "lost", "gained", "error", "distance")


@dataclass(frozen=True)
class Stop(Record):
    """A rule by which an image stops before the last step, once its read-out's margin is large.

    steps: the read-outs at which it may stop, ascending, and T, at which all have stopped.
    thresholds: of every step but T, in the ANN's units (None: no image stops there): an image stops
    at the first step whose margin (`margins`) is at least the threshold.
    confidence: the share P of the images it was found on that decide as they do at T; share: what
    was asked of each step for that, of the images whose margin reaches its threshold there. images,
    agreement, mean_steps: how many these images were, how many of them decide as at T, and after
    how many steps. network: a digest, "" for a rule of one's own. notes: what images they were.
    Raises InputError for steps that do not ascend or have not one threshold each, and for
    thresholds that are no numbers.
    """

    confidence: float
    steps: tuple[int, ...]
    thresholds: tuple[float | None, ...]
    share: float | None = None
    images: int = 0
    agreement: float | None = None
    mean_steps: float | None = None
    network: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "thresholds", tuple(self.thresholds))
        known = [each for each in self.thresholds if each is not None]
        if not all(isinstance(each, int | float) and isfinite(each) for each in known):
            raise InputError(
                f"thresholds are {self.thresholds}: give numbers, and None where no image stops"
            )
        if not isinstance(self.confidence, int | float) or not 0 < self.confidence <= 1:
            raise InputError(
                f"confidence is {self.confidence}: give a share of the images, such as 0.99"
            )
        if not self.steps or self.steps != tuple(sorted({0, *self.steps}))[1:]:
            raise InputError(f"steps are {self.steps}: give ascending ones of at least 1")
        if len(self.thresholds) != len(self.steps) - 1:
            raise InputError(
                f"there are {len(self.thresholds)} thresholds for {len(self.steps)} steps: give "
                "one for every step but the last"
            )

    @property
    def full(self) -> int:
        """The T at which every image has stopped."""
        return self.steps[-1]

    def ends(self, margins: Tensor) -> Tensor:
        """The number (0, 1, …) of the step at which each image stops, int64 [N].

        margins: [len(steps), N], as `records.margins` gives them.
        """
        known = [inf if each is None else each for each in self.thresholds]
        least = torch.tensor([*known, -inf], dtype=torch.float64, device=margins.device)
        reached = margins >= least[:, None]
        reached[-1] = True  # a margin that is no number, too
        return reached.int().argmax(0)


@dataclass(frozen=True)
class Stopped(Record):
    """The results of a network whose images stop by a rule, beside those of the full run to T.

    ended: how many of the images stopped at each of rule.steps. accuracy, interval, agreement: as
    of a Point. kept: the share that decides as the full run. lost, gained: images that the full run
    alone, or this one alone, classifies correctly. layers: spikes of an image by layer. operations:
    SynOps of an image, without those that the image alone decides, which are done once. full: the
    full run; full_operations: its SynOps.
    """

    rule: Stop
    images: int
    ended: tuple[int, ...]
    accuracy: float
    interval: tuple[float, float]
    agreement: float | None
    kept: float
    lost: int
    gained: int
    spikes_per_image: float
    operations: float
    layers: Mapping[str, float]
    full: Point
    full_operations: float

    layout = (*same("rule", "mean_steps"), *FIELDS)

    def __post_init__(self) -> None:
        if len(self.ended) != len(self.rule.steps) or sum(self.ended) != self.images:
            raise InputError(f"{self.ended} are not {self.images} images at {self.rule.steps}")

    @property
    def mean_steps(self) -> float:
        """The steps of an image, in the mean."""
        taken = sum(n * step for n, step in zip(self.ended, self.rule.steps, strict=True))
        return taken / self.images

    def quantile(self, share: float) -> int:
        """The step by which this share of the images has stopped."""
        done = accumulate(self.ended)
        pairs = zip(done, self.rule.steps, strict=True)
        return next((step for n, step in pairs if n >= share * self.images), self.rule.full)


@dataclass(frozen=True)
class Curve(Record):
    """Accuracy against time steps: one Point per recorded T, and the ANN's own.

    metric: what its points measure; of "mse" `ann_error` is the ANN's error. stopped: the results
    by each rule of stopping that was given. per_class, decisions: what was decided for every class
    and image, if that was asked for.
    """

    images: int
    points: tuple[Point, ...]
    ann_accuracy: float | None
    ann_interval: tuple[float, float] | None
    engine: str
    seconds: float
    exact: bool
    remark: str = ""
    hardware: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    ann_top5: float | None = None
    metric: Metric = "accuracy"
    ann_error: float | None = None
    stopped: tuple[Stopped, ...] = ()
    per_class: PerClass | None = None
    decisions: Decisions | None = None

    layout = (
        *same("images", "engine", "seconds", "hardware", "exact", "remark", "metric"),
        ("ann.accuracy", "ann_accuracy"),
        ("ann.interval", "ann_interval"),
        ("ann.top5", "ann_top5"),
        ("ann.error", "ann_error"),
        ("ann.standard_error", "ann_standard_error"),
        ("ann.top5_standard_error", "ann_top5_standard_error"),
        ("snn", "points"),
        ("snn.*.standard_error", "standard_errors"),
        ("snn.*.top5_standard_error", "top5_standard_errors"),
        *same("stopped", "per_class", "decisions", "notes"),
    )
    later = ("ann_top5", "metric", "ann_error", "stopped", "per_class", "decisions")

    def standard_error(self, share: float | None) -> float | None:
        """The standard error of an accuracy (a fraction of the images), or None."""
        return None if share is None else standard_error(share, self.images)

    @property
    def ann_standard_error(self) -> float | None:
        """The standard error of the ANN's accuracy."""
        return self.standard_error(self.ann_accuracy)

    @property
    def ann_top5_standard_error(self) -> float | None:
        """The standard error of the ANN's top-5 accuracy."""
        return self.standard_error(self.ann_top5)

    @property
    def standard_errors(self) -> tuple[float | None, ...]:
        """The standard errors of the points' accuracies."""
        return tuple(self.standard_error(point.accuracy) for point in self.points)

    @property
    def top5_standard_errors(self) -> tuple[float | None, ...]:
        """The standard errors of the points' top-5 accuracies."""
        return tuple(self.standard_error(point.top5) for point in self.points)


def curve_from_json(found: Mapping[str, Any]) -> Curve:
    """The Curve that `Curve.to_json` wrote; RecordError for other JSON."""
    return Curve.from_json(found)


def decisions(logits: Tensor) -> Tensor:
    """The class that logits [..., K] decide for, int64 [...]; of one logit, if it is above 0."""
    return (logits[..., 0] > 0).long() if logits.shape[-1] == 1 else logits.argmax(-1)


def margins(logits: Tensor) -> Tensor:
    """How far a decision is from another, of logits [..., K]: the largest less the second.

    float64 [...]; of one logit it is its size.
    """
    known = logits.double()
    if known.shape[-1] == 1:
        return known[..., 0].abs()
    first = known.topk(2, -1).values
    return first[..., 0] - first[..., 1]


if not TYPE_CHECKING:
    __getattr__ = moved.elsewhere(__name__)
