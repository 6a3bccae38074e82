"""The provenance that results record: command line, versions, digests of files."""

import hashlib
import shlex
from pathlib import Path

import torch
import typer

from spiking_resnet import environment
from spiking_resnet.ann.contents import content_hash
from spiking_resnet.ann.images import ImageData
from spiking_resnet.cli.context import arguments
from spiking_resnet.progress import shown


def command_line(ctx: typer.Context) -> str:
    """What the user typed, ready to be typed again."""
    return shlex.join(["spiking-resnet", *arguments(ctx)])


def shared_command_line(ctx: typer.Context) -> str:
    """`command_line` for files that are passed on: no folders of this machine, DIR for the data."""
    told, option = ["spiking-resnet"], ""
    for token in arguments(ctx):
        named, equals, value = token.partition("=")
        if token.startswith("--") and not equals:
            option, shown = token, token
        elif token.startswith("--"):
            shown = f"{named}={_without_folders(named, value)}"
        else:
            shown = _without_folders(option, token)
        told.append(shown)
    return shlex.join(told)


def _without_folders(option: str, value: str) -> str:
    if option == "--data":
        return "DIR"
    return Path(value).name if option in ("--out", "--from", "--teacher", "--dataset") else value


def versions() -> dict[str, str]:
    """The versions of the packages that results may depend on."""
    return environment.versions("spiking-resnet", "torch", "torchvision", "numpy", "python")


def file_facts(path: Path) -> dict[str, str]:
    """A file's base name and SHA-256."""
    with open(path, "rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def fingerprint(data: ImageData) -> str:
    """A hash of a set's labels and of some of its images: enough to know a set again by."""
    some = torch.linspace(0, len(data) - 1, 16, dtype=torch.float32).long().unique()
    content = hashlib.sha256(data.labels.numpy().tobytes())
    content.update(data.pixels(some).contiguous().numpy().tobytes())
    return content.hexdigest()


def all_images(data: ImageData) -> str:
    """A hash of every image and label of a set, with what it is: for what may go on later."""
    with shown(True, "hashing images", len(data)) as bar:
        hashed = content_hash(data, lambda done, _: bar.images(done))
    return f"all {len(data)} images: {hashed}"
