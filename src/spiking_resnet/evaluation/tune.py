"""Search for the cheapest method that keeps a network's accuracy, on training images alone.

Methods are calibrated on one part of the training images and tried on another. Trials go from cheap
to expensive: the one with the lowest bound on its cost comes next, and the search ends when none
that is left can be cheaper than one that meets the target. The bound: a recipe costs at more steps
at least what it cost at fewer.
"""

import heapq
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from torch import nn

from spiking_resnet import arguments, moved
from spiking_resnet.codec import RecordError
from spiking_resnet.conversion.presets import MethodLike, Recipe, suits, taken
from spiking_resnet.evaluation.candidate import (
    Images,
    Made,
    Reading,
    Subject,
    judge,
    make,
    prepared,
)
from spiking_resnet.evaluation.compare import FAILURES, reason
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.evaluation.progress_file import Ledger, ledger
from spiking_resnet.evaluation.trials import (
    CONFIDENCE,
    Kept,
    Limits,
    Measure,
    Trial,
    Tuning,
    Verdict,
)
from spiking_resnet.progress import Asked, Work, shown
from spiking_resnet.records import InputError
from spiking_resnet.store import digest


def _measure(name: str, value: Any) -> Measure:
    """The argument `measure`: the cost that is minimised."""
    for measure in get_args(Measure):
        if value == measure:
            return measure
    raise arguments.expected(name, value, f"use one of {', '.join(get_args(Measure))}")


def _limits(name: str, value: Any) -> Limits:
    """The argument `limits`: the neurons that are allowed."""
    if isinstance(value, Limits):
        return value
    raise arguments.expected(name, value, "give Limits(...)")


@arguments.renamed(recipes="methods")
@arguments.checked(
    fitting=arguments.batches,
    validation=arguments.batches,
    target_loss=arguments.number,
    max_steps=arguments.whole,
    confidence=arguments.number,
    measure=_measure,
    limits=_limits,
    engine=arguments.text,
    tell=arguments.function,
    progress=arguments.progress,
)
def tune(
    model: nn.Module | str | Path,
    fitting: Images,
    validation: Images,
    target_loss: float = 0.5,
    max_steps: int = 32,
    measure: Measure = "operations",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    methods: MethodLike | Iterable[MethodLike] = "all",
    engine: str = "auto",
    tell: Callable[[str], None] | None = None,
    confidence: float = CONFIDENCE,
    resume: str | Path | None = None,
    progress: Asked = None,
) -> Tuning:
    """Find the cheapest method and number of time steps whose loss is within `target_loss`.

    Methods are tried at 1, 2, 4, ... and `max_steps` time steps.

    fitting: training images to calibrate on, as for `compare`. validation: other training images to
    try them on; with labels, losses are of accuracy, without them 100 - agreement. Do not give test
    images: choosing among many by them spoils them as a test. measure: the cost that is minimised:
    "operations" (SynOps of an image), or time "steps". methods: names, methods or recipes, as for
    `compare`. tell: called with a line before every trial.
    confidence: that the loss of a trial is within the target, for it to meet it; a target of 0.5
    points takes 540 images or more (`least_images`). resume: a file that keeps every trial: the
    same call goes on where it was. progress: whether a bar is shown, as for `evaluate`.

    Where nothing is shown to meet the target the result has no `winner`. Losses are of images like
    these: where the network was trained on them, those on new images tend to be larger. Raises what
    `compare` raises.

    >>> tuning = sr.tune(network, calibration, loader, target_loss=20, methods="dcgs-4")
    >>> tuning.winner.steps
    1
    """
    if max_steps < 1 or not target_loss >= 0:
        raise InputError(
            f"max_steps is {max_steps} and target_loss {target_loss}: at least 1 step, and a loss "
            "of 0 points or more"
        )
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence is {confidence}: it must lie in [0.5, 1)")
    recipes = _recipes(methods)
    with shown(progress, "looking through the images", unit="", most=True) as bar:
        subject = prepared(model, fitting, validation)
        if isinstance(methods, str) and methods == "all":
            recipes = [each for each in recipes if suits(each, subject.ann)]
        facts = {
            "network": digest(subject.traced), "training images": subject.seen,
            "validation images": subject.judged, "engine": engine,
        }  # fmt: skip
        search = _Search(subject, target_loss, confidence, max_steps, measure, limits, engine)
        search.tell, search.bar = tell, bar
        with ledger(resume, facts) as search.ledger:
            search.run(recipes)
    return Tuning(
        target=target_loss,
        measure=measure,
        images=subject.images,
        ann_accuracy=subject.ann_accuracy,
        trials=tuple(search.trials),
        left_out=search.left_out,
        confidence=confidence,
    )


def _recipes(methods: MethodLike | Iterable[MethodLike]) -> list[Recipe]:
    """The recipes to try; InputError for networks, which are made for no other T."""
    candidates = taken("methods", methods)
    found = [each for each in candidates if isinstance(each, Recipe)]
    if len(found) < len(candidates):
        raise InputError("methods has a network that is made already: give how to make it")
    return found


def ladder(max_steps: int) -> tuple[int, ...]:
    """The numbers of time steps to try: powers of two, and `max_steps`."""
    powers = (2**power for power in range(max_steps.bit_length()))
    return tuple(dict.fromkeys((*powers, max_steps)))


