"""The blocks of a study: what the paper's method loses by depth, chapter after chapter, charts."""

from collections.abc import Callable, Iterator, Sequence

from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.chapters import PAPER_STEPS, chapter
from spiking_resnet.evaluation.comparison import Comparison
from spiking_resnet.evaluation.paired import Paired
from spiking_resnet.evaluation.study import Finding, by_chapter
from spiking_resnet.files import slug
from spiking_resnet.report import comparison, curve, published
from spiking_resnet.report.block import Axis, Block, Chart, Level, Row, Series, Table, Text, columns
from spiking_resnet.report.numbers import count, interval
from spiking_resnet.shares import told_error

MANY_CLASSES = 100  # where top-5 accuracy says something
ANN_TEXT = "ANN: accuracy with its 95 % interval, %."
LOSS_TEXT = (
    "±: the standard error of the difference on the same images; if no image differs, a 68 % bound."
)
PAPER = ("hu2021", "hu2021-channel", "hu2021-unconverted")


def blocks(findings: Sequence[Finding]) -> list[Block]:
    """The losses of the paper's method, then the tables of every chapter."""
    found = by_chapter(findings)
    tables: list[Block] = [
        *_paper(found.get("paper", [])),
        *published.table({each.dataset for each in findings}),
    ]
    for name, own in found.items():
        tables += _chapter(name, own)
    return tables


def summary(findings: Sequence[Finding]) -> list[Block]:
    """What a terminal shows: the losses of the paper's method, and every chapter's accuracies."""
    found = by_chapter(findings)
    return [
        *_paper(found.get("paper", [])),
        *(_accuracies(own) for own in found.values()),
        *(remark for own in found.values() for remark in _failures(own)),
    ]


def document(findings: Sequence[Finding], command: str) -> list[Block]:
    """The same for a file, with the command that makes it again."""
    return [Text(command, "command"), *blocks(findings)]


def charts(findings: Sequence[Finding]) -> dict[str, Chart]:
    """The figures by name: losses by depth, and accuracy over T of each network and chapter."""
    found = by_chapter(findings)
    drawn = {
        f"{each.dataset}_{slug(each.network)}_{name}": chart
        for name, own in found.items()
        for each in own
        if (chart := _over_time(each)) is not None
    }
    for dataset in dict.fromkeys(each.dataset for each in findings):
        own = [each for each in found.get("paper", []) if each.dataset == dataset]
        if len(own) > 1:
            drawn[f"{dataset}_depths"] = _by_depth(own)
    return drawn


def _over_time(finding: Finding) -> Chart | None:
    drawn = comparison.curves(finding.comparison)
    images = finding.comparison.images
    title = f"{finding.network}, {finding.dataset}, {images:,} images"
    return curve.chart(drawn, title) if drawn else None


def _by_depth(findings: Sequence[Finding]) -> Chart:
    """Loss at the paper's T over depth, a line for each of its recipes."""
    ordered = sorted(findings, key=lambda each: each.layers)
    last = [_last(each) for each in ordered]
    return Chart(
        kind="lines",
        x=Axis("Layers", symbol="layers"),
        y=Axis(f"Loss at T = {PAPER_STEPS}", "points"),
        title=ordered[0].dataset,
        series=tuple(
            Series(
                name,
                values=tuple(each[name].loss for each in last if name in each),
                at=tuple(
                    one.layers for one, each in zip(ordered, last, strict=True) if name in each
                ),
                intervals=tuple(
                    _ends(each[name].paired(one.comparison.images))
                    for one, each in zip(ordered, last, strict=True) if name in each
                ),
                tone=tone,
            )
            for tone, name in enumerate(PAPER)
        ),
        levels=(Level(0.0),),
        intervals="95 % interval",
    )  # fmt: skip


def _ends(found: Paired) -> tuple[float, float]:
    """The 95 % interval of a loss, in points."""
    return 100 * found.at_least(0.975), 100 * found.at_most(0.975)


def _last(finding: Finding) -> dict[str, Reading]:
    """The readings at the paper's T by recipe."""
    return {
        row.recipe: row.readings[PAPER_STEPS]
        for row in finding.comparison.rows
        if PAPER_STEPS in row.readings
    }


def _paper(findings: Sequence[Finding]) -> Iterator[Table]:
    """Losses of the paper's method at its T: a row for each network."""
    if not findings:
        return
    names = ("data set", "network", "layers", "images", "ANN")
    recipes = ("per layer", "per channel", "shortcuts not converted")
    rows = []
    for each in findings:
        last, compared = _last(each), each.comparison
        rows.append(
            Row(
                (
                    each.dataset,
                    each.network,
                    str(each.layers),
                    f"{compared.images:,}",
                    _ann(compared),
                    *(_loss(last.get(name), compared.images) for name in PAPER),
                )
            )
        )
    yield Table(
        columns(2, (*names, *recipes)),
        tuple(rows),
        title=f"What the paper's method loses at T = {PAPER_STEPS}, points below the ANN",
        footnotes=(ANN_TEXT, LOSS_TEXT),
        shape="wide",
        apart=True,
    )


