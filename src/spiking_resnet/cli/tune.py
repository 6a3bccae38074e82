"""The command `tune`: the cheapest method that keeps the accuracy, and how to convert with it."""

from dataclasses import dataclass
from typing import Annotated, cast, get_args

import typer

import spiking_resnet as sr
from spiking_resnet.cli import options
from spiking_resnet.cli.again import commands, typed_again
from spiking_resnet.cli.compare import LISTED
from spiking_resnet.cli.conversion import (
    BATCH,
    source_and_images,
    warn_of_guesses,
)
from spiking_resnet.cli.evaluate import set_threads, usual_batch
from spiking_resnet.cli.groups import Group, grouped
from spiking_resnet.cli.kept import keeping
from spiking_resnet.cli.outputs import say_wrote, write_json
from spiking_resnet.cli.provenance import command_line, versions
from spiking_resnet.cli.terminal import EXIT_SYSTEM, show, warn
from spiking_resnet.conversion.presets import chosen, fitting
from spiking_resnet.evaluation.trials import CONFIDENCE, Limits, Measure, least_images
from spiking_resnet.records import InputError
from spiking_resnet.report import tuning

VALIDATION = 2000  # images to try methods on

EPILOG = f"""
Examples:

  spiking-resnet tune digits_resnet8 --target-loss 0.5 --max-steps 16

  spiking-resnet tune resnet20 --weights r20.pt --dataset cifar10 \\
      --data DIR --binary --max-steps 64 --cost steps

Only images of the train split are used: a part to make methods on, another to try them on. A
method wins if these images show, with the confidence asked for, that it loses no more than allowed;
what they leave open is said. Losses on images that a network was trained on tend to be smaller than
on new ones: leave some room, and judge the winner with `evaluate`. The exit code is 1 where nothing
is certain to meet the target.

Methods:

{LISTED}
"""


@dataclass(frozen=True)
class TargetFlags(Group):
    """The flags of the target: the loss that is allowed, the cost measure, the neurons allowed."""

    target_loss: Annotated[
        float, typer.Option("--target-loss", help="Points of accuracy that may be lost.")
    ] = 0.5
    max_steps: Annotated[int, typer.Option("--max-steps", help="The most time steps.")] = 32
    cost: Annotated[
        str,
        typer.Option("--cost", help="What is cheap: operations (SynOps of an image), or steps."),
    ] = "operations"
    levels: Annotated[
        int | None,
        typer.Option(
            "--levels", help="The most levels of a spike in one step.", show_default="any"
        ),
    ] = None
    binary: Annotated[bool, typer.Option("--binary", help="Only spikes of 0 or 1.")] = False
    allow_waiting: Annotated[
        bool, typer.Option("--allow-waiting", help="Layer-serial neurons, too.")
    ] = False
    confidence: Annotated[
        float,
        typer.Option(
            "--confidence",
            help="That the loss is within the target, 0.5 to 1; of each trial by itself.",
        ),
    ] = CONFIDENCE

    @property
    def measure(self) -> Measure:
        """The cost that is minimised; InputError for an unknown one."""
        found = next((known for known in get_args(Measure) if known == self.cost), None)
        if found is None:
            raise InputError(f"--cost {self.cost!r}: use one of {', '.join(get_args(Measure))}")
        return cast(Measure, found)


@grouped
def tune(
    ctx: typer.Context,
    model: options.ModelFlags,
    images: options.ImageFlags,
    target: TargetFlags,
    methods: options.MethodsOption = "all",
    calibration_images: options.CalibrationImagesOption = 500,
    validation_images: Annotated[
        int | None,
        typer.Option(
            help="Other training images to try them on.", show_default=f"{VALIDATION}, or all"
        ),
    ] = None,
    seed: options.SeedOption = 0,
    engine: options.EngineOption = "auto",
    threads: options.ThreadsOption = None,
    resume: options.ResumeOption = None,
    json_path: options.JsonOption = None,
) -> None:
    """Find the cheapest method that loses no more than is allowed, on training images alone.

    Methods are tried at 1, 2, 4, ... time steps from cheap to dear, until
    nothing that is left can be cheaper; then the command that converts with
    the winner is printed.
    """
    recipes, measure = chosen(methods), target.measure
    set_threads(threads)
    outputs = {"--resume": resume, "--json": json_path}
    source, name, (found_images,) = source_and_images(model, images, seed, outputs, "train")
    if validation_images is None:
        validation_images = max(1, min(VALIDATION, len(found_images) - calibration_images))
    training, validation = found_images.parted(calibration_images, validation_images, seed)
    warn_of_few(len(validation), target.target_loss, target.confidence)
    with keeping(ctx, resume) as kept:
        found = sr.tune(
            source.model,
            training.loader(BATCH),
            validation.loader(usual_batch(validation)),
            target.target_loss,
            target.max_steps,
            measure,
            Limits(target.levels, target.binary, target.allow_waiting),
            [fitting(recipe, training.classes) for recipe in recipes],
            engine,
            confidence=target.confidence,
            resume=kept,
        )
    right = round(found.ann_accuracy * found.images)
    warn_of_guesses(right, found.images, found_images.classes, "validation", source.accuracy)
    trial = found.winner or found.likely or found.nearest
    call = None
    if trial is not None:
        typed = typed_again(model, images, calibration_images, seed)
        steps = trial.reading.latency or trial.steps
        call = commands(typed, trial.method, trial.recipe, images, steps)
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
