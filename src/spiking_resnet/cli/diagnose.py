"""The command `diagnose`: where a spiking network's accuracy goes, population by population."""

from pathlib import Path
from typing import Annotated

import typer

import spiking_resnet as sr
from spiking_resnet.cli import options
from spiking_resnet.cli.evaluate import test_images, usual_batch, warn_of_guesses_on
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.images import sampled
from spiking_resnet.cli.outputs import check_data, check_outputs, say_wrote, write_json
from spiking_resnet.cli.provenance import command_line, file_facts, versions
from spiking_resnet.cli.stored import stored
from spiking_resnet.cli.terminal import show
from spiking_resnet.engines.simulate import choose
from spiking_resnet.records import InputError
from spiking_resnet.report import diagnosis as report
from spiking_resnet.report.figure import check_path
from spiking_resnet.report.write import write

EPILOG = """
Examples:

  spiking-resnet diagnose snn.safetensors --steps 32

  spiking-resnet diagnose snn.safetensors --data DIR --steps 64 \\
      --limit 500 --plot where.png

Few steps show causes best: at T = 350 hardly a decision differs. Data set and normalisation are
the file's own.
"""

FEW = 32  # time steps that show causes, where a network serves any T


@grouped
def diagnose(
    ctx: typer.Context,
    snn: Annotated[Path, typer.Argument(help="A file that `convert` wrote.")],
    asked: options.ImageFlags,
    split: options.SplitOption = "test",
    steps: Annotated[
        int | None, typer.Option(help="Time steps to simulate.", show_default="its own T, or 32")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many images, chosen by --seed.")] = 200,
    batch_size: options.BatchSizeOption = None,
    engine: options.EngineOption = "auto",
    seed: options.SeedOption = 0,
    json_path: options.JsonOption = None,
    plot: options.PlotOption = None,
) -> None:
    """Say where a spiking network loses accuracy, and what to do about it.

    The difference between what neurons say and the ANN's activations is cut
    into clipping, quantisation, uneven arrival, and what earlier layers hand
    on; and each is tried out in the ANN: how many decisions does it cost?
    """
    if steps is not None and steps < 1:
        raise InputError(f"--steps is {steps}: at least 1")
    if plot is not None:
        check_path(plot)
    outputs = {"--json": json_path, "--plot": plot}
    check_outputs(outputs, {"the network": snn})
    graph = stored(snn)
    steps = steps or graph.made_for or graph.pre_steps + FEW
    choose(graph, engine)
    name, images = test_images(graph, snn, split, asked)
    check_data(outputs, name, asked.data)
    images, some = sampled(images, limit, seed)
    loader = images.loader(usual_batch(images) if batch_size is None else batch_size)
    found = sr.diagnose(graph, loader, steps, engine)
    count = some or f", n = {found.images:,}"
    title = f"{snn.name}, T = {steps}, on {name} ({split}){count}"
    show(report.blocks(found, title))
    warn_of_guesses_on(graph, images, round(found.ann_accuracy * found.images), found.images)
    if json_path is not None:
        facts = {"file": file_facts(snn), "dataset": name, "split": split, "seed": seed,
                 "normalisation": images.normalisation.to_json(), "advice": report.advice(found),
                 "command": command_line(ctx), "versions": versions()}  # fmt: skip
        write_json(json_path, {**found.to_json(), **facts})
        say_wrote(json_path)
    if plot is not None:
        model = graph.notes.get("model", "network")
        title = f"{model}, {name}, T = {steps}, n = {found.images:,}"
        write(report.charts(found, title), plot)
        say_wrote(plot)
