"""The 6n+2 (basic) and 9n+2 (bottleneck) residual networks for small images.

Sources: He et al. 2015 (arXiv 1512.03385, section 4.2) for the family and the option A and B
shortcuts; Hu, Tang, Pan (arXiv 1805.01352) for the "paper" shortcuts; He et al. 2018 (arXiv
1812.01187, ResNet-D) for the averages of "paper-average".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from spiking_resnet.ann.activation import Activation, activation
from spiking_resnet.codec import ANY, Record

Block = Literal["basic", "bottleneck"]
Shortcut = Literal["paper", "paper-average", "A", "B"]
ReluAfterSum = Literal["every", "stage"]

NAMES = ("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
STAGES = 3
DEEPEST = 1202  # the deepest network of the source
BOTTLENECK_EXPANSION = 4
_CONVOLUTIONS_PER_BLOCK = {"basic": 2, "bottleneck": 3}


@dataclass(frozen=True)
class ResNetConfig(Record):
    """Everything a `ResNet` is rebuilt from; plain values, so it goes into JSON and back.

    Raises ValueError, naming the field, for values that describe no network.
    What JSON leaves out has its default.
    """

    depth: int = 20  # layers with weights: 6n+2 (basic) or 9n+2 (bottleneck)
    classes: int = 10
    in_channels: int = 3
    width: int = 16  # channels of the first stage; the others have 2 and 4 times as many
    block: Block = "basic"
    shortcut: Shortcut = "paper"
    stem_width: int = 0  # channels of the first convolution; 0 becomes `width`
    relu_after_sum: ReluAfterSum = "every"  # "stage": only after the last sum of a stage
    pool_grid: int = 1  # the last map is averaged to this many cells a side; 1 is global
    activation: Activation = "relu"
    levels: int = 8  # of "qcfs": the steps between 0 and its threshold

    later = ANY

    def __post_init__(self) -> None:
        if self.stem_width == 0:
            object.__setattr__(self, "stem_width", self.width)
        for field, least in (("classes", 1), ("in_channels", 1), ("width", 1),
                             ("stem_width", 1), ("pool_grid", 1), ("levels", 1)):  # fmt: skip
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, got {getattr(self, field)}")
        for field, kinds in (("block", Block), ("shortcut", Shortcut),
                             ("relu_after_sum", ReluAfterSum),
                             ("activation", Activation)):  # fmt: skip
            choices = get_args(kinds)
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"{field} must be one of {', '.join(choices)}, got {getattr(self, field)!r}"
                )
        per_unit = STAGES * _CONVOLUTIONS_PER_BLOCK[self.block]
        if self.depth < per_unit + 2 or (self.depth - 2) % per_unit:
            raise ValueError(
                f"depth of a {self.block} network is {per_unit}n+2 "
                f"({per_unit + 2}, {2 * per_unit + 2}, ...), got {self.depth}"
            )
        if self.depth > DEEPEST:
            raise ValueError(f"depth is at most {DEEPEST}, got {self.depth}")
        if self.shortcut == "A" and self.stem_width > self.width * self.expansion:
            raise ValueError(
                f"shortcut A can add channels but not drop them: stem_width {self.stem_width} is "
                f"more than the first stage's {self.width * self.expansion}; use shortcut B"
            )

    @property
    def expansion(self) -> int:
        """Output channels of a block over the stage's width."""
        return BOTTLENECK_EXPANSION if self.block == "bottleneck" else 1

    @property
    def blocks_per_stage(self) -> int:
        """The n of 6n+2 or 9n+2."""
        return (self.depth - 2) // (STAGES * _CONVOLUTIONS_PER_BLOCK[self.block])

    @property
    def features(self) -> int:
        """Inputs of the classifier."""
        return 4 * self.width * self.expansion * self.pool_grid**2


class PadShortcut(nn.Module):
    """He's option A: every `stride`-th pixel, and zero channels around the old ones; no weights."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W]
        """[N, more C, H / stride, W / stride]."""
        sampled = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(sampled, (0, 0, 0, 0, self.before, self.after))


def _conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    """A convolution without bias; in float32, as all here, whatever torch's default dtype is."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding, bias=False, dtype=torch.float32
    )


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, dtype=torch.float32)


