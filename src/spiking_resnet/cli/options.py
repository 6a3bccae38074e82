"""Command-line options that several commands share, and the parsing of their texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from spiking_resnet.ann.data import DATASETS, NORMALISATIONS, normalisation_named
from spiking_resnet.ann.images import Normalisation
from spiking_resnet.ann.pixels import INTERPOLATIONS, Framing
from spiking_resnet.cli.groups import Group
from spiking_resnet.cli.networks import PUBLISHED, SHIPPED, Network, file_of, network
from spiking_resnet.cli.terminal import warn
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.evaluation.evaluate import STEPS
from spiking_resnet.records import InputError

DEFAULT_STEPS = ",".join(str(step) for step in STEPS)
PATH_OF_SET = "or the path of an .npz file or a folder of images"

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="resnet20 (8, 32, 44, 56, 110), a shipped network (spiking-resnet models), "
        "torchvision:NAME, timm:NAME, path/to/file.py:function, or path/to/model.onnx.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        show_default=False,
        help=f"File of weights; {SHIPPED!r}: what comes with the package; {PUBLISHED!r} or a name: "
        "what torchvision or timm publish.",
    ),
]
WeightsKeyOption = Annotated[
    str | None,
    typer.Option(
        "--weights-key",
        show_default=False,
        help="Which weights of a file that holds several, such as model_ema.",
    ),
]
MethodsOption = Annotated[
    str, typer.Option("--methods", help="Names from the list below, by commas; or all.")
]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", help=f"{', '.join(DATASETS)}, {PATH_OF_SET}.", show_default=False),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Folder of the named data sets (or set SPIKING_RESNET_DATA).",
        show_default=False,
    ),
]  # fmt: skip
DownloadOption = Annotated[bool, typer.Option(help="Let torchvision download a missing data set.")]
NormalisationOption = Annotated[
    str | None,
    typer.Option(
        "--normalisation", show_default=False,
        help=f"{', '.join(NORMALISATIONS)}, or mean,mean,mean/std,std,std of pixels in 0..1.",
    ),
]  # fmt: skip
CropOption = Annotated[
    str | None,
    typer.Option(
        "--crop", show_default=False,
        help="Of image files: RESIZE/CROP or RESIZE/CROP/INTERPOLATION, as 256/224/bicubic.",
    ),
]  # fmt: skip
SplitOption = Annotated[
    str,
    typer.Option(
        "--split",
        help="Which images of the data set: test, or train (networks look better than they are on "
        "images that they were trained or calibrated on).",
    ),
]
OwnStepsOption = Annotated[
    str | None,
    typer.Option(
        "--steps",
        help="Time steps at which accuracy is read out.",
        show_default=f"{DEFAULT_STEPS}; the one T of a network made for it",
    ),
]
StepsOption = Annotated[
    str, typer.Option("--steps", help="Time steps at which accuracy is read out.")
]
EngineOption = Annotated[str, typer.Option("--engine", help=f"auto, {', '.join(ENGINES)}.")]
BatchSizeOption = Annotated[
    int | None, typer.Option("--batch-size", help="Images at once.", show_default="64, large: 8")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="CPU threads.", show_default="all")
]
CalibrationImagesOption = Annotated[
    int,
    typer.Option("--calibration-images", help="Training images to calibrate on, by --seed."),
]
ModelsOption = Annotated[
    str, typer.Option("--models", help="Cost models of energy, by commas; or all.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Results with all facts.", show_default=False)
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="A figure: .png, .svg or .pdf.", show_default=False)
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        help="File that keeps what is done: stopped at any moment, the same command goes on.",
        show_default=False,
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or cuda:N.")]
SeedOption = Annotated[int, typer.Option(help="Chooses the images, and all random draws.")]


@dataclass(frozen=True)
class ModelFlags(Group):
    """The network to convert, and its weights."""

    model: ModelArgument
    weights: WeightsOption = None
    weights_key: WeightsKeyOption = None

    @property
    def files(self) -> dict[str, str | Path | None]:
        """The files that are read, by what the user calls them."""
        return {"the network": file_of(self.model), "--weights": self.weights}

    def load(self, seed: int, dataset: str | None) -> Network:
        """The network, with what is to be said of it said."""
        source = network(self.model, self.weights, seed, dataset=dataset, key=self.weights_key)
        if source.remark:
            warn(source.remark)
        return source


@dataclass(frozen=True)
class ImageFlags(Group):
    """A data set, and what is done to its images. InputError for what cannot be done to them."""

    dataset: DatasetOption = None
    data: DataOption = None
    download: DownloadOption = False
    normalisation: NormalisationOption = None
    crop: CropOption = None

    def __post_init__(self) -> None:
        _ = self.wanted, self.framing

    @property
    def wanted(self) -> Normalisation | None:
        """The normalisation that is asked for."""
        return parse_normalisation(self.normalisation)

    @property
    def framing(self) -> Framing | None:
        """The framing that is asked for."""
        return parse_crop(self.crop)


def parse_steps(text: str) -> tuple[int, ...]:
    """The ascending numbers of time steps in a list such as "8,16,32"."""
    try:
        steps = {int(part) for part in text.split(",")}
    except ValueError:
        raise InputError(
            f"--steps {text!r} is no list of numbers: write it like {DEFAULT_STEPS}"
        ) from None
    if min(steps) < 1:
        raise InputError(f"--steps {text!r}: every number of time steps is at least 1")
    return tuple(sorted(steps))


def parse_normalisation(text: str | None) -> Normalisation | None:
    """The normalisation of a preset's name or of "mean,mean,mean/std,std,std"."""
    if text is None:
        return None
    if "/" not in text:
        return normalisation_named(text)
    try:
        mean, std = (tuple(float(part) for part in side.split(",")) for side in text.split("/"))
    except ValueError:
        raise InputError(
            f"--normalisation {text!r}: write a preset ({', '.join(NORMALISATIONS)}) or numbers "
            "like 0.49,0.48,0.45/0.20,0.20,0.20"
        ) from None
    return Normalisation(mean, std)


def parse_crop(text: str | None) -> Framing | None:
    """What "256/224" or "256/224/bicubic" does to image files."""
    if text is None:
        return None
    resize, _, rest = text.partition("/")
    crop, _, interpolation = rest.partition("/")
    try:
        sizes = int(resize), int(crop)
    except ValueError:
        raise InputError(
            f"--crop {text!r}: write the shortest side and the central square, like 256/224, and "
            f"an interpolation if you like ({', '.join(INTERPOLATIONS)})"
        ) from None
    return Framing(*sizes, interpolation or Framing.interpolation)


def check_device(name: str) -> torch.device:
    """The device of this name; InputError where there is none."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name!r}: use cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name!r}: use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {name}: there are {torch.cuda.device_count()} CUDA devices here; use cpu"
        )
    return device
