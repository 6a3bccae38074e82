"""The group of commands: each is loaded when it is called, because torch takes seconds to load."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from spiking_resnet.cli.context import ARGUMENTS


class Commands(TyperGroup):
    """A group of commands, each in a module of its name in this folder.

    The module holds the function NAME and its EPILOG; COMMAND, where its class is another one.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The remaining arguments; all of them are kept for `command_line`."""
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name, loaded, and the arguments that are left."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else loaded(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; expected errors become a message and an exit code."""
        from spiking_resnet.cli.terminal import carry_out

        return carry_out(ctx, lambda: super(Commands, self).invoke(ctx))


def loaded(name: str) -> Any:
    """The command of this name, which loads its module and torch."""
    module = import_module(f"{__package__}.{name}")
    alone = typer.Typer(rich_markup_mode="rich", add_completion=False)
    kind = getattr(module, "COMMAND", TyperCommand)
    alone.command(name, epilog=_flowing(module.EPILOG), cls=kind)(getattr(module, name))
    return typer.main.get_command(alone)


def _flowing(epilog: str) -> str:
    """The text below a command's help, its prose as paragraphs that any terminal can wrap.

    Indented lines, which are examples to copy, stay as they are.
    """
    paragraphs = (each.strip("\n") for each in epilog.split("\n\n"))
    return "\n\n".join(
        each if each.startswith(" ") else each.replace("\n", " ") for each in paragraphs
    )
