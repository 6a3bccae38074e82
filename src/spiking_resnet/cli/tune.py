"""The command `tune`: the cheapest method that keeps the accuracy, and how to convert with it."""

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated, get_args

import typer

import spiking_resnet as sr
from spiking_resnet.cli import options
from spiking_resnet.cli.compare import LISTED, fitting
from spiking_resnet.cli.conversion import (
    BATCH,
    dataset_of,
    images_for,
    refuse_test_images,
    said_by,
    tell_normalisation,
    warn_of_guesses,
)
from spiking_resnet.cli.convert import arguments_of
from spiking_resnet.cli.evaluate import set_threads, usual_batch
from spiking_resnet.cli.networks import file_of, network
from spiking_resnet.cli.outputs import check_data, check_outputs, say_wrote, write_json
from spiking_resnet.cli.provenance import command_line, going_on, versions
from spiking_resnet.cli.terminal import EXIT_SYSTEM, err, show, warn
from spiking_resnet.conversion.methods import Method
from spiking_resnet.conversion.presets import chosen
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.evaluation.trials import CONFIDENCE, Limits, Measure, Trial, least_images
from spiking_resnet.records import InputError
from spiking_resnet.report import tuning

VALIDATION = 2000  # images to try methods on

EPILOG = f"""
Examples:

  spiking-resnet tune digits_resnet8 --target-loss 0.5 --max-steps 16

  spiking-resnet tune resnet20 --weights r20.pt --dataset cifar10 --data DIR --binary
  --max-steps 64 --cost steps

Only images of the train split are used: a part to make methods on, another to try them on. A
method wins if these images show, with the confidence asked for, that it loses no more than allowed;
what they leave open is said. Losses on images that a network was trained on tend to be smaller than
on new ones: leave some room, and judge the winner with `evaluate`. The exit code is 1 where nothing
is certain to meet the target.

Methods:

{LISTED}
"""


