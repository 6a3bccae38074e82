"""The study of the paper: its method on trained networks of many depths, today's methods beside it.

Every network is studied in chapters: groups of methods that are read out at the same time steps, on
the same test images, calibrated on the same training images. A chapter is one comparison
(`compare`). Its result is a file of its own, so that a study goes on where it was stopped.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from spiking_resnet import arguments
from spiking_resnet.codec import Record, RecordError
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.methods.recipes import RECIPES, recipe_named
from spiking_resnet.conversion.presets import (
    IMAGENET_CLASSES,
    IMAGENET_PERCENTILE,
    Recipe,
    chosen,
    fitting,
)
from spiking_resnet.evaluation.candidate import Subject, prepared
from spiking_resnet.evaluation.compare import Comparison, Progress, compared
from spiking_resnet.evaluation.progress_file import ResumeError, packed, unpacked
from spiking_resnet.files import write_whole
from spiking_resnet.graph.structure import layers_deep
from spiking_resnet.processes.team import current
from spiking_resnet.progress import Asked, shown
from spiking_resnet.records import InputError

DATASETS = ("cifar10", "cifar100", "imagenet", "mnist")
CHAPTERS = ("paper", "few", "binary", "choices")
STEPS = (8, 16, 32, 64, 128, 256, 350)
FEW = (2, 4, 8, 16, 32)  # of a method that is made for one T
PAPER_STEPS = STEPS[-1]
CALIBRATION_IMAGES = 500


@dataclass(frozen=True)
class Chapter:
    """Methods that are compared at the same time steps. title: what is asked of them."""

    name: str
    title: str
    steps: tuple[int, ...]
    recipes: tuple[Recipe, ...]


@dataclass(frozen=True, eq=False)
class Studied:
    """A trained network, and the images that it is calibrated and judged on.

    model: a module, or the path of an ONNX file. calibration, loader: batches of training images,
    and of the images that are judged, normalised as for the network; seen, judged: how many.
    classes: of the images. dataset: what results call them. identity: a hash of the weights and of
    what the images are; results of another one are refused.
    """

    name: str
    dataset: str
    model: nn.Module | Path
    calibration: Iterable[Any]
    loader: Iterable[Any]
    seen: int
    judged: int
    classes: int
    identity: str = ""

    @cached_property
    def subject(self) -> Subject:
        """The traced network, ready for comparisons; it takes a forward pass over the images."""
        return prepared(self.model, self.calibration, self.loader)


@dataclass(frozen=True)
class Finding(Record):
    """The result of one chapter for one network. layers: its depth; classes: of the images.

    identity: as of Studied.
    """

    network: str
    dataset: str
    chapter: str
    layers: int
    classes: int
    calibration_images: int
    comparison: Comparison
    identity: str = ""


def chapters(classes: int) -> dict[str, Chapter]:
    """The chapters of a study, by name, for networks of so many classes.

    The paper takes thresholds at the 99.9th percentile, for ImageNet at the 99.99th.
    """
    usual = IMAGENET_PERCENTILE if classes == IMAGENET_CLASSES else hu2021.percentile
    other = hu2021.percentile if usual == IMAGENET_PERCENTILE else IMAGENET_PERCENTILE

    def listed(names: str) -> tuple[Recipe, ...]:
        return tuple(fitting(recipe, classes) for recipe in chosen(names))

    found = (
        Chapter(
            "paper",
            "The paper's method: shortcuts converted or not, thresholds per layer or channel",
            STEPS,
            (
                _paper("hu2021", f"thresholds per layer at {usual} %", percentile=usual),
                _paper(
                    "hu2021-channel",
                    f"thresholds per channel at {IMAGENET_PERCENTILE} %",
                    percentile=IMAGENET_PERCENTILE,
                    per_channel=True,
                ),
                _paper(
                    "hu2021-unconverted",
                    "identity shortcuts with gain 1, whatever the thresholds at their ends are",
                    percentile=usual,
                    shortcut_conversion=False,
                ),
            ),
        ),
        Chapter(
            "few",
            "Few time steps: signed spikes of one size and of four",
            (2, 4, 8),
            listed("differential-1,differential-4,dcgs-1,dcgs-4"),
        ),
        Chapter(
            "binary",
            "Spikes 0 and 1, neurons fire as they go",
            (16, 32, 64),
            listed("calibrated,snn-calibration-light,snn-calibration-advanced,threshold-balancing"),
        ),
        Chapter(
            "choices",
            "What the paper leaves open: initial potential, percentile, compensation",
            STEPS,
            (
                _paper(
                    "v0-0", "membrane potentials begin at 0", percentile=usual, initial_potential=0
                ),
                _paper(f"percentile-{other:g}", f"thresholds at {other} %", percentile=other),
                _paper("maximum", "thresholds at the largest activation", percentile=100.0),
                _paper(
                    "compensated",
                    "weights times a factor that a search on training images finds",
                    percentile=usual,
                    compensation="search",
                ),
            ),
        ),
    )
    return {chapter.name: chapter for chapter in found}


def chapter(name: str, classes: int) -> Chapter:
    """The chapter of this name; of a method's name one of that method alone."""
    known = chapters(classes)
    if name in known:
        return known[name]
    recipe = fitting(recipe_named(name), classes)
    return Chapter(name, recipe.description, FEW if recipe.per_steps else STEPS, (recipe,))


