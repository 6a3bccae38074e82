"""Initialise a training from another network's weights: with thresholds for ReLUs, or deeper.

Source of growth that keeps the function: Chen et al. 2016 (Net2Net, arXiv 1511.05641); that a
block begins as the identity by a last BatchNorm of weight 0: Goyal et al. 2017 (1706.02677).
"""

import re
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

    def config(self, activation: Activation, levels: int, depth: int | None = None) -> ResNetConfig:
        """This network's architecture with these activations, at this depth; None: its own."""
        own = self.model.config
        return replace(own, activation=activation, levels=levels, depth=depth or own.depth)


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
    training images `data`, which the seed chooses; where that is 0 it is 1. A deeper model of ReLUs
    begins as the same function: its additional blocks give what they take. Raises
    CheckpointError where the two differ in more than these.
    """
    own, theirs = model.config, start.model.config
    same = replace(own, activation=theirs.activation, levels=theirs.levels, depth=theirs.depth)
    if same != theirs or own.depth < theirs.depth:
        raise CheckpointError(
            f"{start.facts['file']} holds {theirs}, which is not the architecture {own} that is to "
            "be trained: only activation and levels may differ, and it may be deeper"
        )
    if own.depth > theirs.depth:
        _grow(model, start)
        return
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
def _grow(model: ResNet, start: Start) -> None:
    """Give a deeper model the blocks of the start, evenly spread, with identities between them."""
    own, theirs = model.config, start.model.config
    if (own.activation, theirs.activation) != ("relu", "relu"):
        raise CheckpointError(
            f"{start.facts['file']} is a resnet{theirs.depth} of {theirs.activation}, the network "
            f"to be trained a resnet{own.depth} of {own.activation}: only ReLU networks become "
            "deeper; train that first, and quantise its activations afterwards"
        )
    last = "bn3" if own.block == "bottleneck" else "bn2"
    for stage in (model.layer1, model.layer2, model.layer3):
        for block in stage:
            nn.init.zeros_(block.get_parameter(f"{last}.weight"))

    def place(found: re.Match[str]) -> str:
        stage, block = found.groups()
        return f"{stage}.{int(block) * own.blocks_per_stage // theirs.blocks_per_stage}."

    state = start.model.state_dict()
    moved = {re.sub(r"^(layer\d)\.(\d+)\.", place, key): value for key, value in state.items()}
    model.load_state_dict(moved, strict=False)


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
