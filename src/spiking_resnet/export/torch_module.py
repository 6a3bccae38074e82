"""A spiking network as a plain nn.Module: its state explicit, its equations torch operations.

The equations are those of the graph's nodes and neurons, run as `interpret.walk` does; the module
holds their tensors as parameters and buffers and puts them back where they compute.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet import arguments
from spiking_resnet.engines.simulate import usual
from spiking_resnet.export.format import ExportError
from spiking_resnet.graph import Fire, Graph, MaxPool, Node, Output, interpret, tensors
from spiking_resnet.graph.nodes import Weighted, with_tensors
from spiking_resnet.graph.nodes.base import emitted_by, left_out
from spiking_resnet.records import InputError
from spiking_resnet.spiking_module import key_of

TIME = "time"  # of a state: the steps done, int64 []


class TorchNetwork(nn.Module):
    """A spiking network as torch operations; see `to_torch`.

    steps: of `forward` where none are said. timed: why a step depends on its number; "" where all
    steps compute the same, so that one recorded step serves them all.
    """

    def __init__(self, graph: Graph, nodes: Iterable[Node], steps: int | None) -> None:
        super().__init__()
        if TIME in graph.by_name:
            raise ExportError(f"a node is called {TIME!r}, as the steps done are: rename its layer")
        self.graph, self.nodes = graph, tuple(nodes)
        self.steps, self.timed = steps or usual(graph), timed(graph)
        fixed = interpret.constants(graph)
        self._fixed = tuple(node.name for node in self.nodes if node.name in fixed)
        self._handed = tuple(
            name for name in self._fixed if any(r.name not in fixed for r in graph.consumers[name])
        )
        self._dtypes = _dtypes(graph)
        self._keys = {n.name: {f: key_of(n, f) for f in tensors(n)} for n in self.nodes}
        for node in self.nodes:
            for field, tensor in tensors(node).items():
                held, key = tensor.detach().clone(), self._keys[node.name][field]
                if isinstance(node, Weighted):
                    self.register_parameter(key, nn.Parameter(held))
                else:
                    self.register_buffer(key, held)
        self._remembered = frozenset(self.initial_state(1))

    def forward(self, images: Tensor, steps: int | None = None) -> Tensor:
        """Return the logits [N, K] after `steps` time steps.

        images: float32 [N, C, H, W], normalised; or frames [T, N, C, H, W], one for each step.
        """
        if not isinstance(images, Tensor):
            raise arguments.expected("images", images, "give one tensor [N, C, H, W]")
        frames = images.ndim == len(self.graph.input.shape) + 2
        if steps is None:
            steps = len(images) if frames else self.steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise arguments.expected("steps", steps, "give a whole number, at least 1")
        self._check(images, steps if frames else None)
        nodes = self.with_own_tensors()
        state = self.initial_state(images.shape[-4])
        memory = {name: tensor for name, tensor in state.items() if name != TIME}
        given: dict[str, Tensor] = {}
        if not frames:
            fixed = [node for node in nodes if node.name in self._fixed]
            walked = interpret.walk(fixed, images, {})
            given = {node.name: value for node, value in walked if node.name in self._handed}
            nodes = tuple(n for n in nodes if n.name in given or n.name not in self._fixed)
        for time in range(steps):
            frame = images[time] if frames else images
            interpret.last(interpret.walk(nodes, frame, memory, time, given))
        return self._output(nodes).logits(memory, steps)

    def step(self, images: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (the logits [N, K] after this step, the state after it).

        images: [N, C, H, W], the same at every step, or other ones. state: `initial_state` before
        the first step.
        """
        self._check(images, None)
        self._check_state(images, state)
        nodes = self.with_own_tensors()
        memory = {name: tensor for name, tensor in state.items() if name != TIME}
        done = state[TIME]
        time = int(done) if self.timed else 0
        interpret.last(interpret.walk(nodes, images, memory, time))
        steps: Any = time + 1 if self.timed else (done + 1).double()
        return self._output(nodes).logits(memory, steps), {TIME: done + 1, **memory}

    def initial_state(self, batch: int) -> dict[str, Tensor]:
        """Return the state before the first step of so many images: tensors [N, ...] by name.

        Potentials by the name of their population, what neurons remember beside them, the sums of
        max pools and of the read-out; and `time`, the steps done, int64 [].
        """
        found: dict[str, Tensor] = {}
        device = next(iter(self.buffers())).device
        for node in self.with_own_tensors():
            for name, shape in _shapes(self.graph, node):
                zeros = torch.zeros(batch, *shape, dtype=self._dtypes[node.name], device=device)
                first = isinstance(node, Fire) and name == node.name
                found[name] = node.neuron.initial_state(zeros).potential if first else zeros  # type: ignore[attr-defined]
        return {TIME: torch.zeros((), dtype=torch.int64, device=device), **found}

    def with_own_tensors(self) -> tuple[Node, ...]:
        """Return the network's nodes with the module's tensors in them."""
        return tuple(self._held(node) for node in self.nodes)

    def tensor_of(self, node: Node, field: str) -> Tensor:
        """Return the module's tensor for a field of a node."""
        found: Tensor = getattr(self, self._keys[node.name][field])
        return found

    def _held(self, node: Node) -> Node:
        own = {field: self.tensor_of(node, field) for field in self._keys[node.name]}
        return with_tensors(node, own) if own else node

    def _output(self, nodes: tuple[Node, ...]) -> Output:
        output = nodes[-1]
        assert isinstance(output, Output)
        return output

    def _check(self, images: Tensor, steps: int | None) -> None:
        """Raise InputError for images that the network does not take, or fewer frames than steps.

        steps: those of frames.
        """
        shape = self.graph.input.shape
        first = "[N, C, H, W]" if steps is None else "[T, N, C, H, W]"
        if tuple(images.shape[-3:]) != shape or images.ndim != (4 if steps is None else 5):
            raise InputError(
                f"images have shape {tuple(images.shape)}: give {first} with (C, H, W) = {shape}"
            )
        if not images.is_floating_point():
            raise InputError(f"images are {images.dtype}: normalise them to float as for training")
        if steps is not None and len(images) != steps:
            raise InputError(f"steps is {steps}, and there are {len(images)} frames: give as many")

    def _check_state(self, images: Tensor, state: Mapping[str, Tensor]) -> None:
        """Raise InputError for a state of another network, or of other images."""
        if not isinstance(state, Mapping) or state.keys() != self._remembered:
            raise InputError(
                "state is not one of this network: begin with initial_state, and hand on what each "
                "step returns"
            )
        for name, tensor in state.items():
            if tensor.ndim and tensor.shape[0] != images.shape[0]:
                raise InputError(
                    f"state is of {tensor.shape[0]} images ({name!r}), and there are "
                    f"{images.shape[0]}: give as many, in the same order"
                )


