"""What is known of an ONNX file's values before any image: their shapes, and the constants.

One pass over the nodes: shapes make constants (Shape), and constants make shapes (Reshape). Nothing
is computed whose size was not found, and allowed, before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from spiking_resnet.capture.onnx.evaluator import computed, inferred
from spiking_resnet.capture.onnx.package import OnnxError, attributes, first_line, onnx_part

Array = np.ndarray[Any, Any]

MOST_NUMBERS = 2**26  # of an activation of one image: 256 MiB
_MOST_OF_A_BATCH = 2**28
_ROOM = 2**30  # bytes that are read and written while constants are computed, at the least
_TIMES = 8  # or so many times the bytes of the weights that the file holds itself

_COMPUTED = {  # operators whose work and memory are those of their inputs and outputs
    *("Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "CastLike", "Ceil", "Clip", "Concat"),
    *("Constant", "ConstantOfShape", "CumSum", "DequantizeLinear", "Div", "Equal", "Exp"),
    *("Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND"),
    *("Gemm", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul"),
    *("Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "OneHot", "Or", "Pad", "Pow"),
    *("QuantizeLinear", "Range", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "ScatterElements"),
    *("ScatterND", "Shape", "Sigmoid", "Sign", "Size", "Slice", "Split", "Sqrt", "Squeeze"),
    *("Sub", "Sum", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor"),
}


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of values, by name.

    constants: all that depends on no image, the file's own weights included. of_batch: those of
    them that were made of the number of images. shapes: the batch in front. problems: why the shape
    of what a node makes, or its value, is not known, by the node's first output.
    """

    constants: Mapping[str, Array]
    of_batch: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]
    problems: Mapping[str, str]


def facts(
    path: Path,
    nodes: Iterable[Any],
    opsets: Mapping[str, int],
    fixed: Mapping[str, Array],
    source: str,
    shape: tuple[int, ...],
) -> Facts:
    """The facts of nodes in order. fixed: constants that are known already.

    source, shape: name and shape of the images. Raises OnnxError, naming the node, where a value is
    larger than the limits above.
    """
    return _Pass(path, opsets, dict(fixed), source, shape).over(nodes)


class _Pass:
    """The work of finding them."""

    def __init__(
        self,
        path: Path,
        opsets: Mapping[str, int],
        fixed: dict[str, Array],
        source: str,
        shape: tuple[int, ...],
    ) -> None:
        self.path, self.opsets, self.known = path, opsets, fixed
        self.images, self.of_batch = shape[0], set[str]()
        self.types = {name: _type_of(value) for name, value in fixed.items()}
        self.types[source] = onnx_part("helper").make_tensor_type_proto(1, shape)
        self.shapes = {source: shape, **{name: value.shape for name, value in fixed.items()}}
        self.problems: dict[str, str] = {}
        self.room = max(_ROOM, _TIMES * sum(value.nbytes for value in fixed.values()))
        self._check(source, source)

    def over(self, nodes: Iterable[Any]) -> Facts:
        for node in nodes:
            if not all(name in self.known for name in node.output if name):
                self._visit(node)
        return Facts(self.known, frozenset(self.of_batch), self.shapes, self.problems)

    def _visit(self, node: Any) -> None:
        inputs = [name for name in node.input if name]
        first = next(iter(node.output), "")
        if any(name not in self.types for name in inputs):
            return  # the cause is among the problems already
        if node.op_type == "Slice" and 0 in self.shapes.get(inputs[0], ()):
            self.problems[first] = "it cuts an empty value"  # onnx's inference breaks off here
            return
        try:
            found = inferred(node, self.types, self.known, self.opsets)
        except Exception as error:  # onnx's own types
            self.problems[first] = first_line(error)
            return
        fixed = all(name in self.known for name in inputs)
        for name, kind in found.items():
            sizes = _sizes(kind)
            if sizes is None:
                continue
            if min(sizes, default=1) < (0 if fixed else 1):
                self.problems[first] = f"it would be {list(sizes)}"
                return
            self.shapes[name] = sizes
            if not fixed:
                self._check(name, node.name or first)
        self.types |= found
        if node.op_type in ("Shape", "Size") and inputs[0] in self.shapes:
            self._keep(node, {first: _measured(node, self.shapes[inputs[0]])})
            if inputs[0] not in self.known or inputs[0] in self.of_batch:
                self.of_batch.add(first)
        elif fixed and node.op_type in _COMPUTED:
            self._compute(node, inputs)

    def _check(self, name: str, node: str) -> None:
        """OnnxError for an activation that is larger than any network's."""
        count = prod(self.shapes[name])
        most = min(MOST_NUMBERS * max(1, self.images), _MOST_OF_A_BATCH)
        if count > most:
            raise OnnxError(
                f"{self.path}: {node!r} makes a value of shape {list(self.shapes[name])}, "
                f"{count} numbers, more than the {most} that are allowed ({MOST_NUMBERS} per "
                "image): use smaller images, or export the network with a free batch size"
            )

    def _compute(self, node: Any, inputs: list[str]) -> None:
        """The outputs of a node that reads constants alone."""
        first = node.output[0]
        if any(entry.name == "sparse_value" for entry in node.attribute):
            self.problems[first] = "its value is sparse; export it dense"
            return
        work = self._work(node, inputs)
        if work is None:
            self.problems[first] = "how large it is cannot be told before it is computed"
            return
        self.room -= work
        if self.room < 0:
            raise OnnxError(
                f"{self.path}: computing the constant {node.name or first!r} ({node.op_type}) "
                f"takes {work} bytes, and all constants together more than the larger of "
                f"{_ROOM} bytes and {_TIMES} times its own weights: simplify the file (onnxsim)"
            )
        try:
            self._keep(node, computed(node, self.known, self.opsets))
        except Exception as error:  # whatever the evaluator raises
            self.problems[first] = first_line(error)
            return
        if self.of_batch.intersection(inputs):
            self.of_batch.update(node.output)

    def _work(self, node: Any, inputs: list[str]) -> int | None:
        """Bytes read and written to compute a constant, or None where that cannot be told."""
        read = sum(self.known[name].nbytes for name in inputs)
        if node.op_type == "NonZero":
            return read + 8 * self.known[inputs[0]].ndim * self.known[inputs[0]].size
        written = 0
        for name in node.output:
            if name and name not in self.shapes:
                return None
            written += self._bytes(name) if name else 0
        if node.op_type in ("MatMul", "Gemm"):
            written *= max(self.known[inputs[0]].shape, default=1)
        return read + written

    def _bytes(self, name: str) -> int:
        """Of a value whose shape is known."""
        kind = self.types[name].tensor_type.elem_type
        size: int = onnx_part("helper").tensor_dtype_to_np_dtype(kind).itemsize
        return size * prod(self.shapes[name])

    def _keep(self, node: Any, values: Mapping[str, Array]) -> None:
        for name, value in values.items():
            self.known[name] = value
            self.types[name] = _type_of(value)
            self.shapes[name] = value.shape


def _type_of(value: Array) -> Any:
    helper = onnx_part("helper")
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _sizes(kind: Any) -> tuple[int, ...] | None:
    """The shape that a type says, or None where it is not all known."""
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or any(not d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return tuple(dim.dim_value for dim in tensor.shape.dim)


def _measured(node: Any, shape: tuple[int, ...]) -> Array:
    """What Shape or Size say of a value of this shape."""
    if node.op_type == "Size":
        return np.array(prod(shape), np.int64)
    options = attributes(node)
    return np.array(shape[options.get("start") : options.get("end")], np.int64)
