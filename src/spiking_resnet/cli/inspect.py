"""The command `inspect`: what a network consists of, and whether it can be converted."""

from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.cli import options
from spiking_resnet.cli.networks import PUBLISHED, file_of, image_shape, network
from spiking_resnet.cli.outputs import check_outputs, say_wrote, write_json
from spiking_resnet.cli.provenance import command_line, versions
from spiking_resnet.cli.stored import SUFFIXES, stored
from spiking_resnet.cli.terminal import EXIT_SYSTEM, show
from spiking_resnet.evaluation.inspect import inspect_graph, inspect_model
from spiking_resnet.report import network as report

EPILOG = """
Examples:

  spiking-resnet inspect resnet20

  spiking-resnet inspect torchvision:resnet50

  spiking-resnet inspect my_network.py:build --image-size 3x64x64 \\
      --json network.json

  spiking-resnet inspect snn.safetensors

The exit code is 1 for a network that cannot be converted.
"""


def inspect(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Argument(help="As for convert, or a spiking network (.safetensors, .nir).")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help=f"File of weights, or {PUBLISHED!r}; not needed: random ones serve.",
            show_default=False,
        ),
    ] = None,
    weights_key: options.WeightsKeyOption = None,
    image_size: Annotated[
        str | None,
        typer.Option(help="224, 32x32 or 3x32x32.", show_default="what it is made for"),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="All facts of all nodes.", show_default=False)
    ] = None,
) -> None:
    """Show a network's layers, their size, and everything that stands in the way of conversion.

    Of a converted network it shows thresholds, grids, for how many steps its
    sums are exact, and how it was made. No images are needed.
    """
    inputs = {"the network": file_of(model), "--weights": weights}
    check_outputs({"--json": json_path}, inputs)
    if model.endswith(SUFFIXES):
        graph = stored(model)
        found = inspect_graph(graph)
        show(report.spiking(found, graph, Path(model)))
    else:
        source = network(model, weights, random=True, key=weights_key)
        known = image_size is None and isinstance(source.model, Path)
        found = inspect_model(source.model, None if known else image_shape(source, image_size))
        show(report.source(found, model))
    if json_path is not None:
        facts = {"model": model, "command": command_line(ctx), "versions": versions()}
        write_json(json_path, {**found.to_json(), **facts})
        say_wrote(json_path)
    if found.problems:
        raise typer.Exit(EXIT_SYSTEM)
