"""Reading NIR into a network: files of ours with all that they say, others as NIR defines them.

A population of a file that is not ours resets to zero and fires above its threshold: here at the
next larger float32, which is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.export.format import needed
from spiking_resnet.export.nir.file import NirError, Sheet, in_json, kind, sheet
from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Input,
    Linear,
    Node,
    Output,
    Round,
    Shape,
)
from spiking_resnet.neurons import IntegrateAndFire
from spiking_resnet.surroundings import undisturbed

UNSOUND = (
    ValueError, TypeError, KeyError, AttributeError, RuntimeError, IndexError, ArithmeticError,
)  # fmt: skip


@undisturbed()
def from_nir(source: Any) -> Graph:
    """The spiking network of an NIR file, or of an `nir.NIRGraph`.

    source: a path or a graph. Files that `to_nir` wrote come back spike for spike, with their
    notes; the ANN beside the network is not in them. Other files are read as NIR defines its nodes:
    IF neurons with one threshold for each channel, r = 1 and reset to 0; convolutions, matrices,
    pools that sum or average, Scale, Flatten; several edges into one node are a sum.
    Raises NirError for a file that is damaged or holds anything else, with the node's name,
    FileNotFoundError, and InputError where the package nir is missing.

    >>> written = sr.to_nir(snn, "snn.nir")
    >>> sr.from_nir("snn.nir").neurons == snn.neurons
    True
    """
    needed("nir", "nir")
    return network(sheet(Path(source) if isinstance(source, str) else source))[0]


def network(found: Sheet) -> tuple[Graph, dict[str, str]]:
    """Return the network of a sheet, and for each of its neurons' nodes the name in the sheet."""
    reading = _Reading(found)
    try:
        return reading.graph(), reading.populations
    except NirError:
        raise
    except UNSOUND as error:
        raise NirError(f"what the file describes is no network: {error}") from error


@dataclass
class _Reading:
    """A network as it comes to be.

    values: for each NIR node the node that holds its value. populations: for each node of neurons
    the NIR node.
    """

    sheet: Sheet
    nodes: dict[str, Node] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    populations: dict[str, str] = field(default_factory=dict)

    def graph(self) -> Graph:
        """Return the network."""
        for name, node in self.sheet.nodes.items():
            self._add(name, node)
        return Graph(tuple(self.nodes.values()), notes=in_json(self.sheet.facts, "notes"))

    def _add(self, name: str, node: Any) -> None:
        own = self._unused(str(_said(node, "name", name)))
        if kind(node) == "Input":
            self._keep(name, _input(own, node, self._ends("Input")))
            return
        read = self._read(own, name)
        if kind(node) == "Output":
            self._keep(name, self._output(own, read))
            return
        if kind(node) == "IF" and self._is_last(name) and len(read.shape) == 3:
            read = self._flat(own, read)
        made = _node(own, name, node, read)
        self._keep(name, made)
        if isinstance(made, Fire):
            self.populations[made.name] = name
        if (bits := _said(node, "rounded_to_bits", None)) is not None:
            rounded = Round(
                name=self._invented(f"{own}.round"), inputs=(made.name,), shape=made.shape,
                bits=int(bits),
            )  # fmt: skip
            self._keep(name, rounded)

    def _keep(self, name: str, made: Node) -> None:
        self.nodes[made.name] = made
        self.values[name] = made.name

    def _unused(self, name: str) -> str:
        while name in self.nodes:
            name += "_"
        return name

    def _invented(self, name: str) -> str:
        """Return a name for a node that the file has none for."""
        said = {str(_said(node, "name", each)) for each, node in self.sheet.nodes.items()}
        while name in self.nodes or name in said:
            name += "_"
        return name

    def _read(self, own: str, name: str) -> Node:
        """Return what a NIR node reads: one node, or the sum of several."""
        inputs = [self.nodes[self.values[each]] for each in self.sheet.reads[name]]
        if len(inputs) == 1:
            return inputs[0]
        made = Add(
            name=self._invented(f"{own}.sum"), inputs=tuple(each.name for each in inputs),
            shape=inputs[0].shape,
        )  # fmt: skip
        self.nodes[made.name] = made
        return made

    def _is_last(self, name: str) -> bool:
        return self.sheet.reads[self.sheet.output] == (name,)

    def _flat(self, own: str, read: Node) -> Node:
        if prod(read.shape[1:]) != 1:
            return read
        made = Flatten(
            name=self._invented(f"{own}.flat"), inputs=(read.name,), shape=(read.shape[0],)
        )
        self.nodes[made.name] = made
        return made

    def _output(self, own: str, read: Node) -> Node:
        if len(read.shape) == 3:
            read = self._flat(own, read)
        return Output(name=own, inputs=(read.name,), shape=read.shape, **self._ends("Output"))

    def _ends(self, which: str) -> dict[str, Any]:
        found = in_json(self.sheet.facts, "ends").get(which, {})
        return found if isinstance(found, dict) else {}


