"""The blocks of an evaluation: the table of a curve, and its chart."""

from collections.abc import Mapping
from dataclasses import replace
from math import isnan, nan
from pathlib import Path

from spiking_resnet.records import Curve, InputError, Point
from spiking_resnet.report import classes, flips, stopping
from spiking_resnet.report.block import Axis, Block, Chart, Column, Level, Row, Series, Table, Text
from spiking_resnet.report.figure import check_path
from spiking_resnet.report.numbers import count, decimals, number, percent, told_ends
from spiking_resnet.report.write import write
from spiking_resnet.shares import told_error

_T = Column("T", note="time steps")
_COLUMNS = (
    _T,
    Column("accuracy"),
    Column("95 % interval", rank=1),
    Column("loss", note="points below the ANN"),
    Column("agreement", rank=2, note="same class as the ANN"),
    Column("spikes/image", rank=3),
    Column("rate", rank=4, note="spikes per neuron and step"),
)
_WITH_TOP5 = (
    _T,
    Column("top-1", "%"),
    Column("95 % range", rank=1),
    Column("top-5", "%", rank=2),
    Column("loss", note="top-1, points below the ANN"),
    Column("agree", "%", rank=1, note="same class as the ANN"),
    Column("spikes", rank=3, note="per image"),
    Column("rate", "%", rank=4, note="spikes per neuron and step"),
)
_OF_ERRORS = (
    _T,
    Column("error", note="mean squared, from the targets"),
    Column("distance", note="mean squared, from the ANN's outputs"),
    Column("spikes/image"),
    Column("rate", note="spikes per neuron and step"),
)
STEPS = Axis("Time steps T", symbol="T", scale="log2")
ACCURACY = Axis("Accuracy", "%", bounds=(0.0, 100.0))
ERROR = Axis("Mean squared error")


def blocks(curve: Curve, title: str = "") -> list[Block]:
    """The table of a curve, those of images that stop early, of classes and of images that flip,
    and remarks on what to beware of.
    """
    remarks = [Text(curve.remark, "remark")] if curve.remark else []
    by_class = [] if curve.per_class is None else classes.blocks(curve.per_class)
    flipped = [] if curve.decisions is None else flips.blocks(curve.decisions)
    return [table(curve, title), *stopping.several(curve.stopped), *by_class, *flipped, *remarks]


def table(curve: Curve, title: str = "") -> Table:
    """A curve as a table: a row for each T and one for the ANN, with top-5 accuracy if measured."""
    columns = _WITH_TOP5 if _has_top5(curve) else _COLUMNS
    measured = [Row(tuple(row)) for row in rows(curve)]
    if curve.ann_accuracy is not None or curve.ann_error is not None:
        measured.append(Row(tuple(_ann_row(curve)), "strong", ruled=True))
    return Table(
        columns=_OF_ERRORS if curve.metric == "mse" else columns,
        rows=tuple(measured),
        title=title,
        footnotes=(_conditions(curve),),
    )


def rows(curve: Curve) -> list[list[str]]:
    """The cells of one row for each T; a dash where nothing was measured."""
    return [_row(point, curve) for point in curve.points]


def chart(curves: Mapping[str, Curve], title: str = "") -> Chart:
    """Accuracy over time steps, a line for each curve, with 95 % Wilson intervals and the ANNs'.

    curves: by label. Of curves of the metric "mse" it is the mean squared error, without
    intervals. Raises InputError for no curves, or for such of several metrics.
    """
    if not curves:
        raise InputError("there are no curves to plot: give at least one")
    if len({curve.metric == "mse" for curve in curves.values()}) > 1:
        raise InputError("accuracies and errors do not share an axis: plot them one by one")
    errors = any(curve.metric == "mse" for curve in curves.values())
    return Chart(
        kind="lines",
        x=STEPS,
        y=ERROR if errors else of_images(min(curve.images for curve in curves.values())),
        title=title,
        series=(
            *(_series(*each, tone) for tone, each in enumerate(curves.items())),
            *(
                stopping.series(name, curve, tone)
                for tone, (name, curve) in enumerate(curves.items(), len(curves))
                if curve.stopped
            ),
        ),
        levels=_levels(curves),
        intervals="" if errors else "95 % interval",
    )


