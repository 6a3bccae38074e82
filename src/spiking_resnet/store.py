"""A network in one .safetensors file: tensors as they are, everything else as JSON in its metadata.

Nothing is pickled.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.files import write_whole
from spiking_resnet.graph import KINDS, Fire, Graph, Node, tensors
from spiking_resnet.neurons import Dcgs, Differential, Gated, IntegrateAndFire, Serial
from spiking_resnet.surroundings import undisturbed

VERSION = 5
NEURONS = {kind.__name__: kind for kind in (IntegrateAndFire, Differential, Serial, Dcgs, Gated)}
# In 1 neurons fire 0 or 1 spike in a step; before 3 no read-out is delayed, before 4 none waits,
# before 5 none is DCGS's or gated and no ReLU has levels.
READABLE = (1, 2, 3, 4, 5)
KEY = "spiking_resnet"


class StoreError(ValueError):
    """A file that does not hold a network this version can read; the message names the file."""


@arguments.checked(graph=arguments.network, path=arguments.path)
@undisturbed()
def save(graph: Graph, path: str | Path) -> None:
    """Writes `graph`, and the artificial network it came from, to one .safetensors file.

    Raises OSError (a full disk, a missing folder) without leaving a file behind; a file that was at
    `path` stays as it was until the new one is complete.
    """
    path = Path(path)
    description = {"version": VERSION, "snn": _describe(graph)}
    if graph.ann is not None:
        description["ann"] = _describe(graph.ann)
    arrays = {f"snn/{name}": tensor for name, tensor in _arrays(graph).items()}
    if graph.ann is not None:
        arrays |= {f"ann/{name}": tensor for name, tensor in _arrays(graph.ann).items()}
    write_whole(path, to_bytes(arrays, metadata={KEY: json.dumps(description)}), folders=False)


@undisturbed()
def digest(graph: Graph) -> str:
    """A hash of a network and of the one it came from: of all but its notes."""
    content = hashlib.blake2b(digest_size=16)
    for part in (graph, *([] if graph.ann is None else [graph.ann])):
        content.update(json.dumps(_describe(part)["nodes"]).encode())
        for tensor in _arrays(part).values():
            content.update(tensor.numpy().tobytes())
    return content.hexdigest()


@arguments.checked(path=arguments.path)
@undisturbed()
def load(path: str | Path) -> Graph:
    """The network in a file that `save` wrote. Raises StoreError, or FileNotFoundError."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: make it with `spiking-resnet convert`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise StoreError(
            f"{path} is not a complete .safetensors file ({error}): convert the network again"
        ) from error
    if KEY not in metadata:
        raise StoreError(
            f"{path} holds no spiking network: was it written by `spiking-resnet convert`?"
        )
    try:
        return _graphs(json.loads(metadata[KEY]), arrays, path)
    except StoreError:
        raise
    except (KeyError, TypeError, ValueError) as error:  # ValueError: bad JSON, or a GraphError
        raise StoreError(f"{path} is damaged ({error}): convert the network again") from error


def _graphs(description: Mapping[str, Any], arrays: Mapping[str, Tensor], path: Path) -> Graph:
    """The spiking network a description stands for, with the artificial one beside it."""
    if "snn" not in description:
        raise StoreError(
            f"{path} holds trained weights: make a spiking network of them first, with "
            "`spiking-resnet convert`"
        )
    if description.get("version") not in READABLE:
        raise StoreError(
            f"{path} has format version {description.get('version')}; this one reads {VERSION}: "
            "convert the network again, or install the version that wrote the file"
        )
    ann = _build(description["ann"], arrays, "ann/", None) if "ann" in description else None
    return _build(description["snn"], arrays, "snn/", ann)


def _arrays(graph: Graph) -> dict[str, Tensor]:
    return {
        f"{node.name}/{name}": tensor.detach().cpu().contiguous().clone()
        for node in graph.nodes
        for name, tensor in tensors(node).items()
    }


def _describe(graph: Graph) -> dict[str, Any]:
    """Everything of a graph that is not a tensor."""
    nodes = []
    for node in graph.nodes:
        plain = {
            entry.name: value
            for entry in fields(node)
            if not isinstance(value := getattr(node, entry.name), Tensor | IntegrateAndFire)
        }
        if isinstance(node, Fire):
            plain["neuron"] = {
                "kind": type(node.neuron).__name__,
                **{
                    entry.name: value
                    for entry in fields(node.neuron)
                    if not isinstance(value := getattr(node.neuron, entry.name), Tensor)
                },
            }
        nodes.append({"kind": type(node).__name__, **plain})
    return {"nodes": nodes, "notes": dict(graph.notes)}


def _build(
    description: Mapping[str, Any], arrays: Mapping[str, Tensor], prefix: str, ann: Graph | None
) -> Graph:
    nodes = tuple(_node(entry, arrays, prefix) for entry in description["nodes"])
    return Graph(nodes, description["notes"], ann)


def _node(entry: Mapping[str, Any], arrays: Mapping[str, Tensor], prefix: str) -> Node:
    """One node from its description and its tensors."""
    start = f"{prefix}{entry['name']}/"
    own = {name.removeprefix(start): t for name, t in arrays.items() if name.startswith(start)}
    values = {name: _tuples(value) for name, value in entry.items() if name != "kind"}
    if "neuron" in values:
        parts: dict[str, Any] = {n.removeprefix("neuron."): tensor for n, tensor in own.items()}
        own = {}
        settings = dict(entry["neuron"])
        made = NEURONS[settings.pop("kind", "IntegrateAndFire")]
        values["neuron"] = made(**{**parts, **settings})
    return KINDS[entry["kind"]](**{**values, **own})


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value
