"""Random spiking networks on a grid, built node by node: what no converted network looks like.

Shapes of one position and of odd sizes, channels that no block of an engine divides, kernels larger
than the map, several sizes and signs of spikes, thresholds and starts of every neuron, weights at
the edge of what fits, signed streams, and every way of moving spikes about.
"""

import random
from dataclasses import replace
from math import prod

import torch
import torch.nn.functional as F

from spiking_resnet.conversion.passes.snap import INPUT_GRID
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
    Output,
    Pad,
    Round,
    Select,
    Slice,
)
from spiking_resnet.graph.exactness import bounds_of, largest
from spiking_resnet.neurons import IntegrateAndFire

LIMIT = 3.0  # of pixels
SIZES = [(1, 1), (1, 7), (5, 1), (3, 3), (4, 9), (7, 5), (8, 8), (6, 11), (16, 16), (2, 33)]
SMALL = [(1, 1), (1, 7), (5, 1), (3, 3), (4, 4), (2, 9), (4, 8), (1, 32)]  # one word of spikes
CHANNELS = [1, 2, 3, 5, 6, 7, 8, 12, 16, 17, 31, 32, 33, 64, 65, 130]


class Drawn:
    """A network under construction. most: the largest sum of a step, in units of the grid."""

    def __init__(self, seed, small=False):
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.grid = self.rng.choice([4, 6, 8, 10, 12, 14])
        self.most = self.rng.choice([2**15 - 1] * 3 + [2**18, 2**20])
        self.several, self.signed = self.rng.random() < 0.3, self.rng.random() < 0.25
        self.small, self.sizes = small, SMALL if small else SIZES
        self.nodes, self.spikes = [], []
        self.levels = {}  # of what carries spikes, by name

    def graph(self):
        """The network: an image, populations, a read-out; step bounds as they follow."""
        self.image()
        steps = [self.block] * 6 + [self.move] * (8 if self.small else 3) + [self.pool, self.joined]
        for _ in range(self.rng.randint(1, 5)):
            self.rng.choice(steps)()
        self.read_out()
        made = Graph(tuple(self.nodes))
        bounds = bounds_of(made)

        def bounded(node):
            if not isinstance(node, Fire | MaxPool | Output):
                return node
            return replace(node, step_bound=largest(bounds[node.inputs[0]]))

        return made.with_nodes(bounded(node) for node in made.nodes)

    def source(self):
        """Spikes to be read: the latest ones more often than others."""
        return self.spikes[-1] if self.rng.random() < 0.4 else self.rng.choice(self.spikes)

    def put(self, kind, *inputs, shape, **fields):
        name = f"{kind.__name__.lower()}{len(self.nodes)}"
        node = kind(name=name, inputs=tuple(i.name for i in inputs), shape=tuple(shape), **fields)
        self.nodes.append(node)
        return node

    def numbers(self, *shape, most, bits=None):
        """Whole numbers up to `most` in units of the grid, float64."""
        drawn = torch.randint(-most, most + 1, shape, generator=self.generator).double()
        return drawn * 2.0 ** -(self.grid if bits is None else bits)

    def image(self):
        shape = (self.rng.choice([1, 2, 3]), *self.rng.choice(self.sizes))
        if self.rng.random() < 0.15:
            self.put(Input, shape=shape, encoding="poisson", scale=2.0, seed=self.rng.randrange(99))
        else:
            self.put(Input, shape=shape, grid=INPUT_GRID, limit=LIMIT)
        self.fire(self.of_image(self.channels(shape)))

    def channels(self, shape):
        most = 130 if prod(shape[1:]) <= 64 else 18
        return self.rng.choice([c for c in CHANNELS if c <= most])

    def of_image(self, outputs, like=None):
        """A current that the image makes, on the grid."""
        image = self.nodes[0]
        size = [
            self.rng.choice([1, 3]) if side > 2 and like is None else 1 for side in image.shape[1:]
        ]
        most = max(1, 2**12 // (3 * image.shape[0] * prod(size)))
        weight = self.numbers(outputs, image.shape[0], *size, most=most)
        made = self.put(
            Conv2d, image, shape=(outputs, *image.shape[1:]), weight=weight,
            bias=self.numbers(outputs, most=most), padding=tuple(side // 2 for side in size),
        )  # fmt: skip
        return self.put(Round, made, shape=made.shape, bits=self.grid)

    def fire(self, current):
        shape, choice = current.shape, self.rng.choice
        levels = choice([1, 2, 3, 5, 7, 15, 127]) if self.several else 1
        signed = self.signed and self.rng.random() < 0.7
        plain = levels == 1 and not signed
        highest = int(max(2, min(2**23 // (levels + 1), self.most * choice([0.02, 0.1, 0.3, 1.0]))))
        sizes = (shape[0],) if self.rng.random() < 0.4 else ()
        threshold = self.numbers(*sizes, most=highest).abs() + 2.0**-self.grid
        kind = choice(["none", "half", "channels", "places"])
        start = torch.zeros(())
        if kind == "half":
            start = (threshold * 2**self.grid // 2) * 2.0**-self.grid
        elif kind != "none":
            start = self.numbers(*(shape if kind == "places" else shape[:1]), most=highest)
        neuron = IntegrateAndFire(
            threshold=threshold.float(), initial_potential=start.float(), amplitude=torch.ones(()),
            reset="zero" if plain and self.rng.random() < 0.25 else "subtract",
            levels=levels, signed=signed,
        )  # fmt: skip
        node = self.put(Fire, current, shape=shape, neuron=neuron, grid=self.grid)
        self.carry(node, levels)

    def carry(self, node, levels):
        """Notes that a node's values are spikes of so many levels."""
        self.spikes.append(node)
        self.levels[node.name] = levels

    def convolved(self, source, outputs, share, same_size):
        """A convolution of spikes whose sums take `share` of what fits; None if no map is left."""
        choice = self.rng.choice
        inputs, *size = source.shape
        groups = choice(
            [g for g in (1, 1, 1, inputs, 2, 3, 4) if not inputs % g and not outputs % g]
        )
        kernel = [choice([1, 2, 3, 5, 7]) for _ in size]
        dilation = [choice([1, 1, 2, 3]) for _ in size]
        if same_size:
            kernel = [choice([1, 3, 5]) for _ in size]
            stride, padding = (
                (1, 1),
                [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)],
            )
        else:
            stride = tuple(choice([1, 1, 2, 3, 4]) for _ in size)
            padding = [choice([0, k // 2, k + 1]) for k in kernel]
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        made = [
            (side + 2 * p - r) // s + 1
            for side, p, r, s in zip(size, padding, reach, stride, strict=True)
        ]
        if min(made) < 1 or prod(made) > 400:
            return None
        fan = inputs // groups * prod(kernel) * self.levels[source.name]
        most = max(1, int(self.most * share / fan))
        weight = self.numbers(outputs, inputs // groups, *kernel, most=most)
        if self.rng.random() < 0.2:
            weight = weight * (torch.rand(weight.shape, generator=self.generator) < 0.3)
        bias = self.numbers(outputs, most=most).float() if self.rng.random() < 0.6 else None
        return self.put(
            Conv2d, source, shape=(outputs, *made), weight=weight.float(), bias=bias, stride=stride,
            padding=tuple(padding), dilation=tuple(dilation), groups=groups, grid=self.grid,
        )  # fmt: skip

    def block(self):
        """A population of one convolution, or of a sum with shortcuts, gains and other currents."""
        source = self.source()
        if len(source.shape) != 3:
            return
        residual = self.rng.random() < 0.5
        outputs = source.shape[0] if residual else self.channels(source.shape)
        current = self.convolved(source, outputs, 0.5, residual)
        if current is None:
            return
        addends = [current, *(self.addends(current) if residual else ())]
        if len(addends) > 1:
            current = self.put(Add, *addends, shape=current.shape)
        self.fire(current)

    def addends(self, current):
        """Up to three more currents of the same shape: spikes, gains, convolutions, the image's."""
        for other in [o for o in self.spikes if o.shape == current.shape][:3]:
            kind = self.rng.choice(["as it is", "gain", "convolution", "signed stream", "none"])
            most = max(1, int(self.most * 0.05 / self.levels[other.name]))
            if kind == "as it is" and 2**self.grid * self.levels[other.name] < self.most * 0.1:
                yield other
            elif kind == "gain":
                sizes = self.rng.choice([(), (other.shape[0],)])
                shift = self.numbers(other.shape[0], most=most).float()
                yield self.put(
                    Affine, other, shape=other.shape, scale=self.numbers(*sizes, most=most).float(),
                    shift=self.rng.choice([None, shift]), grid=self.grid,
                )  # fmt: skip
            elif kind == "convolution" and (
                made := self.convolved(other, other.shape[0], 0.1, True)
            ):
                yield made
            elif kind == "signed stream" and (
                made := self.convolved(other, other.shape[0], 0.1, True)
            ):
                gain = self.numbers(other.shape[0], most=256, bits=8)
                stream = self.put(Affine, made, shape=made.shape, scale=gain)
                yield self.put(Round, stream, shape=made.shape, bits=self.grid)
        image = self.nodes[0]
        if image.encoding == "constant" and image.shape[1:] == current.shape[1:]:
            yield self.of_image(current.shape[0], like=current)

    def move(self):
        """Spikes cut out, chosen, repeated or padded; perhaps behind a gain, as option A does."""
        source = self.source()
        axis = self.rng.choice([0, 0, *range(len(source.shape))])
        size, shape = source.shape[axis], list(source.shape)
        kind = self.rng.choice(["slice", "select", "pad"])
        if kind == "slice":
            start = self.rng.randrange(size)
            stop, step = self.rng.randint(start + 1, size), self.rng.choice([1, 1, 2, 3])
            shape[axis] = len(range(start, stop, step))
            fields = {"axis": axis, "start": start, "stop": stop, "step": step}
            made = self.put(Slice, source, shape=shape, **fields)
        elif kind == "select":
            index = tuple(self.rng.randrange(size) for _ in range(self.rng.randint(1, size + 3)))
            shape[axis] = len(index)
            made = self.put(Select, source, shape=shape, axis=axis, index=index)
        else:
            pairs = tuple((self.rng.randint(0, 2), self.rng.randint(0, 2)) for _ in shape)
            shape = [side + sum(pair) for side, pair in zip(shape, pairs, strict=True)]
            made = self.put(Pad, source, shape=shape, padding=pairs)
        self.carry(made, self.levels[source.name])
        if self.rng.random() < 0.4:
            most = max(1, int(self.most * 0.3 / self.levels[source.name]))
            gain = self.numbers(made.shape[0], most=most).float()
            self.fire(self.put(Affine, made, shape=made.shape, scale=gain, grid=self.grid))

    def pool(self):
        """A max pool by counts, or the sums of windows."""
        source = self.source()
        if len(source.shape) != 3:
            return
        size, randint = source.shape[1:], self.rng.randint
        kernel = tuple(randint(1, min(3, side)) for side in size)
        stride = tuple(randint(1, 3) for _ in size)
        padding = tuple(randint(0, k // 2) for k in kernel)
        if self.rng.random() < 0.5:
            fields = {"kernel": kernel, "stride": stride, "padding": padding}
            sides = zip(size, kernel, stride, padding, strict=True)
            shape = (source.shape[0], *((s + 2 * p - k) // t + 1 for s, k, t, p in sides))
            sums = self.put(AvgPool, source, shape=shape, divisor=1.0, **fields)
            levels = self.levels[source.name] * prod(kernel)
            outputs = self.channels(shape)
            most = max(1, int(self.most * 0.5 / (shape[0] * levels)))
            weight = self.numbers(outputs, shape[0], 1, 1, most=most).float()
            made = self.put(
                Conv2d, sums, shape=(outputs, *shape[1:]), weight=weight, bias=None, grid=self.grid
            )
            self.fire(made)
            return
        dilation, ceil = tuple(self.rng.choice([1, 2]) for _ in size), self.rng.random() < 0.3
        if any(
            d * (k - 1) >= s + 2 * p
            for d, k, s, p in zip(dilation, kernel, size, padding, strict=True)
        ):
            return
        shape = F.max_pool2d(
            torch.zeros(1, *source.shape), kernel, stride, padding, dilation, ceil
        ).shape
        made = self.put(
            MaxPool, source, shape=shape[1:], kernel=kernel, stride=stride, padding=padding,
            dilation=dilation, ceil_mode=ceil, rule="cumulative", grid=0,
        )  # fmt: skip
        self.carry(made, self.levels[source.name])

    def joined(self):
        """Spikes of several populations one after the other."""
        first = self.rng.choice(self.spikes)
        fitting = [s for s in self.spikes if s.shape[1:] == first.shape[1:]]
        parts = [first, *(self.rng.choice(fitting) for _ in range(self.rng.randint(1, 2)))]
        channels = sum(part.shape[0] for part in parts)
        if channels * prod(first.shape[1:]) < 20000:
            made = self.put(Concat, *parts, shape=(channels, *first.shape[1:]))
            self.carry(made, max(self.levels[part.name] for part in parts))

    def read_out(self):
        last = self.spikes[-1]
        flat = self.put(Flatten, last, shape=(prod(last.shape),))
        classes = self.rng.choice([1, 2, 3, 10])
        most = max(1, min(2**14, int(self.most * 0.9 / (flat.shape[0] * self.levels[last.name]))))
        weight = self.numbers(classes, flat.shape[0], most=most).float()
        logits = self.put(
            Linear, flat, shape=(classes,), weight=weight,
            bias=self.numbers(classes, most=most).float(), grid=self.grid,
        )  # fmt: skip
        if self.rng.random() < 0.6:
            self.fire(logits)
            readout = self.rng.choice(["spikes+membrane", "mean"])
            self.put(Output, self.nodes[-1], shape=(classes,), readout=readout, scale=1.5, grid=0)
        else:
            delay = self.rng.choice([0, 0, 5])
            fields = {"readout": "mean", "scale": 0.7, "delay": delay, "grid": self.grid}
            self.put(Output, logits, shape=(classes,), **fields)


def drawn(seed, small=False):
    """A random network, and a generator of numbers to go on drawing from."""
    made = Drawn(seed, small)
    return made.graph(), made.rng
