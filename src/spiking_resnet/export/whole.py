"""The nodes of an integer form, made from those of a normalised network.

Values become whole numbers of 1 / threshold of the neurons that they reach. The neurons whose
potentials the read-out compares are the exception: their firing threshold stays 1, and a value is
the integer times 2^-grid, so that the read-out sees what it saw.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from math import ceil, log2

import torch
from torch import Tensor

from spiking_resnet.export.format import ExportError
from spiking_resnet.export.rates import Rates, by_weight
from spiking_resnet.export.scales import Kernel, Scale, best
from spiking_resnet.export.trees import Tree
from spiking_resnet.graph import (
    Affine,
    AvgPool,
    Conv2d,
    Fire,
    Graph,
    Input,
    MaxPool,
    Node,
    Output,
    Round,
    rename_inputs,
)
from spiking_resnet.graph.nodes import Mixing, Weighted
from spiking_resnet.graph.structure import carries_spikes
from spiking_resnet.neurons import Neuron, Saturating

IMAGE_BITS = 16  # of a pixel, with sign


@dataclass(frozen=True)
class Widths:
    """How wide integers are, in bits with sign. threshold: of thresholds, without sign."""

    weights: int
    ends: int
    threshold: int
    potential: int


@dataclass(frozen=True)
class Making:
    """The making of one integer form."""

    graph: Graph
    trees: Mapping[str, Tree]
    widths: Widths
    per_channel: bool
    rates: Mapping[str, Rates]
    image: Collection[str]

    def all_nodes(self) -> list[Node]:
        """All nodes, in the order of computation."""
        roots = {name: tree for tree in self.trees.values() for name in tree.nodes}
        scales = {name: self._scale(tree) for name, tree in self.trees.items()}
        spikes = carries_spikes(self.graph)
        made: list[Node] = []
        names: dict[str, str] = {}  # what is read instead
        for node in self.graph.nodes:
            new = rename_inputs(node, names)
            if isinstance(node, Round):
                names[node.name] = new.inputs[0]
            elif node.name in roots:
                tree = roots[node.name]
                scale = scales[tree.root.name]
                new = self._current(new, scale, tree.nodes[node.name], spikes, made)
                made.append(new)
                names |= self._rounded(new, scale, made)
            elif isinstance(node, Fire | Output) and node.name in self.trees:
                scale = scales[node.name]
                made.append(self._root(self._with_gains(new, scale, 1.0, spikes, made), scale))
            elif spikes[node.name] or node.name in self.image or isinstance(node, Output):
                made.append(self._of_spikes(new, made))
        return made

    # What integers count.

    def _scale(self, tree: Tree) -> "Scaled":
        """The scale of what meets in the potentials of a root, and its integer weights."""
        unit = tree.root.neuron.threshold.double() if isinstance(tree.root, Fire) else _one()
        kernels = {
            node.name: self._kernel(node, tree, unit)
            for node in self._weighted(tree)
            if isinstance(node, Mixing)
        }
        common = self._reads_membrane(tree.root)
        shared = common or not tree.alike or not self.per_channel or isinstance(tree.root, Output)
        top = self.widths.threshold
        found = best(list(kernels.values()), top, shared, self.per_channel, common)
        grid = top if common else 0
        shifts = dict(zip(kernels, found.shifts, strict=True))
        return Scaled(found, kernels, shifts, unit if tree.alike else unit.max(), grid)

    def _weighted(self, tree: Tree) -> list[Weighted]:
        found = (self.graph[name] for name in tree.nodes)
        return [node for node in found if isinstance(node, Weighted)]

    def _reads_membrane(self, root: Node) -> bool:
        """Whether the read-out compares the potentials of a population."""
        output = self.graph.output
        return output.readout == "spikes+membrane" and output.inputs[0] == root.name

    def _kernel(self, node: Mixing, tree: Tree, unit: Tensor) -> Kernel:
        over = tree.nodes[node.name]
        rows = node.weight.double().flatten(1) / over
        rows = rows / (unit if tree.alike else unit.max()).expand(len(rows))[:, None]
        at_end = node.inputs[0] in self.image or self._ends(tree.root)
        bits = self.widths.ends if at_end else self.widths.weights
        cost = torch.ones(1, 1, dtype=torch.float64, device="cpu")
        if node.inputs[0] in self.rates:
            variance = self.rates[node.inputs[0]].variance
            cost = by_weight(variance, node.weight, _groups(node)) + 1e-9
        return Kernel(rows, cost, bits)

    def _ends(self, root: Node) -> bool:
        """Whether the read-out sums up what a root is or fires, over nothing else."""
        return isinstance(root, Output) or self.graph.output.inputs[0] == root.name

    # Nodes.

    def _current(
        self,
        node: Node,
        scale: "Scaled",
        over: float,
        spikes: Mapping[str, bool],
        made: list[Node],
    ) -> Node:
        """A node whose value is a current, in whole numbers."""
        if isinstance(node, Mixing):
            return self._weights(node, scale, over, spikes)
        if isinstance(node, Affine):
            factor = scale.factor / over
            new: dict[str, Tensor | None] = {
                "scale": torch.round(node.scale.double() * factor) * scale.step,
                "shift": None
                if node.shift is None
                else torch.round(node.shift.double() * factor) * scale.step,
            }
            return _typed(node, new, scale.grid, spikes[node.inputs[0]])
        if isinstance(node, AvgPool):
            node = replace(node, divisor=1.0)
        return self._with_gains(_on_grid(node, scale.grid), scale, over, spikes, made)

    def _weights(
        self, node: Mixing, scale: "Scaled", over: float, spikes: Mapping[str, bool]
    ) -> Node:
        kernel, shift = scale.kernels[node.name], scale.shifts[node.name]
        threshold = scale.found.threshold
        whole = kernel.rounded(threshold, shift) * (2.0**shift).expand(len(kernel.weights))[:, None]
        bias = torch.zeros(len(whole), dtype=torch.float64, device="cpu")
        if node.bias is not None:
            bias = bias + node.bias.double() / over * scale.factor
        read = self.graph[node.name].inputs[0]
        if read in self.rates:
            left = kernel.weights * threshold.expand(len(whole))[:, None] - whole
            mean = by_weight(self.rates[read].mean, node.weight, _groups(node))
            bias = bias + (left * mean).sum(1)
        new = {
            "weight": whole.view(node.weight.shape) * scale.step,
            "bias": torch.round(bias) * scale.step,
        }
        return _typed(node, new, scale.grid, spikes[node.inputs[0]])

    def _rounded(self, node: Node, scale: "Scaled", made: list[Node]) -> dict[str, str]:
        """What rounds the sums of weighted pixels, put after them; by the name of the sums."""
        if not any(name in self.image for name in node.inputs):
            return {}
        name = f"{node.name}.round"
        made.append(Round(name=name, inputs=(node.name,), shape=node.shape, bits=scale.grid))
        return {node.name: name}

    def _with_gains(
        self,
        node: Node,
        scale: "Scaled",
        over: float,
        spikes: Mapping[str, bool],
        made: list[Node],
    ) -> Node:
        """A node that reads spikes, or the image, beside currents, through gains of 1."""
        for position, name in enumerate(node.inputs):
            if not spikes.get(name, False) and name not in self.image:
                continue
            one = Affine(
                name=f"{node.name}.gain{position}",
                inputs=(name,),
                shape=self.graph[name].shape,
                scale=torch.round(scale.factor / over) * scale.step,
            )
            one = _typed(one, {}, scale.grid, spikes[name])  # type: ignore[assignment]
            made.append(one)
            read = self._rounded(one, scale, made).get(one.name, one.name)
            inputs = (*node.inputs[:position], read, *node.inputs[position + 1 :])
            node = replace(node, inputs=inputs)
        return node

    def _root(self, node: Node, scale: "Scaled") -> Node:
        """A population or the read-out, in whole numbers."""
        if isinstance(node, Output):
            unit = float(scale.found.threshold)
            return replace(_on_grid(node, 0), scale=node.scale / unit)  # type: ignore[call-arg]
        assert isinstance(node, Fire)
        factor, start = scale.factor, node.neuron.initial_potential.double()
        threshold = torch.round(node.neuron.threshold.double() * factor)
        factor = factor.view(-1, 1, 1) if start.ndim == 3 and factor.ndim else factor
        neuron = replace(
            node.neuron,
            threshold=(threshold * scale.step).float(),
            initial_potential=(torch.floor(start * factor) * scale.step).float(),
            amplitude=torch.ones((), dtype=torch.float32, device="cpu"),
        )
        return _on_grid(
            replace(node, neuron=self._register(node.name, neuron, scale.grid)), scale.grid
        )

    def _of_spikes(self, node: Node, made: list[Node]) -> Node:
        """A node that reads spikes alone, or the image."""
        if isinstance(node, Input):
            return node if node.encoding == "poisson" else replace(node, grid=image_grid(node))
        if isinstance(node, Fire):
            return self._counting(node, made)
        return _on_grid(node, 0)

    def _counting(self, node: Fire, made: list[Node]) -> Node:
        """A population that counts spikes: of a whole threshold, or over a gain of a power of 2."""
        threshold = node.neuron.threshold.double()
        bits = 0
        if not torch.equal(threshold, threshold.round()):
            bits = max(0, self.widths.threshold - ceil(log2(float(threshold.max()))))
            gain = Affine(
                name=f"{node.name}.gain0",
                inputs=node.inputs,
                shape=node.shape,
                scale=torch.full((), 2.0**bits, dtype=torch.float32, device="cpu"),
                grid=0,
            )
            made.append(gain)
            node = replace(node, inputs=(gain.name,))
        start = node.neuron.initial_potential.double()
        neuron = replace(
            node.neuron,
            threshold=torch.round(threshold * 2.0**bits).clamp(min=1.0).float(),
            initial_potential=torch.floor(start * 2.0**bits).float(),
        )
        return _on_grid(replace(node, neuron=self._register(node.name, neuron, 0)), 0)

    def _register(self, name: str, neuron: Neuron, grid: int) -> Neuron:
        """The neurons, of potentials that saturate where they have less than 32 bits."""
        if self.widths.potential == 32:
            return neuron
        limit = (2.0 ** (self.widths.potential - 1) - 1) * 2.0**-grid
        reached = max(float(neuron.threshold.max()), float(neuron.initial_potential.abs().max()))
        if reached >= limit:
            raise ExportError(
                f"{name!r} has thresholds or initial potentials of {reached * 2.0**grid:g}, and "
                f"{self.widths.potential} bits hold {limit * 2.0**grid:g}: allow wider potentials"
            )
        own = {entry.name: getattr(neuron, entry.name) for entry in fields(neuron)}
        return Saturating(**own, limit=limit)


@dataclass(frozen=True, eq=False)
class Scaled:
    """The scale of a tree: its kernels and their shifts by name. unit: what the threshold stands
    for, [] or [C]. grid: integers are values times 2^grid.
    """

    found: Scale
    kernels: Mapping[str, Kernel]
    shifts: Mapping[str, Tensor]
    unit: Tensor
    grid: int

    @property
    def step(self) -> float:
        """The value of the integer 1."""
        return 2.0**-self.grid

    @property
    def factor(self) -> Tensor:
        """What currents are multiplied by to be integers, [] or [C]."""
        return self.found.threshold / self.unit


def image_grid(node: Input) -> int:
    """Return the bits behind the point of pixels of 16 bits."""
    return IMAGE_BITS - 1 - max(0, ceil(log2(max(node.limit, 1.0) * 1.0001)))


def _one() -> Tensor:
    return torch.ones((), dtype=torch.float64, device="cpu")


def _groups(node: Mixing) -> int:
    return node.groups if isinstance(node, Conv2d) else 1


def _typed(node: Node, new: Mapping[str, Tensor | None], grid: int, of_spikes: bool) -> Node:
    """A weighted node with whole weights: of spikes in float32 on its grid, else in float64."""
    dtype = torch.float32 if of_spikes else torch.float64
    node = replace(node, **new)  # type: ignore[arg-type]
    own = {
        entry.name: value.to(dtype)
        for entry in fields(node)
        if isinstance(value := getattr(node, entry.name), Tensor)
    }
    return replace(node, **own, grid=grid if of_spikes else None)  # type: ignore[call-arg, arg-type]


def _on_grid(node: Node, grid: int) -> Node:
    """A node that sums up, on its grid; others as they are."""
    if isinstance(node, Fire | Output) or (isinstance(node, MaxPool) and node.integrates):
        return replace(node, grid=grid, step_bound=0.0, wide=False)
    return node
