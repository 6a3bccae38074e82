"""The blocks of decisions for single images: which the spiking network decides otherwise."""

from itertools import groupby

from spiking_resnet.decided import Decisions
from spiking_resnet.report.block import Block, Column, Row, Table, Text
from spiking_resnet.report.numbers import told

FIRST = 10  # images that are listed

_COLUMNS = (
    Column("image"),
    Column("label", align="left", folds=True),
    Column("ANN", align="left", folds=True),
    Column("margin", rank=2, note="by how much the ANN's largest logit exceeds its second"),
    Column("SNN", align="left", folds=True),
    Column("right", align="left", rank=1, note="which of both is, at the last T"),
)


def blocks(found: Decisions, title: str = "") -> list[Block]:
    """How many images flip at each T, and the first of them."""
    if found.ann is None:
        return [Text("The network was evaluated without an ANN, so no decisions are compared.")]
    last, ever = found.flipped(), found.ever_flipped()
    if not ever:
        return [Text(f"{summary(found)} No decision differs from the ANN's.", apart=True)]
    return [Text(summary(found), apart=True), table(found, last or ever, title)]


def summary(found: Decisions) -> str:
    """How many images are decided otherwise than by the ANN, at each T."""
    images = len(found.images)
    each = ", ".join(
        f"{number:,} at T = {steps}"
        for steps, number in ((steps, len(found.flipped(steps))) for steps in found.steps)
    )
    ever = len(found.ever_flipped())
    share = told(ever / images, images)
    return f"Of {images:,} images {ever:,} ({share} %) flip at any T: {each}."


def table(found: Decisions, places: tuple[int, ...], title: str = "") -> Table:
    """The first of the images at these places: labels, decisions, and from when on they differ."""
    shown, ann = places[:FIRST], found.ann or ()
    left = len(places) - len(shown)
    rest = f"{left:,} more; to_pandas() and --save-decisions have all." if left else ""
    return Table(
        columns=_COLUMNS,
        rows=tuple(
            Row(
                (
                    f"{found.images[place]}",
                    found.name(found.labels[place]),
                    found.name(ann[place]),
                    f"{(found.ann_margins or ())[place]:.2f}",
                    course(found, place),
                    _right(found, place),
                )
            )
            for place in shown
        ),
        title=title or "Images that the two networks decide differently",
        footnotes=(rest,) if rest else (),
    )


def course(found: Decisions, place: int) -> str:
    """What the spiking network decides for one image where that is not what the ANN decides."""
    ann = (found.ann or ())[place]
    decided = zip(found.steps, (row[place] for row in found.snn), strict=True)
    runs = [(label, [steps for steps, _ in run]) for label, run in groupby(decided, lambda x: x[1])]
    return ", ".join(
        f"{found.name(label)} {_span(steps, found.steps)}" for label, steps in runs if label != ann
    )


def _span(steps: list[int], known: tuple[int, ...]) -> str:
    """From which to which of the T."""
    if steps[-1] == known[-1]:
        return "at every T" if len(steps) == len(known) > 1 else f"from T = {steps[0]} on"
    return f"at T = {steps[0]}" if len(steps) == 1 else f"from T = {steps[0]} to {steps[-1]}"


def _right(found: Decisions, place: int) -> str:
    label, last = found.labels[place], found.snn[-1][place]
    if label == (found.ann or ())[place]:
        return "both" if label == last else "ANN"
    return "SNN" if label == last else "neither"
