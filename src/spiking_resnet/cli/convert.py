"""The command `convert`: from a trained network to a file with a spiking one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.cli import options
from spiking_resnet.cli.conversion import (
    Choice,
    converted,
    said_by,
    source_and_images,
    store,
)
from spiking_resnet.cli.groups import Group, grouped
from spiking_resnet.cli.method import MethodCommand, MethodFlags
from spiking_resnet.cli.provenance import command_line
from spiking_resnet.cli.terminal import say, show
from spiking_resnet.conversion.presets import fitting
from spiking_resnet.report import conversion

EPILOG = """
Examples:

  spiking-resnet convert digits_resnet8 --out snn.safetensors

  spiking-resnet convert resnet20 --weights resnet20.safetensors \\
      --data DIR --out snn.safetensors

  spiking-resnet convert torchvision:resnet34 --weights default \\
      --dataset imagenet --data DIR --per-class 5

  spiking-resnet convert my_network.py:build --weights mine.pt \\
      --dataset train.npz --normalisation 0.5/0.25

  spiking-resnet convert model.onnx --dataset DIR --normalisation pixels
  (a network of Keras whose first layer is a Rescaling)

  spiking-resnet convert resnet20 --weights r20.pt --dataset cifar10 \\
      --compensation search

Next: spiking-resnet evaluate snn.safetensors
"""
COMMAND = MethodCommand
_DATA = "Calibration images"  # a panel of the help


@dataclass(frozen=True)
class CalibrationFlags(Group):
    """Which images of the data set calibrate."""

    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="Which images of the data set calibrate: train, never those that judge later.",
            rich_help_panel=_DATA,
        ),
    ] = "train"
    calibration_images: Annotated[
        int,
        typer.Option("--calibration-images", help="How many, by --seed.", rich_help_panel=_DATA),
    ] = Choice.images
    per_class: Annotated[
        int | None,
        typer.Option(
            "--per-class",
            help="So many of each class instead (the paper, on ImageNet: 5).",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None


@grouped
def convert(
    ctx: typer.Context,
    model: options.ModelFlags,
    images: options.ImageFlags,
    calibration: CalibrationFlags,
    method: MethodFlags,
    out_path: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path(
        "snn.safetensors"
    ),
    seed: options.SeedOption = 0,
) -> None:
    """Turn a trained network into a spiking one, calibrated on training images.

    MODEL is never changed. The file holds the spiking network, the network
    it came from, and what `evaluate` needs to know (data set, normalisation).
    """
    chosen, split = method.chosen(seed), calibration.split
    source, name, (found,) = source_and_images(model, images, seed, {"--out": out_path}, split)
    choice = Choice(calibration.calibration_images, calibration.per_class, seed, split)
    origin = said_by(source, found.name, images.wanted)
    chosen = fitting(chosen, found.classes, method.given)
    graph = converted(source, name, found, chosen, choice, command_line(ctx), origin)
    store(graph, out_path)
    show(conversion.blocks(graph))
    where = "" if images.data is None else f" --data {images.data}"
    say(f"wrote {out_path}; next: spiking-resnet evaluate {out_path}{where}")
