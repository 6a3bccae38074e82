"""What an ONNX file holds, as plain data: operations, constants, shapes.

The package `onnx` is reached through this file alone. Nothing is unpickled and no code of a file is
run: ONNX is data, and what depends on no image is computed with onnx's reference evaluator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.records import InputError

Layout = str  # "NCHW" or "NHWC"
_PROBABILITIES = ("Softmax", "LogSoftmax")
_SEEN_THROUGH = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Dropout")
_RANDOM = ("RandomNormal", "RandomUniform", "Bernoulli", "Multinomial")


class OnnxError(ValueError):
    """A file that cannot be read as a network; the message names the file and what to do."""


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

    model: onnx's own object, cut off at the logits. input, logits: names of the two ends.
    batch: the fixed number of images, or None. layouts: of images that its input can have.
    operations: those between image and logits, in order. constants: all that depends on no image.
    shapes: of every value, the batch in front (1 where it is free). remarks: what was left out.
    """

    path: Path
    model: Any
    input: str
    logits: str
    batch: int | None
    layouts: tuple[Layout, ...]
    operations: tuple[Operation, ...]
    constants: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    remarks: tuple[str, ...]


def read(path: str | Path, shape: Sequence[int] | None = None) -> OnnxFile:
    """The network in an ONNX file, with its external data if it has some.

    shape: (C, H, W) of the images; needed where the file leaves height or width open. Raises
    FileNotFoundError, InputError where the package onnx is missing, OnnxError for anything else.
    """
    path = Path(path)
    model = _loaded(path)
    remarks: list[str] = []
    source = _only(path, model)
    batch, layouts = _bind(path, source, shape)
    logits = _cut(model, remarks)
    known, shapes = _folded(path, model)
    operations = tuple(_operation(node) for node in model.graph.node if node.output[0] not in known)
    constants = {name: _tensor(value) for name, value in known.items()}
    return OnnxFile(
        path, model, source.name, logits, batch, layouts, operations, constants, shapes,
        tuple(remarks),
    )  # fmt: skip


def onnx_part(part: str = "") -> Any:
    """The package onnx, or one of its modules; InputError where it is missing."""
    try:
        return import_module(f"onnx.{part}" if part else "onnx")
    except ImportError as error:
        raise InputError(
            f"ONNX files need the package onnx, which is not there ({error}): "
            "pip install 'spiking-resnet[onnx]'"
        ) from None


def _loaded(path: Path) -> Any:
    """The checked model of a file, its functions written out."""
    onnx = onnx_part()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        if model.functions:
            model = onnx_part("inliner").inline_local_functions(model)
    except Exception as error:  # protobuf's and onnx's own types, and OSError for external data
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OnnxError(
            f"{path} cannot be read as an ONNX network ({first}): it may be cut off, be of another "
            "format, or lack the external data file that belongs beside it; export it again"
        ) from error
    return model


def _only(path: Path, model: Any) -> Any:
    """The one input of a model that has one input and one output."""
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
        kind = onnx_part().TensorProto.DataType.Name(elements).lower()
        raise OnnxError(
            f"{path}: its input {inputs[0].name!r} holds {kind} values: export the network with "
            "float32 images and weights"
        )
    return inputs[0]


def _bind(
    path: Path, source: Any, shape: Sequence[int] | None
) -> tuple[int | None, tuple[Layout, ...]]:
    """The fixed batch if there is one, and the layouts that fit; open sizes become those of
    `shape`, the open batch 1.
    """
    dims = source.type.tensor_type.shape.dim
    sizes = [dim.dim_value or None for dim in dims]
    shown = [dim.dim_value or dim.dim_param or "?" for dim in dims]
    if len(sizes) != 4:
        raise OnnxError(f"{path}: its input is {shown}, not a batch of images of four axes")
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
    for dim, size in zip(dims, [sizes[0] or 1, *bound], strict=True):
        dim.dim_value = size
    return sizes[0], tuple(layouts)


