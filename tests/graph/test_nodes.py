"""The rules of every kind of node, on awkward random examples, against what the kind computes."""

import json
import random
from dataclasses import replace
from itertools import product

import pytest
import torch

from spiking_resnet.costs.sizes import sizes
from spiking_resnet.graph import (
    KINDS,
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    GraphError,
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
    interpret,
)
from spiking_resnet.graph.checks import check_node, check_shape
from spiking_resnet.graph.grids import on_grid
from spiking_resnet.graph.plain import arrays, build, describe
from spiking_resnet.neurons import IntegrateAndFire

pytestmark = pytest.mark.whole

SEEDS = range(6)
BITS = 3  # of the grid that drawn numbers lie on

# What every kind must say for itself, and what only kinds of a role must.
RULES = ("output_shape", "bounds", "value_grid", "existing")
OF_ROLES = {
    "connections": lambda kind: kind.has_synapses,
    "scaled": lambda kind: kind.takes_any_scale,
    "spike_scale": lambda kind: kind.hands_on or kind in (Input, Fire),
    "value": lambda kind: kind.advance is Node.advance or kind is MaxPool,
    "advance": lambda kind: kind in (Input, Fire, Output),  # these know the time
    "input_scale": lambda kind: kind.ARITY != 0,
    "macs": lambda kind: kind.takes_any_scale,
}


def missing(kind):
    """The rules that a kind has no definition of, beside the ones that `Node` only names."""
    wanted = [*RULES, *(rule for rule, has in OF_ROLES.items() if has(kind))]
    return [rule for rule in wanted if getattr(kind, rule) is getattr(Node, rule)]


