"""Awkward toy networks: every way in which residual networks differ, at a size that tests bear.

ZOO: (name, factory, shape of an image). REFUSED: (name, factory, shape, a word of the source line).
Weights, biases and BatchNorm statistics are random but the same at every call.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from spiking_resnet.ann.activation import QCFS
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.pools import relu_first
from spiking_resnet.graph import Fire, ReLU, interpret, tensors, with_tensors

CLASSES = 5


def conv(inputs, outputs, kernel=3, stride=1, **options):
    options = {"padding": kernel // 2, **options}
    return nn.Conv2d(inputs, outputs, kernel, stride, **options)


def conv_bn(inputs, outputs, kernel=3, stride=1, **options):
    return nn.Sequential(
        conv(inputs, outputs, kernel, stride, bias=False, **options), nn.BatchNorm2d(outputs)
    )


def stem(outputs=4, inputs=3, stride=1):
    return nn.Sequential(*conv_bn(inputs, outputs, stride=stride), nn.ReLU())


class Headed(nn.Module):
    """A body, the mean over height and width, and a classifier."""

    def __init__(self, body, features):
        super().__init__()
        self.body = body
        self.fc = nn.Linear(features, CLASSES)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


class Identity(nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.first, self.second = conv_bn(channels, channels), conv_bn(channels, channels)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + x)


class Projection(nn.Module):
    def __init__(self, inputs=4, outputs=6, stride=2):
        super().__init__()
        self.first = conv_bn(inputs, outputs, stride=stride)
        self.second = conv_bn(outputs, outputs)
        self.shortcut = conv_bn(inputs, outputs, 1, stride)

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.second(F.relu(self.first(x))))


class OptionA(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = conv_bn(4, 8, stride=2), conv_bn(8, 8)

    def forward(self, x):
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0)
        return F.relu(self.second(F.relu(self.first(x))) + shortcut)


class PreActivation(nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1, self.conv2 = conv(channels, channels), conv(channels, channels)

    def forward(self, x):
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class OneRelu(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = conv(4, 4), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = conv(4, 4), nn.BatchNorm2d(4)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))) + x)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = conv_bn(4, 4), conv_bn(4, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.second(self.relu(self.first(x)))
        y += x
        return self.relu(y)


class Reordered(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm2, self.conv2 = nn.BatchNorm2d(4), conv(4, 4)
        self.norm1, self.conv1 = nn.BatchNorm2d(4), conv(4, 4)

    def forward(self, x):
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class TwoUsers(nn.Module):
    """A convolution read by two BatchNorms, so that neither can be folded into it."""

    def __init__(self):
        super().__init__()
        self.conv = conv(4, 4)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        both = self.conv(x)
        return F.relu(self.norm1(both)) + F.relu(self.norm2(both))


class TwoThresholds(nn.Module):
    """Two populations of different thresholds that read one sum."""

    def __init__(self):
        super().__init__()
        self.branch = conv(4, 4)
        self.wide, self.narrow = conv(4, 4), conv(4, 4)

    def forward(self, x):
        both = self.branch(x) + x
        wide, narrow = F.relu(both), F.hardtanh(both, 0.0, 0.5)
        return F.relu(self.wide(wide) + self.narrow(narrow))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(4), conv(4, 3)
        self.norm2, self.conv2 = nn.BatchNorm2d(7), conv(7, 3)
        self.norm3 = nn.BatchNorm2d(10)

    def forward(self, x):
        x = torch.cat([x, self.conv1(F.relu(self.norm1(x)))], 1)
        x = torch.cat([x, self.conv2(F.relu(self.norm2(x)))], 1)
        return F.avg_pool2d(F.relu(self.norm3(x)), 2)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.three, self.pooled = conv(4, 3, 1), conv(4, 2), conv(4, 2, 1)

    def forward(self, x):
        pooled = self.pooled(F.avg_pool2d(x, 3, 1, 1))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x)), F.relu(pooled)], dim=1)


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(4, 4)

    def forward(self, x):
        return F.relu(self.conv(x + x))


class ImageShortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = conv(3, 3), conv(3, 3)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))) + x)


class SignedStream(nn.Module):
    """Linear bottlenecks: no ReLU after the sums, and a convolution reads the sum directly."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 4)
        self.expand1, self.project1 = conv_bn(4, 8, 1), conv_bn(8, 4, 1)
        self.expand2, self.project2 = conv_bn(4, 8, 1), conv_bn(8, 4, 1)
        self.last = conv(4, 6)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.project1(F.relu6(self.expand1(x)))
        x = x + self.project2(F.relu6(self.expand2(x)))
        return F.relu(self.last(x))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = conv(4, 4), conv(4, 4)

    def forward(self, x):
        return F.relu(x + 0.5 * self.second(F.relu(self.first(x)))) / 4