def _cut(model: Any, remarks: list[str]) -> str:
    """The name of the logits, after `model` is cut off there: a softmax at the end is left out."""
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    logits = graph.output[0].name
    while (last := made_by.get(logits)) is not None and last.op_type in _SEEN_THROUGH:
        logits = last.input[0]
    if last is not None and last.op_type in _PROBABILITIES:
        logits = last.input[0]
        remarks.append(
            f"{last.op_type} {last.name or last.output[0]!r} at the end is left out: it does not "
            "change which logit is largest"
        )
    else:
        logits = graph.output[0].name
    needed = {logits}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    nodes = kept[::-1]
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.output.append(onnx_part("helper").make_empty_tensor_value_info(logits))
    return logits


def _folded(
    path: Path, model: Any
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, tuple[int, ...]]]:
    """(what depends on no image, the shapes of all values): each helps to find the other."""
    to_array, from_array = (
        getattr(onnx_part("numpy_helper"), name) for name in ("to_array", "from_array")
    )
    try:
        known = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    except (ValueError, TypeError) as error:
        raise OnnxError(f"{path}: its weights are damaged ({error}): export it again") from error
    while True:
        shapes = _shapes(path, model)
        new: dict[str, np.ndarray[Any, Any]] = {}
        for node in model.graph.node:
            if node.output[0] not in known:
                new |= _value(model, node, {**known, **new}, shapes)
        if not new:
            break
        known |= new
        if all(name in shapes for node in model.graph.node for name in node.output if name):
            break
        model.graph.initializer.extend(from_array(value, name) for name, value in new.items())
        left = [node for node in model.graph.node if node.output[0] not in new]
        del model.graph.node[:]
        model.graph.node.extend(left)
    return known, shapes | {name: value.shape for name, value in known.items()}


def _shapes(path: Path, model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes that onnx infers, where every size is known."""
    try:
        graph = onnx_part("shape_inference").infer_shapes(model, data_prop=True).graph
    except Exception as error:  # onnx's own type
        raise OnnxError(
            f"{path}: its shapes do not fit together ({error}): export it again"
        ) from error
    found: dict[str, tuple[int, ...]] = {}
    for entry in (*graph.input, *graph.value_info, *graph.output):
        kind = entry.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            found[entry.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return found


def _value(
    model: Any,
    node: Any,
    known: Mapping[str, np.ndarray[Any, Any]],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of a node that depends on no image; nothing for any other node."""
    if node.op_type == "Shape" and node.input[0] in shapes:
        first, last = (_attributes(node).get(key) for key in ("start", "end"))
        return {node.output[0]: np.array(shapes[node.input[0]][first:last], np.int64)}
    branches = any(entry.type in (entry.GRAPH, entry.GRAPHS) for entry in node.attribute)
    own = [name for name in node.input if name]
    if branches or node.op_type.startswith(_RANDOM) or any(name not in known for name in own):
        return {}
    helper, from_array = onnx_part("helper"), onnx_part("numpy_helper").from_array
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node], "constant", [],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [from_array(known[name], name) for name in dict.fromkeys(own)],
    )  # fmt: skip
    alone = helper.make_model(graph, opset_imports=model.opset_import)
    try:
        values = onnx_part("reference").ReferenceEvaluator(alone).run(None, {})
    except Exception:  # an operator that the evaluator does not know: reported where it is read
        return {}
    return {name: np.asarray(value) for name, value in zip(outputs, values, strict=True)}


def _operation(node: Any) -> Operation:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    name = (node.name or node.output[0]).replace("/", ".").strip(".")
    return Operation(
        name, f"{domain}{node.op_type}", tuple(node.input), tuple(node.output), _attributes(node)
    )


def _attributes(node: Any) -> dict[str, Any]:
    """Attributes as numbers, texts and lists; what is none of these is left out."""
    found: dict[str, Any] = {}
    for entry in node.attribute:
        value = onnx_part("helper").get_attribute_value(entry)
        if isinstance(value, bytes):
            found[entry.name] = value.decode(errors="replace")
        elif isinstance(value, int | float):
            found[entry.name] = value
        elif entry.type in (entry.INTS, entry.FLOATS):
            found[entry.name] = list(value)
    return found


def _tensor(value: np.ndarray[Any, Any]) -> Tensor:
    """A constant as a tensor of its own; texts become an empty one."""
    if value.dtype.kind not in "biuf":
        return torch.zeros(0)
    if value.dtype.kind == "f":
        value = value.astype(np.float64 if value.dtype.itemsize > 4 else np.float32)
    elif value.dtype.kind == "u":
        value = value.astype(np.int64)
    return torch.from_numpy(np.array(value))
