"""Golden spikes: what a network fires for some images, beside it in the same file.

`nir.write` keeps a graph in the group `node` of an HDF5 file, `nir.write_data` data in the group
`nodes`: one file holds both, and `nir.read` and `nir.read_data` read each its own.
"""

import io
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.engines.simulate import simulate
from spiking_resnet.export.format import needed
from spiking_resnet.export.nir import storage
from spiking_resnet.export.nir.file import DAMAGE, NirError
from spiking_resnet.graph import Fire, Graph

SPIKES, CURRENT = "spikes", "current"
DT = 1.0


def add(file: Any, graph: Graph, drawn: Any, images: Tensor, steps: int) -> None:
    """Add the spikes of all populations for `images` [N, C, H, W] to an open HDF5 file.

    The image as one step's current; spikes as booleans [N, T, neurons], neurons in the order of
    their map [C, H, W].
    """
    nir, h5py = needed("nir", "nir"), needed("h5py", "nir")
    names = {node.metadata.get("name"): name for name, node in drawn.nodes.items()}
    run = simulate(graph, images, steps, trains=list(graph.neurons))
    presented = graph.input.present(images, 0).flatten(1)[:, None].numpy()
    nodes = {names[graph.input.name]: _data(CURRENT, presented)}
    for node in graph.of(Fire):
        train = run.trains[node.name].flatten(2).transpose(0, 1).bool()
        nodes[names[node.name]] = _data(SPIKES, train.contiguous().numpy())
    content = io.BytesIO()
    nir.write_data(content, nir.NIRGraphData(nodes=nodes))
    with h5py.File(content, "r") as source:
        source.copy("nodes", file)
        for name, value in source.attrs.items():
            file.attrs[name] = value


def _data(what: str, values: Any) -> Any:
    nir = needed("nir", "nir")
    return nir.NIRNodeData(observables={what: nir.TimeGriddedData(data=values, dt=DT)})


def read(path: str) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Return the images [N, …] flattened and the trains [T, N, neurons] by NIR name; None if none.

    Raises NirError for damaged ones.
    """
    nir, h5py = needed("nir", "nir"), needed("h5py", "nir")
    try:
        with h5py.File(path, "r", locking=False) as file:
            if "__type__" not in file.attrs:
                return None
            storage.check(file)
        with Path(path).open("rb") as content:  # which takes no lock
            data = nir.read_data(content)
    except DAMAGE as error:
        raise NirError(f"{path}: its golden spikes cannot be read ({error})") from error
    try:
        return _tensors(data)
    except (*DAMAGE, IndexError) as error:
        raise NirError(f"{path}: its golden spikes are no spikes of images ({error})") from error


def _tensors(data: Any) -> tuple[Tensor, dict[str, Tensor]]:
    images, trains = torch.empty(0, dtype=torch.float32), {}
    for name, node in data.nodes.items():
        for what, found in node.observables.items():
            values = torch.from_numpy(np.asarray(found.data))
            if what == CURRENT:
                images = values[:, 0]
            else:
                trains[name] = values.transpose(0, 1).to(torch.uint8)
    return images, trains


def check(
    path: str | Path, graph: Graph, populations: Mapping[str, str], images: Tensor,
    trains: Mapping[str, Tensor],
) -> None:  # fmt: skip
    """Raise NirError where images and trains, as `read` returns them, are not of the network.

    populations: for each node of neurons its NIR name.
    """
    if images.ndim != 2 or images.shape[1] != prod(graph.input.shape) or not len(images):
        raise NirError(f"{path}: the images of its golden spikes are not of {graph.input.shape}")
    for node in graph.of(Fire):
        train = trains.get(populations[node.name])
        expected = (len(images), prod(node.shape))
        if train is None or train.ndim != 3 or not len(train) or train.shape[1:] != expected:
            raise NirError(f"{path}: its golden spikes of {node.name!r} are missing or of others")