def check_chapters(names: Sequence[str]) -> None:
    """Raise InputError for names that are neither chapters nor methods."""
    for name in names or ("",):
        if name not in CHAPTERS and name not in RECIPES:
            raise arguments.unknown("chapter or method", name, (*CHAPTERS, *RECIPES))


def run(
    networks: Sequence[Studied],
    out: str | Path,
    names: Sequence[str] = CHAPTERS,
    engine: str = "auto",
    progress: Progress | Asked = None,
) -> Iterator[Finding]:
    """Study networks one after another; yields what every chapter of every one finds.

    out: the folder of the results; what is there is not made again, and an unfinished chapter goes
    on. progress: as of `compare`. Raises InputError for unknown chapters and damaged results.
    """
    check_chapters(names)
    for network in networks:
        for name in names:
            yield _found(network, chapter(name, network.classes), Path(out), engine, progress)
        network.__dict__.pop("subject", None)  # its measured calibration is large


def _found(
    network: Studied, chapter: Chapter, out: Path, engine: str, progress: Progress | Asked
) -> Finding:
    """What a chapter finds: read from its file if it is there."""
    count = f"{network.seen}-{network.judged}"
    path = out / f"study_{network.dataset}_{network.name}_{chapter.name}_{count}.json"
    if known := _known(path):
        if known.identity != network.identity:
            raise InputError(
                f"{path} has results of other weights, images or a normalisation: name another "
                "folder (--out), or give the network another name (NAME=MODEL)"
            )
        return known
    ledger = path.with_suffix(".progress")
    label = f"{network.name}, {chapter.name}"
    with shown(progress, label, unit="") as bar:
        bar.prefix = f"{label}: "
        told = _labelled(progress, label) if callable(progress) else bar
        options = {"chapter": chapter.name}
        arguments = network.subject, chapter.recipes, chapter.steps, engine, told, ledger, options
        try:
            comparison = compared(*arguments)
        except ResumeError:  # kept by another version or for other images
            if current().first:
                ledger.unlink()
            comparison = compared(*arguments)
    finding = Finding(
        network.name,
        network.dataset,
        chapter.name,
        layers_deep(network.subject.ann),
        network.classes,
        network.seen,
        comparison,
        network.identity,
    )
    write_whole(path, (json.dumps(finding.to_json(), indent=1, allow_nan=False) + "\n").encode())
    if current().first:
        ledger.unlink(missing_ok=True)
    return finding


def _labelled(progress: Progress, label: str) -> Progress:
    return lambda what, done, total: progress(f"{label}: {what}", done, total)


def _known(path: Path) -> Finding | None:
    """The finding in a file, which the first process reads; None where there is none."""
    known = current().handed(
        lambda: (_read(path),) if path.is_file() else (),
        lambda found: b"".join(map(packed, found)),
        lambda content: (unpacked(Finding, content),) if content else (),
    )
    return known[0] if known else None


def _read(path: Path) -> Finding:
    try:
        return Finding.from_json(json.loads(path.read_text()))
    except (RecordError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to make it again") from error


def _paper(name: str, description: str, **options: object) -> Recipe:
    """A recipe of the paper's method, converted once for all time steps."""
    return Recipe(name, description, hu2021(**options))  # type: ignore[arg-type]


def by_chapter(findings: Sequence[Finding]) -> Mapping[str, list[Finding]]:
    """Findings by the names of their chapters: those of CHAPTERS, then of methods."""
    return {
        name: own
        for name in dict.fromkeys((*CHAPTERS, *(each.chapter for each in findings)))
        if (own := [each for each in findings if each.chapter == name])
    }
