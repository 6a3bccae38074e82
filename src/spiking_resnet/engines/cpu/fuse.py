"""What one kernel call of the native engine computes: a population and everything that leads to it.

Weights, biases and thresholds become integers here: multiples of the population's grid 2^-k. A
signed stream is one call too: a sum and what leads to it, without neurons.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.as_convolution import (
    pool_as_convolution,
    without_moves,
    without_zeros,
)
from spiking_resnet.engines.cpu.bit_code import BINARY, Code, codes, joined
from spiking_resnet.engines.cpu.memory import pointer
from spiking_resnet.engines.cpu.streams import MOST, Streams, Weighing
from spiking_resnet.engines.plan import OutOfRange
from spiking_resnet.graph import Add, Affine, Conv2d, Fire, Graph, Linear, Node, Pad, Round, Slice
from spiking_resnet.graph.grids import coarsest_grid

MOST_SHIFT = 30  # of the rounding of sums
NARROW = 2**15  # sums below it fit 16 bits


@dataclass(frozen=True, eq=False)
class Synapses:
    """Spikes named `spikes` that reach a population through `weights`.

    weights: int32 [out, in / groups, height, width], or [C] if `identity` (one synapse from each
    neuron to the one at its own place). geometry: the numbers of `kernels.Source` from `height` on.
    factors: int32 [T], what a spike of size 1 counts at each step, if not always 1. numbers: the
    bits of their grid, where numbers of 16 bits reach it instead of spikes.
    """

    spikes: str
    weights: Tensor
    geometry: tuple[int, ...]
    identity: bool
    factors: Tensor | None = None
    numbers: int | None = None

    @cached_property
    def source(self) -> library.Source:
        """What kernels are told of them, but for what arrives and the steps; not to be changed."""
        weights = pointer(self.weights, torch.int32, self.number(len(self.weights)))
        factors = None
        if self.factors is not None:
            factors = pointer(self.factors, torch.int32, len(self.factors))
        return library.Source(None, weights, *self.geometry, factors=factors)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape [C, H, W] of what is read, of the same positions as its own."""
        height, width, channels = self.geometry[:3]
        return channels, height, width

    def number(self, outputs: int) -> int:
        """How many weights lead to so many channels."""
        channels, height, width, groups = (self.geometry[i] for i in (2, 3, 4, 11))
        return outputs * (channels // groups) * height * width


@dataclass(frozen=True, eq=False)
class Fused:
    """A population, or a sum that is read otherwise, with all that one kernel call computes.

    synapses: its inputs. code: the one all spikes have or are brought to. currents: names of other
    values added at every step. bias: int32 [C]; first: that of the first step alone, where
    constants enter once. threshold: int32 [C]; of a sum None. grid: k. shift: products and the bias
    lie on the grid 2^-(k + shift), and their sum is rounded to 2^-k. wide: whether a step's sums
    may need more than 16 bits; where spikes are written as several planes of bits, the sums of one
    plane (what goes beside it is added in 32 bits). reach: the most that biases and synapses move a
    potential in a step: in any, or in each of T. numbers: the node that rounds a sum to numbers of
    16 bits, and the bits of their grid. kept: whether others read the sum as it is.
    """

    synapses: tuple[Synapses, ...]
    code: Code
    currents: tuple[str, ...]
    bias: Tensor
    first: Tensor
    threshold: Tensor | None
    grid: int
    wide: bool
    reach: tuple[int, ...]
    shift: int = 0
    numbers: tuple[str, int] | None = None
    kept: bool = True

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it is computed from."""
        return (*(synapses.spikes for synapses in self.synapses), *self.currents)

    def reached(self, time: int, steps: int) -> int:
        """The most that so many steps from `time` on move a potential."""
        if len(self.reach) == 1:
            return steps * self.reach[0]
        return sum(self.reach[time : time + steps])

    def bias_at(self, time: int) -> Tensor:
        """The bias of the steps of a window that begins at step `time`."""
        return self.bias + self.first if time == 0 else self.bias

    def alone(self) -> "Fused":
        """The same while nothing reaches its synapses."""
        bias = self.bias_at(0) if self.shift else self.bias
        largest = int(bias.abs().max())
        reach = (largest >> self.shift) + (self.shift > 0)
        return replace(self, synapses=(), code=BINARY, wide=largest >= NARROW, reach=(reach,))


def fuse(
    graph: Graph, fixed: Collection[str]
) -> tuple[dict[str, Fused], dict[str, Fused], set[str]]:
    """For every population and every sum what its kernel call computes, and the nodes thereby done.

    fixed: names of the values known beforehand (constant currents). Raises OutOfRange.
    """
    work = _Fusing(graph, fixed)
    found = {node.name: work.population(node) for node in graph.of(Fire)}
    sums = dict[str, Fused]()
    for node in reversed(graph.nodes):  # a sum before what leads to it
        if (fused := work.stream(node)) is not None:
            sums[node.name] = fused
    done = work.done
    used = {name for fused in (*found.values(), *sums.values()) for name in fused.reads}
    for move in reversed(graph.nodes):  # slices and pads that nobody reads any more
        unread = all(reader.name in done for reader in graph.consumers[move.name])
        if isinstance(move, Slice | Pad) and move.name not in used and unread:
            done.add(move.name)
    return found, sums, done


class _Fusing:
    """What becomes of one graph. done: the nodes that kernel calls compute on their way."""

    def __init__(self, graph: Graph, fixed: Collection[str]) -> None:
        self.graph, self.fixed, self.done = graph, fixed, set[str]()
        self.spikes, self.streams = codes(graph), Streams(graph)

    def population(self, node: Fire) -> Fused:
        """A population with what leads to it."""
        assert node.grid is not None  # unsupported() refuses otherwise
        (before,) = node.inputs
        found = self._received(before, node.grid, self._alone(before))
        threshold = _integers(node.name, node.neuron.threshold.expand(node.shape[0]), node.grid)
        return replace(found, threshold=threshold)

    def stream(self, node: Node) -> Fused | None:
        """A sum of synapses that others than neurons read; None of any other node."""
        grid = self.streams.grid(node.name)
        if grid is None or node.name in self.done or not isinstance(node, Add | Round | Weighing):
            return None
        before = set(self.done)
        found = self._received(node.name, grid, True)
        if not found.synapses:
            self.done = before
            return None
        self.done.discard(node.name)
        readers = self.graph.consumers[node.name]
        for reader in readers:
            bits = self.streams.numbers(reader.name)
            if bits is not None and bits <= grid:
                self.done.add(reader.name)
                return replace(found, numbers=(reader.name, bits), kept=len(readers) > 1)
        return found

    def _alone(self, name: str) -> bool:
        """Whether a value that is not known beforehand has one reader."""
        return name not in self.fixed and len(self.graph.consumers[name]) == 1

    def _received(self, name: str, grid: int, own: bool) -> Fused:
        """What adds up to a value, in units of 2^-grid. own: whether nobody else reads it."""
        node, addends = self.graph[name], [(name, own)]
        if isinstance(node, Add) and own:
            addends = [(each, self._alone(each)) for each in node.inputs]
            self.done.add(name)
        spiking, numbers, currents = list[Weighing](), list[Round](), list[str]()
        for each, alone in addends:
            source = self.graph[each]
            if alone:
                source = without_zeros(pool_as_convolution(self.graph, source, grid), self.graph)
            if alone and isinstance(source, Weighing) and self._whole(source.inputs[0]):
                spiking.append(without_moves(self.graph, source))
                self.done.add(each)
            elif each in self.spikes:
                one = torch.ones((), dtype=torch.float32, device="cpu")
                gain = Affine(name=each, inputs=(each,), shape=source.shape, scale=one)
                spiking.append(without_moves(self.graph, gain))
            elif alone and isinstance(source, Round) and self._rounds_products(source, grid):
                numbers.append(source)
            else:
                currents.append(each)
        if numbers and (spiking or len(numbers) > 1):  # one call rounds all its products together
            currents += [rounding.name for rounding in numbers]
        elif numbers:
            self.done.update((numbers[0].name, numbers[0].inputs[0]))
            return self._of_numbers(numbers[0], tuple(currents))
        return self._of_spikes(name, grid, spiking, tuple(currents))

    def _whole(self, name: str) -> bool:
        """Whether a value is spikes, or numbers of 16 bits that they add up to."""
        return name in self.spikes or self.streams.handed_on(name) is not None

    def _rounds_products(self, node: Round, grid: int) -> bool:
        """Whether a node rounds sums of weighted numbers that nobody else reads to 2^-grid."""
        bits = self.streams.products(node.inputs[0])
        fits = bits is not None and grid == node.bits and 0 <= bits - grid <= MOST_SHIFT
        return fits and self._alone(node.inputs[0])

    def _of_numbers(self, node: Round, currents: tuple[str, ...]) -> Fused:
        """Weighted numbers, rounded."""
        weighing = self.graph[node.inputs[0]]
        assert isinstance(weighing, Weighing)  # `_rounds_products`
        (name,) = weighing.inputs
        bits, products = self.streams.numbers(name), self.streams.products(weighing.name)
        assert bits is not None
        assert products is not None
        synapses = replace(_synapses(self.graph, weighing, products - bits), numbers=bits)
        bias, first = self._biases(node, [weighing], products)
        return Fused(
            synapses=(synapses,),
            code=BINARY,
            currents=currents,
            bias=bias,
            first=first,
            threshold=None,
            grid=node.bits,
            wide=True,
            reach=(self.streams.reach(node.name, node.bits),),
            shift=products - node.bits,
        )

    def _of_spikes(
        self, name: str, grid: int, weighted: Sequence[Weighing], currents: tuple[str, ...]
    ) -> Fused:
        """What spikes bring through synapses."""
        whole, first = self._biases(self.graph[name], weighted, grid)
        synapses = tuple(self._synapses(source, grid) for source in weighted)
        spiking = [each.spikes for each in synapses if each.numbers is None]
        code = joined(self.spikes[each] for each in spiking)
        zero = torch.zeros(len(whole), dtype=torch.int64, device="cpu")
        highest = lowest = whole.long() if code.planes == 1 else zero
        tallest = 1 if code.planes == 1 else 2**code.planes
        reach = whole.long().abs()[None]
        for each in synapses:
            rows = each.weights.long().view(len(each.weights), -1)
            own, most = each.factors, code.levels
            if each.numbers is not None:
                most = self.streams.reach(each.spikes, each.numbers)
            factors = tallest if own is None else most * own.long()[:, None]
            reach = reach + factors * rows.abs().sum(1)
            if code.planes == 1 or not each.identity:
                highest = highest + rows.clamp(min=0).sum(1)
                lowest = lowest + rows.clamp(max=0).sum(1)
        wide = max(int(highest.max()), -int(lowest.min())) >= NARROW
        return Fused(
            synapses=synapses,
            code=code,
            currents=currents,
            bias=whole,
            first=first,
            threshold=None,
            grid=grid,
            wide=wide,
            reach=tuple(reach.amax(1).tolist()),
        )

    def _synapses(self, node: Weighing, grid: int) -> Synapses:
        """The synapses of a node that spikes, or the numbers they add up to, reach."""
        (name,) = node.inputs
        bits = self.streams.handed_on(name) if name not in self.spikes else None
        if bits is None:
            return _synapses(self.graph, node, grid, self.spikes[name].units)
        steps = self.graph.longest or 1
        units = torch.full((steps,), 2.0**-bits, dtype=torch.float32, device="cpu")
        return replace(_synapses(self.graph, node, grid, units), numbers=bits)

    def _biases(self, node: Node, weighted: Sequence[Weighing], grid: int) -> tuple[Tensor, Tensor]:
        """What is added to products at every step, and at the first alone, in units of 2^-grid."""
        total = torch.zeros(node.shape[0], dtype=torch.float64, device="cpu")
        for source in weighted:
            added = source.shift if isinstance(source, Affine) else source.bias
            total = total if added is None else total + added
        whole = _integers(node.name, total, grid)
        none = torch.zeros_like(whole)
        return (none, whole) if self.graph.input.encoding == "once" else (whole, none)


def _integers(name: str, values: Tensor, grid: int) -> Tensor:
    """Numbers of the node `name` in units of the grid; OutOfRange where 32 bits do not hold one."""
    found = torch.round(values.double() * 2.0**grid)
    if not bool((found.abs() < MOST).all()):
        raise OutOfRange(f"weights or thresholds of {name!r}")
    return found.to(torch.int32).contiguous()


def _synapses(graph: Graph, node: Weighing, grid: int, units: Tensor | None = None) -> Synapses:
    """The weights of a node as integers, and its geometry.

    units: of the spikes, if not always 1; the weights are on a grid of their own then, so that
    weights and factors are integers.
    """
    if units is not None:
        weights = node.scale if isinstance(node, Affine) else node.weight
        coarse = coarsest_grid(weights) or 0
        factors = _integers(node.name, units, grid - coarse)
        return replace(_synapses(graph, node, coarse), factors=factors)
    shape = graph[node.inputs[0]].shape
    channels, height, width = (*shape, 1, 1)[:3]
    if isinstance(node, Affine):
        weights = _integers(node.name, node.scale.expand(channels), grid)
        own = (height, width, channels, 1, 1, 1, 1, 0, 0, 1, 1, channels, 1)
        return Synapses(node.inputs[0], weights, own, True)
    if isinstance(node, Linear):
        node = Conv2d(
            name=node.name,
            inputs=node.inputs,
            shape=node.shape,
            weight=node.weight[:, :, None, None],
            bias=node.bias,
        )
    geometry = (
        *(height, width, channels, *node.weight.shape[2:], *node.stride, *node.padding),
        *(*node.dilation, node.groups, 0),
    )
    return Synapses(node.inputs[0], _integers(node.name, node.weight, grid), geometry, False)
