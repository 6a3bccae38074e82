"""The sections of what was observed step by step: spike rasters, and decisions as they form."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spiking_resnet.evaluation.observe import Observation, Raster, Sample
from spiking_resnet.report.block import Axis, Block, Chart, Level, Picture, Series, Text
from spiking_resnet.report.numbers import percent
from spiking_resnet.report.page import Section

if TYPE_CHECKING:
    from PIL import Image

_FIRED, _NEGATIVE = (38, 132, 200), (232, 112, 40)  # seen on light and on dark
_STEPS = Axis("Time step t", symbol="t")


def rasters(found: Observation) -> Section:
    """A picture for each population: neurons by time steps."""
    steps = len(found.rasters[0].activity)
    lead = Text(
        f"Spikes for one image over {steps} time steps. Each row of a picture is a neuron, each "
        "column a step; neurons are spread evenly over their population, silent ones included."
    )
    activity = Chart(
        kind="lines",
        x=_STEPS,
        y=Axis("Spikes per neuron", "% of its neurons in a step"),
        series=tuple(
            Series(
                each.population,
                tuple(100 * value for value in each.activity),
                tuple(range(1, steps + 1)),
                tone=tone,
            )
            for tone, each in enumerate(found.rasters)
        ),
        title="How busy each population is",
    )
    groups = tuple(_raster(each) for each in found.rasters)
    return Section("spikes", "Spikes", (lead, activity), groups, "rasters")


def _raster(raster: Raster) -> list[Block]:
    steps = len(raster.activity)
    mean = sum(raster.activity) / steps
    silent = sum(not any(row) for row in raster.spikes)
    caption = (
        f"{len(raster.shown)} of {raster.neurons:,} neurons, {steps} steps; {percent(mean)} "
        f"spikes per neuron and step; {silent} of those shown are silent."
    )
    said = f"Spike raster of {raster.population}: {caption}"
    drawn = Picture(drawing(raster.spikes), said, caption, exact=True)
    return [Text(raster.population, "title"), drawn]


def drawing(spikes: Sequence[Sequence[int]]) -> bytes:
    """A raster as a PNG with one pixel for each neuron and step: the more spikes, the less
    transparent; negative ones in another colour.
    """
    from PIL import Image

    largest = max((abs(value) for row in spikes for value in row), default=1) or 1
    pixels = bytearray()
    for row in spikes:
        for value in row:
            alpha = round(255 * (0.35 + 0.65 * abs(value) / largest)) if value else 0
            pixels += bytes((*(_NEGATIVE if value < 0 else _FIRED), alpha))
    image = Image.frombytes("RGBA", (len(spikes[0]), len(spikes)), bytes(pixels))
    return png(image)


def png(image: "Image.Image") -> bytes:
    """A picture as the bytes of a PNG file."""
    written = io.BytesIO()
    image.save(written, format="PNG", optimize=True)
    return written.getvalue()


def samples(found: Observation, names: Sequence[str], pictures: Callable[[int], bytes]) -> Section:
    """A group for each sample: the image, and the read-out of a few classes over time."""
    lead = Text(
        f"Of {found.observed} images {len(found.samples)}, evenly spread from the one whose "
        "decision settles first to the one whose decision settles last. Dotted lines: where it "
        "flips. Read-outs are in the units of the artificial network's logits."
    )
    groups = tuple(_sample(each, found.steps, names, pictures) for each in found.samples)
    return Section("decisions", "Decisions over time", (lead,), groups, "pictured")


def _sample(
    sample: Sample, steps: int, names: Sequence[str], pictures: Callable[[int], bytes]
) -> list[Block]:
    name = _namer(names)
    right = "right" if sample.decision == sample.label else f"wrong, it is {name(sample.label)}"
    ann = ""
    if sample.ann is not None:
        same = sample.ann == sample.decision
        ann = " The ANN decides the same." if same else f" The ANN says {name(sample.ann)}."
    told = f"{_settles(sample, steps)}{ann}"
    chart = Chart(
        kind="lines",
        x=_STEPS,
        y=Axis("Read-out"),
        series=tuple(
            Series(name(each), values, tuple(range(1, steps + 1)), tone=tone)
            for tone, (each, values) in enumerate(zip(sample.classes, sample.readout, strict=True))
        ),
        moments=(*_flips(sample), *_settled(sample)),
        low=True,
    )
    seen = Picture(pictures(sample.image), f"An image of {name(sample.label)}")
    return [seen, Text(f"{name(sample.decision)}: {right}", "title"), Text(told), chart]


def _settled(sample: Sample) -> tuple[Level, ...]:
    return (Level(sample.settled, "settles"),) if sample.flips else ()


def _flips(sample: Sample) -> tuple[Level, ...]:
    """The steps at which it flips before it settles."""
    return tuple(Level(step) for step in sample.flips[:-1])


def _settles(sample: Sample, steps: int) -> str:
    if not sample.flips:
        return "Decided from the first step on."
    times = len(sample.flips)
    often = "once" if times == 1 else "twice" if times == 2 else f"{times} times"
    return f"Flips {often}, and settles at step {sample.settled} of {steps}."


def _namer(names: Sequence[str]) -> Callable[[int], str]:
    """What a class is called."""
    return lambda label: names[label] if label < len(names) else f"class {label}"
