"""What a training writes: the state it goes on from, and what the weights' file says of it."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spiking_resnet.ann.checkpoint import CheckpointError, load
from spiking_resnet.ann.images import ImageData
from spiking_resnet.ann.recipe import TrainConfig
from spiking_resnet.ann.remarks import remark
from spiking_resnet.codec import ANY, Record
from spiking_resnet.environment import processor, threads, versions
from spiking_resnet.files import write_whole


@dataclass
class TrainingState(Record):
    """How far a training is. No generators: all draws are functions of (seed, epoch, step)."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the current one
    correct: int = 0  # of its images so far
    seen: int = 0
    latest_held_out: float | None = None
    best_held_out: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0  # of training, over all resumptions

    later = ANY


def state_path(out: Path) -> Path:
    """OUT.training: where the state of the training that makes `out` lies."""
    return out.with_name(out.name + ".training")


def write_state(path: Path, identity: dict[str, Any], content: dict[str, Any]) -> None:
    """Write the content and the identity of the training to the file."""
    whole = {"identity": json.dumps(identity, sort_keys=True), **content}
    # Through memory: torch's own file writer reports a full disk as a RuntimeError.
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    write_whole(path, buffer.getvalue())


def read_state(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The content written by `write_state` for a training of the same identity.

    Raises CheckpointError for a damaged file and for one of another training.
    """
    start_over = (
        "start over with --no-resume (resume=False) or --overwrite, or choose another --out"
    )
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        stored = json.loads(content["identity"])
    except Exception as error:  # torch raises many types for damaged files
        raise CheckpointError(f"{path}: damaged state of a training; {start_over}") from error
    if "images" in identity and "images" not in stored:
        remark(
            f"{path} was written before all images were hashed: whether they are still the same is "
            "not checked this once"
        )
        stored["images"] = identity["images"]
    if different := differences(stored, identity):
        raise CheckpointError(
            f"{path}: the state of a training with other settings: {different}; repeat those "
            f"settings to go on, or {start_over}"
        )
    return content


def differences(stored: dict[str, Any], identity: dict[str, Any]) -> str:
    """What a training's stored identity has otherwise than this one; empty where nothing."""
    wanted = json.loads(json.dumps(identity))
    return ", ".join(
        f"{key} {stored.get(key)!r} (now {wanted.get(key)!r})"
        for key in sorted({*stored, *wanted})
        if stored.get(key) != wanted.get(key)
    )


@dataclass(frozen=True)
class Occupant:
    """What lies where a training is to write its result.

    metadata: what the file says of itself; empty for one that no training wrote. other: what its
    training had otherwise than the one that is to be.
    """

    metadata: dict[str, Any]
    other: str

    @property
    def unfinished(self) -> bool:
        """Whether it is what a training under way has reached so far."""
        return self.metadata.get("finished") is False

    @property
    def result(self) -> bool:
        """Whether it is what the training that is to be would give."""
        return bool(self.metadata) and not self.unfinished and not self.other


def occupant(out: Path, identity: dict[str, Any]) -> Occupant | None:
    """What lies at `out`, for a training of this identity; None where nothing does."""
    if not out.exists():
        return None
    try:
        found = load(out).metadata
        # files of old versions say only which data set it was
        data = found.get("data", [found["dataset"], *identity["data"][1:]])
        images = found.get("images", identity["images"])
        normalisation = found["normalisation"]
        stored = {
            **found["training"], "data": data, "images": images, "normalisation": normalisation
        }  # fmt: skip
    except (CheckpointError, KeyError):
        return Occupant({}, "no training wrote it")
    stored |= {key: found[key] for key in ("from", "teacher", "processes") if key in found}
    return Occupant(found, differences(stored, identity))


def describe(
    config: TrainConfig,
    data: ImageData,
    state: TrainingState,
    device: torch.device,
    test_accuracy: float | None,
) -> dict[str, Any]:
    """What a file of weights says about its training; test accuracy None means unfinished."""
    kept = "running average of weights" if config.rules.average else "weights"
    how = f"best on {config.held_out} held-out training images" if config.held_out else "last epoch"
    return {
        "dataset": data.name,
        "training_images": len(data),
        "normalisation": data.normalisation.to_json(),
        "recipe": config.recipe,
        "training": config.identity(),
        "command": config.command or "spiking_resnet.ann.train, see training",
        "seed": config.seed,
        "accuracy": test_accuracy,
        "held_out_accuracy": state.best_held_out,
        "selection": f"{kept}, {how}; never the test set",
        "epoch": state.best_epoch,
        "finished": test_accuracy is not None,
        "versions": versions("python", "torch", "spiking-resnet", "torchvision"),
        "hardware": _hardware(device),
        "seconds": round(state.seconds, 1),
    }


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {threads()}"
