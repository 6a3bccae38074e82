"""The command `reproduce`: the tables of docs/results.md, made again."""

import time
from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.ann.data import DATA_VARIABLE
from spiking_resnet.arguments import unknown
from spiking_resnet.cli import study as cli_study
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.kept import going_on
from spiking_resnet.cli.options import EngineOption
from spiking_resnet.cli.outputs import check_outputs
from spiking_resnet.cli.study import StudyFlags
from spiking_resnet.cli.terminal import err, say
from spiking_resnet.engines.simulate import check_engine
from spiking_resnet.evaluation.reproduce import NETWORKS, STUDIES, curves, run
from spiking_resnet.evaluation.study import DATASETS
from spiking_resnet.records import InputError
from spiking_resnet.report import markdown, studies
from spiking_resnet.report.curve import plot
from spiking_resnet.report.write import write

EPILOG = """
Examples:

  spiking-resnet reproduce shortcuts --data DIR --limit 500 --out results

  spiking-resnet reproduce choices --data DIR --networks resnet20

  spiking-resnet reproduce depths --data DIR

  spiking-resnet reproduce study cifar10 --data DIR --limit 1000 \\
      --chapters paper,few

  spiking-resnet reproduce study cifar10 --data DIR \\
      --chapters burst,differential-4

  spiking-resnet reproduce study imagenet \\
      --networks torchvision:resnet18,mine=nets.py:resnet50 \\
      --calibrate DIR/photos --judge DIR/others --normalisation imagenet

`study` makes the whole study of the paper for the networks of a data set: chapters `paper` (its
method over 350 steps, with and without shortcut conversion), `few` and `binary` (today's methods),
`choices` (what the paper leaves open); any method that `compare` lists is a chapter, too. Networks
are names, or NAME=MODEL with a MODEL as `convert` takes it: torchvision:NAME (the published weights
are downloaded), path/to/file.py:function.

A case that is in the folder --out already is not run again: stop and start as you like.
"""


@grouped
def reproduce(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(help=f"study, or one of {', '.join(STUDIES)}.")],
    dataset: Annotated[
        str | None,
        typer.Argument(
            help=f"Of `study`: one of {', '.join(DATASETS)}.", show_default="all that are there"
        ),
    ] = None,
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
        int | None,
        typer.Option(
            "--limit", "--images", help="Test images: a fixed random choice.", show_default="all"
        ),
    ] = None,
    out_path: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path(
        "results"
    ),
    engine: EngineOption = "auto",
    *,
    flags: StudyFlags,
) -> None:
    """Make a table of docs/results.md again, case by case, resumable.

    Long: thousands of images over 350 time steps. Every case is calibrated on
    500 training images and judged on test images.
    """
    if data is None:
        raise InputError(
            f"name the folder of data sets and weights: --data DIR, or {DATA_VARIABLE}"
        )
    if study != "study" and study not in STUDIES:
        raise unknown("study", study, ("study", *STUDIES))
    check_engine(engine)
    if study == "study":
        cli_study.study(ctx, dataset, data, networks, images, out_path, engine, flags)
        return
    if dataset is not None or flags != StudyFlags():
        raise InputError(
            f"a data set, chapters and images are of `reproduce study`, not of {study}"
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
