"""The conversion methods by name: frozen options, and the passes they stand for."""

from collections.abc import Mapping
from typing import Any

from spiking_resnet.conversion.methods.calibrated import PLAIN, calibrated
from spiking_resnet.conversion.methods.differential import dcgs, differential
from spiking_resnet.conversion.methods.method import Method
from spiking_resnet.conversion.methods.rate_coded import hu2021, qcfs
from spiking_resnet.conversion.methods.recipes import RECIPES, Recipe, named

__all__ = [
    "METHODS", "PLAIN", "RECIPES", "Method", "Recipe", "calibrated", "dcgs", "described",
    "differential", "hu2021", "named", "qcfs",
]  # fmt: skip

# The classes, by the name that notes and records keep. What users name is in recipes.py.
METHODS: dict[str, type[Method]] = {
    "hu2021": hu2021,
    "differential": differential,
    "calibrated": calibrated,
    "dcgs": dcgs,
    "qcfs": qcfs,
}


def described(found: Mapping[str, Any]) -> Method:
    """Return the method whose `describe` gave this; ValueError, TypeError or KeyError otherwise."""
    return METHODS[found["method"]](**found["options"])