class Draw:
    """Random numbers of one example."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def whole(self, low, high):
        return self.rng.randint(low, high)

    def pair(self, low, high):
        return (self.whole(low, high), self.whole(low, high))

    def numbers(self, *shape, most=40):
        """Numbers on the grid 2^-BITS."""
        units = torch.randint(-most, most + 1, shape, generator=self.generator)
        return units.float() * 2.0**-BITS

    def scale(self, channels):
        """A scale [] or [C], a power of two, so that dividing by it is exact."""
        shape = self.rng.choice([(), (channels,)])
        return 2.0 ** torch.randint(-2, 3, shape, generator=self.generator).double()

    def map(self):
        return (self.whole(1, 6), self.whole(2, 7), self.whole(2, 7))

    def any_shape(self):
        return self.rng.choice([self.map(), (self.whole(1, 9),)])


def conv2d(draw):
    shape = draw.map()
    groups = draw.rng.choice([g for g in range(1, shape[0] + 1) if shape[0] % g == 0])
    out = groups * draw.whole(1, 3)
    kernel = (draw.whole(1, shape[1]), draw.whole(1, shape[2]))
    sides = zip(kernel, shape[1:], strict=True)
    dilation = tuple(draw.whole(1, 2) if k * 2 <= side else 1 for k, side in sides)
    bias = draw.rng.choice([None, draw.numbers(out)])
    return Conv2d, {
        "weight": draw.numbers(out, shape[0] // groups, *kernel), "bias": bias, "groups": groups,
        "stride": draw.pair(1, 3), "padding": draw.pair(0, 2), "dilation": dilation, "grid": BITS,
    }, [shape]  # fmt: skip


def linear(draw):
    inner, out = draw.whole(1, 9), draw.whole(1, 5)
    bias = draw.rng.choice([None, draw.numbers(out)])
    return Linear, {"weight": draw.numbers(out, inner), "bias": bias, "grid": BITS}, [(inner,)]


def affine(draw):
    shape = draw.any_shape()
    scale = draw.numbers(*draw.rng.choice([(), shape[:1]]))
    shift = draw.rng.choice([None, draw.numbers(shape[0])])
    return Affine, {"scale": scale, "shift": shift, "grid": BITS}, [shape]


def relu(draw):
    ceiling = draw.rng.choice([None, 1.5, 6.0])
    levels = None if ceiling is None else draw.rng.choice([None, 3, 4])
    return ReLU, {"ceiling": ceiling, "levels": levels}, [draw.any_shape()]


def fire(draw):
    shape = draw.any_shape()
    levels = draw.whole(1, 3)
    neuron = IntegrateAndFire(
        threshold=draw.numbers(shape[0]).abs() + 0.5, initial_potential=draw.numbers(*shape),
        amplitude=draw.scale(shape[0]).float(), levels=levels, signed=draw.rng.random() < 0.5,
    )  # fmt: skip
    return Fire, {"neuron": neuron, "grid": BITS}, [shape]


def several(draw, shapes):
    return [shapes() for _ in range(draw.whole(1, 3))]


def add(draw):
    shape = draw.any_shape()
    return Add, {}, several(draw, lambda: shape)


def concat(draw):
    places = draw.rng.choice([(), draw.pair(1, 5)])
    return Concat, {}, several(draw, lambda: (draw.whole(1, 4), *places))


def pad(draw):
    shape = draw.any_shape()
    return Pad, {"padding": tuple(draw.pair(0, 2) for _ in shape)}, [shape]


def axis_of(draw, shape):
    return draw.rng.choice([0, draw.rng.randrange(len(shape))])


def slice_(draw):
    shape = draw.any_shape()
    axis = axis_of(draw, shape)
    start = draw.rng.randrange(shape[axis])
    stop = draw.whole(start + 1, shape[axis])
    return Slice, {"axis": axis, "start": start, "stop": stop, "step": draw.whole(1, 3)}, [shape]


def select(draw):
    shape = draw.any_shape()
    axis = axis_of(draw, shape)
    index = tuple(draw.rng.randrange(shape[axis]) for _ in range(draw.whole(1, 8)))
    return Select, {"axis": axis, "index": index}, [shape]


def pool(draw):
    shape = draw.map()
    kernel = (draw.whole(1, shape[1]), draw.whole(1, shape[2]))
    padding = tuple(draw.whole(0, size // 2) for size in kernel)
    return {"kernel": kernel, "stride": draw.pair(1, 3), "padding": padding}, shape


def avg_pool(draw):
    fields, shape = pool(draw)
    return AvgPool, {**fields, "divisor": draw.rng.choice([1.0, 2.0, 4.0, 9.0])}, [shape]


def max_pool(draw):
    fields, shape = pool(draw)
    rule = draw.rng.choice(["instant", "cumulative"])
    return MaxPool, {**fields, "ceil_mode": draw.rng.random() < 0.5, "rule": rule}, [shape]


def image(draw):
    encoding = draw.rng.choice(["constant", "poisson", "once"])
    fields = {"encoding": encoding, "scale": 3.0, "amplitude": 0.5, "limit": 6.0}
    return Input, {**fields, "grid": draw.rng.choice([None, 2])}, []


EXAMPLES = {
    Input: image,
    Conv2d: conv2d,
    Linear: linear,
    Affine: affine,
    Round: lambda draw: (Round, {"bits": draw.whole(0, BITS)}, [draw.any_shape()]),
    ReLU: relu,
    Fire: fire,
    Add: add,
    Concat: concat,
    Pad: pad,
    Slice: slice_,
    Select: select,
    AvgPool: avg_pool,
    MaxPool: max_pool,
    Flatten: lambda draw: (Flatten, {}, [draw.any_shape()]),
    Output: lambda draw: (Output, {}, [(draw.whole(1, 9),)]),
}


class Example:
    """A node of one kind and what it reads: numbers on the grid 2^-BITS in [-5, 5]."""

    def __init__(self, kind, seed):
        self.draw = draw = Draw(seed)
        kind, fields, shapes = EXAMPLES[kind](draw)
        names = tuple(f"x{i}" for i in range(len(shapes)))
        rough = kind(name="node", inputs=names, shape=(1,), **fields)
        shape = draw.map() if kind is Input else rough.output_shape(*shapes)
        self.node, self.shapes = replace(rough, shape=shape), shapes
        self.inputs = [draw.numbers(3, *shape) for shape in shapes]

    def value(self, inputs=None, node=None):
        """The value in the first step, as the interpreter computes it."""
        node, inputs = node or self.node, self.inputs if inputs is None else inputs
        sources = [
            Input(name=name, inputs=(), shape=tuple(x.shape[1:]))
            for name, x in zip(node.inputs, inputs, strict=True)
        ]
        given = {source.name: x for source, x in zip(sources, inputs, strict=True)}
        images = self.draw.numbers(3, *node.shape)
        *_, (_, value) = interpret.walk([*sources, node], images, {}, 0, given)
        return value

    def bounds(self):
        """The bounds of the node, of its inputs' lowest and highest by channel."""
        ends = [
            (x.double().transpose(0, 1).flatten(1).amin(1), x.transpose(0, 1).flatten(1).amax(1))
            for x in self.inputs
        ]
        return self.node.bounds([(low, high.double()) for low, high in ends], self.shapes)