def _chapter(name: str, findings: Sequence[Finding]) -> Iterator[Block]:
    """The tables of a chapter, over all networks, and what failed."""
    title = chapter(name, 10).title
    yield Text(title, "heading", apart=True)
    steps = findings[0].comparison.steps
    yield _accuracies(findings)
    yield _table(
        findings, f"Loss, points below the ANN, {_images(findings)}", steps, _loss, None, LOSS_TEXT
    )
    yield _table(
        findings, "Synaptic operations of an image", steps, lambda each, _: count(each.operations),
        lambda found: count(found.ann_macs), comparison.OPERATIONS_TEXT,
    )  # fmt: skip
    yield _table(
        findings, "Spikes of an image", steps, lambda each, _: count(each.spikes_per_image)
    )
    yield _conditions(findings)
    yield from _failures(findings)


def _failures(findings: Sequence[Finding]) -> Iterator[Text]:
    for each in findings:
        for row in each.comparison.rows:
            if row.problem:
                yield Text(f"{each.network}, {row.recipe} failed: {row.problem}", "remark")


def _accuracies(findings: Sequence[Finding]) -> Table:
    """Accuracy and agreement; top-5 accuracy where there are many classes."""
    many = any(each.classes >= MANY_CLASSES for each in findings)

    def cell(reading: Reading, images: int) -> str:
        top5 = f" / {100 * reading.top5:.2f}" if many and reading.top5 is not None else ""
        return f"{100 * reading.accuracy:.2f}{top5} ({100 * reading.agreement:.2f})"

    named = "Top-1 / top-5 accuracy" if many else "Accuracy"
    steps = findings[0].comparison.steps
    errors = [
        told_error(reading.accuracy, each.comparison.images)
        for each in findings
        for row in each.comparison.rows
        for reading in row.readings.values()
    ]
    return _table(
        findings,
        f"{named}, % (agreement with the ANN, %), {_images(findings)}",
        steps,
        cell,
        _ann,
        f"{ANN_TEXT} Standard errors of accuracy: up to {100 * max(errors, default=0):.1f} points.",
    )


def _images(findings: Sequence[Finding]) -> str:
    """How many images were judged."""
    known = sorted({each.comparison.images for each in findings})
    return f"{' to '.join(f'{n:,}' for n in dict.fromkeys((known[0], known[-1])))} images"


def _ann(found: Comparison) -> str:
    """The ANN's accuracy with its interval."""
    return f"{100 * found.ann_accuracy:.2f} ({interval(found.ann_interval)})"


def _table(
    findings: Sequence[Finding],
    title: str,
    steps: Sequence[int],
    cell: Callable[[Reading, int], str],
    ann: Callable[[Comparison], str] | None = None,
    *footnotes: str,
) -> Table:
    """A row for each network and recipe, a column for each T.

    cell: of a reading, and how many images were judged. ann: the cell of a column for the ANN.
    """
    rows = [
        Row(
            (
                each.network,
                row.recipe,
                *(() if ann is None else (ann(each.comparison),)),
                *(
                    cell(row.readings[T], each.comparison.images) if T in row.readings else "-"
                    for T in steps
                ),
            )
        )
        for each in findings
        for row in each.comparison.rows
    ]
    heads = ("network", "method", *(() if ann is None else ("ANN",)))
    return Table(
        columns(2, (*heads, *(f"T = {step}" for step in steps))),
        tuple(rows),
        title=title,
        footnotes=footnotes,
        shape="wide",
        apart=True,
    )


def _conditions(findings: Sequence[Finding]) -> Table:
    """On what terms the methods were compared."""
    names = (
        "network", "method", "images judged", "calibrated on", "sizes of a spike", "waits",
        "conversions, s", "simulation of an image, s", "engine", "exact",
    )  # fmt: skip
    rows = []
    for each in findings:
        for row in each.comparison.rows:
            if row.facts is None:
                continue
            last = row.readings[max(row.readings)]
            rows.append(
                Row(
                    (
                        each.network,
                        row.recipe,
                        f"{each.comparison.images:,}",
                        f"{row.facts.calibration_images:,}",
                        comparison.levels(row.facts),
                        "yes" if row.facts.waits else "no",
                        f"{row.seconds:.0f}",
                        "-" if last.seconds is None else f"{last.seconds:.3f}",
                        last.engine,
                        "yes" if all(one.exact for one in row.readings.values()) else "no",
                    )
                )
            )
    return Table(
        columns(2, names),
        tuple(rows),
        title="Conditions",
        footnotes=(
            "Simulation: up to the last T. Hardware: "
            f"{', '.join(dict.fromkeys(each.comparison.hardware for each in findings))}.",
        ),
        shape="wide",
        apart=True,
    )


def _loss(reading: Reading | None, images: int) -> str:
    return "-" if reading is None else f"{reading.loss:z.2f} ± {reading.told_error(images):.2f}"