class Dead(nn.Module):
    """A branch whose neurons never fire, and a channel of the sum that never does."""

    def __init__(self):
        super().__init__()
        self.first, self.second = conv(4, 4), conv(4, 4)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + x)

    def after_random(self):
        nn.init.constant_(self.first.bias, -15.0)
        nn.init.constant_(self.second.bias[2:3], -15.0)


class Halves(nn.Module):
    """Channel slices that go separate ways."""

    def __init__(self):
        super().__init__()
        self.left, self.right = conv(2, 2), conv(2, 2)

    def forward(self, x):
        left, right = x[:, :2], x[:, 2:]
        return F.relu(torch.cat([self.left(left), self.right(right) + left], 1))


class Mlp(nn.Module):
    def __init__(self, norm=False):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(16, 12), nn.Linear(12, 12), nn.Linear(12, 5)
        self.norm = nn.BatchNorm1d(12) if norm else nn.Identity()

    def forward(self, x):
        x = F.relu(self.norm(self.one(torch.flatten(x, 1))))
        return self.three(F.relu(self.two(x) + x))


class EndsInRelu(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.fc = stem(), nn.Linear(4, CLASSES)

    def forward(self, x):
        return F.relu(self.fc(self.stem(x).mean((2, 3))))


class MixedBlock(nn.Module):
    """A bottleneck behind an average-pooled projection (ResNet-D) with a kept-dims mean."""

    def __init__(self):
        super().__init__()
        self.stem = stem()
        self.narrow, self.middle, self.wide = conv_bn(4, 2, 1), conv_bn(2, 2, 3, 2), conv(2, 8, 1)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), *conv_bn(4, 8, 1))
        self.classifier = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x):
        x = self.stem(x)
        branch = self.wide(F.relu(self.middle(F.relu(self.narrow(x)))))
        x = F.relu(branch + self.shortcut(x))
        return self.classifier(x.mean((2, 3), keepdim=True)).flatten(1)


