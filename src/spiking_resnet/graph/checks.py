"""The checks that every graph passes."""

import torch

from spiking_resnet.graph.nodes import (
    Add,
    Affine,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    GraphError,
    Input,
    Linear,
    Node,
    Output,
    Pad,
    ReLU,
    Round,
    Select,
    Shape,
    tensors,
)


def check(nodes: tuple[Node, ...]) -> None:
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
