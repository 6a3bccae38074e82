"""The blocks of what was decided class by class: accuracies, confusions, and charts of them."""

from collections.abc import Sequence

from spiking_resnet.decided import PerClass
from spiking_resnet.report.block import Axis, Block, Chart, Column, Row, Series, Table, Text
from spiking_resnet.report.numbers import told, told_ends

ALL = 20  # classes that are all shown
WORST, BEST = 10, 5  # of more classes
PAIRS = 10  # confusions that are named
CHANGE = "SNN - ANN"  # title of the chart of differences

_COLUMNS = (
    Column("class", align="left", folds=True),
    Column("images"),
    Column("ANN", "%"),
    Column("SNN", "%"),
    Column("95 % interval", rank=1, note="of the SNN's accuracy"),
    Column("lost", note="images that the ANN alone classifies correctly"),
    Column("gained", note="images that the SNN alone classifies correctly"),
    Column("agree", "%", rank=2, note="images that both decide alike"),
)


def blocks(found: PerClass, title: str = "") -> list[Block]:
    """The classes at the last T, the classes' accuracy at every T, and what is confused."""
    shown = chosen(found)
    several = [over_time(found, shown)] if len(found.steps) > 1 else []
    confused = confusions(found)
    none = Text(f"No class is {_more(found)}, T = {found.steps[-1]}.", apart=True)
    return [table(found, shown, title), *several, confused if confused.rows else none]


def chosen(found: PerClass) -> tuple[int, ...]:
    """The classes that are shown: all, or of many the worst and the best at the last T.

    Worst are those that lose most against the ANN, or without one those of the lowest accuracy.
    """
    known = [label for label in range(found.classes) if found.images[label]]
    if found.classes <= ALL:
        return tuple(known)
    ranked = sorted(known, key=lambda label: (-_loss(found, label), _accuracy(found, label), label))
    if len(ranked) <= WORST + BEST:
        return tuple(ranked)
    return (*ranked[:WORST], *ranked[-BEST:])


def _accuracy(found: PerClass, label: int) -> float:
    return found.right()[label] / found.images[label]


def _loss(found: PerClass, label: int) -> float:
    """By what share of its images a class is worse than with the ANN; 0 without one."""
    if found.ann is None:
        return 0.0
    return (found.right("ann")[label] - found.right()[label]) / found.images[label]


def table(found: PerClass, shown: Sequence[int], title: str = "") -> Table:
    """A row for each of the classes `shown`, with the numbers of the last T."""
    few = len(shown) < sum(map(bool, found.images))
    best = f" and the {BEST} best" if few else ""
    note = (
        f"{found.classes:,} classes: the {WORST} that lose most{best} are shown; to_pandas() and "
        "--json have all."
        if few
        else ""
    )
    missing = sum(not images for images in found.images)
    return Table(
        columns=_COLUMNS if found.ann is not None else (*_COLUMNS[:2], *_COLUMNS[3:5]),
        rows=tuple(
            Row(_row(found, label), ruled=few and place == WORST)
            for place, label in enumerate(shown)
        ),
        title=title or f"By class, T = {found.steps[-1]}",
        footnotes=tuple(
            filter(None, (note, f"{missing} classes have no images." if missing else ""))
        ),
        apart=True,
    )


def _row(found: PerClass, label: int) -> tuple[str, ...]:
    images, right = found.images[label], found.right()[label]
    own = (told(right / images, images), told_ends(found.interval(right, label), images))
    start = (found.name(label), f"{images:,}")
    if found.ann is None or found.agreed is None or found.lost is None:
        return (*start, *own)
    before, lost = found.right("ann")[label], found.lost[-1][label]
    return (
        *start,
        told(before / images, images),
        *own,
        f"{lost:,}",
        f"{right - before + lost:,}",
        told(found.agreed[-1][label] / images, images),
    )


