"""The charts of accuracy in a report: over time steps, and against what it costs."""

from collections.abc import Sequence
from dataclasses import replace

from spiking_resnet.records import Curve
from spiking_resnet.report import curve
from spiking_resnet.report.block import Axis, Block, Chart, Level, Series
from spiking_resnet.report.curve import ERROR, STEPS, in_percent
from spiking_resnet.report.numbers import decimals, percent
from spiking_resnet.shares import wilson

_SHARE = Axis("Share of the images", "%", bounds=(0.0, 100.0))


def over_time(measured: Curve) -> list[Block]:
    """Accuracy and agreement over T, and their table."""
    if measured.metric == "mse":
        return [curve.chart({"SNN": measured}), *curve.blocks(measured)]
    known = [point for point in measured.points if point.accuracy is not None]
    agreeing = [point for point in measured.points if point.agreement is not None]
    series = [
        Series(
            "accuracy",
            tuple(100 * (point.accuracy or 0.0) for point in known),
            tuple(point.steps for point in known),
            tuple(in_percent(point.interval) for point in known),
        ),
        Series(
            "agreement with the ANN",
            tuple(100 * (point.agreement or 0.0) for point in agreeing),
            tuple(point.steps for point in agreeing),
            tuple(
                in_percent(
                    wilson(round((point.agreement or 0.0) * measured.images), measured.images)
                )
                for point in agreeing
            ),
            tone=2,
        ),
    ]
    chart = Chart(
        kind="lines",
        x=STEPS,
        y=replace(_SHARE, decimals=decimals(measured.images)),
        series=tuple(each for each in series if each.values),
        levels=_ann_level(measured),
        intervals="95 % intervals",
    )
    return [chart, *curve.blocks(measured)]


def _ann_level(measured: Curve) -> tuple[Level, ...]:
    if measured.ann_accuracy is None:
        return ()
    return (
        Level(
            100 * measured.ann_accuracy, f"ANN {percent(measured.ann_accuracy, measured.images)}"
        ),
    )


def against(measured: Curve, spent: Sequence[float], axis: Axis) -> Chart:
    """Accuracy (or error) over what each point of a curve costs."""
    errors = measured.metric == "mse"
    return Chart(
        kind="lines",
        x=axis,
        y=ERROR if errors else curve.of_images(measured.images),
        series=(
            Series(
                "SNN",
                tuple((each.error or 0.0) if errors else 100 * (each.accuracy or 0.0)
                      for each in measured.points),
                tuple(spent),
                tuple(in_percent(each.interval) for each in measured.points),
            ),
        ),
        levels=_ann_level(measured),
        intervals="" if errors else "95 % interval",
    )  # fmt: skip
