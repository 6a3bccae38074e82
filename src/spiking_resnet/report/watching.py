"""What is shown of a spiking network as it is watched: a frame, a line, and tables at the end."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from spiking_resnet.evaluation.watching import Moment, largest
from spiking_resnet.printable import printable
from spiking_resnet.records import decisions, margins
from spiking_resnet.report.block import Block, Column, Row, Table, Text
from spiking_resnet.report.numbers import count, percent, whole

CLASSES = 5  # that are shown at once
_NAME = 24  # characters of a name, at most


@dataclass(frozen=True, eq=False)
class Watched:
    """What is watched: the network and the image in words, for how many steps.

    names: of the classes, () where they are not known. neurons: of every population. ann: the ANN's
    logits [K]; label: the image's class; None where they are not known.
    """

    title: str
    steps: int
    neurons: Mapping[str, int]
    names: tuple[str, ...] = ()
    ann: Tensor | None = None
    label: int | None = None

    def name(self, number: int) -> str:
        """What a class is called."""
        return printable(self.names[number]) if number < len(self.names) else f"class {number}"


@dataclass(frozen=True)
class Line:
    """A line of a frame. style: as rich writes it."""

    text: str
    style: str = ""


def frame(watched: Watched, moment: Moment, width: int, height: int) -> list[Line]:
    """A frame of `height` lines at most, no wider than `width` characters.

    Where there are more populations than lines, neighbours share one, with their common rate.
    """
    at = f"t = {moment.step} of {watched.steps}"
    title = printable(watched.title)[: max(0, width - len(at) - 2)]
    lines = [
        Line(title + at.rjust(width - len(title)), "bold"),
        Line(_decided(watched, moment), "bold green" if _as_wanted(watched, moment) else "bold"),
        Line(""),
        Line("read-out, in the ANN's units"),
        *_readout(watched, moment, width),
        Line(""),
    ]
    room = height - len(lines) - 1
    if room > 0:
        rows = _rates(watched, moment, room)
        named = min(_NAME, max(len(name) for name, _, _ in rows))
        bar = max(1, width - named - 20)
        lines.append(Line(_columns("spikes per neuron and step", "now", "mean", named + bar + 1)))
        top = max(max(now for _, now, _ in rows), 1e-9)
        for name, now, mean in rows:
            drawn = f"{_short(name, named)} {_bar(now, top, bar)}"
            lines.append(Line(_columns(drawn, percent(now), percent(mean), named + bar + 1)))
    return [Line(line.text[:width], line.style) for line in lines[:height]]


def line(watched: Watched, moment: Moment) -> str:
    """A moment on one line: the first classes with their read-outs, the margin, the mean rate."""
    wide = len(str(watched.steps))
    said = "  ".join(
        f"{_output(watched, moment, each)} {float(moment.logits[each]):.2f}"
        for each in largest(moment.logits, 3)
    )
    margin = float(margins(moment.logits))
    return (
        f"t = {moment.step:>{wide}}  {said}  margin {margin:.2f}  "
        f"rate {percent(_pooled(watched, moment.now))}"
    )


def blocks(watched: Watched, moment: Moment) -> list[Block]:
    """The read-out and the rates of all populations, as tables."""
    ann = watched.ann
    readout = Table(
        (Column("class", align="left"), Column(f"T = {moment.step}"), Column("ANN")),
        tuple(
            Row(
                (
                    _output(watched, moment, each),
                    f"{float(moment.logits[each]):.3f}",
                    "-" if ann is None else f"{float(ann[each]):.3f}",
                ),
                "strong" if number == 0 else "plain",
            )
            for number, each in enumerate(largest(moment.logits, CLASSES))
        ),
    )
    rates = Table(
        (
            Column("population", align="left"),
            Column("neurons"),
            Column("spikes"),
            Column("rate", note="spikes per neuron and step"),
        ),
        tuple(
            Row((name, whole(n), count(moment.spikes[name]), percent(moment.mean[name])))
            for name, n in watched.neurons.items()
        ),
        shape="long",
    )
    remarks = [Text(moment.remark, "remark")] if moment.remark else []
    said = f"{_decided(watched, moment)}."
    return [Text(watched.title, "heading"), readout, Text(said), rates, *remarks]


def _as_wanted(watched: Watched, moment: Moment) -> bool:
    """Whether the decision is the label, or where that is not known the ANN's."""
    if watched.label is not None:
        return moment.decision == watched.label
    return watched.ann is not None and moment.decision == int(decisions(watched.ann))


def _decided(watched: Watched, moment: Moment) -> str:
    """The decision, how long it stands, and what others say, in words."""
    times = "once" if moment.flips == 1 else f"{moment.flips} times"
    parts = [f"decision: {watched.name(moment.decision)}, since t = {moment.since}"]
    parts += [f"changed {times}"] if moment.flips else []
    if watched.ann is not None:
        parts.append(f"ANN: {watched.name(int(decisions(watched.ann)))}")
    if watched.label is not None:
        parts.append(f"label: {watched.name(watched.label)}")
    return "; ".join(parts)


def _readout(watched: Watched, moment: Moment, width: int) -> list[Line]:
    """A bar for each of the first classes; what is negative is drawn lighter."""
    classes = largest(moment.logits, CLASSES)
    values = [float(moment.logits[each]) for each in classes]
    names = [_output(watched, moment, each) for each in classes]
    named = min(_NAME, max(map(len, names)))
    bar = max(1, width - named - 12)
    top = max(*(abs(value) for value in values), 1e-9)
    found: list[Line] = []
    for name, value in zip(names, values, strict=True):
        drawn = f"{_short(name, named)} {_bar(value, top, bar)} {value:>10.2f}"
        found.append(Line(drawn, "" if found else "bold"))
    return found


def _output(watched: Watched, moment: Moment, number: int) -> str:
    """What an output is called; a single one speaks for class 1."""
    return watched.name(1 if len(moment.logits) == 1 else number)


def _rates(watched: Watched, moment: Moment, rows: int) -> list[tuple[str, float, float]]:
    """(name, rate now, mean rate) of the populations, or of neighbours together, in `rows` rows."""
    names = list(watched.neurons)
    size = -(-len(names) // rows)
    found = []
    for first in range(0, len(names), size):
        part = names[first : first + size]
        name = part[0] if len(part) == 1 else f"{part[0]} … {part[-1]}"
        now, mean = (_pooled(watched, {n: of[n] for n in part}) for of in (moment.now, moment.mean))
        found.append((printable(name), now, mean))
    return found


def _pooled(watched: Watched, rates: Mapping[str, float]) -> float:
    """The common rate of populations."""
    neurons = sum(watched.neurons[name] for name in rates)
    return sum(watched.neurons[name] * rate for name, rate in rates.items()) / neurons


def _bar(value: float, top: float, width: int) -> str:
    return (("█" if value >= 0 else "░") * round(width * abs(value) / top)).ljust(width)


def _short(name: str, width: int) -> str:
    """A name in so many characters, its middle left out where it is longer."""
    if len(name) <= width:
        return name.ljust(width)
    half = (width - 1) // 2
    return f"{name[: width - 1 - half]}…{name[len(name) - half :]}"


def _columns(text: str, now: str, mean: str, width: int) -> str:
    return f"{text[:width].ljust(width)}{now:>9}{mean:>9}"
