"""What a network is: a small frozen graph of nodes, and the checks that every graph passes."""

from spiking_resnet.graph.graph import Graph, remarks_of, with_remark
from spiking_resnet.graph.nodes import (
    KINDS,
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    GraphError,
    Input,
    Linear,
    MaxPool,
    N,
    Node,
    Output,
    Pad,
    Pair,
    ReLU,
    Round,
    Select,
    Shape,
    Slice,
    rename_inputs,
    tensors,
    with_tensors,
)

__all__ = [
    "KINDS", "Add", "Affine", "AvgPool", "Concat", "Conv2d", "Fire", "Flatten", "Graph",
    "GraphError", "Input", "Linear", "MaxPool", "N", "Node", "Output", "Pad", "Pair", "ReLU",
    "Round", "Select", "Shape", "Slice", "remarks_of", "rename_inputs", "tensors", "with_remark",
    "with_tensors",
]  # fmt: skip
