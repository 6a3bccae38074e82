"""What one node of an ONNX file computes, by onnx's own inference and reference evaluator."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from spiking_resnet.capture.onnx.package import onnx_part
from spiking_resnet.capture.onnx.standard import operators

Array = np.ndarray[Any, Any]

_SMALL = 1024  # numbers of a constant that says what shape something has


def inferred(
    node: Any, types: Mapping[str, Any], known: Mapping[str, Array], opsets: Mapping[str, int]
) -> dict[str, Any]:
    """The types of a node's outputs, as onnx infers them from those of its inputs.

    known: the inputs that are constants. Raises whatever onnx raises for nodes that are wrong.
    """
    helper, to_proto = onnx_part("helper"), onnx_part("numpy_helper").from_array
    schema = onnx_part("defs").get_schema(node.op_type, opsets[_domain(node)], _domain(node))
    names = [name for name in node.input if name]
    small = {
        name: to_proto(known[name], name)
        for name in names
        if name in known and known[name].size <= _SMALL
    }
    found = onnx_part("shape_inference").infer_node_outputs(
        schema, node, {name: types[name] for name in names}, small,
        opset_imports=[helper.make_opsetid(name, version) for name, version in opsets.items()],
    )  # fmt: skip
    return dict(found)


def computed(node: Any, values: Mapping[str, Array], opsets: Mapping[str, int]) -> dict[str, Array]:
    """The outputs of a node for these inputs. Raises whatever onnx's evaluator raises."""
    helper = onnx_part("helper")
    empty = helper.make_empty_tensor_value_info
    names = list(dict.fromkeys(name for name in node.input if name))
    outputs = [name for name in node.output if name]
    graph = helper.make_graph([node], "node", [*map(empty, names)], [*map(empty, outputs)])
    versions = [helper.make_opsetid(name, version) for name, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=versions)
    evaluator = onnx_part("reference").ReferenceEvaluator(model, new_ops=operators())
    with np.errstate(all="ignore"):
        found = evaluator.run(None, {name: values[name] for name in names})
    return {name: np.asarray(value) for name, value in zip(outputs, found, strict=True)}


def _domain(node: Any) -> str:
    return "" if node.domain == "ai.onnx" else str(node.domain)
