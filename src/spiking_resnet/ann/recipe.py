"""How a network is trained: the recipes, and the learning rate at every step as a pure function."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from spiking_resnet.ann.augment import Augmentation
from spiking_resnet.ann.images import ImageData
from spiking_resnet.ann.resnet import ResNetConfig

# Mirroring turns these into other characters.
_NEVER_MIRRORED = ("digits", "mnist")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained by SGD."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: float  # the highest of the schedule
    # (share of all epochs, share of the highest rate) of constant pieces; empty: warm-up + cosine
    pieces: tuple[tuple[float, float], ...]
    warm_up: float  # share of all steps with a rising rate
    weight_decay: float
    decay_norms: bool  # whether biases and BatchNorm decay too
    nesterov: bool
    label_smoothing: float
    average: float  # decay of the running average of weights that is kept; 0 keeps the last weights
    channels_last: bool
    bf16_on_cuda: bool
    momentum: float = 0.9
    # of thresholds of quantised activations: the lower they are, the fewer time steps serve
    threshold_decay: float = 0.0
    # With a teacher: the share of its opinion in the loss, and the temperature that softens it. It
    # is asked about whole images alone.
    taught: float = 0.9
    temperature: float = 4.0
    # (share of all epochs, share of the images' sides): smaller images first; empty: as they are
    sizes: tuple[tuple[float, float], ...] = ()
    # each image mirrored in every other epoch instead of at random (Jordan 2024, 2404.00498)
    alternate_flips: bool = False


RECIPES = {
    # Hu, Tang, Pan (arXiv 1805.01352), released code: 3 epochs at 0.01, 80 at 0.1, 10 at 0.01,
    # 20 at 0.001; with other numbers of epochs or rates the shape is kept.
    "paper": Recipe(
        "paper", epochs=113, batch_size=128, learning_rate=0.1,
        pieces=((3 / 113, 0.1), (80 / 113, 1.0), (10 / 113, 0.1), (20 / 113, 0.01)),
        warm_up=0.0, weight_decay=1e-4, decay_norms=True, nesterov=False, label_smoothing=0.0,
        average=0.0, channels_last=False, bf16_on_cuda=False,
    ),
    "modern": Recipe(
        "modern", epochs=60, batch_size=128, learning_rate=0.2, pieces=(), warm_up=0.15,
        weight_decay=5e-4, decay_norms=False, nesterov=True, label_smoothing=0.1,
        average=0.99, channels_last=True, bf16_on_cuda=True,
    ),
    # For short budgets: what is learnt from small images first costs a quarter or a half.
    "quick": Recipe(
        "quick", epochs=50, batch_size=128, learning_rate=0.2, pieces=(), warm_up=0.15,
        weight_decay=5e-4, decay_norms=False, nesterov=True, label_smoothing=0.1,
        average=0.99, channels_last=True, bf16_on_cuda=True,
        sizes=((0.4, 0.5), (0.4, 0.75), (0.2, 1.0)), alternate_flips=True,
    ),
    # From trained weights (--from), to quantised activations (Bu et al. 2022). Without a decay of
    # their own most thresholds rose by a quarter or more in the first epoch (ResNet-20, from the
    # 97th percentile), which costs time steps.
    "finetune": Recipe(
        "finetune", epochs=30, batch_size=128, learning_rate=0.02, pieces=(), warm_up=0.05,
        weight_decay=5e-4, decay_norms=False, nesterov=True, label_smoothing=0.0,
        average=0.99, channels_last=True, bf16_on_cuda=True, threshold_decay=5e-3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """What to train and how; None takes the recipe's value.

    `held_out` images of the training set are kept from training and choose the best epoch; with 0
    the weights of the last epoch are taken. `command` is stored in the file, to say how it was
    made. Raises ValueError, naming the field, for values that train nothing.
    """

    model: ResNetConfig
    recipe: str = "modern"
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    device: str = "cpu"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 on CUDA where the recipe says
    held_out: int = 0
    weight_decay: float | None = None
    norm_momentum: float = 0.1  # of BatchNorm: the share of a batch in the running statistics
    tails: float = 0.0  # the weight in the loss of what `Tails` measures
    compiled: bool = False  # by torch.compile: other roundings, other weights
    half: bool = False  # the file's matrices are float16: what is measured, and stored
    command: str = ""

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {self.recipe!r}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be auto, fp32 or bf16, got {self.precision!r}")
        for field in ("epochs", "batch_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} must be at least 1, got {value}")
        rate = self.learning_rate
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"learning_rate must be positive, got {rate}")
        if self.held_out < 0:
            raise ValueError(f"held_out must not be negative, got {self.held_out}")
        for field in ("weight_decay", "tails"):
            value = getattr(self, field)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field} must not be negative, got {value}")
        if not 0 < self.norm_momentum <= 1:
            raise ValueError(f"norm_momentum must be above 0, at most 1, got {self.norm_momentum}")
        if self.tails and self.model.activation != "relu":
            raise ValueError(
                f"tails shortens those of ReLUs, and {self.model.activation} has a highest value "
                "of its own: leave tails out, or train relu"
            )

    @property
    def rules(self) -> Recipe:
        """The recipe, with its own epochs, batch size and rate where none are given here."""
        return RECIPES[self.recipe]

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole training."""
        return self.epochs or self.rules.epochs

    @property
    def images_per_step(self) -> int:
        """Images of one step."""
        return self.batch_size or self.rules.batch_size

    @property
    def decay(self) -> float:
        """The weight decay of matrices, and of vectors where the recipe decays them."""
        return self.rules.weight_decay if self.weight_decay is None else self.weight_decay

    @property
    def uses_bf16(self) -> bool:
        """Whether forward passes run under bf16 autocast."""
        if self.precision == "auto":
            return self.rules.bf16_on_cuda and self.device.startswith("cuda")
        return self.precision == "bf16"

    def identity(self) -> dict[str, Any]:
        """The JSON-able fields that decide the resulting weights."""
        decisive = asdict(self)
        del decisive["command"]
        return {
            **decisive, "epochs": self.total_epochs, "batch_size": self.images_per_step,
            "learning_rate": self.learning_rate or self.rules.learning_rate,
            "weight_decay": self.decay,
        }  # fmt: skip


