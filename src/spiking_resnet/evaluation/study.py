"""The study of the paper: its method on trained networks of many depths, today's methods beside it.

Every network is studied in chapters (`chapters`), on the same test images, calibrated on the same
training images. A chapter is one comparison (`compare`). Its result is a file of its own, so that a
study goes on where it was stopped, and methods that failed are tried again.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from spiking_resnet import rules
from spiking_resnet.codec import Record
from spiking_resnet.engines.simulate import check_engine
from spiking_resnet.evaluation.candidate import Subject, looked_through
from spiking_resnet.evaluation.chapters import CHAPTERS, Chapter, chapter, check_chapters
from spiking_resnet.evaluation.compare import Comparison, Progress, compared
from spiking_resnet.evaluation.progress_file import (
    ResumeError,
    as_json,
    differing,
    packed,
    unpacked,
)
from spiking_resnet.files import slug, write_whole
from spiking_resnet.graph import Graph
from spiking_resnet.graph.structure import layers_deep
from spiking_resnet.processes.team import current
from spiking_resnet.progress import Asked, shown
from spiking_resnet.records import InputError
from spiking_resnet.store import digest

DATASETS = ("cifar10", "cifar100", "imagenet", "mnist")
CALIBRATION_IMAGES = 500
VERSION = 2  # of the files of results
LONGEST_NAME = 80  # bytes of a network's name in those of files


@dataclass(frozen=True, eq=False)
class Studied:
    """A trained network, and the images that it is calibrated and judged on.

    traced: the network (`candidate.traced_alike`). calibration, loader: batches of training images,
    and of the images that are judged, normalised as for the network, which can be read several
    times; seen, judged: how many. dataset: what results call them. facts: JSON-able; what else must
    be the same for a result to stay valid.
    """

    name: str
    dataset: str
    traced: Graph
    calibration: Iterable[Any]
    loader: Iterable[Any]
    seen: int
    judged: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """The number of its logits."""
        return self.traced.output.shape[0]

    @cached_property
    def subject(self) -> Subject:
        """The network, ready for comparisons; it takes a forward pass over the images."""
        try:
            return looked_through(self.traced, self.calibration, self.loader)
        except ValueError as error:
            raise InputError(f"{self.name}: {error}") from error


@dataclass(frozen=True)
class Finding(Record):
    """The result of one chapter for one network. layers: its depth; classes: its logits.

    facts: what it is the result of: the network, its images, methods and steps. Raises ValueError
    for numbers that cannot be.
    """

    network: str
    dataset: str
    chapter: str
    layers: int
    classes: int
    calibration_images: int
    comparison: Comparison
    facts: Mapping[str, Any]
    version: int = VERSION

    RULES: ClassVar[rules.Rules] = {
        "layers": rules.whole(),
        **dict.fromkeys(("classes", "calibration_images"), rules.whole(1)),
    }

    def __post_init__(self) -> None:
        rules.check(self, self.RULES)

    @property
    def failed(self) -> list[str]:
        """The names of the methods that failed."""
        return [row.recipe for row in self.comparison.rows if row.problem]


def check_names(names: Sequence[str]) -> None:
    """Raise InputError for names of networks that cannot be those of files, or are used twice."""
    known: dict[str, str] = {}
    for name in names:
        own = slug(name).casefold()
        if not 1 <= len(own.encode()) <= LONGEST_NAME:
            raise InputError(
                f"a network is called {rules.shown(name)}, and files are named by that: give it "
                f"some letters or digits, {LONGEST_NAME} at most (NAME=MODEL)"
            )
        if own in known:
            both = f"{rules.shown(known[own])} and {rules.shown(name)}"
            raise InputError(
                f"two networks are called {both}, and their files would have one name: give each "
                "a name of its own (NAME=MODEL)"
            )
        known[own] = name


def run(
    networks: Sequence[Studied],
    out: str | Path,
    names: Sequence[str] = CHAPTERS,
    engine: str = "auto",
    progress: Progress | Asked = None,
) -> Iterator[Finding]:
    """Study networks one after another; yields what every chapter of every one finds.

    out: the folder of the results; what is there is not made again, and an unfinished chapter goes
    on, as does one of which methods failed. progress: as of `compare`. Raises InputError for
    unknown chapters and engines, names of networks that are not apart, and results that are
    damaged or of something else.
    """
    check_chapters(names)
    check_engine(engine)
    for dataset in dict.fromkeys(network.dataset for network in networks):
        check_names([network.name for network in networks if network.dataset == dataset])
    for network in networks:
        for name in names:
            yield _found(network, chapter(name, network.classes), Path(out), engine, progress)
        network.__dict__.pop("subject", None)  # its measured calibration is large


def _found(
    network: Studied, chapter: Chapter, out: Path, engine: str, progress: Progress | Asked
) -> Finding:
    """What a chapter finds: read from its file if it is there, and nothing failed."""
    count = f"{network.seen}-{network.judged}"
    path = out / f"study_{network.dataset}_{slug(network.name)}_{chapter.name}_{count}.json"
    facts = _facts(network, chapter)
    known = _known(path)
    if known is not None:
        if other := differing(known.facts, facts):
            raise InputError(
                f"{path} has results of something else: {other}. Name another folder (--out), or "
                "give the network another name (NAME=MODEL)"
            )
        _check_whole(path, known, chapter)
        if not known.failed:
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
        facts,
    )
    write_whole(path, (json.dumps(finding.to_json(), indent=1, allow_nan=False) + "\n").encode())
    if current().first and not finding.failed:
        ledger.unlink(missing_ok=True)
    return finding


def _facts(network: Studied, chapter: Chapter) -> dict[str, Any]:
    """What must be the same for a result to stay valid, as JSON has it."""
    most = chapter.steps[-1]
    methods = {recipe.name: recipe.make(most).describe() for recipe in chapter.recipes}
    own = {"network": digest(network.traced), "steps": chapter.steps, "methods": methods}
    return as_json({**own, **network.facts})


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
        found = json.loads(path.read_text())
        if isinstance(found, dict) and (version := found.get("version", 1)) != VERSION:
            raise InputError(
                f"{path} has results of format version {rules.shown(version)}, and this one reads "
                f"{VERSION}: name another folder (--out), or delete it to make it again"
            )
        return Finding.from_json(found)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error


def _check_whole(path: Path, found: Finding, chapter: Chapter) -> None:
    """Raise InputError for results in which a method or a T is missing."""
    rows = found.comparison.rows
    lacking = any(not row.problem and tuple(sorted(row.readings)) != chapter.steps for row in rows)
    if lacking or [row.recipe for row in rows] != [recipe.name for recipe in chapter.recipes]:
        raise _damaged(path, "results of methods or steps are missing")


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is damaged ({why}): delete it to make it again")


def by_chapter(findings: Sequence[Finding]) -> Mapping[str, list[Finding]]:
    """Findings by the names of their chapters: those of CHAPTERS, then of methods."""
    return {
        name: own
        for name in dict.fromkeys((*CHAPTERS, *(each.chapter for each in findings)))
        if (own := [each for each in findings if each.chapter == name])
    }
