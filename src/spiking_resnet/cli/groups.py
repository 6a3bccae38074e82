"""Groups of flags that several commands share.

A group is a frozen dataclass whose fields are flags, each annotated as typer has it. A command that
is `grouped` takes groups as its arguments; typer sees their flags in their place.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar, Self, get_type_hints


class Group:
    """Flags of the command line that belong together."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """The flags, as parameters of a function."""
        hints = get_type_hints(cls, include_extras=True)
        usual = {one.name: one.default for one in fields(cls)}
        return [
            keyword(name, hints[name], Parameter.empty if default is MISSING else default)
            for name, default in usual.items()
        ]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The group from the values of its flags."""
        return cls(**given)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: flags where it takes groups."""
    hints = get_type_hints(command, include_extras=True)
    flags: list[Parameter] = []
    groups: dict[str, tuple[type[Group], list[str]]] = {}
    for one in signature(command).parameters.values():
        hint = hints[one.name]
        if isinstance(hint, type) and issubclass(hint, Group):
            own = hint.parameters()
            groups[one.name] = hint, [each.name for each in own]
            flags += own
        else:
            flags.append(keyword(one.name, hint, one.default))

    @wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: group.of({flag: given.pop(flag) for flag in names})
            for name, (group, names) in groups.items()
        }
        command(**given, **made)

    run.__signature__ = Signature(flags)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in flags}
    return run


def keyword(name: str, hint: Any, default: Any) -> Parameter:
    """A parameter that is given by its name; its hint is annotated as typer has it."""
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=hint, default=default)
