"""The command `reproduce study`: its networks and images, its report and figures."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.images import ImageData, Normalisation, normalisation_named
from spiking_resnet.ann.pixels import Framing, MissingDataError
from spiking_resnet.cli.conversion import BATCH, framed
from spiking_resnet.cli.evaluate import usual_batch
from spiking_resnet.cli.groups import Group
from spiking_resnet.cli.kept import going_on
from spiking_resnet.cli.networks import PUBLISHED, network
from spiking_resnet.cli.options import (
    PATH_OF_SET,
    NormalisationOption,
    parse_normalisation,
)
from spiking_resnet.cli.outputs import check_outputs, say_wrote
from spiking_resnet.cli.provenance import file_facts, fingerprint, shared_command_line
from spiking_resnet.cli.terminal import say, show, warn
from spiking_resnet.evaluation.progress_file import module_digest
from spiking_resnet.evaluation.reproduce import NETWORKS, loaded
from spiking_resnet.evaluation.study import (
    CALIBRATION_IMAGES,
    CHAPTERS,
    DATASETS,
    Finding,
    Studied,
    check_chapters,
    run,
)
from spiking_resnet.records import InputError
from spiking_resnet.report import study as report
from spiking_resnet.report.write import write

USUAL = {
    "cifar10": (
        *("cifar10_resnet20", "cifar10_resnet44"),
        *("resnet20", "resnet44", "resnet56", "resnet110"),
    ),
    "cifar100": ("cifar100_resnet32",),
    "imagenet": tuple(f"torchvision:resnet{depth}" for depth in (18, 34, 50)),
    "mnist": ("mnist_resnet8",),
}


@dataclass(frozen=True)
class StudyFlags(Group):
    """What a study of networks is made of, beside their names."""

    chapters: Annotated[
        str,
        typer.Option(
            help=f"Of `study`: any of {', '.join(CHAPTERS)}, by commas; or names of methods."
        ),
    ] = ",".join(CHAPTERS)
    calibrate: Annotated[
        str | None,
        typer.Option(
            help=f"Of `study`: images to calibrate on: a data set's name, {PATH_OF_SET}.",
            show_default="training images",
        ),
    ] = None
    judge: Annotated[
        str | None,
        typer.Option(help="Of `study`: images to judge on, likewise.", show_default="test images"),
    ] = None
    calibration_images: Annotated[
        int, typer.Option(help="Of `study`: how many images to calibrate on.")
    ] = CALIBRATION_IMAGES
    normalisation: NormalisationOption = None


@dataclass(frozen=True)
class Images:
    """The images of a study: their data set, its folder, and how many are judged."""

    dataset: str
    data: Path
    limit: int | None
    flags: StudyFlags

    def of(
        self, normalisation: Normalisation | None, framing: Framing | None
    ) -> Iterator[ImageData]:
        """The calibration images and the judged ones, as a network takes them.

        normalisation, framing: the network's own, or None.
        """
        asked = parse_normalisation(self.flags.normalisation)
        counts = self.flags.calibration_images, self.limit
        for split, name, count in zip(
            ("train", "test"), (self.flags.calibrate, self.flags.judge), counts, strict=True
        ):
            found = framed(load_dataset(name or self.dataset, split, self.data), None, framing)
            chosen = asked or normalisation or normalisation_named(self.dataset)
            yield replace(found, normalisation=chosen).subset(count, 0)


def study(
    ctx: typer.Context,
    dataset: str | None,
    data: Path,
    names: str | None,
    limit: int | None,
    out: Path,
    engine: str,
    flags: StudyFlags,
) -> None:
    """Study the networks of one data set, or of all that are there; tables, figures, JSON files."""
    if dataset is not None and dataset not in DATASETS:
        raise InputError(f"there is no study of {dataset!r}: name one of {', '.join(DATASETS)}")
    if dataset is None and (names or flags.calibrate or flags.judge):
        raise InputError(f"say whose networks these are: reproduce study {'|'.join(DATASETS)}")
    chapters = [name.strip() for name in flags.chapters.split(",") if name.strip()]
    check_chapters(chapters)
    table = out / f"study{'' if dataset is None else f'_{dataset}'}.md"
    check_outputs({"--out": table})
    findings: list[Finding] = []
    with going_on(ctx, out):
        for each in (dataset,) if dataset else DATASETS:
            images = Images(each, data, limit, flags)
            try:
                networks = [_studied(name, images) for name in _named(names, each)]
            except (MissingDataError, OSError) as error:
                if dataset is not None:
                    raise
                warn(f"{each} is left out: {error}")
                continue
            findings += run(networks, out, chapters, engine)
    if not findings:
        raise InputError("there are no images of any data set: see the warnings above")
    show(report.summary(findings))
    command = shared_command_line(ctx).replace(str(data), "DIR")
    write(report.document(findings, command), table)
    say_wrote(table)
    for name, chart in report.charts(findings).items():
        path = out / f"study_{name}.png"
        write((chart,), path)
        say(f"wrote {path}")


def _named(names: str | None, dataset: str) -> Sequence[str]:
    """What the user calls the networks, or the usual ones of a data set."""
    if names is None:
        return USUAL[dataset]
    return [name.strip() for name in names.split(",") if name.strip()]


def _studied(item: str, images: Images) -> Studied:
    """A network of a study from its name, a MODEL, or NAME=MODEL."""
    name, equals, spec = item.partition("=")
    if not equals and item in NETWORKS:
        return _known(item, images)
    spec = spec or item
    if not (spec.startswith(("torchvision:", "timm:")) or ".py:" in spec or spec.endswith(".onnx")):
        raise InputError(
            f"there is no network {item!r}: name any of {', '.join(NETWORKS)}, or NAME=MODEL with "
            "torchvision:NAME, timm:NAME or path/to/file.py:function"
        )
    library = spec.startswith(("torchvision:", "timm:"))
    name = name if equals else spec.rpartition(":")[2].removesuffix(".onnx")
    source = network(spec, PUBLISHED if library else None, dataset=images.dataset)
    training, test = images.of(source.normalisation, source.framing)
    return _with_images(name, images.dataset, source.model, training, test)


def _known(name: str, images: Images) -> Studied:
    """A network that studies know by its name."""
    known = NETWORKS[name]
    if known.dataset != images.dataset:
        raise InputError(f"{name} is a network for {known.dataset}, not for {images.dataset}")
    own = None if known.normalisation is None else normalisation_named(known.normalisation)
    found = loaded(known, images.data)
    training, test = images.of(own or found.normalisation, None)
    return _with_images(name, images.dataset, found.model, training, test)


def _with_images(
    name: str, dataset: str, model: nn.Module | Path, training: ImageData, test: ImageData
) -> Studied:
    return Studied(
        name,
        dataset,
        model,
        training.loader(min(BATCH, usual_batch(training))),
        test.loader(usual_batch(test)),
        len(training),
        len(test),
        test.classes,
        _identity(model, training, test),
    )


def _identity(model: nn.Module | Path, *images: ImageData) -> str:
    """A hash of a network's weights, and of the names, labels and normalisation of its images."""
    own = file_facts(model)["sha256"] if isinstance(model, Path) else module_digest(model)
    said = [f"{each.name} {each.normalisation} {fingerprint(each)}" for each in images]
    return hashlib.sha256(" ".join([own, *said]).encode()).hexdigest()