def timed(graph: Graph) -> str:
    """Return why a time step of `graph` depends on its number; "" where all compute the same."""
    if graph.input.encoding != "constant":
        return f"the image is encoded as {graph.input.encoding!r}"
    if graph.output.delay:
        return f"the read-out leaves out the first {graph.output.delay} steps"
    for node in graph.of(Fire):
        if node.neuron.turns or node.neuron.unit_varies:
            return f"neuron {node.name!r} {node.neuron.trait}"
    return ""


def _shapes(graph: Graph, node: Node) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Yield the names in a state that belong to a node, with their shapes for one image."""
    if not node.integrates:
        return
    yield node.name, graph[node.inputs[0]].shape if isinstance(node, MaxPool) else node.shape
    if isinstance(node, Fire) and node.neuron.remembers:
        yield emitted_by(node.name), node.shape
    if isinstance(node, Output) and node.delay:
        yield left_out(node.name), node.shape


def _dtypes(graph: Graph) -> dict[str, torch.dtype]:
    """Return the dtype of every integrator's sums, as one step on a blank image makes them."""
    device = next(iter(graph.devices), torch.device("cpu"))
    blank = torch.zeros(1, *graph.input.shape, dtype=torch.float32, device=device)
    memory = interpret.step(graph, blank)[1].memory
    return {node.name: memory[node.name].dtype for node in graph.integrators}
