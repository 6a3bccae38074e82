"""What a graph computes: the definition of every node, for artificial and spiking networks alike.

`step` advances a network by one time step. With ReLU nodes that is the artificial network; with
Fire nodes it is the spiking one. Every engine is tested against this file. State is an argument
and a result, never hidden, so that a user can also stream frames step by step.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Output,
    Pad,
    ReLU,
    Round,
    Select,
    Slice,
)
from spiking_resnet.neurons import State as NeuronState
from spiking_resnet.neurons import per_channel


@dataclass(frozen=True, eq=False)
class State:
    """What a network carries from one time step to the next.

    time: steps done. memory: membrane potentials (Fire), cumulative inputs (MaxPool) and the summed
    read-out (Output), [N, ...] by node name; of neurons that remember more than their potential
    also that, by the name that `emitted_by` gives, and of a delayed read-out the sum over the steps
    it leaves out, by `left_out`.
    """

    time: int = 0
    memory: Mapping[str, Tensor] = field(default_factory=dict)


def emitted_by(name: str) -> str:
    """Where a State keeps what a population remembers: spikes fired, of signed neurons."""
    return f"{name}:emitted"


def left_out(name: str) -> str:
    """Where a State keeps what a delayed read-out has summed up over the steps it leaves out."""
    return f"{name}:left out"


def neuron_state(node: Fire, memory: Mapping[str, Tensor], current: Tensor) -> NeuronState:
    """The state of a population in `memory`, or before the first step, for currents like this."""
    if node.name not in memory:
        return node.neuron.initial_state(current)
    return NeuronState(memory[node.name], memory.get(emitted_by(node.name)))


def keep_state(node: Fire, memory: dict[str, Tensor], state: NeuronState) -> None:
    """Puts the state of a population into `memory`."""
    memory[node.name] = state.potential
    if state.memory is not None:
        memory[emitted_by(node.name)] = state.memory


def convolve(node: Conv2d, x: Tensor) -> Tensor:
    """The convolution of x [N, C, H, W] in the dtype of the weight."""
    weight = node.weight
    y = F.conv2d(
        x.to(weight.dtype),
        weight,
        node.bias,
        node.stride,
        node.padding,
        node.dilation,
        node.groups,
    )
    return _on_grid(y, node.grid)


def _on_grid(y: Tensor, grid: int | None) -> Tensor:
    """`y`; rounded back to the grid on an accelerator, whose convolutions may be inexact."""
    if grid is None or y.device.type == "cpu":
        return y
    return torch.round(y * 2.0**grid) * 2.0**-grid


def linear(node: Linear, x: Tensor) -> Tensor:
    """The matrix product for x [N, features] in the dtype of the weight."""
    return _on_grid(F.linear(x.to(node.weight.dtype), node.weight, node.bias), node.grid)


def affine(node: Affine, x: Tensor) -> Tensor:
    """scale * x + shift in the dtype of the scale."""
    x = x.to(node.scale.dtype)
    y = per_channel(node.scale, x) * x
    return y if node.shift is None else y + per_channel(node.shift, x)


def relu(node: ReLU, x: Tensor) -> Tensor:
    """max(x, 0), cut off at the ceiling, rounded to a level if there are any."""
    if node.levels is None or node.ceiling is None:
        return x.clamp(0, node.ceiling)
    height = node.ceiling / node.levels
    return (x / height).add_(0.5).floor_().clamp_(0, node.levels).mul_(height)


def average_pool(node: AvgPool, x: Tensor) -> Tensor:
    """The windows' sums over the divisor: the sum first, so that it is exact on a grid."""
    sums = F.avg_pool2d(x, node.kernel, node.stride, node.padding, divisor_override=1)
    return sums if node.divisor == 1 else sums / node.divisor


def max_pool(node: MaxPool, x: Tensor) -> Tensor:
    """The windows' maxima of x [N, C, H, W]."""
    return F.max_pool2d(x, node.kernel, node.stride, node.padding, node.dilation, node.ceil_mode)


def pad(node: Pad, x: Tensor) -> Tensor:
    """x with zeros around it."""
    return F.pad(x, [size for pair in reversed(node.padding) for size in pair])


def cut(node: Slice, x: Tensor) -> Tensor:
    """Every `step`-th entry of x from start to stop along one axis."""
    index = [slice(None)] * x.ndim
    index[node.axis + 1] = slice(node.start, node.stop, node.step)
    return x[tuple(index)]


def select(node: Select, x: Tensor) -> Tensor:
    """The chosen entries of one axis of x, in the order given."""
    return x.index_select(
        node.axis + 1, torch.tensor(node.index, dtype=torch.int64, device=x.device)
    )


