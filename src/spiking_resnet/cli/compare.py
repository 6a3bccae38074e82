"""The command `compare`: methods side by side on the same network and images."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.cli import options
from spiking_resnet.cli.again import commands, typed_again
from spiking_resnet.cli.conversion import (
    BATCH,
    source_and_images,
    warn_of_guesses,
)
from spiking_resnet.cli.evaluate import set_threads, usual_batch
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.images import sampled
from spiking_resnet.cli.kept import keeping, refuse_failed, so_far
from spiking_resnet.cli.outputs import say_wrote, standard, write_json
from spiking_resnet.cli.provenance import command_line, file_facts, versions
from spiking_resnet.cli.terminal import show
from spiking_resnet.conversion.methods import described
from spiking_resnet.conversion.presets import RECIPES, chosen, fitting, suits
from spiking_resnet.engines.simulate import check_engine
from spiking_resnet.evaluation.candidate import prepared
from spiking_resnet.evaluation.compare import STEPS, Comparison, compared
from spiking_resnet.progress import shown
from spiking_resnet.report import comparison as report
from spiking_resnet.report.figure import check_path
from spiking_resnet.report.write import write

DEFAULT_STEPS = ",".join(str(step) for step in STEPS)
LISTED = "\n\n".join(f"  {recipe.name}: {recipe.description}" for recipe in RECIPES.values())
EPILOG = f"""
Examples:

  spiking-resnet compare digits_resnet8 --methods hu2021,signed --steps 4,16

  spiking-resnet compare resnet20 --weights r20.pt --dataset cifar10 \\
      --data DIR --limit 500 --resume progress.json --json results.json \\
      --plot accuracy.png --table results.md

Methods are calibrated on images of the train split and judged on images of the test split. Stopped
at any moment, the command says what to type to go on: what is done is kept in the cache folder
(SPIKING_RESNET_CACHE, XDG_CACHE_HOME or ~/.cache) without --resume, until all is done.

Methods:

{LISTED}
"""


@grouped
def compare(
    ctx: typer.Context,
    model: options.ModelFlags,
    images: options.ImageFlags,
    methods: options.MethodsOption = "all",
    steps: options.StepsOption = DEFAULT_STEPS,
    limit: Annotated[
        int | None, typer.Option(help="Only so many test images, chosen by --seed.")
    ] = 500,
    calibration_images: options.CalibrationImagesOption = 500,
    seed: options.SeedOption = 0,
    engine: options.EngineOption = "auto",
    batch_size: options.BatchSizeOption = None,
    threads: options.ThreadsOption = None,
    resume: options.ResumeOption = None,
    json_path: options.JsonOption = None,
    plot: options.PlotOption = None,
    table: Annotated[
        Path | None, typer.Option(help="All tables as Markdown.", show_default=False)
    ] = None,
) -> None:
    """Compare conversion methods: accuracy, loss and cost at every T, on the same images.

    Beside the numbers are the conditions: how many amplitudes of spikes
    one step carries, whether neurons are layer-serial, steps before the
    counted ones, and what calibration took.
    """
    recipes, wanted = chosen(methods), options.parse_steps(steps)
    check_engine(engine)
    set_threads(threads)
    if plot is not None:
        check_path(plot)
    outputs = {"--resume": resume, "--json": json_path, "--plot": plot, "--table": table}
    source, name, (training, test) = source_and_images(
        model, images, seed, outputs, "train", "test"
    )
    training, (test, some) = training.subset(calibration_images, seed), sampled(test, limit, seed)
    title = (
        f"{source.spec}, calibrated on {len(training):,} training images, on {name} (test){some}"
    )
    partly = so_far(lambda found: report.blocks(found, f"{title}: the methods that are done"))
    with keeping(ctx, resume) as kept, partly:
        with shown(True, "looking through the images", unit="") as bar:
            loader = test.loader(usual_batch(test) if batch_size is None else batch_size)
            subject = prepared(source.model, training.loader(BATCH), loader)
            right = round(subject.ann_accuracy * subject.images)
            warn_of_guesses(right, subject.images, test.classes, "test", source.accuracy)
            fitted = [fitting(recipe, training.classes) for recipe in recipes]
            if methods == "all":
                fitted = [each for each in fitted if suits(each, subject.ann)]
            found = compared(subject, fitted, wanted, engine, bar, kept)
        found = replace(found, command=_winners(found, model, images, len(training), limit, seed))
        show(report.blocks(found, title))
        facts = {
            "model": source.spec,
            "weights": None if source.weights is None else file_facts(source.weights),
            "dataset": name, "split": "test", "limit": limit, "seed": seed,
            "calibration": {"split": "train", "images": len(training), "seed": seed},
            "normalisation": test.normalisation.to_json(),
            "command": command_line(ctx), "versions": versions(),
        }  # fmt: skip
        if json_path is not None:
            write_json(json_path, {**found.to_json(), **facts})
            say_wrote(json_path)
        if table is not None:
            write(report.document(found, command_line(ctx)), standard(table), usual=".md")
            say_wrote(table)
        charts = report.charts(found, f"{source.spec}, {name}, n = {found.images:,}")
        if plot is not None and charts:
            write(charts, plot)
            say_wrote(plot)
        refuse_failed(sum(bool(row.problem) for row in found.rows), len(found.rows))


def _winners(
    found: Comparison, model: options.ModelFlags, images: options.ImageFlags,
    calibrated: int, limit: int | None, seed: int,
) -> str:  # fmt: skip
    """The commands that make the winner and evaluate it on the same images; nothing without one."""
    place = found.winner
    if place is None:
        return ""
    typed = typed_again(model, images, calibrated, seed)
    judged = (*(() if limit is None else ("--limit", limit)), "--seed", seed)
    method, steps = described(place.entry.method), round(place.latency)
    return commands(typed, method, place.row.recipe, images, steps, *judged)
