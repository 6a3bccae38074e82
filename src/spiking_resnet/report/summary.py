"""The blocks of a network's summary: a row for each layer, and the sums."""

from collections.abc import Sequence

from spiking_resnet.evaluation.summary import LayerSummary, Summary
from spiking_resnet.report.block import Block, Chart, Column, Row, Table
from spiking_resnet.report.numbers import count, percent, whole
from spiking_resnet.report.run import of_rates

_COLUMNS = {
    "layer": Column("layer", align="left", folds=True),
    "by": Column("by", align="left", folds=True, rank=3),
    "shape": Column("shape", rank=2, note="of its values for one image"),
    "neurons": Column("neurons"),
    "synapses": Column("synapses"),
    "params": Column("params", rank=1, note="weights, gains and biases"),
    "threshold": Column("threshold", note="firing threshold, in the ANN's units"),
    "rate": Column("rate"),
}


def blocks(found: Summary) -> list[Block]:
    """The table of a network's layers; thresholds and rates where there are any."""
    rate = found.rate
    names = [name for name in _COLUMNS if _has(found, name)]
    rows = [Row(_cells(_facts(layer), names)) for layer in found.layers]
    total = found.total
    last = {
        "layer": "all", "neurons": whole(total.neurons), "synapses": whole(total.synapses),
        "params": whole(total.parameters), "rate": "" if rate is None else percent(rate),
    }  # fmt: skip
    kind = f"spiking network, {found.method}" if found.method else "artificial network"
    told = f"{kind}."
    if rate is not None and found.images is not None:
        of = f"{found.images:,} images at T = {found.steps}"
        told = f"{kind}; rates: spikes per neuron and step, of {of}."
    return [
        Table(
            columns=tuple(_COLUMNS[name] for name in names),
            rows=(*rows, Row(_cells(last, names), "strong", ruled=True)),
            footnotes=(told,),
            shape="long",
        )
    ]


def charts(found: Summary) -> list[Chart]:
    """The rates of the populations as bars; none where they are not known."""
    rates = {layer.name: layer.rate for layer in found.layers if layer.rate is not None}
    return [of_rates(rates)] if rates else []


def line(found: Summary) -> str:
    """A summary in a line."""
    total, kind = found.total, found.method or "ANN"
    rate = "" if found.rate is None else f", rate {percent(found.rate)} at T = {found.steps}"
    return (
        f"{kind}, {len(found.layers)} layers, {count(total.neurons)} neurons, "
        f"{count(total.synapses)} synapses, {count(total.parameters)} parameters{rate}"
    )


def _has(found: Summary, name: str) -> bool:
    if name == "threshold":
        return any(layer.threshold is not None for layer in found.layers)
    return name != "rate" or found.rate is not None


def _cells(facts: dict[str, str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(facts.get(name, "") for name in names)


def _facts(layer: LayerSummary) -> dict[str, str]:
    size, rate = layer.size, layer.rate
    numbers = {"neurons": size.neurons, "synapses": size.synapses, "params": size.parameters}
    return {
        "layer": layer.name,
        "by": ", ".join(layer.by),
        "shape": "x".join(map(str, layer.shape)),
        **{name: whole(number) if number else "" for name, number in numbers.items()},
        "threshold": "" if layer.threshold is None else _range(*layer.threshold),
        "rate": "" if rate is None else percent(rate),
    }


def _range(low: float, high: float) -> str:
    """One number, or the lowest and the highest."""
    return f"{low:.3g}" if low == high else f"{low:.2g} .. {high:.2g}"
