"""The blocks of a network's layers: what reads what, and what each of them fires and spends."""

from dataclasses import replace
from typing import Any

from spiking_resnet.evaluation.findings import Findings
from spiking_resnet.evaluation.layers import Layer
from spiking_resnet.report.block import Block, Column, Row, Table
from spiking_resnet.report.numbers import count, percent, whole

_RATE, _OPERATIONS, _ERROR = 1, 2, 3  # columns with bars


def blocks(found: Findings) -> list[Block]:
    """A row for each layer, in the order of computation; shortcuts are lines between rows."""
    rates = [layer.rate for layer in found.layers]
    spent = [layer.operations for layer in found.layers]
    errors = [layer.error or 0.0 for layer in found.layers]
    largest = (max(rates) or 1.0, max(spent) or 1.0, max(errors) or 1.0)
    total = sum(spent)
    rows = tuple(_row(layer, largest) for layer in found.layers)
    last = found.curve.points[-1]
    at = "" if found.diagnosis is None else f" at T = {found.diagnosis.steps}"
    size = sum(layer.neurons for layer in found.layers)
    sums = ("all", percent(last.firing_rate), count(total), "", whole(size), "", "", "")
    table = Table(
        columns=(
            Column("layer", align="left", folds=True),
            Column("rate", note=f"spikes per neuron and step, at T = {last.steps}"),
            Column("operations", note="synaptic ones that its spikes cause in an image"),
            Column(
                "error",
                "%",
                note=f"of its rates{at}, root mean square, in % of the activations'",
            ),
            Column("neurons"),
            Column("shape"),
            Column(
                "by", align="left", note="what it is made of, from what it reads to its neurons"
            ),
            Column("shortcut from", align="left"),
        ),
        rows=(*rows, Row(sums, "strong", ruled=True)),
        footnotes=("A line beside the rows is a shortcut.",) if _links(found.layers) else (),
        shape="long",
        links=_links(found.layers),
    )
    measured = any(layer.error is not None for layer in found.layers)
    return [table if measured else _without(table, _ERROR)]


def _without(table: Table, column: int) -> Table:
    """The table without a column; those after it have no bars."""

    def rest(cells: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*cells[:column], *cells[column + 1 :])

    rows = tuple(replace(row, cells=rest(row.cells)) for row in table.rows)
    return replace(table, columns=rest(table.columns), rows=rows)


def _row(layer: Layer, largest: tuple[float, float, float]) -> Row:
    shape = "x".join(map(str, layer.shape))
    named = (shape, ", ".join(layer.by), ", ".join(layer.shortcuts))
    error = "" if layer.error is None else f"{100 * layer.error:.1f}"
    if not layer.neurons:
        return Row((layer.name, "", "", error, "", *named))
    bars = {_RATE: layer.rate / largest[0], _OPERATIONS: layer.operations / largest[1]}
    if layer.error is not None:
        bars[_ERROR] = layer.error / largest[2]
    numbers = (percent(layer.rate), count(layer.operations), error, whole(layer.neurons))
    return Row((layer.name, *numbers, *named), bars=bars)


def _links(layers: tuple[Layer, ...]) -> tuple[tuple[int, int], ...]:
    """The rows of every shortcut's ends."""
    rows = {layer.name: row for row, layer in enumerate(layers)}
    return tuple((rows[name], row) for row, layer in enumerate(layers) for name in layer.shortcuts)