class ShuffleUnit(nn.Module):
    """Half of the channels pass by, then the halves are interleaved."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(*conv_bn(3, 3, groups=3), *conv_bn(3, 3, 1), nn.ReLU())

    def forward(self, x):
        kept, changed = x.chunk(2, dim=1)
        x = torch.cat([kept, self.branch(changed)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class SplitBlock(nn.Module):
    """Groups of channels, each added to the next one (Res2Net)."""

    def __init__(self):
        super().__init__()
        self.one, self.two = conv_bn(2, 2), conv_bn(2, 2)
        self.last = conv_bn(6, 6, 1)

    def forward(self, x):
        first, second, third = torch.split(x, 2, 1)
        second = F.relu(self.one(second))
        third = F.relu(self.two(third + second))
        return F.relu(self.last(torch.cat([third, second, first], 1)) + x)


class Upsampled(nn.Module):
    """Two resolutions added up (HRNet)."""

    def __init__(self):
        super().__init__()
        self.down, self.wide = conv_bn(4, 4, stride=2), conv_bn(4, 4)

    def forward(self, x):
        coarse = F.relu(self.down(x))
        return F.relu(self.wide(x) + F.interpolate(coarse, scale_factor=2, mode="nearest"))


class Arithmetic(nn.Module):
    """An image normalised in the network, differences, negations and constants."""

    def __init__(self):
        super().__init__()
        self.one, self.two = conv(3, 4), conv(4, 4)
        self.register_buffer("mean", torch.tensor([0.1, -0.2, 0.3]).view(3, 1, 1))
        self.register_buffer("gain", torch.tensor([0.5, 1.5, 1.0]).view(1, 3, 1, 1))

    def forward(self, x):
        first = torch.unsqueeze(x[:, 0], 1) * 0.9 + 0.05
        x = torch.cat([first, x[:, 1:]], 1)
        x = F.relu(self.one((x - self.mean) / self.gain))
        return F.relu(1.0 - x) + F.relu(x - self.two(-x)) + torch.add(x, x.flip(1), alpha=0.5)


class Parametrised(nn.Module):
    """Weights that are computed from parameters at every call."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = conv(4, 4), conv(4, 4), conv(4, 4)

    def forward(self, x):
        weight = self.three.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std(
            (1, 2, 3), keepdim=True
        )
        x = F.relu(self.two(F.relu(self.one(x))))
        return F.relu(F.conv2d(x, 0.2 * weight, self.three.bias, padding=1))

    def after_random(self):
        nn.utils.parametrizations.weight_norm(self.one)
        nn.utils.parametrize.register_parametrization(self.two, "weight", Halved())


class Halved(nn.Module):
    def forward(self, x):
        return x / 2


class SamePadded(nn.Module):
    """Pools that pad by themselves: zeros, copies, and what no maximum can be."""

    def forward(self, x):
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
        x = F.avg_pool2d(F.pad(x, (-1, 1, -1, 1)), 2, 1)
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)


def sequence(*layers, features):
    """A headed sequence behind the usual stem."""
    return Headed(nn.Sequential(stem(), *layers), features)


def headed(*layers, features):
    """A headed sequence that starts at the image."""
    return Headed(nn.Sequential(*layers), features)


def flat(*layers, features):
    """A sequence whose map is flattened, not averaged, before the classifier."""
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, CLASSES))


