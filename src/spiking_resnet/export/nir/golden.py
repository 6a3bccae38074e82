"""Golden spikes: what a network fires for some images, beside it in the same file.

`nir.write` keeps a graph in the group `node` of an HDF5 file, `nir.write_data` data in the group
`nodes`: one file holds both, and `nir.read` and `nir.read_data` read each its own.
"""

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.engines.simulate import simulate
from spiking_resnet.export.format import needed
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
        with h5py.File(path, "r") as file:
            if "__type__" not in file.attrs:
                return None
        data = nir.read_data(path)
    except DAMAGE as error:
        raise NirError(f"{path}: its golden spikes cannot be read ({error})") from error
    images, trains = torch.empty(0, dtype=torch.float32), {}
    for name, node in data.nodes.items():
        for what, data in node.observables.items():
            values = torch.from_numpy(np.asarray(data.data))
            if what == CURRENT:
                images = values[:, 0]
            else:
                trains[name] = values.transpose(0, 1).to(torch.uint8)
    return images, trains
