"""Export to ONNX: one time step with its state, or T of them in one, as the graph computes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.export.format import Asked, ExportError, Format, needed
from spiking_resnet.export.meaning import meaning
from spiking_resnet.export.onnx.operators import BUILDERS
from spiking_resnet.export.onnx.recorder import TYPES, Recorder
from spiking_resnet.export.operations import portable
from spiking_resnet.export.torch_module import TIME, TorchNetwork
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Fire, Graph, interpret
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed

KEY = "spiking_resnet"  # of the metadata
OPSET, IR = 17, 8
Named = dict[str, Tensor]


@arguments.checked(graph=arguments.network, path=arguments.path, steps=arguments.whole)
def to_onnx(graph: Graph, path: str | Path, steps: int | None = None) -> None:
    """Write a spiking network as an ONNX file whose spikes are the same, on a grid.

    steps: images [N, C, H, W] to logits [N, K] after so many time steps. None: one time step,
    images and state to logits and the next state: "state.X" takes what "next.X" gave, and zeros
    before the first step. The batch may be of any size. Metadata under "spiking_resnet" says, as
    JSON, what the numbers mean (`meaning`).

    Sums are exact on any processor that multiplies float32 as float32, so the spikes are those of
    `simulate`; the softmax of a read-out "spikes+membrane" may round otherwise. Raises ExportError
    for random input spikes, and for one step of what depends on the number of the step; InputError
    where onnx is not installed.

    >>> sr.to_onnx(snn, "snn.onnx", steps=16)
    """
    write(graph, Path(path), Asked(steps=steps))


def write(graph: Graph, path: Path, asked: Asked) -> tuple[str, ...]:
    """Write `asked.steps` time steps, or one step with its state, as an ONNX file."""
    if asked.steps is not None and asked.steps < 1:
        raise InputError(f"steps is {asked.steps}: at least 1")
    onnx: Any = needed("onnx", "onnx")
    if graph.input.encoding == "poisson":
        raise ExportError(
            f"{graph.input.name!r} draws random spikes, which no file holds: convert with "
            "input_coding='constant'"
        )
    with undisturbed():
        graph = graph.to("cpu")
        recorder = Recorder(BUILDERS)
        if asked.steps is None:
            given, found = _one_step(graph, recorder)
        else:
            given, found = _unrolled(graph, recorder, asked.steps)
        model = _model(onnx, recorder, given, found)
    told = onnx.StringStringEntryProto(key=KEY, value=json.dumps(meaning(graph, asked.steps)))
    model.metadata_props.append(told)
    onnx.checker.check_model(model, full_check=True)
    write_whole(path, model.SerializeToString())
    if asked.steps is None:
        return ('one time step: "state.X" in, "next.X" out; zeros before the first',)
    return (f"images to logits after {asked.steps} time steps",)


def _unrolled(graph: Graph, recorder: Recorder, steps: int) -> tuple[Named, Named]:
    """Record so many time steps; return inputs and outputs by name."""
    images = recorder.named(_blank(graph), "images")
    memory: Named = {}
    nodes = tuple(portable(node) for node in graph.nodes)
    fixed = interpret.constants(graph)
    with recorder:
        walked = interpret.walk([n for n in nodes if n.name in fixed], images, {})
        given = {
            node.name: value
            for node, value in walked
            if any(reader.name not in fixed for reader in graph.consumers[node.name])
        }
        left = tuple(n for n in nodes if n.name in given or n.name not in fixed)
        for time in range(steps):
            interpret.last(interpret.walk(left, images, memory, time, given))
        logits = graph.output.logits(memory, steps)
    return {"images": images}, {"logits": logits}


def _one_step(graph: Graph, recorder: Recorder) -> tuple[Named, Named]:
    """Record one time step with its state; return inputs and outputs by name."""
    network = TorchNetwork(graph, graph.nodes, None)
    if network.timed:
        raise ExportError(f"{network.timed}, so one step does not serve all: say how many steps")
    images = recorder.named(_blank(graph), "images")
    state = {
        name: recorder.named(tensor, f"state.{name}")
        for name, tensor in network.initial_state(1).items()
    }
    memory = {name: tensor for name, tensor in state.items() if name != TIME}
    with recorder:
        begins = state[TIME] == 0
        for node in graph.of(Fire):
            first = node.neuron.initial_state(memory[node.name]).potential
            memory[node.name] = torch.where(begins, first, memory[node.name])
        nodes = tuple(portable(node) for node in graph.nodes)
        interpret.last(interpret.walk(nodes, images, memory))
        done = state[TIME] + 1
        steps: Any = done.double()
        logits = graph.output.logits(memory, steps)
    inputs = {"images": images, **{f"state.{name}": tensor for name, tensor in state.items()}}
    after = {TIME: done, **{name: memory[name] for name in state if name != TIME}}
    return inputs, {"logits": logits, **{f"next.{name}": each for name, each in after.items()}}


def _blank(graph: Graph) -> Tensor:
    return torch.zeros(1, *graph.input.shape, dtype=torch.float32)


def _model(onnx: Any, recorder: Recorder, given: Named, found: Named) -> Any:
    """Return the file's content: what was recorded, from inputs to outputs."""
    helper = onnx.helper
    nodes = [
        helper.make_node(each.kind, each.inputs, [each.output], **each.attributes)
        for each in recorder.operations
    ]
    nodes += [
        helper.make_node("Identity", [recorder.name_of(tensor)], [name])
        for name, tensor in found.items()
    ]
    constants = [
        onnx.numpy_helper.from_array(tensor.contiguous().numpy(), name)
        for name, tensor in recorder.constants.items()
    ]
    ends = [list(_described(helper, tensors)) for tensors in (given, found)]
    drawn = helper.make_graph(nodes, "spiking network", *ends, initializer=constants)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(drawn, opset_imports=opsets, ir_version=IR, producer_name=KEY)


def _described(helper: Any, tensors: Named) -> Iterator[Any]:
    """Yield the names, types and shapes of inputs or outputs; their first axis is the batch."""
    for name, tensor in tensors.items():
        shape = ["batch", *tensor.shape[1:]] if tensor.ndim else []
        yield helper.make_tensor_value_info(name, TYPES[tensor.dtype], shape)


FORMAT = Format(
    name="onnx",
    suffix=".onnx",
    extra="onnx",
    write=write,
    honours=("steps",),
    summary="one step with its state, or --steps T in one",
)
