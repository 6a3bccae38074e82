"""The command `reproduce`: the tables of docs/results.md, made again."""

import time
from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.ann.data import DATA_VARIABLE
from spiking_resnet.cli.options import EngineOption
from spiking_resnet.cli.outputs import check_outputs
from spiking_resnet.cli.provenance import going_on
from spiking_resnet.cli.terminal import err, say
from spiking_resnet.evaluation.reproduce import NETWORKS, STUDIES, curves, run
from spiking_resnet.records import InputError
from spiking_resnet.report import markdown, studies
from spiking_resnet.report.curve import plot
from spiking_resnet.report.write import write

EPILOG = """
Examples:

  spiking-resnet reproduce shortcuts --data DIR --images 500 --out results

  spiking-resnet reproduce choices --data DIR --networks resnet20

  spiking-resnet reproduce depths --data DIR

A case that is in the folder --out already is not run again: stop and start as you like.
"""


def reproduce(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(help=f"One of {', '.join(STUDIES)}.")],
    data: Annotated[
        Path | None,
        typer.Option(
            envvar=DATA_VARIABLE, help="Folder with cifar10/{train,test}.npz and weights/*.pt."
        ),
    ] = None,
    networks: Annotated[
        str | None,
        typer.Option(help=f"Any of {', '.join(NETWORKS)}, by commas.", show_default="the study's"),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Test images: a fixed random choice.", show_default="all")
    ] = None,
    out_path: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path(
        "results"
    ),
    engine: EngineOption = "auto",
) -> None:
    """Make a table of docs/results.md again, case by case, resumable.

    Long: thousands of images over 350 time steps. Every case is calibrated on
    500 training images and judged on test images.
    """
    if data is None:
        raise InputError(
            f"name the folder of data sets and weights: --data DIR, or {DATA_VARIABLE}"
        )
    table = out_path / f"{study}.md"
    check_outputs({"--out": table})

    def tell(text: str) -> None:
        err.print(f"{time.strftime('%H:%M:%S')} {text}", highlight=False)

    named = None if networks is None else networks.split(",")
    with going_on(ctx, out_path):
        results = list(run(study, data, out_path, named, images, tell, engine))
    found = studies.blocks(results)
    write(found, table)
    say(markdown.text(found))
    say(f"\nwrote {table}")
    for name in dict.fromkeys(result["network"] for result in results):
        figure = out_path / f"{study}_{name}.png"
        own = [result for result in results if result["network"] == name]
        plot(curves(study, own), figure, f"{name}, {own[0]['images']:,} test images")
        say(f"wrote {figure}")
