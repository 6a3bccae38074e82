"""The command line, `spiking-resnet`: its commands, and what they have in common."""

from typing import Annotated

import typer

from spiking_resnet.cli import (
    compare,
    convert,
    demo,
    diagnose,
    energy,
    evaluate,
    export,
    inspect,
    models,
    report,
    reproduce,
    train,
    tune,
    verify,
    watch,
)
from spiking_resnet.cli.method import MethodCommand
from spiking_resnet.cli.terminal import Commands, keep_tracebacks, say
from spiking_resnet.environment import package_version

EPILOG = """
Start with:  spiking-resnet demo

Then:

  spiking-resnet train --model resnet20 --dataset cifar10 --download --data DIR
  --out resnet20.safetensors

  spiking-resnet convert resnet20 --weights resnet20.safetensors --data DIR --out snn.safetensors

  spiking-resnet evaluate snn.safetensors --data DIR --json results.json --plot accuracy.png
"""

app = typer.Typer(
    cls=Commands,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(epilog=demo.EPILOG)(demo.demo)
app.command(epilog=train.EPILOG)(train.train)
app.command(epilog=convert.EPILOG, cls=MethodCommand)(convert.convert)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(epilog=compare.EPILOG)(compare.compare)
app.command(epilog=tune.EPILOG)(tune.tune)
app.command(epilog=diagnose.EPILOG)(diagnose.diagnose)
app.command(epilog=energy.EPILOG)(energy.energy)
app.command(epilog=export.EPILOG)(export.export)
app.command(epilog=verify.EPILOG)(verify.verify)
app.command(epilog=watch.EPILOG)(watch.watch)
app.command(epilog=inspect.EPILOG)(inspect.inspect)
app.command(epilog=report.EPILOG)(report.report)
app.command(epilog=models.EPILOG)(models.models)
app.command(epilog=reproduce.EPILOG)(reproduce.reproduce)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"spiking-resnet {package_version('spiking-resnet')}")
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
    if debug:
        keep_tracebacks(ctx)
