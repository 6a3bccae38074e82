"""From an nn.Module to a Graph, or an error that names every culprit."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet.arguments import checked, input_shape
from spiking_resnet.capture.aten import BUILDERS, FROM_SHAPES, TRANSPARENT, completed, remedy
from spiking_resnet.capture.batch_size import rebatched
from spiking_resnet.capture.calls import (
    BATCH,
    Call,
    Mask,
    Moved,
    TraceError,
    Unsupported,
    Value,
    layer_of,
    name_of,
    operation_of,
    shape_of,
    source_of,
    unmoved,
)
from spiking_resnet.capture.carried_out import (
    as_features,
    constant,
    flat_list,
    is_move,
    rearranged,
    stacked,
)
from spiking_resnet.capture.clips import COMPARISONS, OF_MASKS
from spiking_resnet.capture.heads import FUNCTIONS as HEADS
from spiking_resnet.capture.heads import heads, notes, refuse
from spiking_resnet.capture.logits import evaluating
from spiking_resnet.capture.pools import REDUCTIONS
from spiking_resnet.capture.problems import Problem, refusal
from spiking_resnet.capture.program import Captured, captured
from spiking_resnet.capture.rectifiers import recognised
from spiking_resnet.capture.reindex import lacking, settled
from spiking_resnet.capture.sources import module_of, single_precision
from spiking_resnet.capture.writes import SOURCES, Written, written
from spiking_resnet.graph import Graph, Input, Node, Output, rename_inputs
from spiking_resnet.images import map_shape
from spiking_resnet.surroundings import undisturbed

_RAW = (  # what a builder fails with on calls that it was not made for
    *(RuntimeError, TypeError, ValueError, LookupError, AttributeError, NotImplementedError),
)


@checked(shape=input_shape)
@undisturbed()
def trace(model: nn.Module | torch.export.ExportedProgram, shape: Sequence[int]) -> Graph:
    """The graph that `model` computes in inference on images of `shape` (C, H, W).

    Signals (C, L) and features (F,) are maps with axes of size 1: (C, 1, L) and (F, 1, 1).

    The model may be in training mode, on any device, in any precision, wrapped in DataParallel,
    compiled, or an exported program; it is left as it was. A softmax or sigmoid
    at its end is left out, which the notes say. BatchNorms become Affine nodes in float64.
    Raises TraceError, or InputError for a shape that is none.

    >>> sr.trace(network, (1, 8, 8))
    <Graph: artificial, (1, 8, 8) -> (10,), ...>
    """
    network, image = single_precision(module_of(rebatched(model))), tuple(shape)
    with evaluating(network):
        return _Translation(captured(network, image)).graph(image)


@dataclass
class _Translation:
    """The work of turning what was captured into nodes."""

    captured: Captured
    nodes: dict[str, Node] = field(default_factory=dict)
    # By fx name: the name of a node, a Moved, a constant, or a list of these.
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def graph(self, shape: tuple[int, ...]) -> Graph:
        constants = self.captured.constants
        left_out = heads(self.captured.logits)
        for call in self.captured.graph.nodes:
            if call.op == "placeholder":
                if call.name in constants:
                    self.values[call.name] = constants[call.name].detach()
                else:
                    self.values[call.name] = self._image(shape, call)
            elif call in left_out:
                self.values[call.name] = self._kept(self._resolve(call.args[0], lazy=True))
            elif call.op == "call_function" and "_assert" not in str(call.target):
                self._translate(call)
        final = self._logits(self.captured.logits)
        self.put(Output(name="output", inputs=(final,), shape=self.nodes[final].shape))
        nodes = {node.name: node for node in recognised(self.nodes.values())}
        return Graph(_reachable(nodes), notes(left_out))

    def _image(self, shape: tuple[int, ...], call: torch.fx.Node) -> Any:
        """The value of the network's input of `shape`: maps, or what they look like to the user."""
        whole = map_shape((BATCH, *shape))[1:]
        name = self.put(Input(name="input", inputs=(), shape=whole))
        if whole == shape:
            return name
        image = unmoved(Value(name, whole), Call(call.name, shape, "", "input"))
        return replace(image, places=image.places.view(BATCH, *shape))

    def _logits(self, end: Any) -> str:
        """The name of the node whose value are the logits [N, K]."""
        value = self.values[end.name] if isinstance(end, torch.fx.Node) else end
        if isinstance(value, str) and len(shape := self.nodes[value].shape) != 1:
            value = unmoved(Value(value, shape), Call(end.name, shape, source_of(end)))
        if isinstance(value, Moved):
            value = self._settled_value(as_features(value))
        self._raise_problems()
        if not isinstance(value, str):
            raise TraceError("what the network returns does not depend on the image")
        shape = self.nodes[value].shape
        if len(shape) != 1:
            raise TraceError(
                f"the network returns [N, {', '.join(map(str, shape))}], not logits [N, K]: end it "
                "with what makes K numbers of an image, such as pooling and a linear layer"
            )
        return value

    def _raise_problems(self) -> None:
        if self.problems:
            raise refusal(self.problems, self.nodes.values())

    def put(self, node: Node) -> str:
        """Adds a node, under a name of its own; returns the name."""
        name, count = node.name, 1
        while name in self.nodes:
            count += 1
            name = f"{node.name}_{count}"
        self.nodes[name] = replace(node, name=name)
        return name

    def _translate(self, call: torch.fx.Node) -> None:
        """Adds what one ATen call computes, or notes why it cannot."""
        named = (name_of(call), shape_of(call), source_of(call), operation_of(call))
        context = Call(*named, layer=layer_of(call))
        if call.target is operator.getitem and isinstance(self._of(call), list):
            self.values[call.name] = self._part(call, context)
            return
        lazy = is_move(call) or context.operation in (*TRANSPARENT, *REDUCTIONS, *SOURCES)
        lazy = lazy or context.operation not in BUILDERS  # it is refused, and what it reads is not
        arguments = [self._resolve(argument, lazy) for argument in call.args]
        options = {name: self._resolve(value, lazy) for name, value in call.kwargs.items()}
        given = flat_list([*arguments, *options.values()])
        depends = [isinstance(argument, Value | Moved | Mask) for argument in given]
        if not any(depends) or (context.operation in FROM_SHAPES and not any(depends[1:])):
            self.values[call.name] = constant(call, context, arguments, options)
            return
        if isinstance(size := call.meta.get("val"), int | torch.SymInt):  # of a value's shape
            self.values[call.name] = int(size)
            return
        try:
            self.values[call.name] = self._made(call, context, arguments, options)
        except Unsupported as reason:
            self._refuse(context, reason)
            self.values[call.name] = self._stand_in(call.meta.get("val"), context.name)
        except _RAW as error:
            if not self.problems:  # otherwise it may follow from a stand-in
                self._refuse(context, _not_understood(context, error))
            self.values[call.name] = self._stand_in(call.meta.get("val"), context.name)

    def _of(self, call: torch.fx.Node) -> Any:
        """The value of a call's first argument."""
        first = call.args[0]
        return self.values[first.name] if isinstance(first, torch.fx.Node) else first

    def _part(self, call: torch.fx.Node, context: Call) -> Any:
        """One of the values of a call that has several."""
        parts, number = self._of(call), int(str(call.args[1]))
        if number < len(parts) or not call.users:  # nobody asks for the places of maxima
            return parts[number] if number < len(parts) else None
        self._refuse(context, Unsupported("only the first result of a pool can be read"))
        return self._stand_in(call.meta["val"], context.name)

    def _refuse(self, call: Call, reason: Unsupported) -> None:
        """Notes why a call cannot be converted."""
        layer = f"{call.layer}: " if call.layer else ""
        told = _LAYERS.get(call.layer, reason)
        found = Problem(call.name, call.source, f"{layer}{told}")
        known = any(
            each.culprit == found.culprit and each.cause.startswith(layer) for each in self.problems
        )
        if not (layer and known):  # once for all that a layer consists of
            self.problems.append(found)

    def _stand_in(self, produced: Any, name: str) -> Any:
        """A value to go on with in the place of a refused one, so that all problems are found."""
        if isinstance(produced, list | tuple):
            return [self._stand_in(entry, name) for entry in produced]
        if not isinstance(produced, Tensor):
            return produced
        shape = tuple(int(size) for size in produced.shape[1:])
        return self.put(Input(name=name, inputs=(), shape=shape))

    def _resolve(self, argument: Any, lazy: bool) -> Any:
        """An fx argument with values as Value and constants as tensors.

        lazy: what was moved stays a Moved; otherwise it is made a node now.
        """
        if isinstance(argument, torch.fx.Node):
            value = self.values[argument.name] if lazy else self._settled(argument.name)
            return Value(value, self.nodes[value].shape) if isinstance(value, str) else value
        if isinstance(argument, list | tuple):
            return [self._resolve(entry, lazy) for entry in argument]
        return argument

    def _settled(self, name: str) -> Any:
        """The value of an fx name, by a node of its own if it was moved."""
        value = self.values[name]
        if not isinstance(value, Moved):
            return value
        node = self._settled_value(value)
        shape = self.nodes[node].shape
        if shape == value.shape:
            self.values[name] = node
            return node
        whole = unmoved(Value(node, shape), value.call)  # the user's value lacks an axis of size 1
        self.values[name] = replace(whole, places=whole.places.view(value.places.shape))
        return Value(node, shape, lacking(shape, value.shape))

    def _settled_value(self, moved: Moved) -> str:
        """The name of the node that has a moved value."""
        try:
            return self._put_all(settled(moved)) or moved.origin.name
        except Unsupported as reason:
            self._refuse(moved.call, reason)
            return self._stand_in(moved.places, moved.call.name)

    def _made(
        self, call: torch.fx.Node, context: Call, arguments: list[Any], options: dict[str, Any]
    ) -> Any:
        """What one call computes of values that depend on the image."""
        operation = context.operation
        produced = call.meta.get("val")
        if operation in TRANSPARENT and isinstance(arguments[0], Mask):
            return arguments[0]
        builder = BUILDERS.get(operation)
        if isinstance(produced, Tensor) and not produced.dtype.is_floating_point:
            if builder is None or operation not in COMPARISONS:
                raise Unsupported(
                    f"{operation} makes {produced.dtype} of it; keep activations float"
                )
        elif any(isinstance(a, Mask) for a in flat_list(arguments)) and operation not in OF_MASKS:
            raise Unsupported(
                f"{operation} of a comparison's result, a step; write it with relu or clamp"
            )
        if operation in TRANSPARENT:
            if operation.endswith("dropout") and True in arguments[2:] and arguments[1]:
                raise Unsupported(
                    "it draws random numbers in evaluation mode too; give F.dropout its "
                    "training=self.training, and make nn.Dropout in __init__, not in forward"
                )
            return self._kept(arguments[0])
        if is_move(call):
            return rearranged(call, context, arguments, options)
        if operation in SOURCES:
            return self._written(call, context, arguments)
        if operation.lstrip("_") in HEADS:
            refuse(call)
        if builder is None:
            raise Unsupported(f"{operation} has no spiking counterpart here. {remedy(operation)}")
        whole, arguments, options = completed(context, arguments, options)
        made = builder(whole, *arguments, **options)
        if isinstance(made, Mask):
            return made
        name = made if isinstance(made, str) else self._put_all(made)
        value = Value(name, self.nodes[name].shape)
        if operation == "stack":
            return stacked(value, context, arguments, options)
        several = isinstance(produced, list | tuple)  # (values, indices) of a pool
        if several or value.shape == context.shape:
            return [name] if several else name
        moved = unmoved(value, context)  # axes of size 1 that the call leaves out
        return replace(moved, places=moved.places.view(BATCH, *context.shape))

    def _written(self, call: torch.fx.Node, context: Call, arguments: list[Any]) -> Any:
        """The first argument, with another written into a part of it."""
        place = SOURCES[context.operation]
        base, source = arguments[0], arguments[place]
        rest = [a.cpu() if isinstance(a, Tensor) else a for a in arguments]
        if any(
            isinstance(a, Value | Moved) for a in flat_list([*rest[1:place], *rest[place + 1 :]])
        ):
            raise Unsupported(f"{context.operation} by numbers that depend on the image; fix them")

        def write(into: Tensor, values: Tensor) -> Any:
            given = [into, *rest[1:place], values, *rest[place + 1 :]]
            return call.target(*given)  # type: ignore[operator]

        if context.operation == "index_put" and True in arguments[3:]:
            raise Unsupported("index_put that accumulates; add in the plain form, y[:, i] += a")
        made = written(context, write, base, source)
        if not isinstance(made, Written):
            return made
        name = self._put_all(made.nodes)
        return replace(made.result, origin=Value(name, self.nodes[name].shape))

    def _kept(self, value: Any) -> Any:
        """A resolved value as `values` holds it."""
        return value.name if isinstance(value, Value) else value

    def _put_all(self, made: Node | list[Node]) -> str:
        """Adds nodes that may read each other; returns the name of the last ("": none)."""
        names: dict[str, str] = {}
        name = ""
        for node in made if isinstance(made, list) else [made]:
            name = self.put(rename_inputs(node, names))
            names[node.name] = name
        return name


# Why torch's own layers are refused, where what they consist of says little.
_LAYERS = {
    "LocalResponseNorm": "it divides by what neighbouring channels do; take it out, or put "
    "BatchNorm in its place, and train on (later AlexNets have none)",
}


def _not_understood(call: Call, error: Exception) -> Unsupported:
    """Why a call that a builder fails on is refused."""
    return Unsupported(
        f"{call.operation} as it is called here has no spiking counterpart "
        f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); "
        "write it in its plain form"
    )


def _reachable(nodes: dict[str, Node]) -> tuple[Node, ...]:
    """The nodes that the output depends on, in order; the Input always among them."""
    needed = {"input", "output"}
    for node in reversed(nodes.values()):
        if node.name in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes.values() if node.name in needed)