def over_time(found: PerClass, shown: Sequence[int]) -> Table:
    """The accuracy of the classes `shown` at every T, in percent."""
    ann = ["ann"] if found.ann is not None else []
    right = [found.right(steps) for steps in found.steps]
    before = [found.right("ann")] if ann else []
    return Table(
        columns=(
            Column("class", align="left"),
            *(Column(f"T = {steps}") for steps in found.steps),
            *(Column("ANN") for _ in ann),
        ),
        rows=tuple(
            Row(
                (
                    found.name(label),
                    *(
                        told(each[label] / found.images[label], found.images[label])
                        for each in (*right, *before)
                    ),
                )
            )
            for label in shown
        ),
        title="Accuracy of the classes, %",
        shape="wide",
        apart=True,
    )


def confusions(found: PerClass) -> Table:
    """The confusions that conversion made more frequent at the last T, or the most frequent."""
    if found.ann is None:
        return _frequent(found)
    gained, snn = found.gained(), found.pairs()
    rows = [
        Row((found.name(a), found.name(b), f"{snn[a, b] - more:,}", f"{snn[a, b]:,}", f"+{more:,}"))
        for a, b, more in gained[:PAIRS]
    ]
    left = len(gained) - len(rows)
    total = sum(more for *_, more in gained)
    said = f"{total:,} images more in {len(gained):,} confusions"
    return Table(
        columns=(*_PAIR, Column("ANN"), Column("SNN"), Column("more")),
        rows=tuple(rows),
        title=f"What is {_more(found)}, T = {found.steps[-1]}",
        footnotes=(f"Images. {said}{f'; {left:,} of these are not shown' if left else ''}.",),
        apart=True,
    )


def _more(found: PerClass) -> str:
    return "confused" if found.ann is None else "confused more often than by the ANN"


_PAIR = (Column("class", align="left", folds=True), Column("taken for", align="left", folds=True))


def _frequent(found: PerClass) -> Table:
    wrong = [(images, pair) for pair, images in found.pairs().items() if pair[0] != pair[1]]
    wrong.sort(key=lambda entry: (-entry[0], entry[1]))
    return Table(
        columns=(*_PAIR, Column("images")),
        rows=tuple(
            Row((found.name(a), found.name(b), f"{images:,}")) for images, (a, b) in wrong[:PAIRS]
        ),
        title=f"What is {_more(found)} most often, T = {found.steps[-1]}",
        footnotes=(f"{len(wrong):,} confusions in all.",),
        apart=True,
    )


def charts(found: PerClass) -> tuple[Chart, ...]:
    """The confusion matrices of the ANN and of the last T, and their difference, as cells.

    Of many classes those that are confused most often, with one another.
    """
    shown = _confused(found)
    few = "" if len(shown) == found.classes else f", {len(shown)} of {found.classes:,} classes"
    after = found.confusion()[shown][:, shown]
    wrong = after.clone().fill_diagonal_(0)
    title = f"SNN, T = {found.steps[-1]}{few}"
    if found.ann is None:
        return (_chart(found, shown, after.tolist(), title, int(wrong.max())),)
    before = found.confusion("ann")[shown][:, shown]
    most = max(int(wrong.max()), int(before.clone().fill_diagonal_(0).max()))
    change = after - before
    return (
        _chart(found, shown, before.tolist(), "ANN", most),
        _chart(found, shown, after.tolist(), title, most),
        _chart(found, shown, change.tolist(), CHANGE, int(change.abs().max())),
    )


def _confused(found: PerClass) -> list[int]:
    """The labels of a chart, ascending: all, or those with most errors in rows and columns."""
    if found.classes <= ALL:
        return list(range(found.classes))
    wrong = found.confusion().fill_diagonal_(0)
    ranked = (wrong.sum(0) + wrong.sum(1)).argsort(descending=True, stable=True)
    return sorted(ranked[:ALL].tolist())


def _chart(
    found: PerClass, shown: list[int], matrix: list[list[int]], title: str, most: int
) -> Chart:
    names = tuple(map(found.name, shown))
    return Chart(
        kind="cells",
        y=Axis("images", bounds=(-float(most or 1), float(most or 1))),
        x=Axis("decision"),
        side="label",
        title=title,
        rows=names,
        contrast=title != CHANGE,
        series=tuple(
            Series(name, tuple(float(row[column]) for row in matrix))
            for column, name in enumerate(names)
        ),
    )
