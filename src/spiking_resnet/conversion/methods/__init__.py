"""The conversion methods by name: frozen options, and the passes they stand for."""

from collections.abc import Mapping
from typing import Any

from spiking_resnet.conversion.methods.calibrated import PLAIN, calibrated
from spiking_resnet.conversion.methods.differential import dcgs, differential
from spiking_resnet.conversion.methods.method import Method
from spiking_resnet.conversion.methods.rate_coded import hu2021, qcfs

__all__ = [
    "METHODS", "PLAIN", "PRESETS", "Method", "calibrated", "dcgs", "described", "differential",
    "hu2021", "named", "of_name", "qcfs",
]  # fmt: skip

METHODS: dict[str, type[Method]] = {
    "hu2021": hu2021,
    "differential": differential,
    "calibrated": calibrated,
    "dcgs": dcgs,
    "qcfs": qcfs,
}
# Published sets of options by name: usable wherever a method is named.
PRESETS: dict[str, Mapping[str, Any]] = {
    name: options for kind in METHODS.values() for name, options in kind.published.items()
}


def of_name(name: str) -> tuple[type[Method], Mapping[str, Any]]:
    """Return the method's class, and the published options, that go by this name.

    Raises ValueError for names there are not.
    """
    if name in METHODS:
        return METHODS[name], {}
    for kind in METHODS.values():
        if name in kind.published:
            return kind, kind.published[name]
    known = ", ".join((*METHODS, *PRESETS))
    raise ValueError(f"there is no method {name!r}: use one of {known}")


def named(name: str, **options: Any) -> Method:
    """Return the method, or published set of options, of this name; `options` override its own.

    Raises ValueError for names there are not, TypeError for options it does not have.
    """
    kind, published = of_name(name)
    return kind(**{**published, **options})


def described(found: Mapping[str, Any]) -> Method:
    """Return the method whose `describe` gave this; ValueError, TypeError or KeyError otherwise."""
    return METHODS[found["method"]](**found["options"])
