"""What a network is: a small frozen graph of nodes, and the checks that every graph passes.

A `Graph` describes one image's way through the network. Shapes have no batch axis; the engines put
images (and time) in front. With ReLU nodes a graph is an artificial network, with Fire nodes a
spiking one; every other node is linear in the values it passes on (the max pool excepted).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from spiking_resnet.neurons import Gated, IntegrateAndFire, Serial

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

    neuron: IntegrateAndFire
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
    """The sum over each window (zero padding included), divided by `divisor`."""

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


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in the order of computation, from the one Input to the one Output.

    notes: JSON-able facts about its making (method, options, calibration, preprocessing, …).
    ann: the artificial network that a spiking one came from, BatchNorm folded (None otherwise).
    """

    nodes: tuple[Node, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    ann: "Graph | None" = None

    def __post_init__(self) -> None:
        _check(self.nodes)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """For each node's name, the nodes that read it (twice if they read it twice)."""
        readers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    @cached_property
    def input(self) -> Input:
        """The one Input node."""
        return self.of(Input)[0]

    @cached_property
    def output(self) -> Output:
        """The one Output node."""
        return self.of(Output)[0]

    def of(self, kind: type[N]) -> tuple[N, ...]:
        """The nodes of one kind, in order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    @cached_property
    def integrators(self) -> tuple[Fire | MaxPool | Output, ...]:
        """The nodes that sum up over time: populations, cumulative max pools, the read-out."""
        pools = (node for node in self.of(MaxPool) if node.rule == "cumulative")
        return (*self.of(Fire), *pools, self.output)

    @cached_property
    def pre_steps(self) -> int:
        """The steps before the counted ones, in which gated neurons find out about themselves."""
        gated = (node.neuron for node in self.of(Fire) if isinstance(node.neuron, Gated))
        return max((neuron.pre_steps for neuron in gated), default=0)

    @property
    def neurons(self) -> dict[str, int]:
        """The number of neurons of every spiking population, by its name."""
        return {node.name: torch.Size(node.shape).numel() for node in self.of(Fire)}

    @cached_property
    def longest(self) -> int | None:
        """The most time steps it can run for: that its differential neurons have heights for; None
        for others, which go on as long as one likes.
        """
        heights = (getattr(node.neuron, "heights", None) for node in self.of(Fire))
        return min((len(each) for each in heights if each is not None), default=None)

    @cached_property
    def latency(self) -> int | None:
        """The time steps until the last of its neurons that wait for their input has fired all it
        may; None where neurons fire as they go.
        """
        waiting = (node.neuron for node in self.of(Fire) if isinstance(node.neuron, Serial))
        return max((neuron.start + neuron.window for neuron in waiting), default=None)

    def with_nodes(self, nodes: Iterable[Node]) -> "Graph":
        """This graph with other nodes; notes and the artificial network stay."""
        return replace(self, nodes=tuple(nodes))

    def with_notes(self, notes: Mapping[str, Any]) -> "Graph":
        """This graph with `notes` added to its own."""
        return replace(self, notes={**self.notes, **notes})

    @cached_property
    def devices(self) -> frozenset[torch.device]:
        """Where its tensors are."""
        return frozenset(t.device for node in self.nodes for t in tensors(node).values())

    def to(self, device: torch.device | str) -> "Graph":
        """This graph with all tensors on `device` (itself when they are there already)."""
        device = torch.device(device)
        if self.devices <= {device}:
            return self
        return self.with_nodes(
            with_tensors(node, {name: t.to(device) for name, t in tensors(node).items()})
            for node in self.nodes
        )


def tensors(node: Node) -> dict[str, Tensor]:
    """The tensors a node holds, by field name; a neuron's as "neuron.threshold" and so on."""
    found: dict[str, Tensor] = {}
    for entry in fields(node):
        value = getattr(node, entry.name)
        if isinstance(value, Tensor):
            found[entry.name] = value
        elif isinstance(value, IntegrateAndFire):
            for part in fields(value):
                if isinstance(tensor := getattr(value, part.name), Tensor):
                    found[f"{entry.name}.{part.name}"] = tensor
    return found


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


def _check(nodes: tuple[Node, ...]) -> None:
    """Raises GraphError unless the nodes form one well-shaped network."""
    shapes: dict[str, Shape] = {}
    for node in nodes:
        if node.name in shapes:
            raise GraphError(f"two nodes are called {node.name!r}: names must be unique")
        for name in node.inputs:
            if name not in shapes:
                raise GraphError(f"{node.name!r} reads {name!r}, which no earlier node is called")
        _check_shape(node, [shapes[name] for name in node.inputs])
        for name, tensor in tensors(node).items():
            if not bool(torch.isfinite(tensor).all()):
                raise GraphError(
                    f"{node.name!r}: {name} has NaN or infinite entries; load a sound checkpoint"
                )
        shapes[node.name] = node.shape
    for kind in (Input, Output):
        count = sum(isinstance(node, kind) for node in nodes)
        if count != 1:
            raise GraphError(f"a graph has exactly one {kind.__name__} node, this one has {count}")


def _check_shape(node: Node, inputs: list[Shape]) -> None:
    """Raises GraphError unless the node's own shape follows from its inputs'."""
    arity = {Input: 0, Add: None, Concat: None}.get(type(node), 1)
    if (arity is None and not inputs) or (arity is not None and len(inputs) != arity):
        raise GraphError(f"{node.name!r}: {type(node).__name__} cannot have {len(inputs)} inputs")
    if not inputs:
        return
    expected = node.shape
    if isinstance(node, Conv2d):
        expected = (node.weight.shape[0], *_window_counts(node, inputs[0]))
        if inputs[0][0] != node.weight.shape[1] * node.groups:
            raise GraphError(
                f"{node.name!r}: weight {tuple(node.weight.shape)} with {node.groups} group(s) "
                f"does not fit an input of {inputs[0][0]} channels"
            )
    elif isinstance(node, Linear):
        if inputs[0] != (node.weight.shape[1],):
            raise GraphError(
                f"{node.name!r}: weight {tuple(node.weight.shape)} does not fit input {inputs[0]}"
            )
        expected = (node.weight.shape[0],)
    elif isinstance(node, Affine | Round | ReLU | Fire | Output):
        expected = inputs[0]
    elif isinstance(node, Add):
        expected = inputs[0]
        if any(shape != inputs[0] for shape in inputs):
            raise GraphError(f"{node.name!r}: cannot add shapes {inputs}")
    elif isinstance(node, Concat):
        expected = (sum(shape[0] for shape in inputs), *inputs[0][1:])
    elif isinstance(node, Select):
        expected = _selected_shape(node, inputs[0])
    elif isinstance(node, Flatten):
        expected = (torch.Size(inputs[0]).numel(),)
    elif isinstance(node, Pad):
        expected = tuple(
            size + sum(pair) for size, pair in zip(inputs[0], node.padding, strict=True)
        )
    if node.shape != expected:
        raise GraphError(f"{node.name!r}: shape {node.shape} should be {expected}")


def _selected_shape(node: Select, shape: Shape) -> Shape:
    """The shape of what a Select takes out of a value."""
    if not 0 <= node.axis < len(shape):
        raise GraphError(f"{node.name!r}: there is no axis {node.axis} in shape {shape}")
    if not all(0 <= entry < shape[node.axis] for entry in node.index):
        raise GraphError(f"{node.name!r}: selects entries outside axis {node.axis} of {shape}")
    return (*shape[: node.axis], len(node.index), *shape[node.axis + 1 :])


def _window_counts(node: Conv2d, image: Shape) -> Shape:
    """How many windows a convolution has along height and width."""
    return tuple(
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, padding, dilation, stride in zip(
            image[1:], node.weight.shape[2:], node.padding, node.dilation, node.stride, strict=True
        )
    )
