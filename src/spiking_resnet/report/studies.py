"""The blocks of a reproduced study: its table of results."""

from collections.abc import Mapping, Sequence
from typing import Any

from spiking_resnet.report.block import Block, Column, Row, Table

_NAMES = ("network", "case", "images", "ANN")


def blocks(results: Sequence[Mapping[str, Any]]) -> list[Block]:
    """A study's table, a row for each case: accuracy and, in brackets, agreement, at every T."""
    steps = [point["steps"] for point in results[0]["curve"]["snn"]]
    names = (*_NAMES, *(f"T = {step}" for step in steps))
    columns = tuple(Column(name, align="left") for name in names)
    return [Table(columns, tuple(Row(_cells(result)) for result in results), shape="wide")]


def _cells(result: Mapping[str, Any]) -> tuple[str, ...]:
    curve, label = result["curve"], result["label"]
    if "trials" in (found := curve["notes"].get("compensation", {})):
        label += f" (c = {found['factor']:g})"
    return (
        result["network"],
        label,
        str(result["images"]),
        f"{100 * curve['ann']['accuracy']:.2f}",
        *(
            f"{100 * point['accuracy']:.2f} ({100 * point['agreement']:.1f})"
            for point in curve["snn"]
        ),
    )