def _said(node: Any, name: str, default: Any) -> Any:
    """Return what a node's metadata says, or the default."""
    data = getattr(node, "metadata", None)
    return data.get(name, default) if isinstance(data, dict) else default


def _input(own: str, node: Any, settings: Mapping[str, Any]) -> Input:
    shape = tuple(int(size) for size in np.ravel(node.input_type["input"]))
    shape = shape if len(shape) == 3 else (*shape[:1], 1, *(shape[1:] or (1,)))
    return Input(name=own, inputs=(), shape=shape, **settings)


def _node(own: str, name: str, node: Any, read: Node) -> Node:
    """Return the node that a NIR node is here, which computes from `read`."""
    make = _KINDS.get(kind(node))
    if make is None:
        raise NirError(
            f"{name!r} is a {kind(node)}, which is not read: it takes "
            f"{', '.join(sorted(_KINDS))} between Input and Output"
        )
    base: dict[str, Any] = {"name": own, "inputs": (read.name,)}
    try:
        return make(node, read.shape, base)
    except (TypeError, AttributeError, RuntimeError, LookupError, ArithmeticError) as error:
        raise NirError(f"{name!r} is no sound {kind(node)} ({error})") from error
    except ValueError as error:
        raise NirError(f"{name!r}: {error}") from error


def _tensor(values: Any) -> Tensor:
    found = torch.from_numpy(np.array(values))
    return found if found.dtype == torch.float64 else found.float()


def _conv2d(node: Any, shape: Shape, base: dict[str, Any]) -> Node:
    weight, bias = _tensor(node.weight), _tensor(node.bias)
    kernel = weight.shape[2:]
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias of shape {tuple(bias.shape)} for {len(weight)} channels")
    stride, dilation = _pair(node.stride), _pair(node.dilation)
    padding = _padding(node.padding, kernel, stride, dilation)
    return _shaped(
        Conv2d, shape, base, weight=weight, bias=bias if bool(bias.any()) else None,
        stride=stride, padding=padding, dilation=dilation, groups=int(node.groups),
        grid=_grid(node),
    )  # fmt: skip


def _shaped(maker: Any, read: Shape, base: dict[str, Any], **fields: Any) -> Any:
    """Return a node with the shape that follows from its input's."""
    drawn = maker(shape=read, **base, **fields)
    return maker(shape=drawn.output_shape(read), **base, **fields)


def _grid(node: Any) -> int | None:
    found = _said(node, "grid", None)
    return None if found is None else int(found)


def _pair(value: Any) -> tuple[int, int]:
    found = [int(each) for each in np.ravel(value)]
    return (found[0], found[-1])


