"""What to type, and what to write in Python, to convert by a method."""

from collections.abc import Container
from typing import Any

from spiking_resnet.conversion.methods.method import Method
from spiking_resnet.conversion.methods.option import options_of
from spiking_resnet.conversion.methods.recipes import Recipe, recipe_of


def typed(method: Method, name: str = "", without: Container[str] = ()) -> list[str]:
    """Return what to type after `convert` for a method.

    name: of the recipe that it was made by, if that is known. without: options that are left out.
    """
    recipe, known = recipe_of(method, name), options_of(type(method))
    found = ["--method", recipe.name]
    for option, value in _said(recipe, method).items():
        if option not in without:
            found += known[option].typed(value)
    return found


def written(method: Method, name: str = "") -> str:
    """Return the line of Python that converts by a method."""
    recipe = recipe_of(method, name)
    options = "".join(f", {option}={value!r}" for option, value in _said(recipe, method).items())
    return f'snn = sr.convert(model, calibration, "{recipe.name}"{options})'


def _said(recipe: Recipe, method: Method) -> dict[str, Any]:
    """Return the options that are not the recipe's; the steps of a method made for them always."""
    found = recipe.differing(method)
    if method.per_steps and "steps" in options_of(type(method)):
        found["steps"] = getattr(method, "steps")  # noqa: B009 - an option that not all have
    return found