def add(node: Add, *values: Tensor) -> Tensor:
    """The sum of the values."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


STATELESS: dict[type[Node], Callable[..., Tensor]] = {
    Conv2d: convolve,
    Linear: linear,
    Affine: affine,
    Round: lambda node, x: (x.double() * 2.0**node.bits).round_().mul_(2.0**-node.bits).float(),
    ReLU: relu,
    Add: add,
    Concat: lambda node, *values: torch.cat(values, 1),
    Pad: pad,
    Slice: cut,
    Select: select,
    AvgPool: average_pool,
    Flatten: lambda node, x: x.flatten(1),
}


def present(node: Input, images: Tensor, time: int) -> Tensor:
    """What the Input node hands on at step `time` (0 is the first), [N, C, H, W]."""
    if node.encoding == "once":
        return images if time == 0 else torch.zeros_like(images)
    if node.encoding == "constant":
        if node.grid is None:
            return images
        return torch.round(images.double() * 2.0**node.grid) * 2.0**-node.grid
    generator = torch.Generator().manual_seed((node.seed * 1_000_003 + time) % 2**64)
    chance = torch.rand(node.shape, generator=generator, dtype=torch.float32).to(images.device)
    spikes = images.abs() > chance * node.scale  # the same draw for every image of a batch
    return images.sign() * spikes * node.amplitude


def at_step(node: Node, once: bool, time: int) -> Node:
    """The node as it computes at step `time`: where constants enter `once`, later without them."""
    if not once or time == 0:
        return node
    if isinstance(node, Conv2d | Linear):
        return replace(node, bias=None)
    return replace(node, shift=None) if isinstance(node, Affine) else node


def is_stateful(node: Node) -> bool:
    """Whether the node carries memory from step to step."""
    cumulative = isinstance(node, MaxPool) and node.rule == "cumulative"
    return cumulative or isinstance(node, Fire | Output)


def constants(graph: Graph) -> set[str]:
    """Names of the nodes whose value is the same at every step: those no spike reaches."""
    if graph.input.encoding != "constant":
        return set()
    found: set[str] = set()
    for node in graph.nodes:
        if not is_stateful(node) and all(name in found for name in node.inputs):
            found.add(node.name)
    return found


def last_readers(nodes: Iterable[Node]) -> dict[str, str]:
    """For each value, the name of the last node that reads it: after that it can be freed."""
    return {name: node.name for node in nodes for name in node.inputs}


def walk(
    nodes: Iterable[Node],
    images: Tensor,
    memory: dict[str, Tensor],
    time: int = 0,
    given: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[Node, Tensor]]:
    """Yields (node, its value [N, ...]) through one time step, updating `memory` on the way.

    given: values known beforehand, not computed again. A value is freed after its last reader.
    """
    nodes = tuple(nodes)
    given = given or {}
    values: dict[str, Tensor] = {}
    last = last_readers(nodes)
    once = any(isinstance(node, Input) and node.encoding == "once" for node in nodes)
    for node in (at_step(node, once, time) for node in nodes):
        if node.name in given:
            value = given[node.name]
        elif isinstance(node, Input):
            value = present(node, images, time)
        else:
            value = _advance(node, [values[name] for name in node.inputs], memory, time)
        if node.name in last:
            values[node.name] = value
        for name in set(node.inputs) & values.keys():
            if last[name] == node.name:
                del values[name]
        yield node, value


def _advance(node: Node, inputs: list[Tensor], memory: dict[str, Tensor], time: int) -> Tensor:
    """The value of one node in this step; `memory` is brought up to date."""
    name = node.name
    if isinstance(node, Fire):
        value, after = node.neuron.step(neuron_state(node, memory, inputs[0]), inputs[0], time)
        keep_state(node, memory, after)
        return value
    if isinstance(node, Output):
        sum_up(node, memory, inputs[0], time + 1)
        return inputs[0]
    if isinstance(node, MaxPool):
        if node.rule == "instant":
            return max_pool(node, inputs[0])
        before = memory[name] if name in memory else torch.zeros_like(inputs[0])
        memory[name] = before + inputs[0]
        return max_pool(node, memory[name]) - max_pool(node, before)
    return STATELESS[type(node)](node, *inputs)


def sum_up(node: Output, memory: dict[str, Tensor], total: Tensor, time: int) -> None:
    """Adds to the read-out the `total` [N, K] of the steps that end with `time` of them done.

    They end with the read-out's delay, or do not reach across it.
    """
    name = node.name
    memory[name] = memory[name] + total if name in memory else total
    if time == node.delay:
        memory[left_out(name)] = memory[name]


def step(
    graph: Graph,
    images: Tensor,
    state: State | None = None,
    given: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, State]:
    """(what reaches the read-out in this step [N, K], the state after it).

    images: [N, C, H, W], normalised as the network expects; a stream may pass others at each step.
    state: None before the first step. given: the `constant_values` of a constant image.
    """
    state = state or State()
    memory = dict(state.memory)
    *_, (_, value) = walk(varying(graph, given), images, memory, state.time, given)
    return value, State(state.time + 1, memory)


def varying(graph: Graph, given: Mapping[str, Tensor] | None) -> tuple[Node, ...]:
    """The nodes to run when the values in `given` are known: these, and all that spikes reach."""
    if not given:
        return graph.nodes
    fixed = constants(graph)
    return tuple(n for n in graph.nodes if n.name in given or n.name not in fixed)


def constant_values(graph: Graph, images: Tensor) -> dict[str, Tensor]:
    """The values that no spike changes but spikes meet, computed once for all time steps."""
    fixed = constants(graph)
    nodes = [node for node in graph.nodes if node.name in fixed]
    return {
        node.name: value
        for node, value in walk(nodes, images, {})
        if any(reader.name not in fixed for reader in graph.consumers[node.name])
    }


def readout(graph: Graph, state: State) -> Tensor:
    """The logits [N, K] after the steps done so far, in the artificial network's units."""
    if state.time < 1:
        raise ValueError("no time step was run: there is nothing to read out")
    node = graph.output
    total = state.memory[node.name]
    if node.readout == "spikes+membrane":
        total = total + torch.softmax(state.memory[node.inputs[0]], -1)
    steps = state.time
    if node.readout == "mean" and 0 < node.delay < steps:
        total, steps = total - state.memory[left_out(node.name)], steps - node.delay
    return total.float() * (node.scale / (1 if node.readout == "sum" else steps))


def values(graph: Graph, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
    """The values [N, ...] of the named nodes in one pass of an artificial network."""
    return {node.name: v for node, v in walk(graph.nodes, images, {}) if node.name in names}


def logits(graph: Graph, images: Tensor) -> Tensor:
    """The logits [N, K] of an artificial network (of a spiking one: after one step)."""
    return readout(graph, step(graph, images)[1])