def tune(
    ctx: typer.Context,
    model: options.ModelArgument,
    weights: options.WeightsOption = None,
    weights_key: options.WeightsKeyOption = None,
    target_loss: Annotated[
        float, typer.Option(help="Points of accuracy that may be lost.")
    ] = 0.5,
    max_steps: Annotated[int, typer.Option(help="The most time steps.")] = 32,
    cost: Annotated[
        str,
        typer.Option(help="What is cheap: operations (synaptic, of an image), or steps."),
    ] = "operations",
    levels: Annotated[
        int | None,
        typer.Option(help="The most levels of a spike in one step.", show_default="any"),
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="Only spikes of 0 or 1.")] = False,
    allow_waiting: Annotated[
        bool,
        typer.Option("--allow-waiting", help="Neurons may wait for their whole input."),
    ] = False,
    methods: options.MethodsOption = "all",
    dataset: options.DatasetOption = None,
    data: options.DataOption = None,
    download: options.DownloadOption = False,
    calibration_images: Annotated[
        int, typer.Option(help="Training images to make methods on, chosen by --seed.")
    ] = 500,
    validation_images: Annotated[
        int | None,
        typer.Option(
            help="Other training images to try them on.", show_default=f"{VALIDATION}, or all"
        ),
    ] = None,
    confidence: Annotated[
        float,
        typer.Option(help="That the loss is within the target, 0.5 to 1; of each trial by itself."),
    ] = CONFIDENCE,
    normalisation: options.NormalisationOption = None,
    crop: options.CropOption = None,
    seed: options.SeedOption = 0,
    engine: Annotated[str, typer.Option(help=f"auto, {', '.join(ENGINES)}.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads.", show_default="all")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps every trial: the same command goes on.", show_default=False
        ),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Everything tried.", show_default=False)
    ] = None,
) -> None:  # fmt: skip
    """Find the cheapest method that loses no more than is allowed, on training images alone.

    Methods are tried at 1, 2, 4, ... time steps from cheap to dear, until
    nothing that is left can be cheaper; then the command that converts with
    the winner is printed.
    """
    recipes = chosen(methods)
    ways = options.parse_normalisation(normalisation), options.parse_crop(crop)
    measure = next((known for known in get_args(Measure) if known == cost), None)
    if measure is None:
        raise InputError(f"--cost {cost!r}: use one of {', '.join(get_args(Measure))}")
    if threads is not None:
        set_threads(threads)
    outputs = {"--resume": resume, "--json": json_path}
    check_outputs(outputs, {"the network": file_of(model), "--weights": weights})
    source = network(model, weights, seed, dataset=dataset, key=weights_key)
    if source.remark:
        warn(source.remark)
    name = dataset_of(source, dataset)
    refuse_test_images(name, "train")
    check_data(outputs, name, data)
    images = images_for(source, name, "train", data, download, *ways)
    tell_normalisation(images, said_by(source, images.name, ways[0]))
    if validation_images is None:
        validation_images = max(1, min(VALIDATION, len(images) - calibration_images))
    training, validation = images.parted(calibration_images, validation_images, seed)
    warn_of_few(len(validation), target_loss, confidence)
    with going_on(ctx, resume), err.status("looking through the images") as status:
        found = sr.tune(
            source.model,
            training.loader(BATCH),
            validation.loader(usual_batch(validation)),
            target_loss,
            max_steps,
            measure,
            Limits(levels, binary, allow_waiting),
            [fitting(recipe, training) for recipe in recipes],
            engine,
            lambda what: status.update(f"trying {what}"),
            confidence,
            resume,
        )
    right = round(found.ann_accuracy * found.images)
    warn_of_guesses(right, found.images, images.classes, "validation", source.accuracy)
    given = {
        "--weights": weights, "--weights-key": weights_key, "--dataset": dataset, "--data": data,
        "--crop": crop, "--normalisation": normalisation,
        "--calibration-images": calibration_images, "--seed": seed,
    }  # fmt: skip
    typed = [str(part) for pair in given.items() if pair[1] is not None for part in pair]
    trial = found.winner or found.likely or found.nearest
    call = None if trial is None else conversion(trial, [model, *typed], data)
    show(tuning.blocks(found, call))
    if json_path is not None:
        facts = {
            "model": source.spec, "dataset": name, "split": "train", "seed": seed,
            "calibration_images": calibration_images, "convert": call,
            "command": command_line(ctx), "versions": versions(),
        }  # fmt: skip
        write_json(json_path, {**found.to_json(), **facts})
        say_wrote(json_path)
    if found.winner is None:
        raise typer.Exit(EXIT_SYSTEM)


def warn_of_few(images: int, target: float, confidence: float) -> None:
    """Warn where so few images cannot show a loss within the target, whatever they say."""
    least = least_images(target, confidence)
    if least is not None and images < least:
        warn(
            f"{images:,} validation images cannot show a loss of at most {target:g} points with "
            f"{100 * confidence:g} % confidence: take {least:,} or more --validation-images"
        )


def conversion(trial: Trial, typed: list[str], data: Path | None) -> str:
    """The commands that convert with a trial's method and evaluate it, or a call in Python."""
    arguments = arguments_of(trial.method)
    if arguments is None:
        return f"spiking_resnet.convert(model, images, {call_of(trial.method)})"
    more = [] if data is None else ["--data", str(data)]
    evaluate = ["spiking-resnet", "evaluate", "snn.safetensors", *more, "--steps", str(trial.steps)]
    convert = ["spiking-resnet", "convert", *typed, *arguments]
    return f"{shlex.join(convert)}\n{shlex.join(evaluate)}"


def call_of(method: Method) -> str:
    """A method as it is written in Python, without the options that have their defaults."""
    chosen = [(entry, getattr(method, entry.name)) for entry in fields(method)]
    given = [f"{entry.name}={value!r}" for entry, value in chosen if value != entry.default]
    return f"spiking_resnet.methods.{method.name}({', '.join(given)})"