def learning_rate_at(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of step 0 <= `step` < `steps` of the whole training."""
    rules = config.rules
    highest = config.learning_rate or rules.learning_rate
    if rules.pieces:
        return highest * _piece(rules.pieces, step, steps)
    rising = max(1, round(rules.warm_up * steps))
    if step < rising:
        return highest * (step + 1) / rising
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def sides_at(config: TrainConfig, epoch: int, sides: tuple[int, int]) -> tuple[int, int]:
    """The height and width in pixels, of images of these `sides`, that are seen in an epoch.

    Multiples of 4 (two halvings), at least 8, and at most as large as the images.
    """
    if not config.rules.sizes:
        return sides
    scale = _piece(config.rules.sizes, epoch, config.total_epochs)
    height, width = (min(side, max(8, 4 * round(side * scale / 4))) for side in sides)
    return height, width


def _piece(pieces: tuple[tuple[float, float], ...], at: int, count: int) -> float:
    """The value of the piece, (its share of `count`, value), that 0 <= `at` < `count` lies in."""
    end = 0.0
    for share, value in pieces:
        end += share
        # the half keeps rounding of the shares from moving a boundary
        if at + 0.5 < end * count:
            return value
    return pieces[-1][1]


def augmentation_for(data: ImageData) -> Augmentation:
    """Crops after padding by 4 (an eighth of images below 28 pixels), mirrored if sense stays."""
    smallest = min(data.size)
    pad = 4 if smallest >= 28 else smallest // 8
    return Augmentation(pad=pad, flip=data.name not in _NEVER_MIRRORED)
