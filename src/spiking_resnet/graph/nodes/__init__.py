"""The registry of the kinds of nodes that a network consists of: frozen data with their rules."""

from spiking_resnet.graph.nodes.base import (
    Bounds,
    GraphError,
    Memory,
    N,
    Node,
    Pair,
    Shape,
    field_names,
    rename_inputs,
    tensors,
    with_tensors,
)
from spiking_resnet.graph.nodes.ends import Input, Output
from spiking_resnet.graph.nodes.places import Concat, Flatten, Pad, Select, Slice
from spiking_resnet.graph.nodes.pointwise import Fire, ReLU, Round
from spiking_resnet.graph.nodes.pools import AvgPool, MaxPool
from spiking_resnet.graph.nodes.sums import Add
from spiking_resnet.graph.nodes.weighted import Affine, Conv2d, Linear, Mixing, Weighted

KINDS: dict[str, type[Node]] = {
    kind.__name__: kind
    for kind in (
        Input,
        Conv2d,
        Linear,
        Affine,
        Round,
        ReLU,
        Fire,
        Add,
        Concat,
        Pad,
        Slice,
        Select,
        AvgPool,
        MaxPool,
        Flatten,
        Output,
    )
}

__all__ = [
    "KINDS", "Add", "Affine", "AvgPool", "Bounds", "Concat", "Conv2d", "Fire", "Flatten",
    "GraphError", "Input", "Linear", "MaxPool", "Memory", "Mixing", "N", "Node", "Output", "Pad",
    "Pair", "ReLU", "Round", "Select", "Shape", "Slice", "Weighted", "field_names",
    "rename_inputs", "tensors", "with_tensors",
]  # fmt: skip
