"""A network in a table: its layers with their shapes, sizes and thresholds, and what they fired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spiking_resnet import arguments
from spiking_resnet.capture.module import trace
from spiking_resnet.capture.onnx.translate import trace_onnx
from spiking_resnet.codec import FIELDS, Record, same
from spiking_resnet.costs.sizes import Size, sizes
from spiking_resnet.evaluation.layers import kinds, stands_alone
from spiking_resnet.graph import Fire, Graph, Node
from spiking_resnet.graph.structure import shortcuts
from spiking_resnet.records import Curve, InputError, Run
from spiking_resnet.store import load
from spiking_resnet.surroundings import undisturbed


@dataclass(frozen=True)
class LayerSummary(Record):
    """One layer: the image, a population or ReLU with all that leads to it, or the read-out.

    by: kinds of its nodes on the main way. shape: of one image's values. parameters, synapses: of
    its nodes; what two layers read is the first one's. threshold: the lowest and the highest firing
    threshold in the ANN's units, None where it is not known. rate: spikes per neuron and step.
    """

    name: str
    by: tuple[str, ...]
    shape: tuple[int, ...]
    size: Size
    threshold: tuple[float, float] | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Summary(Record):
    """The layers of a network in order. method: it was converted by, or "" for an ANN.

    steps: T after which rates were measured, on so many `images`; None without rates.
    """

    method: str
    layers: tuple[LayerSummary, ...]
    steps: int | None = None
    images: int | None = None

    layout = (*FIELDS, *same("total"))

    @property
    def total(self) -> Size:
        """The sums over all layers."""
        own = [layer.size for layer in self.layers]
        return Size(
            sum(size.parameters for size in own), sum(size.neurons for size in own),
            sum(size.macs for size in own), sum(size.synapses for size in own),
        )  # fmt: skip

    @property
    def rate(self) -> float | None:
        """Spikes per neuron and step of the whole network; None without rates."""
        known = [(each.size.neurons, each.rate) for each in self.layers if each.rate is not None]
        neurons = sum(count for count, _ in known)
        return sum(count * rate for count, rate in known) / neurons if neurons else None


@arguments.checked(shape=arguments.input_shape)
@undisturbed()
def summary(
    network: Graph | nn.Module | str | Path,
    shape: Sequence[int] | None = None,
    run: Run | Curve | None = None,
) -> Summary:
    """The layers of a network: shapes, neurons, synapses, parameters, thresholds, and rates.

    network: a converted one, a traced one, a file that `save` wrote, a module, or the path of an
    ONNX file. shape: of a module's images, (C, H, W). run: a Run or Curve of the spiking network,
    whose rates up to the last T are shown. Raises InputError for a run of another network, and what
    `trace` and `load` raise.
    """
    graph = _graph(network, shape)
    rates, steps, images = _rates(run)
    if unknown := rates.keys() ^ graph.neurons.keys() if run is not None else set():
        raise InputError(
            f"run is of another network: {sorted(unknown)[0]!r} is a population of one of them only"
        )
    own, by = _sizes(graph), shortcuts(graph)
    return Summary(
        str(graph.notes.get("method", "spiking")) if graph.of(Fire) else "",
        tuple(
            LayerSummary(
                node.name, kinds(graph, node, by), node.shape, own[node.name],
                _threshold(graph, node), rates.get(node.name),
            )
            for node in graph.nodes
            if stands_alone(graph, node)
        ),
        steps,
        images,
    )  # fmt: skip


def _graph(network: object, shape: Sequence[int] | None) -> Graph:
    if isinstance(network, Graph):
        return network
    if isinstance(network, str | Path):
        is_onnx = Path(network).suffix.lower() == ".onnx"
        return trace_onnx(network, shape) if is_onnx else load(network)
    if not isinstance(network, nn.Module):
        raise arguments.expected("network", network, "give a Graph, a module, or a file's path")
    if shape is None:
        raise InputError("shape is missing: a module does not say how large its images are")
    return trace(network, shape)


def _rates(run: object) -> tuple[Mapping[str, float], int | None, int | None]:
    """(the rates of all populations, the steps, the images) of a run or a curve."""
    if run is None:
        return {}, None, None
    if isinstance(run, Curve):
        last = run.points[-1]
        return last.layers, last.steps, run.images
    if isinstance(run, Run):
        rates = {name: float(each.rate(run.record)[-1]) for name, each in run.spikes.items()}
        return rates, run.record[-1], run.images
    raise arguments.expected("run", run, "give what simulate or evaluate returned")


def _sizes(graph: Graph) -> dict[str, Size]:
    """The sizes of all layers: each node belongs to the first layer that reads it."""
    owner: dict[str, str] = {}
    for node in reversed(graph.nodes):
        readers = graph.consumers[node.name]
        if stands_alone(graph, node):
            owner[node.name] = node.name
        else:  # the read-out of a population belongs to it
            owner[node.name] = owner[readers[0].name] if readers else node.inputs[0]
    found: dict[str, Size] = {}
    for name, size in sizes(graph.nodes).items():
        found[owner[name]] = _plus(found.get(owner[name], Size()), size)
    return found


def _plus(one: Size, other: Size) -> Size:
    return Size(
        one.parameters + other.parameters, one.neurons + other.neurons,
        one.macs + other.macs, one.synapses + other.synapses,
    )  # fmt: skip


def _threshold(graph: Graph, node: Node) -> tuple[float, float] | None:
    """A population's lowest and highest threshold in the ANN's units, as its notes have it."""
    if not isinstance(node, Fire):
        return None
    last = node.name in graph.output.inputs and graph.output.readout != "mean"
    known = graph.notes.get("thresholds", {}).get(graph.output.name if last else node.name)
    if known is None:
        return None
    values = torch.tensor(known, dtype=torch.float64, device="cpu")
    return float(values.min()), float(values.max())
