"""From an ONNX file to a Graph, or an error that names every culprit.

A network exported from Keras, PyTorch or anything else becomes the same graph that `trace` makes of
a module. Transposes make no nodes: the order of a value's axes is followed instead, so that files
whose images are [N, H, W, C] convert as well. The graph's own image is always [C, H, W].
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.arguments import checked, image_shape
from spiking_resnet.capture.calls import TraceError, Unsupported
from spiking_resnet.capture.onnx.file import Layout, OnnxFile, Operation, read
from spiking_resnet.capture.onnx.operation import Activation, Step
from spiking_resnet.capture.onnx.operators import BUILDERS, PER_VALUE, remedy
from spiking_resnet.capture.onnx.package import OnnxError, first_line
from spiking_resnet.capture.problems import Problem, refusal
from spiking_resnet.graph import Flatten, Graph, Input, Node, Output
from spiking_resnet.surroundings import undisturbed

_NOTE = "onnx"  # in a graph's notes


@checked(path=arguments.path, shape=image_shape)
@undisturbed()
def trace_onnx(path: str | Path, shape: Sequence[int] | None = None) -> Graph:
    """The graph of the classifier in an ONNX file.

    shape: (C, H, W) of the images; needed where the file leaves height or width open. The notes
    say which layout the file's images have and what was left out. Raises TraceError for operations
    that cannot be converted, OnnxError or FileNotFoundError for files that cannot be read.

    >>> sr.trace_onnx("digits.onnx", (1, 8, 8))
    <Graph: artificial, (1, 8, 8) -> (10,), ...>
    """
    return graph_of(read(path, shape))


def graph_of(file: OnnxFile) -> Graph:
    """The graph of a file that was read."""
    return _Translation(file, _layout(file)).graph()


def layout_of(graph: Graph) -> Layout:
    """How the images lie that the file of a traced graph takes."""
    return graph.notes[_NOTE]["layout"]


def _layout(file: OnnxFile) -> Layout:
    """Whether channels come first in the file's images: what reads them says it."""
    if len(file.layouts) == 1:
        return file.layouts[0]
    readers: dict[str, list[Operation]] = {}
    for operation in file.operations:
        for name in operation.inputs:
            readers.setdefault(name, []).append(operation)
    waiting = [file.input]
    while waiting:
        for operation in readers.get(waiting.pop(0), ()):
            if operation.kind in (*PER_VALUE, "Pad"):
                waiting.append(operation.outputs[0])
            elif operation.kind == "Transpose":
                return "NHWC" if operation.attributes.get("perm") == [0, 3, 1, 2] else "NCHW"
            elif operation.kind in ("Reshape", "MatMul", "Gemm", "Flatten"):
                break  # these say nothing of it
            else:
                return "NCHW"
    _, first, *_, last = file.shapes[file.input]
    return "NHWC" if last in (1, 3, 4) and first not in (1, 3, 4) else "NCHW"


