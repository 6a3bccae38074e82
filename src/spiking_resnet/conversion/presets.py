"""Recipes: conversion methods with options, by name, as comparisons use them."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from spiking_resnet import arguments
from spiking_resnet.conversion.methods import (
    METHODS,
    PLAIN,
    PRESETS,
    Method,
    calibrated,
    dcgs,
    differential,
    hu2021,
    named,
    qcfs,
)
from spiking_resnet.conversion.methods.option import first_line, options_of
from spiking_resnet.graph import Graph, ReLU
from spiking_resnet.records import InputError
from spiking_resnet.shown import Short

IMAGENET_CLASSES, IMAGENET_PERCENTILE = 1000, 99.99  # the paper's percentile for its 1000 classes


@dataclass(frozen=True)
class Recipe(Short):
    """A method and its options, as a row of a comparison.

    description: one line. make: the method, from the number of time steps it is for. per_steps:
    whether it is made for one number of steps, and so made again for each; others are converted
    once, for the most steps, and read out at every T. trained: whether it is for networks that were
    trained with quantised activations only.
    """

    name: str
    description: str
    make: Callable[[int], Method]
    per_steps: bool = False
    trained: bool = False


def _rates(**options: Any) -> Callable[[int], Method]:
    """Return the maker of hu2021 with these options, which serves every T."""
    return lambda steps: hu2021(**options, steps=max(steps, hu2021.steps))


def _uncorrected(**options: Any) -> Callable[[int], Method]:
    """Return the maker of calibrated with percentile thresholds and no correction, for every T.

    `images` are for corrections, so one is enough.
    """
    fixed: dict[str, Any] = {**PLAIN, "thresholds": "percentile", "images": 1}
    return lambda steps: calibrated(**fixed, **options, steps=max(steps, hu2021.steps))


def _preset(name: str) -> Recipe:
    """Return the recipe of a published set of options, for one T unless nothing depends on it."""
    text = "published set of options: docs/methods.md"
    if PRESETS[name] == {**PLAIN, "thresholds": "percentile"}:
        return Recipe(name, text, _uncorrected())
    return Recipe(name, text, lambda steps: named(name, steps=steps), per_steps=True)


_ALL = (
    Recipe("hu2021", "the paper: 0/1 spikes, one threshold a layer", _rates()),
    Recipe("hu2021-channel", "the paper with thresholds per channel", _rates(per_channel=True)),
    Recipe(
        "burst",
        "up to 5 spikes a step, thresholds at the 95th percentile (Li and Zeng 2022)",
        _rates(levels=5, per_channel=True, percentile=95, readout="membrane", pool_neurons=False),
    ),
    Recipe(
        "multi-threshold-4",
        "4 binary thresholds a neuron: 15 levels up to its channel's percentile (as H-MT, 2026)",
        _uncorrected(levels=15),
    ),
    Recipe("signed", "signed spikes (Wang et al. 2022)", _uncorrected(signed=True)),
    Recipe(
        "differential-1",
        "one signed spike a step, its amplitude shrinks at each layer's own pace",
        lambda steps: differential(levels=1, steps=steps),
        per_steps=True,
    ),
    Recipe(
        "differential-4",
        "the same with 4 sizes of spikes",
        lambda steps: differential(levels=4, steps=steps),
        per_steps=True,
    ),
    Recipe(
        "dcgs-1",
        "differential coding of a mean, signed neurons (DCGS, Huang et al. 2025)",
        lambda steps: dcgs(levels=1, steps=steps),
        per_steps=True,
    ),
    Recipe(
        "dcgs-4",
        "the same with 4 thresholds, theta to theta / 8",
        lambda steps: dcgs(levels=4, steps=steps),
        per_steps=True,
    ),
    Recipe(
        "calibrated",
        "0/1 spikes; weights and potentials corrected layer by layer for T",
        lambda steps: calibrated(steps=steps),
        per_steps=True,
    ),
    Recipe(
        "calibrated-signed",
        "the same with signed spikes, read out from the first step on",
        lambda steps: calibrated(signed=True, delay=0, steps=steps),
        per_steps=True,
    ),
    Recipe(
        "layer-serial",
        "0/1 spikes; neurons fire after their whole input (after DA-QCFS, 2025), calibrated",
        lambda steps: calibrated(waits=True, steps=steps),
        per_steps=True,
    ),
    Recipe(
        "qcfs",
        "0/1 spikes; network trained with quantised activations (Bu et al. 2022)",
        lambda steps: qcfs(steps=max(steps, qcfs.steps)),
        trained=True,
    ),
    Recipe(
        "qcfs-srp",
        "the same; 16 pre-steps find neurons that stay silent (Hao et al., AAAI 2023)",
        lambda steps: qcfs(gate="srp", pre_steps=16, steps=max(steps, qcfs.steps)),
        trained=True,
    ),
    Recipe(
        "qcfs-cos",
        "the same; 16 pre-steps shift where neurons start (after Hao et al., ICLR 2023)",
        lambda steps: qcfs(gate="cos", pre_steps=16, steps=max(steps, qcfs.steps)),
        trained=True,
    ),
    *(_preset(name) for name in PRESETS),
)


def _unlisted() -> Iterator[Recipe]:
    """Yield recipes of the methods that none stands for, with their defaults; made for each T."""
    listed = {recipe.make(1).name for recipe in _ALL}
    for name, kind in METHODS.items():
        if name not in listed:
            yield Recipe(name, first_line(kind), _made_for(name, "steps" in options_of(kind)), True)


def _made_for(name: str, steps: bool) -> Callable[[int], Method]:
    return lambda count: named(name, steps=count) if steps else named(name)


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*_ALL, *_unlisted())}


def chosen(names: str | Iterable[str]) -> tuple[Recipe, ...]:
    """Return the recipes of these names, separated by commas or one by one; "all" stands for all.

    Raises InputError for names there are not.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [part.strip() for part in wanted if part.strip()]
    unknown = [name for name in wanted if name not in RECIPES and name != "all"]
    if unknown or not wanted:
        raise InputError(
            f"there is no recipe {unknown[0] if unknown else ''!r}: use all, or any of "
            f"{', '.join(RECIPES)}"
        )
    spread = [own for name in wanted for own in (RECIPES if name == "all" else [name])]
    return tuple(RECIPES[name] for name in dict.fromkeys(spread))


