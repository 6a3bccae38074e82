"""The command `verify`: who fires the spikes that an NIR file stands for, and who does not."""

from pathlib import Path
from typing import Annotated

import torch
import typer

import spiking_resnet as sr
from spiking_resnet.cli import options
from spiking_resnet.cli.evaluate import test_images
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.outputs import check_data, check_outputs, say_wrote, write_json
from spiking_resnet.cli.provenance import command_line, file_facts, versions
from spiking_resnet.cli.terminal import EXIT_SYSTEM, say, show
from spiking_resnet.export.nir import golden
from spiking_resnet.records import InputError
from spiking_resnet.report import verification as report

EPILOG = """
Examples:

  spiking-resnet export snn.safetensors --to nir --profile sinabs \\
      --steps 64 --out snn.nir

  spiking-resnet verify snn.nir --data DIR --limit 20 \\
      --client-python interop/bin/python

The exit code is 1 where the file does not say what this package fires.
"""


@grouped
def verify(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="An NIR file.")],
    asked: options.ImageFlags,
    number: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "--images",
            help="Test images, chosen by --seed.",
            show_default="those of the file's golden spikes, or 10",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Time steps to run.", show_default="what it is made for")
    ] = None,
    pythons: Annotated[
        list[str] | None,
        typer.Option(
            "--client-python",
            help="A Python that has norse, spikingjelly or sinabs; may be given several times.",
            show_default="this one",
        ),
    ] = None,
    seed: options.SeedOption = 0,
    json_path: options.JsonOption = None,
) -> None:
    """Run an NIR file in readers of its own and in other simulators, and compare every spike.

    A reader that fires other spikes is shown with the step and the layer where
    that begins, and how it steps neurons otherwise than the file says.
    """
    for option, value in {"--limit": number, "--steps": steps}.items():
        if value is not None and value < 1:
            raise InputError(f"{option} is {value}: at least 1")
    check_outputs({"--json": json_path}, {"the network": file})
    graph = sr.from_nir(file)
    images, labels = None, None
    if number is not None or not _has_golden(file):
        name, data = test_images(graph, file, "test", asked)
        check_data({"--json": json_path}, name, asked.data)
        chosen = number or 10
        (images, labels), *_ = data.subset(chosen, seed).loader(chosen)
    known = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
    found = sr.verify(
        file, images, steps, labels=known,
        client_pythons=tuple(pythons or ()), tell=lambda reader: say(f"running {reader}"),
    )  # fmt: skip
    show(report.blocks(found))
    if json_path is not None:
        facts = {"seed": seed, "written": file_facts(file), "command": command_line(ctx),
                 "versions": versions()}  # fmt: skip
        write_json(json_path, {**found.to_json(), **facts})
        say_wrote(json_path)
    if not found.sound:
        raise typer.Exit(EXIT_SYSTEM)


def _has_golden(file: Path) -> bool:
    return golden.read(str(file)) is not None