IMAGE = (3, 8, 8)
_ZOO = [
    ("identity", lambda: sequence(Identity(), features=4), IMAGE),
    ("three_blocks", lambda: sequence(*(Identity() for _ in "abc"), features=4), IMAGE),
    ("projection", lambda: sequence(Projection(), Projection(6, 6, 1), features=6), IMAGE),
    ("option_a", lambda: sequence(OptionA(), features=8), IMAGE),
    (
        "preactivation",
        lambda: headed(
            conv(3, 4),
            *(PreActivation(), PreActivation(), nn.BatchNorm2d(4), nn.ReLU()),
            features=4,
        ),
        IMAGE,
    ),
    (
        "wide",
        lambda: headed(
            stem(16), Identity(16), Projection(16, 32), Projection(32, 32, 1), features=32
        ),
        IMAGE,
    ),
    ("one_relu", lambda: sequence(OneRelu(), features=4), IMAGE),
    ("in_place", lambda: sequence(InPlace(), features=4), IMAGE),
    ("reordered", lambda: sequence(Reordered(), features=4), IMAGE),
    ("two_users", lambda: sequence(TwoUsers(), features=4), IMAGE),
    ("two_thresholds", lambda: sequence(TwoThresholds(), features=4), IMAGE),
    (
        "stem_max_pool",
        lambda: sequence(nn.MaxPool2d(3, 2, 1), Identity(), features=4),
        (3, 9, 9),
    ),
    (
        "pool_before_relu",
        lambda: headed(conv(3, 4), nn.MaxPool2d(2), nn.ReLU(), conv(4, 4), nn.ReLU(), features=4),
        IMAGE,
    ),
    (
        "inner_max_pool",
        lambda: sequence(
            Identity(), nn.MaxPool2d(3, 2, ceil_mode=True), Projection(4, 4, 1), features=4
        ),
        IMAGE,
    ),
    (
        "max_pool_of_currents",
        lambda: sequence(
            *(conv(4, 4), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4), nn.ReLU()),
            features=4,
        ),
        IMAGE,
    ),
    (
        "max_pool_of_image",
        lambda: headed(nn.MaxPool2d(2), conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), features=4),
        IMAGE,
    ),
    (
        "average_of_49",
        lambda: flat(stem(stride=2), Identity(), nn.AvgPool2d(7), features=4),
        (3, 14, 14),
    ),
    (
        "average_of_4",
        lambda: sequence(nn.AvgPool2d(2), Identity(), nn.AvgPool2d(2), features=4),
        IMAGE,
    ),
    (
        "average_of_currents",
        lambda: sequence(conv(4, 4), nn.AvgPool2d(2), nn.ReLU(), features=4),
        IMAGE,
    ),
    (
        "no_biases",
        lambda: nn.Sequential(
            *(conv(3, 4, bias=False), nn.ReLU(), conv(4, 4, bias=False), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES, bias=False)),
        ),
        IMAGE,
    ),
    (
        "relu6",
        lambda: headed(conv_bn(3, 4), nn.ReLU6(), conv(4, 4), nn.ReLU6(), features=4),
        IMAGE,
    ),
    ("dense", lambda: headed(conv(3, 4), Dense(), features=10), IMAGE),
    ("inception", lambda: sequence(Inception(), nn.AvgPool2d(2), features=7), IMAGE),
    ("grouped", lambda: sequence(conv(4, 6, groups=2), nn.ReLU(), features=6), IMAGE),
    (
        "depthwise",
        lambda: sequence(conv_bn(4, 8, groups=4), nn.ReLU(), conv(8, 4, 1), nn.ReLU(), features=4),
        IMAGE,
    ),
    (
        "dilated",
        lambda: sequence(conv(4, 4, dilation=2, padding=2), nn.ReLU(), features=4),
        IMAGE,
    ),
    ("stride_3", lambda: sequence(conv(4, 4, 3, 3), nn.ReLU(), features=4), (3, 10, 7)),
    (
        "oblong",
        lambda: sequence(
            *(nn.Conv2d(4, 4, (1, 3), padding=(0, 1)), nn.ReLU()),
            *(nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(4, 4, (3, 1), stride=(2, 1)), nn.ReLU()),
            features=4,
        ),
        (3, 6, 9),
    ),
    ("one_pixel", lambda: sequence(Identity(), features=4), (3, 1, 1)),
    ("mlp", Mlp, (1, 4, 4)),
    ("linear_batch_norm", lambda: Mlp(norm=True), (1, 4, 4)),
    (
        "same_padding",
        lambda: sequence(conv(4, 4, 5, padding="same", dilation=2), nn.ReLU(), features=4),
        IMAGE,
    ),
    ("dead", lambda: sequence(Dead(), features=4), IMAGE),
    ("doubled", lambda: sequence(Doubled(), features=4), IMAGE),
    ("image_shortcut", lambda: headed(ImageShortcut(), features=3), IMAGE),
    ("signed_stream", lambda: headed(SignedStream(), features=6), IMAGE),
    ("ends_in_relu", EndsInRelu, IMAGE),
    ("mixed_block", MixedBlock, IMAGE),
    (
        "dropout",
        lambda: sequence(nn.Dropout2d(0.3), conv(4, 4), nn.Dropout(), nn.ReLU(), features=4),
        IMAGE,
    ),
    ("scaled", lambda: sequence(Scaled(), features=4), IMAGE),
    ("halves", lambda: sequence(Halves(), features=4), IMAGE),
    ("shuffle", lambda: headed(stem(6), ShuffleUnit(), ShuffleUnit(), features=6), IMAGE),
    ("split", lambda: headed(stem(6), SplitBlock(), features=6), IMAGE),
    (
        "leaky",
        lambda: headed(
            *(conv_bn(3, 4), nn.LeakyReLU(0.2), conv(4, 4), nn.PReLU(4), conv(4, 4)),
            *(nn.Hardtanh(-0.5, 1.0), Identity(), conv(4, 4), nn.MaxPool2d(2), nn.LeakyReLU()),
            features=4,
        ),
        IMAGE,
    ),
    (
        "uneven_pools",
        lambda: sequence(
            nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
            *(Identity(), nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(4, 4), nn.ReLU()),
            nn.AdaptiveAvgPool2d((3, 2)),
            features=4,
        ),
        (3, 9, 9),
    ),
    ("upsampled", lambda: sequence(Upsampled(), features=4), IMAGE),
    ("arithmetic", lambda: headed(Arithmetic(), features=4), IMAGE),
    ("parametrised", lambda: sequence(Parametrised(), features=4), IMAGE),
    ("same_padded", lambda: sequence(SamePadded(), conv(4, 4), nn.ReLU(), features=4), IMAGE),
    (
        "space_to_depth",
        lambda: headed(
            *(nn.PixelUnshuffle(2), conv(12, 4), nn.ReLU(), nn.PixelUnshuffle(2), conv(16, 4)),
            *(nn.ReLU(), nn.AdaptiveMaxPool2d(1)),
            features=4,
        ),
        IMAGE,
    ),
]