def taken(name: str, value: Any) -> tuple[Recipe, ...]:
    """Return recipes from an argument: recipes or their names, one or several; else InputError."""
    if isinstance(value, str):
        return chosen(value)
    entries = list(value) if isinstance(value, Iterable) else [value]
    if not entries or not all(isinstance(entry, str | Recipe) for entry in entries):
        raise arguments.expected(name, value, "give recipes or their names, such as ('hu2021',)")
    spread = [chosen(e) if isinstance(e, str) else (e,) for e in entries]
    return tuple(recipe for part in spread for recipe in part)


def suiting(recipes: Iterable[Recipe], ann: Graph) -> tuple[Recipe, ...]:
    """Return those of the recipes that can convert a network with its activations."""
    quantised = all(node.levels is not None for node in ann.of(ReLU))
    return tuple(recipe for recipe in recipes if quantised or not recipe.trained)


def suited(method: Method, classes: int, given: Container[str] = ()) -> Method:
    """Return the method with the paper's percentile for ImageNet, for networks of its classes.

    given: options that were asked for, and stay.
    """
    if classes != IMAGENET_CLASSES or "percentile" in given:
        return method
    usual: dict[str, Any] = {"percentile": IMAGENET_PERCENTILE}
    return replace(method, **usual) if "percentile" in options_of(type(method)) else method


def fitting(recipe: Recipe, classes: int) -> Recipe:
    """Return the recipe with the defaults for so many classes, as `suited` has them.

    A percentile that is the recipe's own stays.
    """

    def make(steps: int) -> Method:
        method = recipe.make(steps)
        own = getattr(method, "percentile", None) != getattr(type(method), "percentile", None)
        return suited(method, classes, {"percentile"} if own else ())

    return replace(recipe, make=make)
