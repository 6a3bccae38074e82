"""The command `models`: the networks that come with the package."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from spiking_resnet import ann
from spiking_resnet.ann.checkpoint import LoadedNetwork
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.train import accuracy
from spiking_resnet.cli import options
from spiking_resnet.cli.outputs import check_outputs, standard, write_json
from spiking_resnet.cli.terminal import out, say, show
from spiking_resnet.report import models as report
from spiking_resnet.report.terminal import page
from spiking_resnet.report.write import write

EPILOG = """
Examples:

  spiking-resnet models

  spiking-resnet models digits_resnet8

  spiking-resnet models --measure --data DIR

  spiking-resnet convert digits_resnet8 --out snn.safetensors
"""


def models(
    name: Annotated[
        str | None, typer.Argument(help="One of them, for its card.", show_default=False)
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="All facts.", show_default=False)
    ] = None,
    cards: Annotated[
        Path | None, typer.Option(help="All cards, as Markdown.", show_default=False)
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the accuracy again, on all test images.")
    ] = False,
    data: options.DataOption = None,
    download: options.DownloadOption = False,
) -> None:
    """List the trained networks that come with the package, or show the card of one.

    A card says on what data, by which command, how long and with which
    versions a network was trained, and how good it is.
    """
    check_outputs({"--json": json_path, "--cards": cards})
    names = ann.pretrained_names() if name is None else (name,)
    networks = {each: ann.pretrained(each) for each in names}
    measured = {
        each: _measured(found, data, download) for each, found in networks.items() if measure
    }
    if name is None:
        show((report.table(networks, measured),))
    else:
        page(report.card(name, networks[name]), out)
        for each, (share, images) in measured.items():
            say(f"{each}: measured {100 * share:.2f} % of {images:,} test images")
    if json_path is not None:
        content = {each: dict(found.metadata) for each, found in networks.items()}
        for each, (share, images) in measured.items():
            content[each]["measured"] = {"accuracy": share, "images": images}
        write_json(json_path, content)
        say(f"wrote {json_path}")
    if cards is not None:
        write(report.cards(networks), standard(cards), usual=".md")
        say(f"wrote {cards}")


def _measured(found: LoadedNetwork, data: Path | None, download: bool) -> tuple[float, int]:
    """The accuracy (0..1) of a network on its whole test set, and the number of images."""
    images = load_dataset(found.metadata["dataset"], "test", data, download)
    own = found.normalisation or images.normalisation
    test = replace(images, normalisation=own)
    return accuracy(found.model, test, torch.device("cpu")), len(test)
