"""Export to PyTorch: a module of torch operations, and its recorded program as a .pt2 file."""

import io
import json
from math import inf
from pathlib import Path

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.export.format import Asked, ExportError, Format
from spiking_resnet.export.meaning import meaning
from spiking_resnet.export.surrogates import SURROGATES, softened
from spiking_resnet.export.torch_module import TIME, TorchNetwork
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Fire, Graph
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed

BATCH = 2  # of the images that a program is recorded with; any batch will do afterwards


@arguments.checked(
    graph=arguments.network,
    steps=arguments.whole,
    surrogate=arguments.text,
    width=arguments.number,
)
def to_torch(
    graph: Graph, steps: int | None = None, surrogate: str = "triangle", width: float = 1.0
) -> TorchNetwork:
    """Return a spiking network as a plain nn.Module that computes the same spikes, and can learn.

    steps: time steps of `forward`; None for those of `simulate`. surrogate: the derivative that
    stands in for that of a spike where gradients are asked for, a name from SURROGATES. width: of
    it, in thresholds. Neither changes a spike.

    `forward(images, steps)` maps images [N, C, H, W] to logits [N, K], equal to those of `simulate`
    on a grid. `step(images, state)` is one time step, its state a dictionary of tensors that
    `initial_state(batch)` begins. Weights, biases and gains are parameters, thresholds buffers;
    `from_torch` makes a network of them again.
    Both forms can be compiled (torch.compile) and recorded (torch.export), but for random input
    spikes, which are drawn anew, and for single steps that depend on their number
    (`TorchNetwork.timed`).

    >>> module = sr.to_torch(snn, steps=8)
    >>> module(images).shape
    torch.Size([10, 10])
    """
    if not graph.of(Fire):
        raise InputError("the network has no spiking neurons: convert it first")
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}: at least 1")
    if surrogate not in SURROGATES:
        raise InputError(f"surrogate is {surrogate!r}: use one of {', '.join(SURROGATES)}")
    if not 0 < width < inf:
        raise InputError(f"width is {width}: give a positive number of thresholds")
    with undisturbed():
        return TorchNetwork(graph, [softened(n, surrogate, width) for n in graph.nodes], steps)


class Stepped(torch.nn.Module):
    """One time step of a network as a module of its own.

    At time 0 the state may be anything of the right shapes: the step begins from the first one.
    """

    def __init__(self, network: TorchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what `TorchNetwork.step` does."""
        first, begins = self.network.initial_state(images.shape[0]), state[TIME] == 0
        begun = {name: torch.where(begins, first[name], now) for name, now in state.items()}
        return self.network.step(images, begun)


class Unrolled(torch.nn.Module):
    """So many time steps of a network as a module of its own: forward maps images to logits."""

    def __init__(self, network: TorchNetwork, steps: int) -> None:
        super().__init__()
        self.network, self.steps = network, steps

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, K] after all time steps."""
        found: Tensor = self.network(images, self.steps)
        return found


def recorded(network: TorchNetwork, steps: int | None) -> torch.export.ExportedProgram:
    """Return the program of `steps` time steps, or of one step with its state where steps is None.

    Of any batch of images. Raises ExportError for what depends on random numbers, or on the number
    of the step.
    """
    graph = network.graph
    if graph.input.encoding == "poisson":
        raise ExportError(
            f"{graph.input.name!r} draws random spikes, which no program records: convert with "
            "input_coding='constant'"
        )
    if steps is None and network.timed:
        raise ExportError(f"{network.timed}, so one step does not serve all: say how many steps")
    batch = torch.export.Dim("batch", min=1)
    images = torch.zeros(BATCH, *graph.input.shape, dtype=torch.float32)
    if steps is not None:
        return torch.export.export(
            Unrolled(network, steps), (images,), dynamic_shapes=({0: batch},)
        )
    state = network.initial_state(BATCH)
    dynamic = {name: {0: batch} if tensor.ndim else {} for name, tensor in state.items()}
    return torch.export.export(
        Stepped(network), (images, state), dynamic_shapes=({0: batch}, dynamic)
    )


def write(graph: Graph, path: Path, asked: Asked) -> tuple[str, ...]:
    """Write the program of `asked.steps` time steps, or of one step with its state, as .pt2."""
    with undisturbed():
        program = recorded(to_torch(graph, asked.steps), asked.steps)
        content = io.BytesIO()
        told = json.dumps(meaning(graph, asked.steps))
        torch.export.save(program, content, extra_files={"meaning.json": told})
    write_whole(path, content.getvalue())
    if asked.steps is None:
        return ("images and state to logits and state, one time step a call",)
    return (f"images to logits after {asked.steps} time steps",)


FORMAT = Format(
    name="torch",
    suffix=".pt2",
    extra="",
    write=write,
    honours=("steps",),
    summary="a program of torch.export: one step with its state, or --steps T in one",
)
