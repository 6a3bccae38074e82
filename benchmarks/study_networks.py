"""Networks for `spiking-resnet reproduce study`: functions without arguments that return a module.

    spiking-resnet reproduce study imagenet --data DIR --calibrate DIR/imagenet/one_per_class \
        --judge DIR/imagenet/contest --networks \
        resnet18=benchmarks/study_networks.py:resnet18,resnet50=benchmarks/study_networks.py:resnet50
    spiking-resnet reproduce study cifar100 --data DIR --normalisation cifar100 --networks \
        cifar100_resnet32,resnet34=benchmarks/study_networks.py:cifar100_resnet34

DIR also stands in the environment variable SPIKING_RESNET_DATA, and holds weights/*.pt. ResNet-18
and ResNet-50 are torchvision's modules, with weights that others stored as indices into codebooks
(product quantisation); the CIFAR-100 network came with its BatchNorm folded into convolutions.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models


def resnet18():
    """ImageNet's ResNet-18 of torchvision."""
    return decoded(models.resnet18(), "imagenet_resnet18_pq_small_pqf.pt")


def resnet50():
    """ImageNet's ResNet-50 of torchvision."""
    return decoded(models.resnet50(), "imagenet_resnet50_pq_large_pqf.pt")


def cifar100_resnet34():
    """A network of [3, 4, 6, 3] blocks, 16 to 128 channels, for images of 32 pixels."""
    state = stored("cifar100_resnet34_fheon.pt")
    network = Folded(state)
    network.load_state_dict(state)
    return network.eval()


def stored(name):
    """The tensors of a file of weights."""
    root = os.environ.get("SPIKING_RESNET_DATA")
    if root is None:
        raise SystemExit("set SPIKING_RESNET_DATA to the folder that holds weights/")
    found = torch.load(Path(root, "weights", name), weights_only=True, map_location="cpu")
    return {key: value.float() if value.is_floating_point() else value
            for key, value in found.items()}  # fmt: skip


def decoded(network, name):
    """The network with weights whose rows are joined from the words of a codebook."""
    state, found = network.state_dict(), stored(name)
    for key, value in found.items():
        layer, _, kind = key.rpartition(".")
        if kind == "codes":
            words: Tensor = found[f"{layer}.codebook"][value.long()]
            state[f"{layer}.weight"] = words.reshape(state[f"{layer}.weight"].shape)
        elif kind != "codebook":
            state[key] = value.reshape(state[key].shape)
    for module in network.modules():  # scale and shift are all that was kept of BatchNorm
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    kept = {key: value for key, value in state.items() if "running" not in key}
    network.load_state_dict(kept, strict=False)
    return network.eval()


class Block(nn.Module):
    """Two convolutions beside a shortcut, with a convolution where the size changes."""

    def __init__(self, weights, prefix):
        super().__init__()
        outputs, inputs = weights[f"{prefix}.conv1.weight"].shape[:2]
        projected = f"{prefix}.shortcut.weight" in weights
        stride = 2 if projected else 1
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if projected else nn.Identity()

    def forward(self, x):
        """What the next block reads."""
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class Folded(nn.Module):
    """A ResNet without BatchNorm, its layers named as in a file of weights."""

    def __init__(self, weights):
        super().__init__()
        outputs, inputs = weights["conv1.weight"].shape[:2]
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1)
        names = sorted({".".join(key.split(".")[:2]) for key in weights if key[:5] == "layer"})
        for stage in dict.fromkeys(name.partition(".")[0] for name in names):
            own = [name for name in names if name.startswith(f"{stage}.")]
            self.add_module(stage, nn.Sequential(*(Block(weights, name) for name in own)))
        self.stages = [name for name, _ in self.named_children() if name.startswith("layer")]
        self.fc = nn.Linear(*reversed(weights["fc.weight"].shape))

    def forward(self, x):
        """Logits [N, 100]."""
        x = torch.relu(self.conv1(x))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.fc(x.mean((2, 3)))
