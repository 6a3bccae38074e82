"""Training of source networks: resumed to the bit, and the test set chooses nothing."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spiking_resnet.ann.checkpoint import CheckpointError, load, save
from spiking_resnet.ann.images import ImageData
from spiking_resnet.ann.initial_weights import PERCENTILE, Start, start_from
from spiking_resnet.ann.pixels import DataError
from spiking_resnet.ann.recipe import RECIPES, Recipe, TrainConfig
from spiking_resnet.ann.training_run import Run, TrainError, TrainProgress, accuracy
from spiking_resnet.ann.training_state import Occupant, occupant, read_state, state_path
from spiking_resnet.files import held
from spiking_resnet.processes.training import Processes
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
    """What a training gave; accuracies in 0..1. repeated: it was finished already."""

    path: Path
    accuracy: float  # on the test set, of the weights in the file
    held_out_accuracy: float | None
    selection: str
    epochs: int
    seconds: float
    repeated: bool = False


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
    overwrite: bool = False,
) -> TrainResult:
    """The accuracy of a newly trained network, whose weights and metadata are then in `out`.

    While it runs, OUT.training beside `out` holds the whole state after every epoch and whenever
    that costs little, and `out` the best weights so far. Killed at any moment and called again with
    the same arguments, it goes on there and ends with the same weights bit for bit (same device,
    same number of threads); `resume` False starts over. Called again once it is finished it does
    nothing: the result says `repeated`. Other files at `out` are not replaced unless `overwrite`
    says so, and stay until the training is finished: the best weights so far are beside it then.
    The test set chooses nothing: it is looked at once, at the end. `progress` is called after
    every step (on CUDA every 25). start: the trained network to begin with (`start_from`), whose
    activations may be others; None: random weights. teacher: a trained network of
    the same classes whose opinion of every whole image is most of what is learnt (distillation).
    processes: those that train together (`processes.joined`); every batch is shared among them,
    and the first writes the files.

    Raises TrainError where the loss or a weight is no longer finite (the last good weights are
    kept), DataError for unusable data, CheckpointError for a file at `out` that would be replaced,
    BusyError where another process trains it, OSError where a file cannot be written, ValueError
    for a network that torch cannot train on this processor.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"out must end in .safetensors, got {out}")
    _check(config, train_data, test_data, teacher)
    _check_shares(config, train_data, processes)
    run = Run(config, train_data, out, start, teacher, processes)
    _check_kernels(run.model, run.device)
    with held(out if processes.first else None):
        there = occupant(out, run.identity)
        if there is not None and there.result and not overwrite:
            processes.wait()  # all have read it
            return _repeated(run, there.metadata)
        free = there is None or (there.unfinished and not (there.other and resume))
        state = _kept_state(run, resume, overwrite)
        if there is not None and not free:
            _refuse(out, there, overwrite)
            run.best_path = _beside(out)
        processes.wait()
        if state is not None:
            run.restore(state)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            while run.state.epoch < config.total_epochs:
                run.epoch(progress)
        return _finish(run, test_data)


def _kept_state(run: Run, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """The state to go on from; CheckpointError for one of another training, which would be lost."""
    path = state_path(run.out)
    if not resume or not path.is_file():
        return None
    try:
        return read_state(path, run.identity)
    except CheckpointError:
        if overwrite:
            return None
        raise


def _refuse(out: Path, there: Occupant, overwrite: bool) -> None:
    """Raise CheckpointError for a file that would be replaced though nobody said so."""
    if not overwrite:
        raise CheckpointError(
            f"{out} is there already, and would be replaced ({there.other or 'unfinished'}): "
            "choose another --out, or say --overwrite (overwrite=True)"
        )


def _repeated(run: Run, metadata: dict[str, Any]) -> TrainResult:
    """The result of a training that was finished before; what it may have left is removed."""
    if run.processes.first:
        _clear(run.out)
    return TrainResult(
        run.out, metadata["accuracy"], metadata["held_out_accuracy"], metadata["selection"],
        run.config.total_epochs, metadata["seconds"], repeated=True,
    )  # fmt: skip


def _clear(out: Path) -> None:
    """Remove a finished training's state, and its weights beside `out`."""
    state_path(out).unlink(missing_ok=True)
    _beside(out).unlink(missing_ok=True)


def _beside(out: Path) -> Path:
    """Where the best weights so far are while another file is at `out`."""
    return out.with_name(f"{out.stem}.new{out.suffix}")


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
        save(run.best_path, run.kept_model, run.metadata(None), run.config.half)
    run.processes.wait()
    # killed when they had taken the name already, they are there
    best = run.best_path if run.best_path.is_file() else run.out
    model = load(best).model.to(run.device)  # measured as a user will load it
    measured = accuracy(model, test_data, run.device)
    metadata = {**run.metadata(measured), "test_images": len(test_data)}
    run.processes.wait()  # all have read the file
    if first:
        save(run.out, model, metadata, run.config.half)
        _clear(run.out)
    return TrainResult(
        run.out, measured, run.state.best_held_out, metadata["selection"], run.state.epoch,
        run.state.seconds,
    )  # fmt: skip