def _padding(value: Any, kernel: Sequence[int], stride: Any, dilation: Any) -> tuple[int, int]:
    if not isinstance(value, str):
        return _pair(value)
    around = [(size - 1) * wide for size, wide in zip(kernel, dilation, strict=True)]
    if value == "valid":
        return (0, 0)
    if value != "same" or stride != (1, 1) or any(each % 2 for each in around):
        raise ValueError(f"padding {value!r} of this kernel is not the same on both sides")
    return (around[0] // 2, around[1] // 2)


def _linear(node: Any, shape: Shape, base: dict[str, Any]) -> Node:
    bias = getattr(node, "bias", None)
    bias = None if bias is None else _tensor(bias)
    if len(shape) != 1:
        raise ValueError(f"a matrix reads a vector, and here arrives a map of {shape}")
    return _shaped(Linear, shape, base, weight=_tensor(node.weight), bias=bias, grid=_grid(node))


def _scale(node: Any, shape: Shape, base: dict[str, Any]) -> Node:
    scale = _by_channel(_tensor(node.scale), shape, "factors")
    return Affine(shape=shape, scale=scale, grid=_grid(node), **base)


def _pool(node: Any, shape: Shape, base: dict[str, Any]) -> Node:
    kernel = _pair(node.kernel_size)
    divisor = 1 if kind(node) == "SumPool2d" else prod(kernel)
    around = {"kernel": kernel, "stride": _pair(node.stride), "padding": _pair(node.padding)}
    return _shaped(AvgPool, shape, base, divisor=float(divisor), **around)


def _flatten(node: Any, shape: Shape, base: dict[str, Any]) -> Node:
    if int(node.start_dim) not in (0, -len(shape)):
        raise ValueError(f"it flattens from axis {int(node.start_dim)} on; only all are read")
    return Flatten(shape=(prod(shape),), **base)


def _population(node: Any, shape: Shape, base: dict[str, Any]) -> Node:
    if bool((np.asarray(node.r) != 1).any()):
        raise ValueError("its r is not 1, which a time step of 1 needs: export it with r = 1")
    if bool((np.asarray(node.v_reset) != 0).any()):
        raise ValueError("it resets to another potential than 0")
    sizes = tuple(np.shape(node.v_threshold))
    if prod(sizes) != prod(shape):
        raise ValueError(f"it has neurons of shape {sizes}, and what it reads is of {shape}")
    reset = _said(node, "reset", None)
    threshold = _tensor(node.v_threshold).float()
    if reset is None:  # not ours: it fires above its threshold only
        threshold = torch.nextafter(threshold, torch.full_like(threshold, torch.inf))
    threshold = _tensor(_said(node, "threshold", threshold.numpy()))
    start = _said(node, "initial_potential", np.zeros(sizes, dtype=np.float32))
    neuron = IntegrateAndFire(
        threshold=_by_channel(threshold, shape, "thresholds"),
        initial_potential=_start(_tensor(start).float().reshape(shape)),
        amplitude=torch.ones((), dtype=torch.float32),
        reset=reset or "zero",
    )
    bound = float(_said(node, "step_bound", 0.0))
    return Fire(shape=shape, neuron=neuron, grid=_grid(node), step_bound=bound, **base)


def _by_channel(values: Tensor, shape: Shape, what: str) -> Tensor:
    """Return one value for all, or for each channel; ValueError where places differ."""
    rows = values.reshape(shape).flatten(1) if len(shape) > 1 else values.reshape(shape)[:, None]
    if bool((rows != rows[:, :1]).any()):
        raise ValueError(f"its {what} differ within a channel, and here a channel has one")
    found = rows[:, 0].contiguous()
    return found[0] if bool((found == found[0]).all()) else found


def _start(values: Tensor) -> Tensor:
    try:
        return _by_channel(values, tuple(values.shape), "potentials")
    except ValueError:
        return values


_KINDS: Mapping[str, Any] = {
    "Affine": _linear,
    "AvgPool2d": _pool,
    "Conv2d": _conv2d,
    "Flatten": _flatten,
    "IF": _population,
    "Linear": _linear,
    "Scale": _scale,
    "SumPool2d": _pool,
}
