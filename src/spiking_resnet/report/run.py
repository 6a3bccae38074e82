"""The blocks of a run: what was simulated, and how much every population fired."""

from collections.abc import Mapping

from spiking_resnet.records import Run
from spiking_resnet.report.block import Axis, Block, Chart, Column, Row, Series, Table, Terms, Text
from spiking_resnet.report.numbers import count, percent, whole

_COLUMNS = (
    Column("population", align="left", folds=True),
    Column("neurons"),
    Column("spikes/image", note="of all steps"),
    Column("rate", note="spikes per neuron and step"),
)


def blocks(run: Run) -> list[Block]:
    """What was run, the table of its populations, and what to beware of."""
    steps = ", ".join(map(str, run.record))
    facts = (
        ("steps", f"{run.record[-1]}, read out at {steps}"),
        ("images", f"{run.images:,}"),
        ("engine", f"{run.engine}, {run.seconds:.2f} s"),
        ("exact", "yes: any engine gives the same spikes" if run.exact else "no"),
    )
    remark = [Text(run.remark, "remark")] if run.remark else []
    return [Terms(facts), layers(run), *remark]


def charts(run: Run) -> list[Chart]:
    """The rates of all populations over the run, as bars."""
    rates = {name: float(layer.rate(run.record)[-1]) for name, layer in run.spikes.items()}
    return [of_rates(rates)]


def of_rates(rates: Mapping[str, float]) -> Chart:
    """The rates of populations, by name, as bars."""
    return Chart(
        kind="bars",
        y=Axis("spikes per neuron and step", "%"),
        series=(Series("rate", tuple(100 * rate for rate in rates.values())),),
        rows=tuple(rates),
    )


def layers(run: Run) -> Table:
    """The spikes and the rate of every population after the last step, and of all together."""
    spikes = {name: float(layer.spikes[-1].double().mean()) for name, layer in run.spikes.items()}
    neurons = {name: layer.neurons for name, layer in run.spikes.items()}
    rates = {name: spikes[name] / (neurons[name] * run.record[-1]) for name in spikes}
    largest = max(rates.values(), default=0.0) or 1.0
    rows = [
        Row(
            (name, whole(neurons[name]), count(spikes[name]), percent(rate)),
            bars={3: rate / largest},
        )
        for name, rate in rates.items()
    ]
    fired, size = sum(spikes.values()), sum(neurons.values())
    total = ("all", whole(size), count(fired), percent(fired / (size * run.record[-1])))
    return Table(_COLUMNS, (*rows, Row(total, "strong", ruled=True)), shape="long")
