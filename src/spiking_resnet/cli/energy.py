"""The command `energy`: what a spiking network does for an image, and what that takes."""

from pathlib import Path
from typing import Annotated

import typer

import spiking_resnet as sr
from spiking_resnet.cli import options
from spiking_resnet.cli.evaluate import set_threads, test_images, usual_batch
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.images import sampled
from spiking_resnet.cli.outputs import check_data, check_outputs, say_wrote, write_json
from spiking_resnet.cli.provenance import command_line, file_facts, versions
from spiking_resnet.cli.stored import stored
from spiking_resnet.cli.terminal import show, warn
from spiking_resnet.costs import models as cost_models
from spiking_resnet.engines.simulate import choose
from spiking_resnet.records import InputError
from spiking_resnet.report import account as report
from spiking_resnet.report.block import Chart
from spiking_resnet.report.figure import check_path
from spiking_resnet.report.write import write

EPILOG = f"""
Examples:

  spiking-resnet energy snn.safetensors --data DIR --steps 32

  spiking-resnet energy snn.safetensors --models horowitz-fp32,loihi1 \\
      --json energy.json

  spiking-resnet energy snn.safetensors --models my_chip.toml --sources

Cost models: {", ".join(cost_models.known())}, or a .toml or .json file of your own (see
docs/energy.md). Every operation is counted, with each spike's own fan-out; what a model has no
constant for is named as uncounted.
"""

FEW = 32  # time steps, where a network serves any T


@grouped
def energy(
    ctx: typer.Context,
    snn: Annotated[Path, typer.Argument(help="A file that `convert` wrote.")],
    asked: options.ImageFlags,
    split: options.SplitOption = "test",
    steps: Annotated[
        int | None, typer.Option(help="Time steps to simulate.", show_default="its own T, or 32")
    ] = None,
    models: options.ModelsOption = "all",
    sources: Annotated[
        bool, typer.Option("--sources", help="Show where each constant comes from.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Only so many images, chosen by --seed.")] = 100,
    batch_size: options.BatchSizeOption = None,
    engine: options.EngineOption = "auto",
    seed: options.SeedOption = 0,
    threads: options.ThreadsOption = None,
    json_path: options.JsonOption = None,
    plot: options.PlotOption = None,
) -> None:
    """Count what a spiking network does for an image, and what that takes in joules.

    Beside it stands the artificial network that it was converted from, under
    the same cost model, and the firing rate below which the spiking one wins.
    """
    if steps is not None and steps < 1:
        raise InputError(f"--steps is {steps}: at least 1")
    wanted = cost_models.named(models)
    if plot is not None:
        check_path(plot)
        if not any(model.ann for model in wanted):
            raise InputError(
                "--plot draws where a network breaks even with the ANN, and none of these cost "
                "models has constants for one: add another to --models"
            )
    set_threads(threads)
    outputs = {"--json": json_path, "--plot": plot}
    check_outputs(outputs, {"the network": snn})
    graph = stored(snn)
    steps = steps or graph.made_for or FEW
    choose(graph, engine)
    name, images = test_images(graph, snn, split, asked)
    check_data(outputs, name, asked.data)
    images, some = sampled(images, limit, seed)
    loader = images.loader(usual_batch(images) if batch_size is None else batch_size)
    events = sr.count_events(graph, loader, steps, engine)
    found = sr.energy(graph, events, wanted)
    show(report.blocks(found, f"{snn.name}, T = {steps}, on {name} ({split}){some}"))
    if sources:
        show([report.sources(wanted)])
    if json_path is not None:
        facts = {"file": file_facts(snn), "dataset": name, "split": split, "limit": limit,
                 "seed": seed, "normalisation": images.normalisation.to_json(),
                 "models": [model.to_json() for model in wanted],
                 "command": command_line(ctx), "versions": versions()}  # fmt: skip
        write_json(json_path, {**found.to_json(), **facts})
        say_wrote(json_path)
    if plot is not None:
        model = graph.notes.get("model", "network")
        _draw(report.chart(found, f"{model}, {name}, T = {steps}, n = {found.images:,}"), plot)


def _draw(chart: Chart, path: Path) -> None:
    """Write the chart; a warning where there is nothing to see in it."""
    if not chart.rows:
        warn(f"there is no firing rate at which it breaks even under these models: no {path}")
        return
    write((chart,), path)
    say_wrote(path)