def per_channel(values, like):
    return values.view(-1, *[1] * (like.ndim - 2)) if values.ndim else values


def divided(x, scale):
    return x.double() / per_channel(scale, x)


def every_kind(function):
    """The test of one kind, for all seeds."""

    def all_seeds(kind):
        for seed in SEEDS:
            try:
                function(kind, seed)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise

    return pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)(all_seeds)


def test_every_kind_has_every_rule_and_an_example():
    assert {kind: missing(kind) for kind in KINDS.values() if missing(kind)} == {}
    assert set(EXAMPLES) == set(KINDS.values())
    assert all(name == kind.__name__ for name, kind in KINDS.items())


def test_a_missing_rule_is_noticed():
    class Nameless(Node):
        """A kind that says nothing."""

    assert set(missing(Nameless)) >= {"output_shape", "value", "bounds", "value_grid", "existing"}
    with pytest.raises(NotImplementedError, match=r"Nameless\.bounds"):
        Nameless(name="n", inputs=(), shape=(1,)).bounds([], [])


@every_kind
def test_the_shape_is_that_of_the_value(kind, seed):
    example = Example(kind, seed)
    check_node(example.node)
    check_shape(example.node, example.shapes)
    assert tuple(example.value().shape[1:]) == example.node.shape
    with pytest.raises(GraphError):
        check_shape(replace(example.node, inputs=("x",) * 9), [*example.shapes, (2, 3)] * 2)


@every_kind
def test_values_lie_within_bounds_and_on_the_grid(kind, seed):
    example = Example(kind, seed)
    value, (low, high) = example.value().double(), example.bounds()
    assert low.dtype == high.dtype == torch.float64
    assert bool((value >= per_channel(low, value)).all())
    assert bool((value <= per_channel(high, value)).all())
    grids = [BITS] * len(example.inputs)
    grid = example.node.value_grid(grids, (low, high))
    assert grid is None or on_grid(value, grid)
    if grid is not None and grids:
        unknown = example.node.value_grid([None, *grids[1:]], (low, high))
        assert unknown in (
            None,
            grid,
        )  # known where no input matters


@every_kind
def test_a_scaled_node_gives_the_scaled_value(kind, seed):
    """Values divided by a scale [] or [C], of inputs divided by what the rules say they must be."""
    example = Example(kind, seed)
    node, draw = example.node, example.draw
    scale = draw.scale(node.shape[0])
    if node.ARITY == 0 or kind in (Round, ReLU, Fire):  # not linear: normalise knows populations
        return
    if node.takes_any_scale:
        incoming = draw.scale(example.shapes[0][0])
        scaled = node.scaled(incoming, scale)
        found = example.value([divided(example.inputs[0], incoming)], scaled)
    else:
        wanted = [node.input_scale(scale, i, example.shapes) for i in range(len(example.inputs))]
        if any(each is None for each in wanted):
            assert scale.ndim  # one number for all channels passes everywhere
            return
        found = example.value([divided(*pair) for pair in zip(example.inputs, wanted, strict=True)])
    exact = example.value([x.double() for x in example.inputs])
    assert torch.allclose(found.double(), divided(exact, scale), rtol=1e-12, atol=1e-12)


