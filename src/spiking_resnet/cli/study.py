"""The command `reproduce study`: its networks and images, its report and figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.images import ImageData, Normalisation, normalisation_named
from spiking_resnet.ann.pixels import Framing, MissingDataError
from spiking_resnet.cli.conversion import BATCH, framed
from spiking_resnet.cli.evaluate import usual_batch
from spiking_resnet.cli.groups import Group
from spiking_resnet.cli.images import check_classes
from spiking_resnet.cli.kept import going_on, refuse_failed
from spiking_resnet.cli.networks import PUBLISHED, Network, network
from spiking_resnet.cli.options import (
    PATH_OF_SET,
    NormalisationOption,
    parse_normalisation,
)
from spiking_resnet.cli.outputs import check_outputs, say_wrote
from spiking_resnet.cli.provenance import all_images, shared_command_line
from spiking_resnet.cli.terminal import show, warn
from spiking_resnet.conversion.convert import traced_alike
from spiking_resnet.evaluation.chapters import CHAPTERS, check_chapters
from spiking_resnet.evaluation.reproduce import NETWORKS, loaded
from spiking_resnet.evaluation.study import (
    CALIBRATION_IMAGES,
    DATASETS,
    Finding,
    Studied,
    check_names,
    run,
)
from spiking_resnet.records import InputError
from spiking_resnet.report import study as report
from spiking_resnet.report.write import write

USUAL = {
    "cifar10": (
        *("cifar10_resnet20", "cifar10_resnet44", "cifar10_resnet56"),
        *("resnet20", "resnet44", "resnet56", "resnet110"),
    ),
    "cifar100": ("cifar100_resnet32",),
    "imagenet": tuple(f"torchvision:resnet{depth}" for depth in (18, 34, 50)),
    "mnist": ("mnist_resnet8",),
}
_LIBRARIES = "torchvision:", "timm:"


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
    asked = {each: _named(names, each) for each in ((dataset,) if dataset else DATASETS)}
    table = out / f"study{'' if dataset is None else f'_{dataset}'}.md"
    check_outputs({"--out": table})
    networks: list[Studied] = []
    for each, named in asked.items():
        try:
            networks += [_studied(*one, Images(each, data, limit, flags)) for one in named.items()]
        except (MissingDataError, OSError) as error:
            if dataset is not None:
                raise
            warn(f"{each} is left out: {error}")
    if not networks:
        raise InputError("there are no images of any data set: see the warnings above")
    command = shared_command_line(ctx).replace(str(data), "DIR")
    findings: list[Finding] = []
    with going_on(ctx, out):
        try:
            for finding in run(networks, out, chapters, engine):
                findings.append(finding)
        except Exception:
            if findings:
                _write(findings, command, table)
            raise
    _write(findings, command, table)
    failed = sum(len(each.failed) for each in findings)
    refuse_failed(failed, sum(len(each.comparison.rows) for each in findings))


def _write(findings: Sequence[Finding], command: str, table: Path) -> None:
    """Show what was found, and write its tables and figures."""
    show(report.summary(findings))
    write(report.document(findings, command), table)
    say_wrote(table)
    for name, chart in report.charts(findings).items():
        path = table.parent / f"study_{name}.png"
        write((chart,), path)
        say_wrote(path)


def _named(names: str | None, dataset: str) -> dict[str, str]:
    """The networks by what they are called: those the user names, or a data set's usual ones.

    Raises InputError where there are none, and for names that are not apart or no networks.
    """
    items = USUAL[dataset] if names is None else [each.strip() for each in names.split(",")]
    found = [_parted(item, dataset) for item in items if item]
    if not found:
        raise InputError(f"--networks names no networks: name any of {', '.join(NETWORKS)}")
    check_names([name for name, _ in found])
    return dict(found)


def _parted(item: str, dataset: str) -> tuple[str, str]:
    """What a network is called, and what it is: a name we know, a MODEL, or NAME=MODEL."""
    if item in NETWORKS:
        if NETWORKS[item].dataset != dataset:
            raise InputError(f"{item} is a network for {NETWORKS[item].dataset}, not for {dataset}")
        return item, item
    name, equals, spec = item.partition("=")
    spec = spec or item
    if not (spec.startswith(_LIBRARIES) or ".py:" in spec or spec.endswith(".onnx")):
        raise InputError(
            f"there is no network {item!r}: name any of {', '.join(NETWORKS)}, or NAME=MODEL with "
            "torchvision:NAME, timm:NAME or path/to/file.py:function"
        )
    own = spec.rpartition(":")[2] if ":" in spec else Path(spec).stem
    return (name.strip() if equals else own), spec


def _studied(name: str, spec: str, images: Images) -> Studied:
    """A network of a study, traced, with its images; InputError, with its name, if it cannot be."""
    source = _source(spec, images)
    training, test = images.of(source.normalisation, source.framing)
    loader = training.loader(min(BATCH, usual_batch(training)))
    try:
        traced = traced_alike(source.model, next(iter(loader))[0])
    except ValueError as error:
        raise InputError(f"{name} cannot be converted: {error}") from error
    logits = traced.output.shape[0]
    test = _ordered(training, test, logits)
    check_classes(name, logits, test)
    facts = {
        "calibration images": all_images(training),
        "judged images": all_images(test),
        "normalisation": test.normalisation.to_json(),
    }
    judged = test.loader(usual_batch(test))
    count = len(training), len(test)
    return Studied(name, images.dataset, traced, loader, judged, *count, facts)


def _source(spec: str, images: Images) -> Network:
    """The network that a name we know or a MODEL stands for."""
    if spec not in NETWORKS:
        library = spec.startswith(_LIBRARIES)
        return network(spec, PUBLISHED if library else None, dataset=images.dataset)
    known = NETWORKS[spec]
    found = loaded(known, images.data)
    own = None if known.normalisation is None else normalisation_named(known.normalisation)
    return Network(found.model, spec, normalisation=own or found.normalisation)


def _ordered(training: ImageData, test: ImageData, logits: int) -> ImageData:
    """The judged images with labels in the order of a network's classes, by their names.

    These are a folder's that has as many classes as the network has logits; else the training
    images'.
    """
    known = [names for names in (training.class_names, test.class_names) if names is not None]
    fitting = [names for names in known if len(names) == logits]
    return test.ordered_as((fitting or known)[0]) if known else test
