"""What the group of commands hands on to the command that it calls."""

import typer

DEBUG = "spiking_resnet.debug"
ARGUMENTS = "spiking_resnet.arguments"


def arguments(ctx: typer.Context) -> list[str]:
    """The arguments the user typed after `spiking-resnet`."""
    return list(ctx.meta.get(ARGUMENTS, ()))
