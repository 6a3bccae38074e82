"""The operations that a network consists of, as frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

from torch import Tensor

from spiking_resnet.neurons import Neuron

Shape = tuple[int, ...]
Pair = tuple[int, int]


class GraphError(ValueError):
    """A graph that is not well formed; the message names the node."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One operation. shape: of its value for one image. source: the user's line of code."""

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    source: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """The image.

    encoding: "constant" presents it as the same input current at every step (the paper);
        "poisson" presents, at each step, a spike of height `amplitude` and the pixel's sign with
        probability min(|x| / scale, 1), drawn from (seed, step, pixel position) alone; "once"
        presents it at the first step and nothing later, and so all biases (differential coding).
    grid: pixels are rounded to multiples of 2^-grid, as float64 (None: taken as they are).
    limit: the largest |x| met in calibration (bounds the exact range; 0 when unknown).
    """

    encoding: Literal["constant", "poisson", "once"] = "constant"
    scale: float = 1.0
    amplitude: float = 1.0
    seed: int = 0
    grid: int | None = None
    limit: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(Node):
    """Convolution: weight [out, in / groups, height, width], bias [out] or None, zero padding.

    A node computes in the dtype of its weight. grid: weights and biases are multiples of 2^-grid.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    grid: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Node):
    """Fully connected layer: weight [out, in], bias [out] or None. grid: as in Conv2d."""

    weight: Tensor
    bias: Tensor | None
    grid: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Node):
    """`scale * x + shift` per channel: BatchNorm in inference, or the gain of a shortcut synapse.

    scale: [] or [C]; shift: [C] or None. grid: as in Conv2d.
    """

    scale: Tensor
    shift: Tensor | None = None
    grid: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Round(Node):
    """x rounded to the nearest multiple of 2^-bits (ties to even), as float32."""

    bits: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ReLU(Node):
    """max(x, 0), cut off at `ceiling` if there is one (ReLU6: 6).

    levels: the quantised activation of QCFS (Bu et al., ICLR 2022) with its threshold as ceiling,
    ceiling * clip(floor(x * levels / ceiling + 1/2) / levels, 0, 1). Raises GraphError for levels
    without a positive ceiling.
    """

    ceiling: float | None = None
    levels: int | None = None

    def __post_init__(self) -> None:
        if self.levels is None:
            return
        if self.levels < 1 or self.ceiling is None or not self.ceiling > 0:
            raise GraphError(
                f"{self.name!r} quantises to {self.levels} levels up to {self.ceiling}: levels "
                "start at 1 and need a positive ceiling; train on, or from other weights"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Fire(Node):
    """A population of spiking neurons in the place of a ReLU.

    grid: currents and potentials are multiples of 2^-grid. step_bound: no potential changes by more
    in one step (both set by the `snap` pass; they bound the range in which simulation is exact).
    """

    neuron: Neuron
    grid: int | None = None
    step_bound: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """The sum of its inputs (the same one may occur twice)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Its inputs one after the other along the channels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """Zeros around the value: one (before, after) pair for each axis of `shape`."""

    padding: tuple[Pair, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Node):
    """`x[start:stop:step]` along one axis of the image's value (0 = channels)."""

    axis: int
    start: int
    stop: int
    step: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(Node):
    """The entries `index` of one axis of the image's value (0 = channels), in that order.

    A permutation is a channel shuffle; repeated entries are a nearest upsampling, or a border of
    copies. Spikes stay spikes: a synapse of weight 1 leads to every copy.
    """

    axis: int
    index: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(Node):
    """The sum over each window (zero padding included), divided by the positive `divisor`."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    divisor: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Node):
    """The maximum over each window.

    rule "instant": of the values of this step (an artificial network; on spikes it is wrong, and
    more so the longer it runs). Rule "cumulative": the growth, in this step, of the maximum of the
    values summed over all steps so far. On spikes that is the paper's spiking max pool: the input
    with the largest spike count decides, and the output spikes while that count exceeds its own.
    grid, step_bound: as in Fire, for the sums.
    """

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    rule: Literal["instant", "cumulative"] = "instant"
    grid: int | None = None
    step_bound: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Node):
    """All axes of the image's value in one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Output(Node):
    """The read-out: logits after T steps, in the artificial network's units.

    readout "mean": `scale / T * (sum of the input over T steps)`; for an artificial network T = 1.
    readout "spikes+membrane": the input is a Fire node; `scale / T * (spike count + softmax(v))`,
    where v is the final membrane potential, which breaks ties (the paper's).
    readout "sum": `scale * (sum of the input over T steps)`, of differential neurons.
    delay: "mean" leaves out so many first steps, in which spikes are still on their way through the
        layers, and divides by T - delay (delayed evaluation: Bu et al., CVPR 2025). Where there
        are no later steps it is the mean of all.
    grid, step_bound: as in Fire, for the sum.
    """

    readout: Literal["mean", "spikes+membrane", "sum"] = "mean"
    scale: float = 1.0
    delay: int = 0
    grid: int | None = None
    step_bound: float = 0.0


N = TypeVar("N", bound=Node)

KINDS: dict[str, type[Node]] = {
    kind.__name__: kind
    for kind in (
        *(Input, Conv2d, Linear, Affine, Round, ReLU, Fire, Add, Concat),
        *(Pad, Slice, Select, AvgPool, MaxPool, Flatten, Output),
    )
}


def tensors(node: Node) -> dict[str, Tensor]:
    """The tensors a node holds, by field name; a neuron's as "neuron.threshold" and so on."""
    found: dict[str, Tensor] = {}
    for name in field_names(type(node)):
        value = getattr(node, name)
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, Neuron):
            for part in field_names(type(value)):
                if isinstance(tensor := getattr(value, part), Tensor):
                    found[f"{name}.{part}"] = tensor
    return found


_NAMES: dict[type, tuple[str, ...]] = {}


def field_names(kind: type) -> tuple[str, ...]:
    """The names of the fields of a kind of node or neuron, looked up once."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(entry.name for entry in fields(kind))
    return _NAMES[kind]


def with_tensors(node: N, new: Mapping[str, Tensor]) -> N:
    """`node` with some of its tensors replaced, named as `tensors` names them."""
    own = {name: tensor for name, tensor in new.items() if "." not in name}
    inner = {name.split(".")[1]: tensor for name, tensor in new.items() if "." in name}
    if isinstance(node, Fire) and inner:
        return replace(node, neuron=replace(node.neuron, **inner), **own)  # type: ignore[arg-type]
    return replace(node, **own)  # type: ignore[arg-type]


def rename_inputs(node: N, names: Mapping[str, str]) -> N:
    """`node` reading `names[x]` wherever it read x."""
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))