def random_weights(model, seed=0):
    """The model with random weights, biases and BatchNorm statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                spread = (2 / module.weight[0].numel()) ** 0.5
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * spread)
                if module.bias is not None:
                    uniform(module.bias, -0.3, 0.3)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.2, 0.4)
                if module.track_running_stats:
                    uniform(module.running_mean, -0.3, 0.3)
                    uniform(module.running_var, 0.5, 2.0)
        for module in model.modules():
            if hasattr(module, "after_random"):
                module.after_random()
    return model.eval()


def _made(factory):
    return lambda: random_weights(factory())


ZOO = [(name, _made(factory), shape) for name, factory, shape in _ZOO]
NAMES = [name for name, *_ in ZOO]


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(4, 4)

    def forward(self, x):
        return x * torch.sigmoid(self.conv(x))


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(x)


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return F.relu(x)


class EveryOther(nn.Module):
    def forward(self, x):
        return x[::2]


class FirstOnly(nn.Module):
    def forward(self, x):
        return x + x[:1]


class Shuffled(nn.Module):
    def forward(self, x):
        return x[torch.tensor([1, 0])]


class Whole(nn.Module):
    def forward(self, x):
        return x.to(torch.int32).to(torch.float32)


class Reshaped(nn.Module):
    def forward(self, x):
        return torch.relu(x.reshape(x.shape[0], 2, 2, 8, 8)).sum(1)


class Joined(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 0)


REFUSED = [
    ("sigmoid_gate", lambda: sequence(Gate(), features=4), IMAGE, "sigmoid"),
    ("silu", lambda: headed(conv(3, 4), nn.SiLU(), features=4), IMAGE, "silu"),
    (
        "batch_statistics",
        lambda: headed(
            conv(3, 4), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(), features=4
        ),
        IMAGE,
        "statistics of each batch",
    ),
    ("layer_norm", lambda: sequence(Norm(), features=4), IMAGE, "layer_norm"),
    ("every_other_image", lambda: sequence(EveryOther(), features=4), IMAGE, "batch"),
    ("first_image_only", lambda: sequence(FirstOnly(), features=4), IMAGE, "batch"),
    ("shuffled_batch", lambda: sequence(Shuffled(), features=4), IMAGE, "index"),
    ("whole_numbers", lambda: sequence(Whole(), features=4), IMAGE, "to"),
    ("reshaped", lambda: sequence(Reshaped(), features=2), IMAGE, "reshap"),
    ("joined_batch", lambda: sequence(Joined(), features=4), IMAGE, "axis 0"),
]
REFUSED = [(name, _made(factory), shape, word) for name, factory, shape, word in REFUSED]


# What many tests ask of the zoo, computed once. Graphs are frozen, so sharing them is safe.

_FACTORY = {name: factory for name, factory, _ in ZOO}
SHAPE = {name: shape for name, _, shape in ZOO}


def images(name, count=12, seed=1):
    """Standard normal images for the named network; more of them begin with the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(160, *SHAPE[name], generator=generator)[:count]


