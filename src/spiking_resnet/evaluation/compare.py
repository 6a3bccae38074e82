"""Compare conversion methods on one network and the same images: accuracy, loss and cost."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from spiking_resnet import arguments
from spiking_resnet.codec import RecordError
from spiking_resnet.conversion.presets import (
    Candidate,
    MethodLike,
    Ready,
    Recipe,
    suits,
    taken,
)
from spiking_resnet.costs.sizes import sizes
from spiking_resnet.engines.simulate import check_engine
from spiking_resnet.environment import hardware
from spiking_resnet.evaluation.candidate import (
    Images,
    Subject,
    given,
    judge,
    make,
    prepared,
)
from spiking_resnet.evaluation.comparison import Comparison, Entry, Row
from spiking_resnet.evaluation.progress_file import Ledger, Part, ResumeError, ledger
from spiking_resnet.progress import Asked, partly, shown
from spiking_resnet.progress import Work as Bar
from spiking_resnet.records import InputError
from spiking_resnet.shares import wilson
from spiking_resnet.store import digest

__all__ = ["Comparison", "Entry", "Row", "compare", "compared"]

STEPS = (2, 4, 8, 16, 32, 64, 128, 350)
Progress = Callable[[str, int, int], None]
FAILURES = (ValueError, RuntimeError, ArithmeticError, MemoryError)  # of one method, not of all


@arguments.renamed(recipes="methods")
@arguments.checked(
    calibration=arguments.batches,
    loader=arguments.batches,
    steps=arguments.wholes,
    engine=arguments.text,
    progress=arguments.progress,
    options=arguments.mapping,
)
def compare(
    model: nn.Module | str | Path,
    calibration: Images,
    loader: Iterable[Any],
    methods: MethodLike | Iterable[MethodLike] | Mapping[str, MethodLike] = "all",
    steps: Sequence[int] = STEPS,
    engine: str = "auto",
    progress: Progress | Asked = None,
    resume: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Comparison:
    """Convert a network by every method; accuracy and cost of each at every one of `steps`.

    model, calibration: as for `convert`, but that calibration is read several times.
    loader: the test batches (images, labels), read for each conversion; none of the images may be
    among the calibration images. methods: names of `RECIPES` (all of them that suit the network
    unless some are named), methods, recipes, and networks that were converted already, mixed as you
    like; of a dictionary the keys are what they are called. A network made for one T is read out
    there, if that is among `steps`. progress: whether a bar is shown, as for `evaluate`;
    or a function that is called with (what is being done, work done, all work), in images times
    steps. resume: a file that keeps every finished conversion: the same call goes on where it was.
    options: JSON-able; what else must be the same to go on.


    A KeyboardInterrupt has the rows that were done as its `partial`, a Comparison.
    What a single method cannot do (an unsupported network, numbers that run away) becomes the
    `problem` of its row. Raises what `convert` raises for the network and the images, InputError
    for steps and images that cannot be used, ResumeError for a file of another comparison,
    BusyError for one that another process is going on with.

    >>> comparison = sr.compare(network, calibration, loader, ("hu2021", "dcgs-4"), steps=(4, 8))
    >>> [row.recipe for row in comparison.rows]
    ['hu2021', 'dcgs-4']
    """
    check_engine(engine)
    candidates = taken("methods", methods)
    with shown(progress, "looking through the images", unit="") as bar:
        subject = prepared(model, calibration, loader)
        if isinstance(methods, str) and methods == "all":
            candidates = tuple(each for each in candidates if suits(each, subject.ann))
        told = progress if callable(progress) else bar
        return compared(subject, candidates, steps, engine, told, resume, options)


def compared(
    subject: Subject,
    recipes: Sequence[Candidate],
    steps: Sequence[int],
    engine: str = "auto",
    progress: Progress | Bar | None = None,
    resume: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Comparison:
    """`compare` for a subject that is prepared; the processes of a team share the work."""
    check_engine(engine)
    wanted = tuple(sorted(set(steps)))
    if not wanted or wanted[0] < 1:
        raise InputError(f"steps is {tuple(steps)}: name numbers of time steps, each at least 1")
    if not recipes or len({recipe.name for recipe in recipes}) < len(recipes):
        raise InputError("methods are empty or of one name: give one or more, each its own name")
    facts_of_all = {
        "network": digest(subject.traced),
        "calibration images": subject.seen,
        "judged images": subject.judged,
        "engine": engine,
        **(options or {}),
    }
    if isinstance(progress, Bar):
        progress.planned(f"{len(recipes)} methods x {len(wanted)} T")
    work = _Work(progress, subject.images * sum(_work(recipe, wanted) for recipe in recipes))
    rows: list[Row] = []

    def found() -> Comparison:
        return Comparison(
            images=subject.images,
            steps=wanted,
            ann_accuracy=subject.ann_accuracy,
            ann_interval=wilson(round(subject.ann_accuracy * subject.images), subject.images),
            ann_macs=sum(size.macs for size in sizes(subject.ann.nodes).values()),
            rows=tuple(rows),
            hardware=hardware(),
        )

    with ledger(resume, facts_of_all) as kept, partly(lambda: found() if rows else None):
        for recipe in recipes:
            rows.append(_row(subject, recipe, wanted, engine, work, kept))
    return found()


def _groups(recipe: Candidate, steps: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The time steps that each conversion of a recipe is read out at."""
    if isinstance(recipe, Ready) and recipe.steps is not None:
        return [(step,) for step in steps if step == recipe.steps]
    return [(step,) for step in steps] if recipe.per_steps else [steps]


