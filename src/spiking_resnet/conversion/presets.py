"""What comparisons take as methods: names, methods, recipes and networks, and which suit."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

from spiking_resnet import arguments, signatures
from spiking_resnet.conversion.methods import RECIPES, Method, Recipe
from spiking_resnet.conversion.methods.option import options_of
from spiking_resnet.conversion.methods.recipes import ALSO, entitled, recipe_named
from spiking_resnet.graph import Fire, Graph, ReLU
from spiking_resnet.records import InputError

__all__ = [
    "RECIPES", "Candidate", "MethodLike", "Ready", "Recipe", "chosen", "fitting", "suited",
    "suits", "taken",
]  # fmt: skip

IMAGENET_CLASSES, IMAGENET_PERCENTILE = 1000, 99.99  # the paper's percentile for its 1000 classes


@dataclass(frozen=True, eq=False)
class Ready:
    """A spiking network that is made already, as a row of a comparison."""

    name: str
    description: str
    graph: Graph

    @property
    def per_steps(self) -> bool:
        """Whether it is made for one number of time steps, and read out at that one only."""
        return self.steps is not None

    @property
    def steps(self) -> int | None:
        """The one T that it is made for; of layer-serial neurons that of a layer."""
        made_for = self.graph.made_for
        if made_for is None or self.graph.latency is None:
            return made_for
        noted = self.graph.notes.get("options", {}).get("steps")
        return noted if isinstance(noted, int) else made_for


Candidate = Recipe | Ready
MethodLike = str | Method | Recipe | Graph | Candidate  # what comparisons take
signatures.alias("MethodLike", MethodLike)


def chosen(names: str | Iterable[str]) -> tuple[Recipe, ...]:
    """Return the recipes of these names, separated by commas or one by one; "all" stands for all.

    Raises InputError for names there are not.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [part.strip() for part in wanted if part.strip()]
    if not wanted:
        raise InputError(f"methods is empty: name all, or any of {', '.join(RECIPES)}")
    spread = [own for name in wanted for own in (RECIPES if name == "all" else [name])]
    return tuple(recipe_named(name) for name in dict.fromkeys(ALSO.get(n, n) for n in spread))


def taken(name: str, value: Any) -> tuple[Candidate, ...]:
    """Return what an argument names: names, methods, recipes and networks, one or several.

    Of a dictionary the keys are what they are called. Raises InputError for anything else.
    """
    if isinstance(value, str):
        return chosen(value)
    entries = list(value) if isinstance(value, Iterable) else [value]
    if not entries:
        raise arguments.expected(name, value, "give one or more, such as ('hu2021', 'burst')")
    if isinstance(value, Mapping):
        return tuple(_called(str(key), _one(name, each)) for key, each in value.items())
    parts = (chosen(e) if isinstance(e, str) else (_one(name, e),) for e in entries)
    return _apart([candidate for part in parts for candidate in part])


def _one(name: str, entry: Any) -> Candidate:
    if isinstance(entry, Ready):
        return entry
    if isinstance(entry, Graph):
        return _ready(entry)
    if not isinstance(entry, str | Method | Recipe):
        what = "give names such as 'hu2021', methods, recipes, or networks that `convert` made"
        raise arguments.expected(name, entry, what)
    return entitled(entry)


def _called(name: str, candidate: Candidate) -> Candidate:
    if not name.strip():
        raise InputError("a method has an empty name: give every key of methods some letters")
    return replace(candidate, name=name)


def _ready(graph: Graph) -> Ready:
    """Return a network as a candidate, called by what its notes say."""
    if not graph.of(Fire):
        raise InputError("a network among the methods has no spiking neurons: convert it first")
    made = graph.notes.get("recipe") or graph.notes.get("method") or "network"
    return Ready(str(made), "a network that was given", graph)


def _apart(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates, those of one name told apart by numbers; the same one but once."""
    found, seen = dict[str, Candidate](), list[Candidate]()
    for candidate in candidates:
        if candidate in seen:
            continue
        seen.append(candidate)
        numbered = (f"{candidate.name} ({number})" for number in count(2))
        free = (name for name in chain([candidate.name], numbered) if name not in found)
        name = next(free)
        found[name] = replace(candidate, name=name)
    return tuple(found.values())


def suits(candidate: Candidate, ann: Graph) -> bool:
    """Return whether a candidate can convert a network with its activations."""
    if isinstance(candidate, Ready) or not candidate.method.trained:
        return True
    return all(node.levels is not None for node in ann.of(ReLU))


def suited(method: Method, classes: int, given: Container[str] = ()) -> Method:
    """Return the method with the paper's percentile for ImageNet, for networks of its classes.

    given: options that were asked for, and stay.
    """
    if classes != IMAGENET_CLASSES or "percentile" in given:
        return method
    usual: dict[str, Any] = {"percentile": IMAGENET_PERCENTILE}
    return replace(method, **usual) if "percentile" in options_of(type(method)) else method


def fitting(recipe: Recipe, classes: int, given: Container[str] = ()) -> Recipe:
    """Return the recipe with the defaults for so many classes, as `suited` has them.

    A percentile that is the recipe's own stays, and what was `given`.
    """
    method = recipe.method
    own = getattr(method, "percentile", None) != getattr(type(method), "percentile", None)
    return replace(recipe, method=suited(method, classes, {"percentile"} if own else given))