def network(name):
    """A new module of this name."""
    return _FACTORY[name]()


@cache
def traced(name):
    return trace(network(name), SHAPE[name])


@cache
def ann(name):
    return relu_first(fold_bn(traced(name)))


@cache
def spiking(name, **options):
    """The converted network, calibrated on 40 of its images (seed 1), read out as in the paper."""
    usual = {"steps": 64, "readout": "spikes+membrane"}
    return hu2021(**{**usual, **options}).apply(traced(name), Calibration(images(name, 40)))


@cache
def logits(name, count=12):
    """The module's own logits of `images(name, count)`."""
    with torch.no_grad():
        return network(name)(images(name, count))


def names_with(kind):
    """The networks whose graph has a node of this kind."""
    return [name for name in NAMES if traced(name).of(kind)]


def on_binary_grid(graph, bits=6):
    """The graph with every tensor a multiple of 2^-bits, in float64."""
    return graph.with_nodes(
        with_tensors(
            node,
            {k: (t.double() * 2**bits).round() / 2**bits for k, t in tensors(node).items()},
        )
        for node in graph.nodes
    )


def powers_of_two(graph, per_channel, seed=0):
    """Random thresholds of all ReLUs and the read-out, by name: [] or [C]."""
    generator = torch.Generator().manual_seed(seed)
    thresholds = {}
    for node in (*graph.of(ReLU), graph.output):
        wide = per_channel and node is not graph.output
        exponent = torch.randint(-2, 3, (node.shape[0] if wide else 1,), generator=generator)
        value = 2.0**exponent
        thresholds[node.name] = value if wide else value.reshape(())
    return thresholds


def spike_trains(graph, frames, steps):
    """Spikes by population [T, N, ...], straight from the definition; frames: images."""
    memory, trains = {}, {node.name: [] for node in graph.of(Fire)}
    with torch.inference_mode():
        for time in range(steps):
            for node, value in interpret.walk(graph.nodes, frames, memory, time):
                if isinstance(node, Fire):
                    trains[node.name].append(value != 0)
    return {name: torch.stack(spikes) for name, spikes in trains.items()}


def in_float64(graph):
    """The graph with every tensor in float64."""
    return graph.with_nodes(
        with_tensors(node, {name: tensor.double() for name, tensor in tensors(node).items()})
        for node in graph.nodes
    )


def same_tensors(one, other):
    """Whether two graphs have the same nodes with the same tensors, bit for bit."""
    if [node.name for node in one.nodes] != [node.name for node in other.nodes]:
        return False
    return all(
        tensors(a).keys() == tensors(b).keys()
        and all(torch.equal(tensor, tensors(b)[name]) for name, tensor in tensors(a).items())
        for a, b in zip(one.nodes, other.nodes, strict=True)
    )


class QuantisedNet(nn.Module):
    """A stem, an identity block and a mean, with QCFS activations; a max pool if asked for."""

    def __init__(self, levels, pool):
        super().__init__()
        self.stem, self.block, self.fc = conv_bn(3, 4), Identity(), nn.Linear(4, CLASSES)
        self.act0, self.act1, self.act2 = QCFS(levels, 1.0), QCFS(levels, 0.8), QCFS(levels, 1.3)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, x):
        x = self.act0(self.stem(x))
        x = self.act2(self.block.second(self.act1(self.block.first(x))) + x)
        return self.fc(self.pool(x).mean((2, 3)))


def quantised(levels=4, pool=False):
    """A new network with quantised activations, for the images of "identity"."""
    return random_weights(QuantisedNet(levels, pool))
