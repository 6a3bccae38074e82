"""One operation of an ONNX file on its way to nodes, and values whose axes it has in mind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.capture import aten
from spiking_resnet.capture.calls import Call, Unsupported, Value
from spiking_resnet.capture.onnx.file import Operation
from spiking_resnet.graph import Affine, Node, Shape, rename_inputs


@dataclass(frozen=True, eq=False)
class Activation:
    """A value that depends on the image, as a file sees it.

    name, shape: of the node that has it, for one image. axes: for each axis of the file's value the
    node's axis, 0 being the batch; a transpose changes these alone. columns: for each feature of a
    flattened map the node's feature (None: in the same order), because a file may flatten
    [H, W, C].
    """

    name: str
    shape: Shape
    axes: tuple[int, ...]
    columns: Tensor | None = None

    @property
    def value(self) -> Value:
        """What builders of ATen operations take."""
        return Value(self.name, self.shape)

    @property
    def sizes(self) -> Shape:
        """The shape of one image as the file sees it."""
        return tuple(self.shape[axis - 1] for axis in self.axes[1:])

    @property
    def is_image(self) -> bool:
        """Whether it is a map [N, C, H, W], in the file as in the node."""
        return self.axes == (0, 1, 2, 3)


@dataclass(frozen=True, eq=False)
class Step:
    """An operation with what it reads.

    operands: activations, constants, or None where an optional input is left out. sizes: the shape
    of its first output, the batch in front; batch: the file's number of images (1 where it is
    free). file: where it stands; opset: the version of its operators. readers: what reads its first
    output. nodes: those made so far. put: adds a node and returns its name.
    """

    operation: Operation
    operands: tuple[Activation | Tensor | None, ...]
    sizes: Shape
    batch: int
    file: str
    opset: int
    readers: tuple[Operation, ...]
    nodes: Mapping[str, Node]
    put: Callable[[Node], str]

    def activation(self, position: int = 0) -> Activation:
        """An input that depends on the image; Unsupported for one that does not."""
        found = self.operands[position] if position < len(self.operands) else None
        if not isinstance(found, Activation):
            raise Unsupported("it reads no activation where one is needed")
        return found

    def image(self) -> Activation:
        """The first input, a map [N, C, H, W]; Unsupported for anything else."""
        x = self.activation()
        if len(x.axes) != 4:
            raise Unsupported(f"it reads {x.sizes} per image; only maps [C, H, W] can be converted")
        if not x.is_image:
            raise Unsupported(
                "the axes of what it reads are not [N, C, H, W]; export with channels first"
            )
        return x

    def constant(self, position: int) -> Tensor | None:
        """A fixed input, or None where it is left out; Unsupported for an activation."""
        found = self.operands[position] if position < len(self.operands) else None
        if isinstance(found, Activation):
            raise Unsupported("its weight depends on the image; weights must be fixed parameters")
        return found

    def weight(self, position: int) -> Tensor:
        """A fixed input that must be there."""
        found = self.constant(position)
        if found is None:
            raise Unsupported(f"its input {position} is missing; export the network again")
        return found

    def vector(self, position: int, size: int) -> Tensor:
        """A fixed input [size]."""
        found = self.weight(position)
        if tuple(found.shape) != (size,):
            raise Unsupported(
                f"its input {position} is of shape {tuple(found.shape)}, not [{size}]; export the "
                "network again"
            )
        return found

    def option(self, name: str, default: Any = None, position: int | None = None) -> Any:
        """An attribute; or, as in newer files, the fixed input at `position`, as plain numbers."""
        if name in self.operation.attributes:
            return self.operation.attributes[name]
        found = None if position is None else self.constant(position)
        return default if found is None else found.tolist()

    def call(self, shape: Shape, suffix: str = "") -> Call:
        """What builders of ATen operations need to know, for a node of this shape."""
        name = f"{self.operation.name}.{suffix}" if suffix else self.operation.name
        return Call(name, shape, f"{self.file}: {self.operation.kind}")

    def place(self, made: Any) -> Activation:
        """What a builder of an ATen operation made, put among the nodes: axes in their order.

        A node, the name of one, or a list of nodes of which the last has the value; one without
        inputs reads the node before it.
        """
        name = ""
        names: dict[str, str] = {}
        for link in made if isinstance(made, list) else [made]:
            if isinstance(link, Node):
                whole = link if link.inputs else replace(link, inputs=(name,))
                name = names[link.name] = self.put(rename_inputs(whole, names))
            else:
                name = link
        shape = self.nodes[name].shape
        return Activation(name, shape, tuple(range(len(shape) + 1)))

    def like(self, x: Activation, made: Any) -> Activation:
        """The same, for an operation that leaves the axes of `x` in their order."""
        placed = self.place(made)
        return replace(x, name=placed.name, shape=placed.shape)

    def through(self, name: str, x: Activation, *arguments: Any) -> Activation:
        """An ATen operation on every number of `x`; Unsupported where there is no builder of it."""
        builder = aten.BUILDERS.get(name)
        if builder is None:
            raise Unsupported(f"it has no spiking counterpart here. {aten.remedy(name)}")
        return self.like(x, builder(self.call(x.shape), x.value, *arguments))


def per_channel(x: Activation, constant: Tensor) -> Tensor:
    """A constant that is combined with `x`, float64: [], or [C] along the node's channels.

    Unsupported where it is not the same for all pixels of a channel, or larger than `x`.
    """
    whole, rank = constant.detach().double(), len(x.axes)
    if whole.numel() == 1:
        return whole.reshape(())
    while whole.ndim > rank and whole.shape[0] == 1:
        whole = whole[0]
    whole = whole.reshape((1,) * (rank - whole.ndim) + tuple(whole.shape))
    fits = whole.ndim == rank and all(
        size in (1, own) for size, own in zip(whole.shape[1:], x.sizes, strict=True)
    )
    if not fits:
        raise Unsupported(f"a constant of shape {tuple(constant.shape)} does not fit {x.sizes}")
    whole = whole.permute([x.axes.index(axis) for axis in range(rank)])
    first = whole[(slice(0, 1), slice(None)) + (slice(0, 1),) * (rank - 2)]
    if not bool((whole == first).all()):
        raise Unsupported(
            "a constant that differs from pixel to pixel; only one number per channel can be"
        )
    channels = first.reshape(-1)
    if len(channels) == 1:
        return channels.reshape(())
    return in_node_order(x, channels)


def in_node_order(x: Activation, entries: Tensor, axis: int = 0) -> Tensor:
    """Entries for the channels of `x`, along `axis`, moved from the file's order to the node's."""
    if x.columns is None:
        return entries
    return torch.empty_like(entries).index_copy(axis, x.columns, entries)


def affine(
    step: Step, x: Activation, scale: Tensor, shift: Tensor | None = None, suffix: str = ""
) -> Activation:
    """`scale * x + shift`, both [] or [C] as `per_channel` gives them."""
    if shift is not None:
        shift = shift.expand(x.shape[0]).clone()
    call = step.call(x.shape, suffix)
    return step.like(x, Affine(**call.base(x.value), scale=scale, shift=shift))
