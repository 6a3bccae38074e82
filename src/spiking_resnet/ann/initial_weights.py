"""Initialise a training from another network's weights, with thresholds where it had ReLUs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet.ann.activation import QCFS, Activation
from spiking_resnet.ann.checkpoint import CheckpointError, load
from spiking_resnet.ann.images import ImageData, Normalisation
from spiking_resnet.ann.resnet import ResNet, ResNetConfig
from spiking_resnet.surroundings import evaluation_mode

_IMAGES, _BATCH = 256, 64
PERCENTILE = 97.0  # of a layer's activations: its threshold before training


@dataclass(frozen=True, eq=False)
class Start:
    """A trained network that another training begins with, and where it came from."""

    model: ResNet
    normalisation: Normalisation | None
    percentile: float  # of its activations: thresholds that it does not have
    facts: dict[str, Any]  # JSON-able: name and digest of its file; accuracy, command, seconds

    def config(self, activation: Activation, levels: int) -> ResNetConfig:
        """This network's architecture with these activations."""
        return replace(self.model.config, activation=activation, levels=levels)


def start_from(path: str | Path, percentile: float = PERCENTILE) -> Start:
    """The network in a file, to begin with; raises as `checkpoint.load` does.

    percentile: the lower it is the more is clipped, which training has to repair, and the more
    spikes a neuron fires.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile is {percentile}: it must lie in (0, 100]")
    loaded = load(path)
    facts = {
        "file": Path(path).name,
        "sha256": sha256(Path(path).read_bytes()).hexdigest(),
        "activation": loaded.config.activation,
        "accuracy": loaded.metadata.get("accuracy"),
        "command": loaded.metadata.get("command"),
        "seconds": loaded.metadata.get("seconds"),
        "from": loaded.metadata.get("from"),  # what that one had begun with
        "percentile": percentile,
    }
    return Start(loaded.model, loaded.normalisation, percentile, facts)


def begin(model: ResNet, start: Start, data: ImageData, seed: int) -> None:
    """Give `model` the weights and the BatchNorm statistics of the start.

    Thresholds that the start does not have become the percentile of its activations on some of the
    training images `data`, which the seed chooses; where that is 0 it is 1. Raises
    CheckpointError where the two differ in more than their activations.
    """
    own, theirs = model.config, start.model.config
    if replace(own, activation=theirs.activation, levels=theirs.levels) != theirs:
        raise CheckpointError(
            f"{start.facts['file']} holds {theirs}, which is not the architecture {own} that is to "
            "be trained: only activation and levels may differ"
        )
    if theirs.activation == own.activation:
        model.load_state_dict(start.model.state_dict())
        return
    state = {k: v for k, v in start.model.state_dict().items() if k in model.state_dict()}
    model.load_state_dict(state, strict=False)
    names = [name for name, module in model.named_modules() if isinstance(module, QCFS)]
    if names:
        images = data.subset(min(_IMAGES, len(data)), seed)
        batches = (part for part, _ in images.loader(_BATCH))
        found = percentiles(start.model, names, batches, start.percentile)
        with torch.no_grad():
            for name, value in found.items():
                model.get_parameter(f"{name}.threshold").fill_(value or 1.0)


@torch.no_grad()
def percentiles(
    model: nn.Module, names: Iterable[str], batches: Iterable[Tensor], percent: float
) -> dict[str, float]:
    """By module name, the percentile of what the module gives for all images of the batches."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: seen[name].append(output.flatten())

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in seen]
    try:
        with evaluation_mode(model):
            for images in batches:
                model(images)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, parts in seen.items():
        values = torch.cat(parts)
        place = max(1, round(percent / 100 * len(values)))
        found[name] = float(values.kthvalue(place).values)
    return found
