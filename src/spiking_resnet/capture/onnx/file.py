"""What an ONNX file holds, as plain data: operations, constants, shapes.

Nothing is unpickled and no code of a file is run: ONNX is data, and what depends on no image is
computed with onnx's reference evaluator.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.capture.onnx.inference import Facts, facts
from spiking_resnet.capture.onnx.load import loaded, weights
from spiking_resnet.capture.onnx.logits import end_of
from spiking_resnet.capture.onnx.package import OnnxError, attributes, onnx_part

Array = np.ndarray[Any, Any]
Layout = str  # "NCHW" or "NHWC"


@dataclass(frozen=True, eq=False)
class Operation:
    """One node of the file. kind: its operator, with its domain where it is not ONNX's own."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A file's network.

    nodes: onnx's own objects, all that the logits need, in order. opsets: the version of each
    domain. input, logits: names of the two ends. batch: the fixed number of images, or None.
    layouts: of images that its input can have. operations: the nodes between image and logits, as
    plain data. facts: what is known of all values (the batch is 1 where it is free). remarks: what
    was left out.
    """

    path: Path
    nodes: tuple[Any, ...]
    opsets: Mapping[str, int]
    input: str
    logits: str
    batch: int | None
    layouts: tuple[Layout, ...]
    operations: tuple[Operation, ...]
    facts: Facts
    remarks: tuple[str, ...]

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every value that has a known one."""
        return self.facts.shapes

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return self.opsets.get("", 1)

    def constants(self) -> dict[str, Tensor]:
        """All that depends on no image."""
        return {name: _tensor(value) for name, value in self.facts.constants.items()}

    def facts_of(self, shape: tuple[int, ...]) -> Facts:
        """What is known for images of another shape: of another number of them."""
        if shape == self.shapes[self.input]:
            return self.facts
        kept = self.facts.constants.items()
        fixed = {name: value for name, value in kept if name not in self.facts.of_batch}
        return facts(self.path, self.nodes, self.opsets, fixed, self.input, shape)


def read(path: str | Path, shape: Sequence[int] | None = None) -> OnnxFile:
    """The network in an ONNX file, with its external data if it has some.

    shape: (C, H, W) of the images; needed where the file leaves height or width open. Raises
    FileNotFoundError, InputError where the package onnx is missing, OnnxError for anything else.
    """
    path = Path(path)
    model = loaded(path)
    source, output = _ends(path, model)
    sizes, layouts = _bind(path, source, shape)
    batch = sizes[0]
    opsets = {
        "" if entry.domain == "ai.onnx" else entry.domain: entry.version
        for entry in model.opset_import
    }
    nodes = _needed(model.graph.node, output)
    bound = (batch or 1, *sizes[1:])
    known = facts(path, nodes, opsets, weights(path, model), source.name, bound)
    end = end_of(nodes, output, known.shapes, batch, opsets.get("", 1))
    nodes = _needed(nodes, end.name)
    operations = tuple(
        _operation(node)
        for node in nodes
        if not all(name in known.constants for name in node.output if name)
    )
    return OnnxFile(
        path, nodes, opsets, source.name, end.name, batch, layouts, operations, known, end.remarks
    )


def _ends(path: Path, model: Any) -> tuple[Any, str]:
    """The one input of a model, and the name of its one output."""
    fixed = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in fixed]
    outputs = [entry.name for entry in model.graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise OnnxError(
            f"{path} has {len(inputs)} input(s) ({', '.join(e.name for e in inputs)}) and "
            f"{len(outputs)} output(s) ({', '.join(outputs)}): export a network that maps one "
            "image batch to one tensor of logits [N, K]"
        )
    elements = inputs[0].type.tensor_type.elem_type
    if elements != onnx_part().TensorProto.FLOAT:
        kinds = onnx_part().TensorProto.DataType
        kind = kinds.Name(elements).lower() if elements in kinds.values() else f"type {elements}"
        raise OnnxError(
            f"{path}: its input {inputs[0].name!r} holds {kind} values: export the network with "
            "float32 images and weights"
        )
    return inputs[0], outputs[0]


def _bind(
    path: Path, source: Any, shape: Sequence[int] | None
) -> tuple[tuple[Any, ...], tuple[Layout, ...]]:
    """The sizes of the input, the batch None where it is free, and the layouts that fit; other
    open sizes become those of `shape`.
    """
    dims = source.type.tensor_type.shape.dim
    sizes = [dim.dim_value or None for dim in dims]
    shown = [dim.dim_value or dim.dim_param or "?" for dim in dims]
    if len(sizes) != 4:
        raise OnnxError(f"{path}: its input is {shown}, not a batch of images of four axes")
    if min(size or 1 for size in sizes) < 1:
        raise OnnxError(f"{path}: its input is {shown}; sizes are at least 1: export it again")
    layouts: dict[Layout, list[int | None]] = {"NCHW": sizes[1:], "NHWC": sizes[1:]}
    if shape is not None:
        channels, height, width = shape
        offered = {"NCHW": [channels, height, width], "NHWC": [height, width, channels]}
        layouts = {
            name: list(offer)
            for name, offer in offered.items()
            if all(have in (None, want) for have, want in zip(sizes[1:], offer, strict=True))
        }
    if not layouts:
        raise OnnxError(
            f"{path} takes images of {shown[1:]}, these are (C, H, W) = {tuple(shape or ())}: "
            "resize them, or export the network for this size"
        )
    bound = next(iter(layouts.values()))
    if None in bound:
        raise OnnxError(
            f"{path} leaves the size of its images open ({shown[1:]}): give shape=(C, H, W)"
        )
    return (sizes[0], *bound), tuple(layouts)


def _needed(nodes: Iterable[Any], output: str) -> tuple[Any, ...]:
    """The nodes that a value depends on, in order."""
    needed = {output}
    kept = []
    for node in reversed(list(nodes)):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return tuple(kept[::-1])


def _operation(node: Any) -> Operation:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    name = (node.name or node.output[0]).replace("/", ".").strip(".")
    return Operation(
        name, f"{domain}{node.op_type}", tuple(node.input), tuple(node.output), attributes(node)
    )


def _tensor(value: np.ndarray[Any, Any]) -> Tensor:
    """A constant as a tensor of its own; texts become an empty one."""
    if value.dtype.kind not in "biuf":
        return torch.zeros(0, dtype=torch.float32)
    kinds = {"u": np.int64, "f": np.float64 if value.dtype.itemsize > 4 else np.float32}
    return torch.from_numpy(np.array(value, kinds.get(value.dtype.kind)))