@every_kind
def test_spikes_that_are_handed_on_have_the_amplitude_that_is_told(kind, seed):
    example = Example(kind, seed)
    node, draw = example.node, example.draw
    if not node.hands_on:
        assert node.carries_spikes([True] * len(example.inputs)) == (
            kind is Fire or (kind is Input and node.encoding == "poisson")
        )
        return
    assert node.carries_spikes([True] * len(example.inputs))
    assert not node.carries_spikes([False, *[True] * (len(example.inputs) - 1)])
    scales = [draw.scale(shape[0]) for shape in example.shapes]
    whole = [
        torch.randint(0, 4, x.shape, generator=draw.generator).double() for x in example.inputs
    ]
    heights = [x * per_channel(s, x) for x, s in zip(whole, scales, strict=True)]
    counts = example.value(whole, node.with_unit_spikes())
    assert torch.equal(counts, counts.round())
    told = node.spike_scale(scales, example.shapes)
    if kind is not MaxPool or node.rule == "cumulative":
        assert torch.allclose(
            example.value(heights), counts * per_channel(told, counts), rtol=1e-12
        )
    assert torch.allclose(node.handed_on(*whole), counts)


@every_kind
def test_sums_over_steps_follow_from_summed_inputs(kind, seed):
    example = Example(kind, seed)
    node, steps = example.node, 3
    if kind in (Input, Fire, ReLU, Output, Round) or kind is MaxPool:
        return  # not linear, or of no step: `rates` counts their spikes
    numbers = example.draw.numbers
    parts = [[numbers(*x.shape).double() for x in example.inputs] for _ in range(steps)]
    total = sum(example.value(part).double() for part in parts)
    inputs = [sum(part[i] for part in parts) for i in range(len(example.inputs))]
    assert torch.allclose(example.value(inputs, node.summed(steps)), total, rtol=1e-12, atol=1e-12)
    zeros = [torch.zeros_like(x) for x in example.inputs]
    assert not bool(example.value(zeros, node.without_constants()).any())


@every_kind
def test_sizes_are_counts_one_by_one(kind, seed):
    """A product exists where an entry of the input, set alone, changes the value."""
    example = Example(kind, seed)
    node = example.node
    if node.ARITY == 0:
        return
    sources = [
        Input(name=name, inputs=(), shape=shape)
        for name, shape in zip(node.inputs, example.shapes, strict=True)
    ]
    found = sizes([*sources, node])["node"]
    own = [t for t in (getattr(node, name, None) for name in kind.TENSORS) if t is not None]
    assert found.parameters == sum(tensor.numel() for tensor in own)
    assert found.neurons == (torch.Size(node.shape).numel() if kind in (Fire, ReLU) else 0)
    if not node.has_synapses:
        assert (found.macs, found.synapses) == (0, 0)
        return
    assert found.synapses == synapses_one_by_one(example)
    products = {Conv2d: "weight", Linear: "weight"}.get(kind)
    each = getattr(node, products)[0].numel() if products else int(kind is Affine)
    assert found.macs == torch.Size(node.shape).numel() * each


def synapses_one_by_one(example):
    """How many entries of the value change with each entry of the input, all weights positive."""
    node, shape = example.node, example.shapes[0]
    own = {name: torch.ones_like(getattr(node, name)) for name in ("weight", "scale")
           if hasattr(node, name)}  # fmt: skip
    node = replace(node.without_constants(), **own)
    entries = [*product(*(range(size) for size in shape))]
    alone = torch.zeros(len(entries), *shape)
    for i, entry in enumerate(entries):
        alone[(i, *entry)] = 1
    return int((node.value(alone) != 0).sum())


@every_kind
def test_a_node_goes_to_json_and_back(kind, seed):
    example = Example(kind, seed)
    source = Input(name="first", inputs=(), shape=(1,))
    sources = [
        Input(name=name, inputs=(), shape=shape)
        for name, shape in zip(example.node.inputs, example.shapes, strict=True)
    ]
    parts = [*sources, example.node] if sources else [source, example.node]
    graph = object.__new__(Graph)  # any nodes: several images, no read-out
    object.__setattr__(graph, "nodes", tuple(parts))
    object.__setattr__(graph, "notes", {})
    told = json.loads(json.dumps(describe(graph)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Graph, "__post_init__", lambda self: None)
        back = build(told, arrays(graph))
    assert json.loads(json.dumps(describe(back))) == told
    assert type(back.nodes[-1]) is kind
    kept = arrays(back)
    assert kept.keys() == arrays(graph).keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in arrays(graph).items())
