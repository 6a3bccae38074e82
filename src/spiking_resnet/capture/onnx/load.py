"""An ONNX file on its way from the disk: checked, and its functions written out.

What a file asks for is counted before it is given: functions that call one another can stand for
more nodes than any memory holds.
"""

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from spiking_resnet.capture.onnx.package import OnnxError, first_line, onnx_part

Array = np.ndarray[Any, Any]

MOST_NODES = 20_000  # some ten times the largest residual networks


def loaded(path: Path) -> Any:
    """The checked model of a file, its functions written out; OnnxError where it is none."""
    onnx = onnx_part()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        model = onnx.load(str(path))
        _check_names(path, model)
        _check_size(path, model)
        onnx.checker.check_model(model)
        if model.functions:
            model = onnx_part("inliner").inline_local_functions(model)
    except OnnxError:
        raise
    except Exception as error:  # protobuf's and onnx's own types, and OSError for external data
        raise OnnxError(
            f"{path} cannot be read as an ONNX network ({first_line(error)}): it may be cut off, "
            "be of another format, or lack the external data file that belongs beside it; export "
            "it again"
        ) from error
    return model


def weights(path: Path, model: Any) -> dict[str, Array]:
    """The numbers that the file holds itself, by name."""
    to_array = onnx_part("numpy_helper").to_array
    if model.graph.sparse_initializer:
        name = model.graph.sparse_initializer[0].values.name
        raise OnnxError(f"{path}: its weight {name!r} is sparse: export it with dense weights")
    found: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        if tensor.name in found:
            raise OnnxError(f"{path} holds two weights called {tensor.name!r}: export it again")
        try:
            if min(tensor.dims, default=0) < 0:
                raise ValueError(f"its shape is {list(tensor.dims)}")
            found[tensor.name] = to_array(tensor)
        except Exception as error:  # numpy's and onnx's own types
            raise OnnxError(
                f"{path}: its weight {tensor.name!r} is damaged ({first_line(error)}): export it "
                "again"
            ) from error
    return found


def _check_names(path: Path, model: Any) -> None:
    """OnnxError for names that are no text: protobuf hands them on as bytes."""
    graph = model.graph
    found = [entry.name for entry in (*graph.input, *graph.output, *graph.initializer)]
    nodes = (graph.node, *(f.node for f in model.functions))
    for node in (node for part in nodes for node in _every(part)):
        found += [node.name, node.op_type, node.domain, *node.input, *node.output]
        found += [entry.name for entry in node.attribute]
    for name in found:
        if not isinstance(name, str):
            raise OnnxError(f"{path}: the name {name!r} is not text in UTF-8: export it again")


def _check_size(path: Path, model: Any) -> None:
    """OnnxError for a model of too many nodes once its functions are written out."""
    bodies = {(f.domain, f.name, f.overload): list(_every(f.node)) for f in model.functions}
    calls = {
        key: {call for call in map(_called, body) if call in bodies} for key, body in bodies.items()
    }
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        domain, name, _ = error.args[1][0]
        raise OnnxError(
            f"{path}: its function {domain}.{name} calls itself: export it without functions"
        ) from None
    sizes: dict[tuple[str, str, str], int] = {}
    for key in order:
        sizes[key] = sum(sizes.get(_called(node), 1) for node in bodies[key])
    total = sum(sizes.get(_called(node), 1) for node in _every(model.graph.node))
    if total > MOST_NODES:
        raise OnnxError(
            f"{path} has {total} nodes once its functions are written out, more than the "
            f"{MOST_NODES} that are read: simplify the file (onnxsim)"
        )


def _called(node: Any) -> tuple[str, str, str]:
    return node.domain, node.op_type, node.overload


def _every(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for entry in node.attribute:
            for inner in (entry.g, *entry.graphs):
                yield from _every(inner.node)
