"""Early stopping on the command line: its flags, and the training images its rules are found on."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

import spiking_resnet as sr
from spiking_resnet.ann.images import ImageData
from spiking_resnet.cli.groups import Group
from spiking_resnet.cli.images import fitted, loaded
from spiking_resnet.cli.options import PATH_OF_SET, ImageFlags
from spiking_resnet.cli.provenance import fingerprint
from spiking_resnet.graph import Graph
from spiking_resnet.records import InputError, Stop

ConfidenceOption = Annotated[
    str | None,
    typer.Option(
        "--confidence",
        help="Images stop early: P, or several by commas, as 0.95,0.99,1.",
        show_default=False,
    ),
]
StopImagesOption = Annotated[
    int,
    typer.Option(
        "--stop-images", help="Training images to find the rule on; not those of the calibration."
    ),
]
StopDatasetOption = Annotated[
    str | None,
    typer.Option(
        "--stop-dataset",
        help=f"Their data set, {PATH_OF_SET}.",
        show_default="that of the calibration",
    ),
]
StopEveryOption = Annotated[
    int | None,
    typer.Option(
        "--stop-every",
        help="Steps between read-outs; each costs simulation time.",
        show_default="1; more beyond 64 steps",
    ),
]


@dataclass(frozen=True)
class StopFlags(Group):
    """Whether and how images stop early. InputError for what cannot be."""

    confidence: ConfidenceOption = None
    stop_images: StopImagesOption = 1000
    stop_dataset: StopDatasetOption = None
    stop_every: StopEveryOption = None

    def __post_init__(self) -> None:
        _ = self.wanted
        for name, value in (("images", self.stop_images), ("every", self.stop_every)):
            if value is not None and value < 1:
                raise InputError(f"--stop-{name} is {value}: at least 1")

    @property
    def wanted(self) -> tuple[float, ...]:
        """The confidences that are asked for, ascending; () for none."""
        if self.confidence is None:
            return ()
        try:
            found = {float(part) for part in self.confidence.split(",")}
        except ValueError:
            found = {0.0}
        if not all(0 < each <= 1 for each in found):
            raise InputError(
                f"--confidence {self.confidence!r}: write shares of at most 1, like 0.95,0.99"
            )
        return tuple(sorted(found))

    def images(
        self, graph: Graph, name: str, asked: ImageFlags, judged: ImageData, seed: int
    ) -> "Training | None":
        """The training images to find the rules on; None where no rule is asked for.

        name, judged: the data set that is evaluated, and its images. InputError where they are the
        same.
        """
        if not self.wanted:
            return None
        notes = graph.notes.get("calibration", {})
        known = None if self.stop_dataset else graph.notes.get("dataset")
        source = self.stop_dataset or known or name
        split = str(notes.get("split", "train")) if known else "train"
        data = fitted(graph, loaded(graph, source, split, asked), asked.wanted)
        if fingerprint(data) == fingerprint(judged):
            raise InputError(
                f"--confidence would find its rule on the images that are judged, of {source} "
                f"({split}): name training images with --stop-dataset"
            )
        chosen, how = _others(data, notes if known else {}, self.stop_images, seed)
        facts = {"dataset": source, "split": split, "images": len(chosen), **how}
        return Training(chosen, {**facts, "data": fingerprint(chosen)})

    def rules(
        self, graph: Graph, training: "Training", steps: int, batch: int, engine: str, device: str
    ) -> tuple[Stop, ...]:
        """The rules for a full run of `steps`."""
        return sr.calibrate_stop(
            graph, training.data.loader(batch), steps, self.wanted, self.stop_every, engine,
            device=device, notes=training.facts,
        )  # fmt: skip


@dataclass(frozen=True)
class Training:
    """Training images to find rules on, and what is noted of them."""

    data: ImageData
    facts: dict[str, Any]


def _others(
    data: ImageData, calibration: dict[str, Any], count: int, seed: int
) -> tuple[ImageData, dict[str, Any]]:
    """So many images, and how they were chosen: none that the network was calibrated on, where at
    least half as many others are left.
    """
    own, by = calibration.get("images"), calibration.get("seed")
    if isinstance(own, int) and isinstance(by, int) and calibration.get("per_class") is None:
        left = min(count, len(data) - own)
        if 2 * left >= count:
            return data.parted(own, left, by)[1], {"seed": by, "after": own}
    return data.subset(count, seed), {"seed": seed}
