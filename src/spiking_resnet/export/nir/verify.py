"""Verification of an NIR file: who fires the same spikes for it, and why others do not.

What this package fires for the file is compared with an executor of a few lines under several rules
of stepping, and with other simulators. A difference is explained by the rule that a reader is known
to follow, and the explanation is tested: the executor under that rule has to fire the reader's
spikes, every one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.engines.simulate import simulate, usual
from spiking_resnet.export.nir import clients, golden
from spiking_resnet.export.nir.executor import (
    Rule,
    by_nir_alone,
    changed,
    differences,
    execute,
    own_rule,
    words,
)
from spiking_resnet.export.nir.file import Sheet, check_steps, sheet
from spiking_resnet.export.nir.read import network
from spiking_resnet.export.nir.verification import GOLDEN, OWN, Reading, Verification
from spiking_resnet.graph import Fire, Graph
from spiking_resnet.progress import Asked, shown
from spiking_resnet.progress import Work as Bar
from spiking_resnet.records import InputError, decisions
from spiking_resnet.surroundings import undisturbed

Spikes = Mapping[str, Tensor]  # by the names in the file, [T, N, …]
Tell = Callable[[str], None]


@arguments.checked(
    path=arguments.path, images=arguments.image_batch, steps=arguments.whole,
    labels=arguments.image_batch, client_pythons=arguments.names, tell=arguments.function,
    progress=arguments.progress,
)  # fmt: skip
@undisturbed()
def verify(
    path: str | Path,
    images: Tensor | None = None,
    steps: int | None = None,
    *,
    labels: Tensor | None = None,
    client_pythons: Sequence[str] = (),
    tell: Tell | None = None,
    progress: Asked = None,
) -> Verification:
    """Who fires the same spikes for an NIR file: an executor of its own, and other simulators.

    images: [N, C, H, W], normalised; None for those of the file's golden spikes. steps: time steps;
    None for those that the file is for. labels: of the images, int64 [N]. client_pythons: Pythons
    (paths) of environments with Norse, SpikingJelly or sinabs; the running one is tried as well.
    tell: called with the name of each reader before it runs. progress: whether a bar is shown; see
    `evaluate`.
    Raises NirError for a damaged file, InputError where images or steps are missing.

    >>> written = sr.to_nir(snn, "snn.nir", steps=4)
    >>> verification = sr.verify("snn.nir", images[:1], steps=4)
    """
    with shown(progress, "verifying", unit="readers") as bar:
        return _verified(path, images, steps, labels, client_pythons, tell, bar)


def _verified(
    path: str | Path,
    images: Tensor | None,
    steps: int | None,
    labels: Tensor | None,
    pythons: Sequence[str],
    tell: Tell | None,
    bar: Bar,
) -> Verification:
    check_steps(steps)
    path = Path(path)
    found = sheet(path)
    graph, populations = network(found)
    kept = golden.read(str(path))
    if kept is not None:
        golden.check(path, graph, populations, *kept)
    told = found.facts.get("steps")
    steps = steps or (usual(graph) if told is None else int(told))
    if images is None:
        if kept is None:
            raise InputError(f"{path} holds no golden spikes: give images")
        images = kept[0].reshape(-1, *graph.input.shape)
        steps = min([steps, *(len(train) for train in kept[1].values())])
    if labels is not None and labels.shape != images.shape[:1]:
        raise InputError(f"labels have shape {tuple(labels.shape)}: one for each of the images")
    work = _Work(found, graph, populations, path, images, steps, labels)
    readings = [work.executed(OWN, own_rule(found))]
    if kept is not None:
        readings += work.golden(*kept)
    readings.append(work.executed("executor, NIR alone, reset to zero", by_nir_alone("zero")))
    other = "executor, NIR alone, reset by subtraction"
    readings.append(work.executed(other, by_nir_alone("subtract")))
    for each, python in clients.installed(pythons):
        bar.note = each.name
        if tell is not None:
            tell(each.name)
        readings.append(work.heard(each, python))
        bar.done = len(readings)
    return work.verification(tuple(readings))


@dataclass(frozen=True)
class _First:
    """The first difference of two runs, and how many there are. image: where it is."""

    different: int = 0
    step: int | None = None
    layer: str | None = None
    image: int = 0


class _Work:
    """A file, and what this package fires for it."""

    def __init__(
        self,
        found: Sheet,
        graph: Graph,
        populations: Mapping[str, str],
        path: Path,
        images: Tensor,
        steps: int,
        labels: Tensor | None,
    ) -> None:
        self.sheet, self.graph, self.path, self.steps, self.labels = (
            found, graph, path, steps, labels,
        )  # fmt: skip
        run = simulate(graph, images, steps, trains=list(graph.neurons))
        self.presented = graph.input.present(images, 0)
        self.ours = {populations[node.name]: node.name for node in graph.of(Fire)}
        self.trains = run.trains
        self.spikes = sum(int(layer.spikes[-1].sum()) for layer in run.spikes.values())
        self.right = self._right(decisions(run.logits[-1]))
        self.own = execute(found, self.presented, steps, own_rule(found))
        self.decided = decisions(self.own[1].double().sum(0))

    def executed(self, reader: str, rule: Rule) -> Reading:
        """Return what the executor makes of the file under a rule."""
        trains, output = self._executed(rule)
        first = self._first(trains)
        why = self._why(rule, first)
        return self._reading(reader, first, output, why, bool(why))

    def _executed(self, rule: Rule) -> tuple[Spikes, Tensor]:
        if rule == own_rule(self.sheet):
            return self.own
        return execute(self.sheet, self.presented, self.steps, rule)

    def heard(self, which: clients.Client, python: str) -> Reading:
        """Return what a client makes of the file."""
        try:
            found = clients.run(which, python, self.path, self.presented, self.steps)
            if missing := self.ours.keys() - set(found.trains):
                raise RuntimeError(f"it gave no spikes of {min(missing)!r}")
        except (RuntimeError, OSError) as error:
            return Reading(which.name, None, problem=str(error))
        first, explained = self._first(found.trains), None
        why = self._why(which.rule, first)
        if first.different:
            trains, _ = self._executed(which.rule)
            beyond = _compared(self.ours, lambda name: trains[name], found.trains)
            explained = not beyond.different
            if not explained:
                why = (
                    f"{why or 'stepped alike'}; from step {beyond.step} in {beyond.layer} on not so"
                )
        reading = self._reading(which.name, first, found.output, why, explained)
        return replace(reading, versions=found.versions)

    def golden(self, images: Tensor, trains: Spikes) -> list[Reading]:
        """Return how the spikes in the file compare, if they are of these images and steps."""
        presented = self.presented.flatten(1)
        same = images.shape == presented.shape and bool((images == presented).all())
        if not same or min(len(train) for train in trains.values()) < self.steps:
            return []
        first = self._first({name: train[: self.steps] for name, train in trains.items()})
        return [Reading(GOLDEN, first.different, step=first.step, layer=first.layer)]

    def verification(self, readings: tuple[Reading, ...]) -> Verification:
        """Return the record of all that was read."""
        facts = self.sheet.facts
        return Verification(
            file=self.path.name,
            profile=str(facts.get("profile", "")),
            images=len(self.presented),
            steps=self.steps,
            neurons=sum(self.graph.neurons.values()),
            spikes=self.spikes,
            readings=readings,
            right=self.right,
            changes=_changes(facts),
        )

    def _first(self, theirs: Spikes) -> _First:
        return _compared(self.ours, lambda name: self.trains[self.ours[name]], theirs)

    def _why(self, rule: Rule, first: _First) -> str:
        """Return in which ways a rule differs from the file's, that which matters first first."""
        if not first.different:
            return ""
        own = own_rule(self.sheet)
        names = differences(rule, own)
        image = self.presented[first.image : first.image + 1]
        decisive = []
        for name in names:
            trains, _ = execute(self.sheet, image, first.step or 1, changed(own, rule, name))
            ours = {each: self.trains[layer] for each, layer in self.ours.items()}
            alone = {
                each: train[: first.step, first.image : first.image + 1]
                for each, train in ours.items()
            }
            found = _compared(self.ours, alone.__getitem__, trains)
            if (found.step, found.layer) == (first.step, first.layer):
                decisive.append(name)
        rest = [name for name in names if name not in decisive]
        return words(rule, (*decisive, *rest))

    def _reading(
        self, reader: str, first: _First, output: Tensor, why: str, explained: bool | None
    ) -> Reading:
        decided = decisions(output.double().sum(0))
        return Reading(
            reader,
            first.different,
            step=first.step,
            layer=first.layer,
            why=why,
            explained=explained if first.different else None,
            same=int((decided == self.decided).sum()),
            right=self._right(decided),
        )

    def _right(self, decided: Tensor) -> int | None:
        return None if self.labels is None else int((decided == self.labels).sum())


def _changes(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what was changed for the file's reader; nothing where that is no list of texts."""
    try:
        told = json.loads(facts.get("changes", "[]"))
    except (TypeError, ValueError, RecursionError):
        return ()
    return tuple(str(each) for each in told) if isinstance(told, list) else ()


def _compared(layers: Mapping[str, str], ours: Callable[[str], Tensor], theirs: Spikes) -> _First:
    """Return the first difference, and how many there are; layers: names, in order."""
    first, total = _First(), 0
    for name, layer in layers.items():
        other = (ours(name).flatten(2).int() != theirs[name].flatten(2).int()).sum(2)  # [T, N]
        count = int(other.sum())
        total += count
        if not count:
            continue
        step = int(torch.nonzero(other.any(1))[0]) + 1
        if first.step is None or step < first.step:
            image = int(torch.nonzero(other[step - 1])[0])
            first = _First(step=step, layer=layer, image=image)
    return replace(first, different=total)
