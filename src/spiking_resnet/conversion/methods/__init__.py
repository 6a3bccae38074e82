"""Conversion methods: each is a frozen set of options and the tuple of passes they stand for."""

from collections.abc import Mapping
from typing import Any

from spiking_resnet.conversion.methods.calibrated import PLAIN, PRESETS, calibrated
from spiking_resnet.conversion.methods.differential import dcgs, differential
from spiking_resnet.conversion.methods.rate_coded import hu2021, qcfs

__all__ = [
    "METHODS",
    "PLAIN",
    "PRESETS",
    "Method",
    "calibrated",
    "dcgs",
    "described",
    "differential",
    "hu2021",
    "named",
    "qcfs",
]  # fmt: skip

Method = hu2021 | differential | dcgs | calibrated | qcfs

METHODS: dict[str, type[Method]] = {
    "hu2021": hu2021,
    "differential": differential,
    "calibrated": calibrated,
    "dcgs": dcgs,
    "qcfs": qcfs,
}


def named(name: str, **options: Any) -> Method:
    """The method, or the published set of options, of this name; `options` go before its own.

    Raises ValueError for names there are not, TypeError for options it does not have.
    """
    if name in PRESETS:
        return calibrated(**{**PRESETS[name], **options})
    if name not in METHODS:
        known = ", ".join((*METHODS, *PRESETS))
        raise ValueError(f"there is no method {name!r}: use one of {known}")
    return METHODS[name](**options)


def described(found: Mapping[str, Any]) -> Method:
    """The method whose `describe` gave this; ValueError, TypeError or KeyError for what is not."""
    return METHODS[found["method"]](**found["options"])
