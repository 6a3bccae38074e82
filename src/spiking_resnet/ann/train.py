"""Training of source networks: resumed to the bit, and the test set chooses nothing."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spiking_resnet.ann.checkpoint import load, save
from spiking_resnet.ann.images import ImageData
from spiking_resnet.ann.pixels import DataError
from spiking_resnet.ann.processes import Processes
from spiking_resnet.ann.recipe import RECIPES, Recipe, TrainConfig
from spiking_resnet.ann.start import PERCENTILE, Start, start_from
from spiking_resnet.ann.training_run import Run, TrainError, TrainProgress, accuracy
from spiking_resnet.ann.training_state import read_state, state_path
from spiking_resnet.surroundings import TRAINING

__all__ = [
    "PERCENTILE",
    "RECIPES",
    "Recipe",
    "Start",
    "TrainConfig",
    "TrainError",
    "TrainProgress",
    "TrainResult",
    "accuracy",
    "start_from",
    "train",
]


@dataclass(frozen=True)
class TrainResult:
    """What a training gave; accuracies in 0..1."""

    path: Path
    accuracy: float  # on the test set, of the weights in the file
    held_out_accuracy: float | None
    selection: str
    epochs: int
    seconds: float


@TRAINING.entered()
def train(
    config: TrainConfig,
    train_data: ImageData,
    test_data: ImageData,
    out: str | Path,
    resume: bool = True,
    progress: Callable[[TrainProgress], None] | None = None,
    start: Start | None = None,
    teacher: Start | None = None,
    processes: Processes = Processes(),  # noqa: B008 - frozen
) -> TrainResult:
    """The accuracy of a newly trained network, whose weights and metadata are then in `out`.

    While it runs, OUT.training beside `out` holds the whole state after every epoch (and minute).
    Killed at any moment and called again with the same arguments, it goes on there and ends with
    the same weights bit for bit (same device, same number of threads); `resume` False starts over.
    The test set chooses nothing: it is looked at once, at the end. `progress` is called after
    every step (on CUDA every 25). start: the trained network to begin with (`start_from`), whose
    activations may be others; None: random weights. teacher: a trained network of
    the same classes whose opinion of every whole image is most of what is learnt (distillation).
    processes: those that train together (`processes.joined`); every batch is shared among them,
    and the first writes the files.

    Raises TrainError where the loss or a weight is no longer finite (`out` and OUT.training keep
    the last good weights), DataError for unusable data, OSError where a file cannot be written,
    ValueError for a network that torch cannot train on this processor.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"out must end in .safetensors, got {out}")
    _check(config, train_data, test_data, teacher)
    _check_shares(config, train_data, processes)
    run = Run(config, train_data, out, start, teacher, processes)
    _check_kernels(run.model, run.device)
    path = state_path(out)
    if not resume and processes.first:
        path.unlink(missing_ok=True)
    processes.wait()
    if path.is_file():
        run.restore(read_state(path, run.identity))
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        while run.state.epoch < config.total_epochs:
            run.epoch(progress)
    return _finish(run, test_data)


def _check(
    config: TrainConfig, train_data: ImageData, test_data: ImageData, teacher: Start | None
) -> None:
    model = config.model
    if teacher is not None:
        theirs = teacher.model.config
        if (theirs.in_channels, theirs.classes) != (model.in_channels, model.classes):
            raise DataError(
                f"the teacher {teacher.facts['file']} takes {theirs.in_channels} channels and "
                f"knows {theirs.classes} classes, the network to be trained {model.in_channels} "
                f"and {model.classes}: take a teacher trained on the same data set"
            )
    if torch.device(config.device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {config.device}: there is no CUDA device here; use cpu")
    for data in (train_data, test_data):
        if data.channels != model.in_channels or data.classes > model.classes:
            raise DataError(
                f"{data.name} ({data.split}) has {data.channels} channels and {data.classes} "
                f"classes, the network takes {model.in_channels} and {model.classes}: build it for "
                "this data set"
            )
    if config.held_out >= len(train_data):
        raise DataError(
            f"held_out {config.held_out} leaves nothing to train on of {len(train_data)} images"
        )


def _check_kernels(model: nn.Module, device: torch.device) -> None:
    """ValueError for a convolution whose gradient by weights corrupts memory (oneDNN, AVX2)."""
    limit, avx2 = "ONEDNN_MAX_CPU_ISA", torch.backends.cpu.get_cpu_capability() == "AVX2"
    if device.type != "cpu" or not avx2 or os.environ.get(limit) in ("SSE41", "AVX"):
        return
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or module.in_channels >= 8:
            continue
        if module.kernel_size == (1, 1) and max(module.stride) > 1:
            raise ValueError(
                f"{name}: torch corrupts memory when it trains 1x1 convolutions with stride "
                f"{module.stride[0]} and {module.in_channels} input channels on this processor "
                f"(AVX2): take a width of 8 or more, another shortcut, or set {limit}=AVX"
            )


def _check_shares(config: TrainConfig, data: ImageData, processes: Processes) -> None:
    rest = (len(data) - config.held_out) % config.images_per_step
    smallest = min(config.images_per_step, rest or config.images_per_step)
    if smallest < processes.count:
        raise DataError(
            f"{processes.count} processes share a batch of {smallest} images: choose another "
            "batch size, or fewer processes"
        )


def _finish(run: Run, test_data: ImageData) -> TrainResult:
    """The result of a run whose epochs are over; the file gets the test accuracy."""
    first = run.processes.first
    if run.held_out is None and first:  # the last epoch's; else what was best lies there already
        save(run.out, run.kept_model, run.metadata(None), run.config.half)
    run.processes.wait()
    model = load(run.out).model.to(run.device)  # measured as a user will load it
    measured = accuracy(model, test_data, run.device)
    metadata = {**run.metadata(measured), "test_images": len(test_data)}
    run.processes.wait()  # all have read the file
    if first:
        save(run.out, model, metadata, run.config.half)
        state_path(run.out).unlink(missing_ok=True)
    return TrainResult(
        run.out, measured, run.state.best_held_out, metadata["selection"], run.state.epoch,
        run.state.seconds,
    )  # fmt: skip
