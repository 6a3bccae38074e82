"""The contract of a node: its fields, its equation, and the rules that follow from it.

A kind is a frozen dataclass; its rules are methods. Whatever walks a graph (the checks, the
interpreter, bounds, normalisation, costs) calls these and knows no kind by name. Rules that end
in `NotImplementedError` here are missing from a kind that has none of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from spiking_resnet.graph.grids import MANTISSA, WIDE_MANTISSA
from spiking_resnet.neurons import TensorRule
from spiking_resnet.rules import Rule, Rules, number, optional, several, text, truth, whole
from spiking_resnet.shown import Short

Shape = tuple[int, ...]
Pair = tuple[int, int]
Bounds = tuple[Tensor, Tensor]  # lowest and highest value, [] or [C], float64
Memory = dict[str, Tensor]  # what nodes carry from one time step to the next, [N, ...], by name

MOST_BITS = 24  # of a grid: float32 holds no more behind the point, of numbers below 1
MOST_SUM_BITS = 40  # of a grid of sums over time, which float64 holds
RANKS = (1, 3)  # axes of a value: [C], [C, H], [C, H, W]
RESERVED = (":emitted", ":left out")  # ends of names that a node keeps further memory by

GRID = optional(whole(0, MOST_BITS))
SUMMED = {
    "grid": optional(whole(0, MOST_SUM_BITS)), "step_bound": number(0), "wide": truth(),
}  # of a node that integrates  # fmt: skip


class GraphError(ValueError):
    """A graph that is not well formed; the message names the node."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Node(Short):
    """An operation of a network: the base class of every kind of node.

    shape: of its value for one image. source: the user's line of code that it comes from.
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    source: str = ""

    RULES: ClassVar[Rules] = {
        "name": Rule(
            f"a text that does not end in {' or '.join(RESERVED)}",
            lambda value: isinstance(value, str) and not value.endswith(RESERVED),
        ),
        "inputs": several(text()),
        "shape": several(whole(1), *RANKS),
        "source": text(),
    }  # what every field but tensors may hold; a kind names its own
    TENSORS: ClassVar[Mapping[str, TensorRule]] = {}  # what these may be
    ARITY: ClassVar[int | None] = 1  # how many inputs it reads; None: one or more
    ADDED: ClassVar[str] = ""  # the tensor that is added to products, which are made with the first

    hands_on: ClassVar[bool] = False  # entries of its inputs, moved, pooled or joined: spikes stay
    shares_grid: ClassVar[bool] = False  # its values and what it reads lie on one grid
    has_synapses: ClassVar[bool] = False  # each value is a weighted sum of entries of its input
    has_weights: ClassVar[bool] = False  # these weights mix channels: fields `weight` and `bias`
    takes_any_scale: ClassVar[bool] = False  # its tensors absorb the scales of input and value
    is_population: ClassVar[bool] = False  # neurons: a non-linearity at each entry

    @property
    def integrates(self) -> bool:
        """Whether the node sums up over time, so that it carries memory from step to step."""
        return False

    @property
    def choices(self) -> int:
        """Of how many entries it hands one on, by comparing them; 0 where it chooses none."""
        return 0

    @property
    def added(self) -> Tensor | None:
        """The constant that is added to its products at every step, if there is one."""
        return getattr(self, self.ADDED) if self.ADDED else None

    @property
    def potential_offset(self) -> float:
        """The most that |a sum over time| exceeds |what was summed up|."""
        return 0.0

    # What it may be.

    def tensor_rules(self) -> Mapping[str, TensorRule]:
        """Return the rules that the node's tensors keep, named as `tensors` names them."""
        return self.TENSORS

    def output_shape(self, *shapes: Any, **none: Any) -> Shape:
        """Return the shape of its value, given those of its inputs; GraphError if they don't fit.

        Other fields than `shape` are sound when this is asked.
        """
        raise NotImplementedError(f"{type(self).__name__}.output_shape")

    # What it computes.

    def value(self, *inputs: Any, **none: Any) -> Tensor:
        """Return the node's value [N, ...] for inputs [N, ...]; for kinds without memory."""
        raise NotImplementedError(f"{type(self).__name__}.value")

    def advance(self, inputs: Sequence[Tensor], memory: Memory, time: int) -> Tensor:
        """Return the node's value in step `time` (0 is the first), and update `memory`.

        inputs: those of this step, of the Input node the images.
        """
        return self.value(*inputs)

    def without_constants(self) -> "Node":
        """Return the node as it computes at steps at which no constant enters."""
        return self

    def summed(self, steps: int) -> "Node":
        """Return the node that maps its input's sum over `steps` steps to its value's sum."""
        return self

    # Exactness.

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the lowest and highest value in one step, per channel, by interval arithmetic."""
        raise NotImplementedError(f"{type(self).__name__}.bounds")

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the bits of a grid that all values certainly lie on, given the inputs'; or None.

        bounds: its own.
        """
        raise NotImplementedError(f"{type(self).__name__}.value_grid")

    # Scales, [] or [C]: what values are divided by.

    def carries_spikes(self, inputs: Sequence[bool]) -> bool:
        """Return whether values are spikes or sums of spikes, given which inputs are.

        Divided by the amplitude of one spike they are integers.
        """
        return self.hands_on and all(inputs)

    def spike_scale(self, scales: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Return the amplitude of the spikes it outputs, given its inputs'. An average pool's is
        that of its sums.
        """
        raise NotImplementedError(f"{type(self).__name__}.spike_scale")

    def with_unit_spikes(self) -> "Node":
        """Return the node that outputs spikes of amplitude 1 where its inputs have amplitude 1."""
        return self

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return the scale of input `position` that divides the node's value by `scale`.

        None where nothing will do, and where anything will (`takes_any_scale`).
        """
        raise NotImplementedError(f"{type(self).__name__}.input_scale")

    def scaled(self, incoming: Tensor, outgoing: Tensor) -> "Node":
        """Return the node whose value is divided by `outgoing` where its input is by `incoming`.

        Only of kinds that take any scale; their tensors are float64 then.
        """
        raise NotImplementedError(f"{type(self).__name__}.scaled")

    # Costs, for one image.

    def macs(self) -> int:
        """Return the dense multiply-accumulates for one image, padding zeros included."""
        return 0

    def connections(self, x: Tensor) -> Tensor:
        """Return the number [] of synapses that read the existing (1, not 0) entries of x [1, ...].

        It is linear in x, so its derivative is the fan-out of every entry. Only of kinds with
        synapses.
        """
        raise NotImplementedError(f"{type(self).__name__}.connections")

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 where the value can differ from 0, else 0, given the inputs'; [1, ...]."""
        raise NotImplementedError(f"{type(self).__name__}.existing")

    def handed_on(self, *inputs: Tensor) -> Tensor:
        """Return the number of spikes [1, ...] passed on without weights, given those read."""
        return self.value(*inputs)


class Summing(Node):
    """A node that may sum up over time what it reads.

    grid: its sums are multiples of 2^-grid. step_bound: no sum changes by more in one step. wide:
    sums are float64, as float32 does not hold what all steps bring. (The `snap` pass sets them;
    they bound the range in which simulation is exact.)
    """

    grid: int | None
    step_bound: float
    wide: bool

    @property
    def mantissa(self) -> int:
        """The bits of the whole numbers of its grid that its sums hold exactly."""
        return WIDE_MANTISSA if self.wide else MANTISSA

    def received(self, x: Tensor) -> Tensor:
        """Return what it reads, [..., N, C, ...], in the dtype of its sums."""
        return x.double() if self.wide else x


N = TypeVar("N", bound=Node)


def emitted_by(name: str) -> str:
    """Return the key in memory of what a population remembers beside its potentials."""
    return f"{name}:emitted"


def left_out(name: str) -> str:
    """Return the key in memory of a delayed read-out's sum over the steps it leaves out."""
    return f"{name}:left out"


def tensors(node: Node) -> dict[str, Tensor]:
    """Return a node's tensors by field name; a neuron's as "neuron.threshold" and so on."""
    found = {name: _getter(name)(node) for name in node.tensor_rules()}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


_getter = cache(attrgetter)


_NAMES: dict[type, tuple[str, ...]] = {}


def field_names(kind: type) -> tuple[str, ...]:
    """Return the names of the fields of a kind of node or neuron, looked up once."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(entry.name for entry in fields(kind))
    return _NAMES[kind]


def with_tensors(node: N, new: Mapping[str, Tensor]) -> N:
    """Return `node` with some of its tensors replaced, named as `tensors` names them."""
    own: dict[str, Any] = {name: tensor for name, tensor in new.items() if "." not in name}
    inner: dict[str, dict[str, Tensor]] = {}
    for name, tensor in new.items():
        holder, _, part = name.partition(".")
        if part:
            inner.setdefault(holder, {})[part] = tensor
    for holder, parts in inner.items():
        own[holder] = replace(getattr(node, holder), **parts)
    return replace(node, **own)


def rename_inputs(node: N, names: Mapping[str, str]) -> N:
    """Return `node` reading `names[x]` wherever it read x."""
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))
