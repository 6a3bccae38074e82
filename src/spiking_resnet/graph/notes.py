"""Checks of a graph's notes: plain data that JSON holds, of known form where it is read.

Anybody may note what they like under names of their own; those in `KNOWN` are read by this package.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from spiking_resnet.rules import Rule, number, optional, positive, text, whole

DEEPEST = 64  # lists and dictionaries within each other: printing and writing go down recursively
PLAIN = (str, int, float, bool, type(None))


def _listed(rule: Rule) -> Rule:
    return Rule(
        f"a list of one or more, each {rule.words}",
        lambda value: (
            isinstance(value, list | tuple)
            and len(value) > 0
            and all(rule.holds(entry) for entry in value)
        ),
    )


def _either(one: Rule, other: Rule) -> Rule:
    return Rule(
        f"{one.words}, or {other.words}", lambda value: one.holds(value) or other.holds(value)
    )


def _by_name(rule: Rule) -> Rule:
    return Rule(
        f"a dictionary, each value {rule.words}",
        lambda value: isinstance(value, Mapping) and all(rule.holds(v) for v in value.values()),
    )


def _entries(needed: bool, **rules: Rule) -> Rule:
    """Return the rule of a dictionary whose entries keep these rules; needed: all are there."""
    words = ", ".join(f"{name}: {rule.words}" for name, rule in rules.items())
    return Rule(
        f"a dictionary ({words})" if words else "a dictionary",
        lambda value: (
            isinstance(value, Mapping)
            and (not needed or value.keys() == rules.keys())
            and all(rule.holds(value[name]) for name, rule in rules.items() if name in value)
        ),
    )


KNOWN: dict[str, Rule] = {
    "thresholds": _by_name(_either(number(), _listed(number()))),
    "amplitudes": _by_name(_either(number(), _listed(number()))),
    "options": _entries(False, percentile=number(), pre_steps=whole()),
    "calibration": _entries(False),
    "calibration_images": whole(),
    "pre_steps": whole(),
    "dataset": optional(text()),
    "normalisation": optional(_entries(True, mean=_listed(number()), std=_listed(positive()))),
    "framing": optional(_entries(True, resize=whole(1), crop=whole(1), interpolation=text())),
}


def problems(notes: Any) -> Iterator[str]:
    """Yield what is wrong with a graph's notes, but for what JSON cannot hold."""
    if not isinstance(notes, Mapping):
        yield f"notes are a {type(notes).__name__}; they must be a dictionary"
        return
    for name, rule in KNOWN.items():
        if name in notes and (problem := rule.problem(f"notes[{name!r}]", notes[name])):
            yield problem


def unwritable(notes: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of the notes JSON cannot hold, by where it stands."""
    waiting: list[tuple[str, Any, int]] = [("notes", notes, 0)]
    while waiting:
        place, value, depth = waiting.pop()
        if isinstance(value, PLAIN):
            continue
        if not isinstance(value, Mapping | list | tuple):
            yield f"{place} is a {type(value).__name__}; use texts, numbers, lists and dictionaries"
        elif depth == DEEPEST:
            yield f"{place[:DEEPEST]}… is nested more than {DEEPEST} levels deep"
        elif isinstance(value, Mapping):
            for key, entry in value.items():
                if not isinstance(key, PLAIN):
                    yield f"{place} has the key {key!r}, a {type(key).__name__}; use texts"
                waiting.append((f"{place}[{key!r}]", entry, depth + 1))
        else:
            waiting += [(f"{place}[{i}]", entry, depth + 1) for i, entry in enumerate(value)]
