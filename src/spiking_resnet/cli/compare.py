"""The command `compare`: methods side by side on the same network and images."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.ann.images import ImageData
from spiking_resnet.cli import options
from spiking_resnet.cli.conversion import (
    BATCH,
    dataset_of,
    images_for,
    said_by,
    suited,
    tell_normalisation,
    warn_of_guesses,
)
from spiking_resnet.cli.evaluate import set_threads, usual_batch
from spiking_resnet.cli.networks import file_of, network
from spiking_resnet.cli.outputs import check_data, check_outputs, say_wrote, standard, write_json
from spiking_resnet.cli.provenance import command_line, file_facts, going_on, versions
from spiking_resnet.cli.terminal import show, warn, work_bar
from spiking_resnet.conversion.presets import RECIPES, Recipe, chosen, suiting
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.evaluation.candidate import prepared
from spiking_resnet.evaluation.compare import STEPS, compared
from spiking_resnet.records import InputError
from spiking_resnet.report import comparison as report
from spiking_resnet.report.figure import check_path
from spiking_resnet.report.write import write

DEFAULT_STEPS = ",".join(str(step) for step in STEPS)
LISTED = "\n\n".join(f"  {recipe.name}: {recipe.description}" for recipe in RECIPES.values())
EPILOG = f"""
Examples:

  spiking-resnet compare digits_resnet8 --methods hu2021,signed,differential-1 --steps 4,16,64

  spiking-resnet compare resnet20 --weights r20.pt --dataset cifar10 --data DIR --limit 500
  --resume progress.json --json results.json --plot accuracy.png --table results.md

Methods are calibrated on images of the train split and judged on images of the test split. Stopped
at any moment, the same command with --resume goes on after the last conversion that was finished.

Methods:

{LISTED}
"""


def compare(
    ctx: typer.Context,
    model: options.ModelArgument,
    weights: options.WeightsOption = None,
    weights_key: options.WeightsKeyOption = None,
    methods: options.MethodsOption = "all",
    steps: options.StepsOption = DEFAULT_STEPS,
    dataset: options.DatasetOption = None,
    data: options.DataOption = None,
    download: options.DownloadOption = False,
    limit: Annotated[
        int | None, typer.Option(help="Only so many test images, chosen by --seed.")
    ] = 500,
    calibration_images: Annotated[
        int, typer.Option(help="Training images to calibrate on, chosen by --seed.")
    ] = 500,
    normalisation: options.NormalisationOption = None,
    crop: options.CropOption = None,
    seed: options.SeedOption = 0,
    engine: Annotated[str, typer.Option(help=f"auto, {', '.join(ENGINES)}.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Images at once.", show_default="64, large: 8")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads.", show_default="all")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps every finished conversion: the same command goes on.",
            show_default=False,
        ),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Results with all facts.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Accuracy over T: .png, .svg or .pdf.", show_default=False),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="All tables as Markdown.", show_default=False)
    ] = None,
) -> None:  # fmt: skip
    """Compare conversion methods: accuracy, loss and cost at every T, on the same images.

    Beside the numbers stands what is fair to know: how many sizes of spikes
    one step carries, whether neurons wait for their whole input, steps
    before the counted ones, and what calibration took.
    """
    recipes, wanted = chosen(methods), options.parse_steps(steps)
    ways = options.parse_normalisation(normalisation), options.parse_crop(crop)
    if threads is not None:
        set_threads(threads)
    if plot is not None:
        check_path(plot)
    outputs = {"--resume": resume, "--json": json_path, "--plot": plot, "--table": table}
    check_outputs(outputs, {"the network": file_of(model), "--weights": weights})
    source = network(model, weights, seed, dataset=dataset, key=weights_key)
    if source.remark:
        warn(source.remark)
    name = two_splits(dataset_of(source, dataset))
    check_data(outputs, name, data)
    training, test = (
        images_for(source, name, split, data, download, *ways) for split in ("train", "test")
    )
    tell_normalisation(test, said_by(source, test.name, ways[0]))
    training, test = training.subset(calibration_images, seed), test.subset(limit, seed)
    with going_on(ctx, resume), work_bar() as progress:
        loader = test.loader(usual_batch(test) if batch_size is None else batch_size)
        subject = prepared(source.model, training.loader(BATCH), loader)
        right = round(subject.ann_accuracy * subject.images)
        warn_of_guesses(right, subject.images, test.classes, "test", source.accuracy)
        if methods == "all":
            recipes = suiting(recipes, subject.ann)
        fitted = tuple(fitting(recipe, training) for recipe in recipes)
        found = compared(subject, fitted, wanted, engine, progress, resume)
    title = f"{source.spec} on {name} (test), calibrated on {len(training):,} training images"
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
    chart = report.chart(found, f"{source.spec}, {name}, n = {found.images:,}")
    if plot is not None and chart is not None:
        write((chart,), plot)
        say_wrote(plot)


def fitting(recipe: Recipe, data: ImageData) -> Recipe:
    """The recipe with what is usual for a data set, as `convert` takes it."""
    return replace(recipe, make=lambda steps: suited(recipe.make(steps), {}, data))


def two_splits(name: str) -> str:
    """The name of a data set that has training and test images; InputError for a single file."""
    if name.endswith(".npz"):
        raise InputError(
            f"{name} is one set of images, and two are needed: name a folder that holds train.npz "
            "and test.npz"
        )
    return name