def of_images(images: int) -> Axis:
    """The axis of accuracies, with as many decimals as so many images tell apart."""
    return replace(ACCURACY, decimals=decimals(images))


def plot(curves: Mapping[str, Curve], path: str | Path, title: str = "") -> None:
    """Draw `chart` to `path` (.png, .svg or .pdf).

    Raises InputError as `chart` does and for another suffix, OSError where the file cannot be
    written.
    """
    path = check_path(path)
    write((chart(curves, title),), path)


def _series(label: str, curve: Curve, tone: int) -> Series:
    return Series(
        label,
        values=tuple(_value(point.accuracy, point.error) for point in curve.points),
        at=tuple(point.steps for point in curve.points),
        intervals=tuple(in_percent(point.interval) for point in curve.points),
        tone=tone,
    )


def _levels(curves: Mapping[str, Curve]) -> tuple[Level, ...]:
    """A level for each ANN's accuracy: one, in grey, if all share it."""
    known = {name: _value(each.ann_accuracy, each.ann_error) for name, each in curves.items()}
    found = {name: value for name, value in known.items() if not isnan(value)}
    if len(set(found.values())) == 1 and len(found) == len(curves):
        return (Level(next(iter(found.values())), "ANN"),)
    return tuple(
        Level(found[name], f"ANN of {name}", tone)
        for tone, name in enumerate(curves)
        if name in found
    )


def _value(accuracy: float | None, error: float | None) -> float:
    """A point's place on the y axis: accuracy in percent, or error; NaN where it has neither."""
    if accuracy is not None:
        return 100 * accuracy
    return nan if error is None else error


def in_percent(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    """The ends of an interval of shares in percent, or None."""
    return None if ends is None else (100 * ends[0], 100 * ends[1])


def _has_top5(curve: Curve) -> bool:
    return any(point.top5 is not None for point in curve.points)


def _row(point: Point, curve: Curve) -> list[str]:
    ann, wide = curve.ann_accuracy, _has_top5(curve)
    spent = [count(point.spikes_per_image), percent(point.firing_rate)]
    if curve.metric == "mse":
        return [str(point.steps), number(point.error), number(point.distance), *spent]
    known = ann is not None and point.accuracy is not None
    lost = 100 * ((ann or 0.0) - (point.accuracy or 0.0))
    row = [
        str(point.steps),
        percent(point.accuracy, curve.images),
        told_ends(point.interval, curve.images),
        *([percent(point.top5, curve.images)] if wide else []),
        f"{lost:+.{decimals(curve.images)}f}" if known else "-",
        percent(point.agreement, curve.images),
        *spent,
    ]
    return _bare(row) if wide else row


def _ann_row(curve: Curve) -> list[str]:
    if curve.metric == "mse":
        return ["ANN", number(curve.ann_error), "", "", ""]
    images = curve.images
    row = ["ANN", percent(curve.ann_accuracy, images), told_ends(curve.ann_interval, images)]
    if not _has_top5(curve):
        return [*row, "", "", "", ""]
    return _bare([*row, percent(curve.ann_top5, images), "", "", "", ""])


def _bare(row: list[str]) -> list[str]:
    """A row without percent signs, which stand in the headings."""
    return [cell.removesuffix(" %") for cell in row]


def _conditions(curve: Curve) -> str:
    exact = "exact" if curve.exact else "not exact"
    errors = (
        "" if curve.metric == "mse" else f"; standard errors up to {_largest_error(curve)} points"
    )
    return (
        f"n = {curve.images:,} images; engine {curve.engine} ({exact}); "
        f"{curve.seconds:.1f} s of simulation{errors}."
    )


def _largest_error(curve: Curve) -> str:
    """The largest standard error of the curve's accuracies, in points."""
    shares = [curve.ann_accuracy, *(point.accuracy for point in curve.points)]
    known = [told_error(share, curve.images) for share in shares if share is not None]
    return f"{100 * max(known):.1f}"
