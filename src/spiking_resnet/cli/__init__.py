"""The command line, `spiking-resnet`: its commands, and what they have in common."""

from typing import Annotated

import typer

from spiking_resnet import __version__
from spiking_resnet.cli.commands import Commands
from spiking_resnet.cli.context import DEBUG

COMMANDS = {
    "demo": "See it work: convert a shipped network, simulate, draw.",
    "convert": "Turn a trained network into a spiking one.",
    "evaluate": "Measure accuracy, agreement and spikes at every T.",
    "compare": "Compare conversion methods on the same images.",
    "tune": "Find the cheapest method that loses no more than allowed.",
    "diagnose": "Say where accuracy is lost, and what to do about it.",
    "energy": "Count operations, and price them in joules.",
    "report": "Write a page with all of this, to look at and pass on.",
    "inspect": "Show layers, sizes, and what stands in the way.",
    "watch": "Watch a network decide on an image, step by step.",
    "export": "Write a network for others: NIR, ONNX, C, torch.",
    "verify": "Compare every spike of an NIR file in other simulators.",
    "models": "List the trained networks that come with the package.",
    "train": "Train a residual network for small images.",
    "reproduce": "Make the tables of docs/results.md again.",
}  # in the order of the help

EPILOG = """
Start with:  spiking-resnet demo

Then, with CIFAR-10 in the folder DIR:

  spiking-resnet convert cifar10_resnet20 --data DIR --out snn.safetensors

  spiking-resnet evaluate snn.safetensors --data DIR --limit 200

  spiking-resnet compare cifar10_resnet20 --data DIR --limit 200
"""

app = typer.Typer(
    cls=Commands,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _listed() -> None:
    """Stand for a command that is loaded when it is called."""


for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(_listed)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spiking-resnet {__version__}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of expected errors too.")
    ] = False,
) -> None:
    """Turn trained residual networks into spiking ones, simulate them exactly, measure them."""
    ctx.meta[DEBUG] = debug