class _Search:
    """A search in progress: its trials, and the networks that serve more than one T."""

    def __init__(
        self,
        subject: Subject,
        target: float,
        confidence: float,
        max_steps: int,
        measure: Measure,
        limits: Limits,
        engine: str,
    ) -> None:
        self.subject, self.measure = subject, measure
        self.target, self.confidence = target, confidence
        self.limits, self.engine = limits, engine
        self.tell: Callable[[str], None] | None = None
        self.bar: Work | None = None
        self.steps = ladder(max_steps)
        self.trials: list[Trial] = []
        self.left_out: dict[str, str] = {}
        self.kept: dict[str, Made] = {}
        self.ledger: Ledger | None = None

    def run(self, recipes: Iterable[Recipe]) -> None:
        """Try recipes, lowest bound on cost first, until none that is left can be the cheapest.

        In the queue: the least a trial can cost, its rung of the ladder, its recipe's place.
        """
        listed = list(recipes)
        self._begin(len(listed))
        queue = [(self._least(rung=0, before=0.0), 0, place) for place in range(len(listed))]
        heapq.heapify(queue)
        best: tuple[float, float] | None = None
        while queue:
            least, rung, place = heapq.heappop(queue)
            if best is not None and least >= best:
                return
            recipe = listed[place]
            try:
                trial = self._try(recipe, self.steps[rung])
            except FAILURES as error:
                self.left_out[recipe.name] = f"T = {self.steps[rung]}: {reason(error)}"
                going_on, spent = recipe.per_steps, 0.0
            else:
                going_on = trial is not None and not trial.meets  # more steps of it cost more
                spent = 0.0 if trial is None else trial.reading.operations
                if trial is not None and trial.meets:
                    cost = trial.cost(self.measure)
                    best = cost if best is None else min(best, cost)
            if going_on and rung + 1 < len(self.steps):
                heapq.heappush(queue, (self._least(rung + 1, spent), rung + 1, place))

    def _begin(self, recipes: int) -> None:
        """Tell how much there is to do at most, in images times steps."""
        if self.bar is not None:
            self.bar.total = self.subject.images * sum(self.steps) * recipes
            self.bar.planned(f"{recipes} methods x {len(self.steps)} T, until one is the cheapest")

    def _tried(self, steps: int, known: bool) -> None:
        """Tell that a trial is done; known: it was before."""
        if self.bar is not None:
            self.bar.done += self.subject.images * steps
            if known:
                self.bar.skip(self.subject.images * steps)

    def _least(self, rung: int, before: float) -> tuple[float, float]:
        """The lower bound of a trial's cost, if it took `before` SynOps at fewer steps."""
        steps = float(self.steps[rung])
        return (steps, before) if self.measure == "steps" else (before, steps)

    def _try(self, recipe: Recipe, steps: int) -> Trial | None:
        """One trial; None, with the reason noted, for what is not allowed."""
        label = f"{recipe.name}, T = {steps}"
        if self.tell is not None:
            self.tell(label)
        if self.bar is not None:
            self.bar.what, self.bar.note = f"trial {len(self.trials) + 1}: {label}", ""
        method = recipe.make(steps if recipe.per_steps else self.steps[-1])
        key = json.dumps([recipe.name, method.describe(), steps])
        known = self._known(key)
        facts, reading = known or self._judged(recipe, steps, key)
        self._tried(steps, known is not None)
        objection = self.limits.objection(facts)
        if objection or reading is None:
            self.left_out[recipe.name] = objection
            return None
        paired = reading.paired(self.subject.images)
        least, most = paired.at_least(self.confidence), paired.at_most(self.confidence)
        verdict: Verdict = "uncertain"
        if 100 * most <= self.target:
            verdict = "meets"
        elif 100 * least > self.target:
            verdict = "misses"
        trial = Trial(
            recipe.name, steps, method, facts, reading, verdict, (100 * least, 100 * most)
        )
        self.trials.append(trial)
        return trial

    def _judged(self, recipe: Recipe, steps: int, key: str) -> tuple[Facts, Reading | None]:
        """Convert and evaluate, keep both results in the ledger; no Reading if not allowed."""
        made = self._made(recipe, steps)
        if self.limits.objection(made.facts):
            return made.facts, None
        (reading,) = judge(self.subject, made, (steps,), self.engine)
        if self.ledger is not None:
            self.ledger.keep(key, Kept(made.facts, reading).to_json())
        return made.facts, reading

    def _known(self, key: str) -> tuple[Facts, Reading] | None:
        """A trial's entry in the ledger; None where there is none of this version."""
        with suppress(KeyError, RecordError):
            kept = Kept.from_json({} if self.ledger is None else self.ledger.parts[key])
            return kept.facts, kept.reading
        return None

    def _made(self, recipe: Recipe, steps: int) -> Made:
        """The network of a recipe: made once where it serves every T."""
        if recipe.per_steps:
            return make(self.subject, recipe.make(steps))
        if recipe.name not in self.kept:
            self.kept[recipe.name] = make(self.subject, recipe.make(self.steps[-1]))
        return self.kept[recipe.name]


if not TYPE_CHECKING:
    __getattr__ = moved.elsewhere(__name__)
