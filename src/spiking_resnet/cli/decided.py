"""What was decided class by class and image by image on the command line: its flags and files."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from spiking_resnet.cli.groups import Group
from spiking_resnet.cli.outputs import Outputs, say_wrote, write_json
from spiking_resnet.decided import Decisions
from spiking_resnet.files import write_whole
from spiking_resnet.records import Curve, InputError
from spiking_resnet.report import classes
from spiking_resnet.report.figure import check_path
from spiking_resnet.report.rows import rows
from spiking_resnet.report.write import write

PerClassOption = Annotated[
    bool, typer.Option("--per-class", help="Accuracy and confusions of every class.")
]
ConfusionOption = Annotated[
    Path | None,
    typer.Option(
        "--confusion",
        help="Confusion matrices at the last T: .png, .svg, .pdf.",
        show_default=False,
    ),
]
SaveDecisionsOption = Annotated[
    Path | None,
    typer.Option(
        "--save-decisions",
        help="What is decided for every image at every T: .csv, .npz, .json.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class DecidedFlags(Group):
    """What of the decisions is told. InputError for files of other kinds."""

    per_class: PerClassOption = False
    confusion: ConfusionOption = None
    save_decisions: SaveDecisionsOption = None

    def __post_init__(self) -> None:
        if self.confusion is not None:
            check_path(self.confusion)
        path = self.save_decisions
        if path is not None and path.suffix.lower() not in _WRITERS:
            raise InputError(
                f"--save-decisions {path}: its name ends in one of {', '.join(_WRITERS)}"
            )

    @property
    def by_class(self) -> bool:
        """Whether classes are counted."""
        return self.per_class or self.confusion is not None

    @property
    def each(self) -> bool:
        """Whether decisions for single images are kept."""
        return self.save_decisions is not None

    @property
    def outputs(self) -> Outputs:
        """The files that are written, by their flags."""
        return {"--confusion": self.confusion, "--save-decisions": self.save_decisions}

    def write(self, curve: Curve) -> None:
        """Write the files that were asked for."""
        if self.confusion is not None and curve.per_class is not None:
            write(classes.charts(curve.per_class), self.confusion)
            say_wrote(self.confusion)
        if self.save_decisions is not None and curve.decisions is not None:
            _WRITERS[self.save_decisions.suffix.lower()](curve.decisions, self.save_decisions)
            say_wrote(self.save_decisions)


def told_of(curve: Curve, names: Sequence[str], images: Sequence[int]) -> Curve:
    """The curve with names of the classes, and its images' indices in the data set."""
    own, each = curve.per_class, curve.decisions
    if own is not None and len(names) == own.classes:
        own = replace(own, names=tuple(names))
    if each is not None:
        each = each.of_images(images)
        each = replace(each, names=tuple(names)) if len(names) == each.classes else each
    return replace(curve, per_class=own, decisions=each)


def _write_csv(found: Decisions, path: Path) -> None:
    text, table = io.StringIO(), rows(found)
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_whole(path, text.getvalue().encode())


def _write_npz(found: Decisions, path: Path) -> None:
    """Arrays: steps [T], image, label, ann, ann_margin [N], snn, margin [T, N], names [K]."""
    whole = {"steps": found.steps, "image": found.images, "label": found.labels, "snn": found.snn}
    arrays: dict[str, Any] = {name: np.asarray(row, np.int64) for name, row in whole.items()}
    arrays["margin"] = np.asarray(found.margins, np.float64)
    if found.ann is not None:
        arrays["ann"] = np.asarray(found.ann, np.int64)
        arrays["ann_margin"] = np.asarray(found.ann_margins, np.float64)
    content = io.BytesIO()
    np.savez_compressed(content, names=np.asarray(found.names, np.str_), **arrays)
    write_whole(path, content.getvalue())


def _write_json(found: Decisions, path: Path) -> None:
    write_json(path, found.to_json())


_WRITERS: Mapping[str, Callable[[Decisions, Path], None]] = {
    ".csv": _write_csv,
    ".npz": _write_npz,
    ".json": _write_json,
}
