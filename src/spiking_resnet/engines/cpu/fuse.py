"""What one kernel call of the native engine computes: a population and everything that leads to it.

Weights, biases and thresholds become integers here: multiples of the population's grid 2^-k.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spiking_resnet.engines.cpu.bit_code import BINARY, Code, codes, joined
from spiking_resnet.engines.plan import OutOfRange
from spiking_resnet.graph import Add, Affine, AvgPool, Conv2d, Fire, Graph, Linear, Node, Pad, Slice
from spiking_resnet.graph.grids import coarsest_grid

LARGEST_POOL = 16  # inputs of an average pool that is computed as synapses
NARROW = 2**15  # sums below it fit 16 bits
MOST = 2**31 - 2**20  # and numbers below it 32, with what kernels add on the way to a sum


@dataclass(frozen=True, eq=False)
class Synapses:
    """Spikes named `spikes` that reach a population through `weights`.

    weights: int32 [out, in / groups, height, width], or [C] if `identity` (one synapse from each
    neuron to the one at its own place). geometry: the numbers of `kernels.Source` from `height` on.
    factors: int32 [T], what a spike of size 1 counts at each step, if not always 1.
    """

    spikes: str
    weights: Tensor
    geometry: tuple[int, ...]
    identity: bool
    factors: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape [C, H, W] of the spikes, of the same positions as their own."""
        height, width, channels = self.geometry[:3]
        return channels, height, width

    def number(self, outputs: int) -> int:
        """How many weights lead to so many channels."""
        channels, height, width, groups = (self.geometry[i] for i in (2, 3, 4, 11))
        return outputs * (channels // groups) * height * width


@dataclass(frozen=True, eq=False)
class Fused:
    """A population with everything that one kernel call computes.

    synapses: its spiking inputs. code: the one all of them have or are brought to. currents: names
    of other values added at every step. bias, threshold: int32 [C]; first: the bias of the first
    step alone, where constants enter once. grid: k. wide: whether a step's
    sums may need more than 16 bits; where spikes are written as several planes of bits, the sums of
    one plane (what goes beside it is added in 32 bits). reach: the most that biases and spikes move
    a potential in a step: in any, or in each of T.
    """

    synapses: tuple[Synapses, ...]
    code: Code
    currents: tuple[str, ...]
    bias: Tensor
    first: Tensor
    threshold: Tensor
    grid: int
    wide: bool
    reach: tuple[int, ...]

    def reached(self, time: int, steps: int) -> int:
        """The most that so many steps from `time` on move a potential."""
        if len(self.reach) == 1:
            return steps * self.reach[0]
        return sum(self.reach[time : time + steps])

    def alone(self) -> "Fused":
        """The population while no spike reaches it."""
        largest = int(self.bias.abs().max())
        return replace(self, synapses=(), code=BINARY, wide=largest >= NARROW, reach=(largest,))


def fuse(graph: Graph, fixed: Collection[str]) -> tuple[dict[str, Fused], set[str]]:
    """For every population what its kernel call computes, and the nodes thereby done.

    fixed: names of the values known beforehand (constant currents). Raises OutOfRange.
    """
    spikes, found, done = codes(graph), dict[str, Fused](), set[str]()
    for node in graph.of(Fire):
        before = graph[node.inputs[0]]
        addends = [before.name]
        own = before.name not in fixed and len(graph.consumers[before.name]) == 1
        if isinstance(before, Add) and own:
            addends = list(before.inputs)
            done.add(before.name)
        weighted: list[Conv2d | Linear | Affine] = []
        currents = []
        for name in addends:
            source = graph[name]
            if name not in fixed and len(graph.consumers[name]) == 1:
                source = _pool_as_convolution(graph, source, node)
            own = len(graph.consumers[name]) == 1 and name not in fixed
            if own and isinstance(source, Conv2d | Linear | Affine) and source.inputs[0] in spikes:
                weighted.append(without_moves(graph, source))
                done.add(name)
            elif name in spikes:
                one = torch.ones((), dtype=torch.float32, device="cpu")
                gain = Affine(name=name, inputs=(name,), shape=source.shape, scale=one)
                weighted.append(without_moves(graph, gain))
            else:
                currents.append(name)
        found[node.name] = _fused(graph, node, weighted, currents, spikes)
    used = {synapses.spikes for fused in found.values() for synapses in fused.synapses}
    used.update(name for fused in found.values() for name in fused.currents)
    for move in reversed(graph.nodes):  # slices and pads that nobody reads any more
        unread = all(reader.name in done for reader in graph.consumers[move.name])
        if isinstance(move, Slice | Pad) and move.name not in used and unread:
            done.add(move.name)
    return found, done


def _pool_as_convolution(graph: Graph, node: Node, population: Fire) -> Node:
    """A small average pool as a depthwise convolution, if its weights lie on the grid."""
    if not isinstance(node, AvgPool) or node.kernel[0] * node.kernel[1] > LARGEST_POOL:
        return node
    weight = 1 / node.divisor
    if population.grid is None or (weight * 2.0**population.grid) % 1:
        return node
    channels = node.shape[0]
    return Conv2d(
        name=node.name,
        inputs=node.inputs,
        shape=node.shape,
        weight=torch.full((channels, 1, *node.kernel), weight, dtype=torch.float32, device="cpu"),
        bias=None,
        stride=node.stride,
        padding=node.padding,
        groups=channels,
        grid=population.grid,
    )


def without_moves(graph: Graph, node: Conv2d | Linear | Affine) -> Conv2d | Linear | Affine:
    """A gain of spikes cut out with strides and padded with channels (an option A shortcut) as a
    1x1 convolution of the spikes themselves; any other node as it is.
    """
    origin = graph[node.inputs[0]]
    if not isinstance(node, Affine) or not isinstance(origin, Slice | Pad):
        return node
    chain: list[Slice | Pad] = []
    while isinstance(origin, Slice | Pad):
        chain.append(origin)
        origin = graph[origin.inputs[0]]
    if len(origin.shape) != 3:
        return node
    channels = [*range(origin.shape[0])]  # of the spikes, by the place they end up at; -1: none
    first, stride = [0, 0], [1, 1]
    for move in reversed(chain):
        if isinstance(move, Pad):
            if any(sum(pair) for pair in move.padding[1:]):
                return node
            before, after = move.padding[0]
            channels = [-1] * before + channels + [-1] * after
        elif move.axis == 0:
            channels = channels[move.start : move.stop : move.step]
        else:
            first[move.axis - 1] += move.start * stride[move.axis - 1]
            stride[move.axis - 1] *= move.step
    gain = node.scale.expand(node.shape[0])
    size = (node.shape[0], origin.shape[0], 1, 1)
    weight = torch.zeros(size, dtype=torch.float32, device="cpu")
    for to, channel in enumerate(channels):
        if channel >= 0:
            weight[to, channel] = gain[to]
    return Conv2d(
        name=node.name,
        inputs=(origin.name,),
        shape=node.shape,
        weight=weight,
        bias=node.shift,
        stride=(stride[0], stride[1]),
        padding=(-first[0], -first[1]),
        grid=node.grid,
    )


def _fused(
    graph: Graph,
    node: Fire,
    weighted: list[Conv2d | Linear | Affine],
    currents: list[str],
    spikes: Mapping[str, Code],
) -> Fused:
    """A population with its spiking inputs as integers."""
    assert node.grid is not None  # unsupported() refuses otherwise
    bias = torch.zeros(node.shape[0], dtype=torch.float64, device="cpu")
    for source in weighted:
        shift = source.shift if isinstance(source, Affine) else source.bias
        bias = bias if shift is None else bias + shift
    synapses = tuple(
        _synapses(graph, source, node.grid, spikes[source.inputs[0]].units) for source in weighted
    )
    code = joined(spikes[each.spikes] for each in synapses)
    added = _integers(node.name, bias, node.grid)
    once = graph.input.encoding == "once"
    whole, first = (torch.zeros_like(added), added) if once else (added, torch.zeros_like(added))
    zero = torch.zeros(node.shape[0], dtype=torch.int64, device="cpu")
    highest = lowest = whole.long() if code.planes == 1 else zero
    tallest = 1 if code.planes == 1 else 2**code.planes
    reach = whole.long().abs()[None]
    for each in synapses:
        rows = each.weights.long().view(len(each.weights), -1)
        own = each.factors
        factors = torch.full((1, 1), tallest) if own is None else code.levels * own[:, None]
        reach = reach + factors.long() * rows.abs().sum(1)
        if code.planes == 1 or not each.identity:
            highest = highest + rows.clamp(min=0).sum(1)
            lowest = lowest + rows.clamp(max=0).sum(1)
    wide = max(int(highest.max()), -int(lowest.min())) >= NARROW
    threshold = _integers(node.name, node.neuron.threshold.expand(node.shape[0]), node.grid)
    return Fused(
        synapses=synapses,
        code=code,
        currents=tuple(currents),
        bias=whole,
        first=first,
        threshold=threshold,
        grid=node.grid,
        wide=wide,
        reach=tuple(reach.amax(1).tolist()),
    )


def _integers(name: str, values: Tensor, grid: int) -> Tensor:
    """Numbers of the node `name` in units of the grid; OutOfRange where 32 bits do not hold one."""
    found = torch.round(values.double() * 2.0**grid)
    if not bool((found.abs() < MOST).all()):
        raise OutOfRange(f"weights or thresholds of {name!r}")
    return found.to(torch.int32).contiguous()


def _synapses(
    graph: Graph, node: Conv2d | Linear | Affine, grid: int, units: Tensor | None = None
) -> Synapses:
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