def _work(recipe: Candidate, steps: tuple[int, ...]) -> int:
    return sum(group[-1] for group in _groups(recipe, steps))


class _Work:
    """Progress of a comparison, in images times steps."""

    def __init__(self, progress: Progress | Bar | None, total: int) -> None:
        self.bar = progress if isinstance(progress, Bar) else None
        self.progress = progress.part if isinstance(progress, Bar) else progress
        self.total, self.done = total, 0

    def tell(self, what: str, within: int = 0) -> None:
        """Report what is being done, and how much of it."""
        if self.progress is not None:
            self.progress(what, self.done + within, self.total)

    def known(self, amount: int) -> None:
        """Tell that `amount` was done before."""
        if self.bar is not None:
            self.bar.skip(amount)

    def finish(self, amount: int) -> None:
        """Count `amount` more as done."""
        self.done += amount


def _row(
    subject: Subject,
    recipe: Candidate,
    steps: tuple[int, ...],
    engine: str,
    work: _Work,
    ledger: Ledger | None,
) -> Row:
    """The row of a recipe; a failure becomes its `problem`, and is tried again in another run."""
    entries, problems = [], []
    groups = _groups(recipe, steps)
    if isinstance(recipe, Ready) and not groups:
        problems.append(f"it is made for T = {recipe.steps}: name that among the steps")
    for group in groups:
        label = f"{recipe.name}, T = {group[0]}" if recipe.per_steps else recipe.name
        try:
            entries.append(_entry(subject, recipe, group, engine, label, work, ledger))
        except FAILURES as error:
            where = f"T = {group[0]}: " if recipe.per_steps else ""
            problems.append(f"{where}{reason(error)}")
        work.finish(subject.images * group[-1])
        work.tell(label)
    problem = "; ".join(problems)
    return Row(recipe.name, recipe.description, recipe.per_steps, tuple(entries), problem)


def _entry(
    subject: Subject,
    recipe: Candidate,
    group: tuple[int, ...],
    engine: str,
    label: str,
    work: _Work,
    ledger: Ledger | None,
) -> Entry:
    """Convert and evaluate once, or take the result from the ledger if it is there."""
    described = _described(recipe, group[-1])
    key = json.dumps([recipe.name, described, group])
    if ledger is not None and key in ledger.parts:
        with suppress(RecordError):  # parts of other versions are made again
            entry = Entry.from_json(ledger.parts[key])
            work.known(subject.images * group[-1])
            return entry
    work.tell(f"{label}: converting")
    if isinstance(recipe, Recipe):
        made = make(subject, recipe.make(group[-1]))
    else:
        made = given(subject, recipe.graph)
    progress = lambda done, _: work.tell(f"{label}: simulating", done * group[-1])  # noqa: E731
    kept = None if ledger is None else Part(ledger, key, digest(made.graph))
    try:
        readings = judge(subject, made, group, engine, progress, kept)
    except ResumeError:  # it was counted in batches of another size: the part begins again
        if ledger is None:
            raise
        ledger.begun = None
        kept = Part(ledger, key, digest(made.graph))
        readings = judge(subject, made, group, engine, progress, kept)
    entry = Entry(described, made.facts, made.seconds, made.costs.image, readings)
    if ledger is not None:
        ledger.keep(key, entry.to_json())
    return entry


def _described(recipe: Candidate, steps: int) -> dict[str, Any]:
    """A candidate's method and options, as an entry has them; of a network its digest too."""
    if isinstance(recipe, Recipe):
        return recipe.make(steps).describe()
    notes = recipe.graph.notes
    told = {name: notes[name] for name in ("method", "options") if name in notes}
    return {**told, "network": digest(recipe.graph)}


def reason(error: BaseException) -> str:
    """The message of an error, in one line."""
    lines = str(error).splitlines()
    return " ".join(line.strip() for line in lines) or type(error).__name__