def _shortcut(
    kind: Shortcut, in_channels: int, out_channels: int, stride: int, first: bool
) -> nn.Module:
    """The module beside a block's convolutions; `first` marks the first block of a stage."""
    changes_shape = stride != 1 or in_channels != out_channels
    if kind == "A" and changes_shape:
        return PadShortcut(in_channels, out_channels, stride)
    if kind != "A" and (changes_shape or (kind != "B" and first)):
        norm = _norm(out_channels)
        if kind == "paper-average" and stride != 1:  # of all pixels, not of one in four
            pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
            return nn.Sequential(pool, _conv(in_channels, out_channels, 1), norm)
        return nn.Sequential(_conv(in_channels, out_channels, 1, stride), norm)
    return nn.Sequential()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: Shortcut, *,
        first: bool, relu: bool, activations: Callable[[], nn.Module],
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3, stride, 1)
        self.bn1 = _norm(width)
        self.relu1 = activations()
        self.conv2 = _conv(width, width, 3, 1, 1)
        self.bn2 = _norm(width)
        self.shortcut = _shortcut(shortcut, in_channels, width, stride, first)
        self.relu = activations() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W]
        """[N, width, H / stride, W / stride]."""
        branch = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(branch + self.shortcut(x))
        return out


class BottleneckBlock(nn.Module):
    """A 1x1, a 3x3 (with the stride) and a widening 1x1 convolution beside a shortcut."""

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: Shortcut, *,
        first: bool, relu: bool, activations: Callable[[], nn.Module],
    ) -> None:  # fmt: skip
        super().__init__()
        out_channels = BOTTLENECK_EXPANSION * width
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = _norm(width)
        self.relu1 = activations()
        self.conv2 = _conv(width, width, 3, stride, 1)
        self.bn2 = _norm(width)
        self.relu2 = activations()
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = _norm(out_channels)
        self.shortcut = _shortcut(shortcut, in_channels, out_channels, stride, first)
        self.relu = activations() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W]
        """[N, 4 width, H / stride, W / stride]."""
        branch = self.relu1(self.bn1(self.conv1(x)))
        branch = self.relu2(self.bn2(self.conv2(branch)))
        out: Tensor = self.relu(self.bn3(self.conv3(branch)) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """Logits [N, classes] of images [N, in_channels, H, W].

    A stem, three stages of n blocks (the second and third halve the map), an average pool and a
    linear classifier. Raises ValueError where the last map cannot be cut into the pool's cells.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = _conv(config.in_channels, config.stem_width, 3, 1, 1)
        self.bn1 = _norm(config.stem_width)
        self.relu = activation(config.activation, config.levels)
        widths = [config.width * 2**stage for stage in range(STAGES)]
        inputs = [config.stem_width] + [width * config.expansion for width in widths[:-1]]
        self.layer1 = _stage(config, inputs[0], widths[0], 1)
        self.layer2 = _stage(config, inputs[1], widths[1], 2)
        self.layer3 = _stage(config, inputs[2], widths[2], 2)
        self.linear = nn.Linear(config.features, config.classes, dtype=torch.float32)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, classes]
        """The logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self._pool(x).flatten(1))
        return logits

    def _pool(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, grid, grid]
        grid = self.config.pool_grid
        if grid == 1:
            return functional.adaptive_avg_pool2d(x, 1)
        height, width = x.shape[2], x.shape[3]
        if height % grid or width % grid:
            raise ValueError(
                f"a last map of {height}x{width} cannot be averaged to {grid}x{grid} cells; "
                f"give images whose sides are multiples of {4 * grid}"
            )
        return functional.avg_pool2d(x, (height // grid, width // grid))


def _stage(config: ResNetConfig, in_channels: int, width: int, stride: int) -> nn.Sequential:
    """The n blocks of one stage; only the first strides and changes the channels."""
    kind = BasicBlock if config.block == "basic" else BottleneckBlock
    blocks: list[nn.Module] = []
    for index in range(config.blocks_per_stage):
        last = index == config.blocks_per_stage - 1
        blocks.append(
            kind(
                in_channels if index == 0 else width * config.expansion,
                width,
                stride if index == 0 else 1,
                config.shortcut,
                first=index == 0,
                relu=last or config.relu_after_sum == "every",
                activations=partial(activation, config.activation, config.levels),
            )
        )
    return nn.Sequential(*blocks)


def depth_of(name: str) -> int:
    """The depth in a name such as "resnet20"; ValueError for any other name."""
    found = re.fullmatch(r"resnet(\d+)", name)
    if not found:
        raise ValueError(f"no network is called {name!r}: use {', '.join(NAMES)}, or resnetD")
    return int(found.group(1))


def build(
    name: str,
    classes: int = 10,
    in_channels: int = 3,
    width: int = 16,
    block: Block = "basic",
    shortcut: Shortcut = "paper",
    stem_width: int = 0,
    relu_after_sum: ReluAfterSum = "every",
    pool_grid: int = 1,
) -> ResNet:
    """A freshly initialised network by name ("resnet8", "resnet20", ... any 6n+2 or 9n+2).

    Weights come from torch's global random generator. See `ResNetConfig` for the arguments.
    """
    return ResNet(
        ResNetConfig(
            depth_of(name), classes, in_channels, width, block, shortcut,
            stem_width, relu_after_sum, pool_grid,
        )
    )  # fmt: skip


def _shortcut_in(state: Mapping[str, Tensor]) -> Shortcut:
    """Which shortcuts have these weights."""
    first_of_stages = [f"layer{stage}.0.shortcut.0.weight" in state for stage in (1, 2, 3)]
    if all(first_of_stages):
        return "paper"
    averaged = state.get("layer2.0.shortcut.1.weight")  # a BatchNorm's where nothing is averaged
    if averaged is not None and averaged.dim() == 4:
        return "paper-average"
    return "B" if any(first_of_stages) else "A"


def infer_config(state: Mapping[str, Tensor]) -> ResNetConfig:
    """The configuration whose network has these weights, read off their names and shapes.

    Where "B" and "paper" describe the same network (the first block changes shape) the answer is
    "paper". Shapes do not say where the ReLUs are: a stem wider than the first stage together with
    a classifier on more than one cell is taken for karanchahal's family (`relu_after_sum` "stage").
    Raises ValueError, naming the key, for weights of another kind of network.
    """

    def shape(key: str, axes: int) -> torch.Size:
        if key not in state:
            raise ValueError(f"key {key!r} is missing, so this is no 6n+2 or 9n+2 ResNet")
        if state[key].dim() != axes:
            raise ValueError(f"key {key!r} has shape {list(state[key].shape)}, not {axes} axes")
        return state[key].shape

    block: Block = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    stem, linear = shape("conv1.weight", 4), shape("linear.weight", 2)
    width = shape("layer1.0.conv1.weight", 4)[0]
    last_width = 4 * width * (BOTTLENECK_EXPANSION if block == "bottleneck" else 1)
    pool_grid = max(1, round((linear[1] / last_width) ** 0.5))
    if pool_grid**2 * last_width != linear[1]:
        raise ValueError(
            f"'linear.weight' takes {linear[1]} features, which is no square multiple of the "
            f"{last_width} channels expected of a network whose first stage has {width}"
        )
    indices = {int(found.group(1)) for key in state if (found := re.match(r"layer1\.(\d+)\.", key))}
    shortcut = _shortcut_in(state)
    return ResNetConfig(
        depth=STAGES * _CONVOLUTIONS_PER_BLOCK[block] * len(indices) + 2,
        classes=linear[0],
        in_channels=stem[1],
        width=width,
        block=block,
        shortcut=shortcut,
        stem_width=stem[0],
        relu_after_sum="stage" if stem[0] > width and pool_grid > 1 else "every",
        pool_grid=pool_grid,
    )
