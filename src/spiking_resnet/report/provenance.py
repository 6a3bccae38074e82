"""All that is needed to make a report again: commands, versions, seeds and hashes of files."""

import json
from collections.abc import Mapping
from typing import Any

_OF_CONVERSION = (
    "recipe", "method", "options", "model", "weights", "dataset", "calibration", "normalisation",
    "framing", "versions",
)  # fmt: skip


def made(
    facts: Mapping[str, Any], hardware: str, notes: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What a report and its network were made with, by name; what is not known is left out.

    facts: of the report, as in its JSON file. notes: the network's.
    """
    told = {"report command": facts["command"], "conversion command": notes.get("command")}
    told |= {name.replace("_", " "): value for name, value in facts.items() if name != "command"}
    told |= {"hardware": hardware}
    told |= {f"conversion: {name}": notes.get(name) for name in _OF_CONVERSION}
    return [(name, _text(value)) for name, value in told.items() if value not in (None, "", {})]


def _text(value: Any) -> str:
    """A value on one line: dictionaries as "name value" pairs."""
    if isinstance(value, Mapping):
        return "; ".join(
            f"{name} {_text(part)}" for name, part in value.items() if part is not None
        )
    return value if isinstance(value, str) else json.dumps(value)