@dataclass
class _Translation:
    """The work of turning one file into nodes."""

    file: OnnxFile
    layout: Layout
    nodes: dict[str, Node] = field(default_factory=dict)
    values: dict[str, Activation | Tensor | None] = field(default_factory=dict)  # None: failed
    problems: list[Problem] = field(default_factory=list)
    readers: dict[str, list[Operation]] = field(default_factory=dict)  # by what they read

    def graph(self) -> Graph:
        self.values |= self.file.constants()
        self.values[self.file.input] = self._image()
        for operation in self.file.operations:
            for name in operation.inputs:
                self.readers.setdefault(name, []).append(operation)
        for operation in self.file.operations:
            self._translate(operation)
        if self.problems:
            raise refusal(self.problems)
        final = self._logits()
        shape = self.nodes[final].shape
        end = self.put(Output(name="output", inputs=(final,), shape=shape))
        notes = {
            "file": self.file.path.name,
            "layout": self.layout,
            "remarks": [*self.file.remarks, *self._said()],
        }
        return Graph(self._needed(end), {_NOTE: notes})

    def _image(self) -> Activation:
        sizes = self.file.shapes[self.file.input]
        axes = (0, 2, 3, 1) if self.layout == "NHWC" else (0, 1, 2, 3)
        shape = tuple(sizes[axes.index(axis)] for axis in (1, 2, 3))
        return Activation(self.put(Input(name="input", inputs=(), shape=shape)), shape, axes)

    def _said(self) -> list[str]:
        if self.layout == "NCHW":
            return []
        return [
            "the file takes images [N, H, W, C]; the converted network takes [N, C, H, W], and the "
            "transpose is gone"
        ]

    def _logits(self) -> str:
        """The name of the node whose value are the logits."""
        final = self.values[self.file.logits]
        if not isinstance(final, Activation):
            raise TraceError("the network does not return logits that depend on the image")
        if final.columns is not None or max(final.shape) != _size(final.shape):
            raise TraceError(
                f"the network returns a value of shape {final.shape} per image, not logits [N, K]"
            )
        if len(final.shape) == 1:
            return final.name
        size = (_size(final.shape),)
        return self.put(Flatten(name=f"{final.name}.flatten", inputs=(final.name,), shape=size))

    def _needed(self, end: str) -> tuple[Node, ...]:
        """The nodes that the one called `end` depends on, in order, and the Input."""
        needed = {"input", end}
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        return tuple(node for node in self.nodes.values() if node.name in needed)

    def put(self, node: Node) -> str:
        """Adds a node, under a name of its own; returns the name."""
        name, count = node.name, 1
        while name in self.nodes:
            count += 1
            name = f"{node.name}_{count}"
        self.nodes[name] = replace(node, name=name)
        return name

    def _translate(self, operation: Operation) -> None:
        """Adds what one operation computes, or notes why it cannot."""
        outputs = [name for name in operation.outputs if name]
        given = tuple(self.values.get(name) for name in operation.inputs)
        self.values |= dict.fromkeys(outputs)
        if any(name and value is None for name, value in zip(operation.inputs, given, strict=True)):
            return  # the cause has been reported already
        try:
            made = self._build(operation, given)
        except Unsupported as reason:
            self.problems.append(
                Problem(operation.name, operation.kind, str(reason), operation.kind)
            )
            # Go on as if it were not there, so that all problems are found at once.
            shapes = [
                self.file.shapes.get(name) for name in (operation.inputs[:1] + operation.outputs)
            ]
            made = [given[0]] if given and shapes[0] == shapes[1] else []
        self.values |= dict(zip(outputs, made, strict=False))

    def _build(
        self, operation: Operation, given: tuple[Activation | Tensor | None, ...]
    ) -> list[Any]:
        """The values of an operation's outputs."""
        builder = BUILDERS.get(operation.kind)
        reason = self.file.facts.problems.get(operation.outputs[0])
        if reason and not any(isinstance(value, Activation) for value in given):
            raise Unsupported(f"it is a constant that cannot be computed ({reason})")
        if builder is None:
            raise Unsupported(f"it has no spiking counterpart here. {remedy(operation.kind)}")
        sizes = self.file.shapes.get(operation.outputs[0])
        if sizes is None:
            raise Unsupported(
                f"its shape cannot be told from the file{f' ({reason})' if reason else ''}; export "
                "with fixed sizes, or simplify the file (onnxsim)"
            )
        batch = self.file.shapes[self.file.input][0]
        step = Step(
            operation, given, sizes, batch, self.file.path.name, self.file.opset,
            tuple(self.readers.get(operation.outputs[0], ())), self.nodes, self.put,
        )  # fmt: skip
        try:
            made = builder(step)
        except (Unsupported, OnnxError):
            raise
        except Exception as error:  # what it reads is not what its operator takes
            raise Unsupported(
                f"its inputs or attributes are not those of {operation.kind} "
                f"({type(error).__name__}: {first_line(error)}); export the network again"
            ) from error
        values = made if isinstance(made, list) else [made]
        if sizes != (batch, *values[0].sizes):
            raise Unsupported(f"it makes {values[0].sizes} per image where the file says {sizes}")
        for name in operation.outputs[len(values) :]:
            if name in self.readers or name == self.file.logits:
                raise Unsupported(f"its output {name!r} is read; only the first can be converted")
        return values


def _size(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
