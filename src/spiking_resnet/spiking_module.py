"""A spiking network as an nn.Module, to be put where a PyTorch program has a classifier."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet import arguments
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.graph import Graph, Node, tensors, with_tensors
from spiking_resnet.graph.claims import claimed
from spiking_resnet.graph.plain import describe
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed


@arguments.checked(graph=arguments.network, steps=arguments.whole, engine=arguments.text)
def as_module(graph: Graph, steps: int | None = None, engine: str = "auto") -> nn.Module:
    """A module that maps images [N, C, H, W] to logits [N, K] as `simulate` does after `steps`.

    steps: as of `simulate`.

    `simulate` says what the logits are: with the read-out "spikes+membrane" they are good for the
    class with the largest one, and never negative; with "membrane" they come close to those of the
    network that `graph` came from.

    It keeps nothing between calls, has no trainable parameters and hands on no gradients. Its
    tensors are buffers, "node.field" with % and . written %25 and %2E: `state_dict` of one fits
    another of the same graph, `to` moves them, `half` and `double` leave their dtypes as they are.
    It can be copied, pickled and compiled around (torch.compile runs it eagerly); torch.jit.trace
    and torch.export cannot record it. forward raises what `simulate` raises, and GraphError for
    changed tensors that no such network has: off its grid, not finite.

    >>> sr.as_module(snn, steps=16)(images).shape
    torch.Size([10, 10])
    """
    return SpikingModule(graph, steps, engine)


class SpikingModule(nn.Module):
    """A spiking network as a module; see `as_module`."""

    def __init__(self, graph: Graph, steps: int | None, engine: str) -> None:
        super().__init__()
        self.steps, self.engine = steps, engine
        text = json.dumps(describe(graph)["nodes"])
        found = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._graph = graph
        self._made_of = torch.tensor(list(found), dtype=torch.uint8, device="cpu")
        with undisturbed():
            for node in graph.nodes:
                for field, tensor in tensors(node).items():
                    self.register_buffer(key_of(node, field), tensor.detach().clone())

    @property
    def graph(self) -> Graph:
        """The network that the buffers make."""
        own = [self._own(node) for node in self._graph.nodes]
        pairs = zip(self._graph.nodes, own, strict=True)
        if not all(_same(tensors(node), held) for node, held in pairs):
            nodes = [
                with_tensors(node, {field: tensor.clone() for field, tensor in held.items()})
                for node, held in zip(self._graph.nodes, own, strict=True)
            ]
            self._graph = claimed(self._graph.with_nodes(nodes))
        return self._graph

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return f"{self._graph!r}, steps={self.steps}, engine={self.engine!r}"

    def _own(self, node: Node) -> dict[str, Tensor]:
        """The buffers that are a node's tensors, by field."""
        return {field: self.get_buffer(key_of(node, field)) for field in tensors(node)}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, images: Tensor) -> Tensor:
        """The logits [N, K] after the last time step, on the images' device."""
        recorded: Any = torch.jit
        if recorded.is_tracing() or torch.compiler.is_exporting():
            raise InputError(
                "a simulation cannot be recorded by torch.jit.trace or torch.export: its spikes "
                "are no operations of torch; keep the module, or save the network with save"
            )
        with undisturbed():
            graph = self.graph
        run = simulate(graph, images, self.steps, engine=self.engine, progress=False)
        return run.logits[-1]

    def get_extra_state(self) -> Tensor:
        """A hash of all of the graph that is no tensor, uint8 [16]: kept in `state_dict`."""
        return self._made_of

    def set_extra_state(self, state: Any) -> None:
        """Accept the state: it was looked at before anything was loaded."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *others: Any, **options: Any
    ) -> None:
        """Raise InputError for the state of a module of another graph."""
        own = self.get_extra_state()
        if not torch.equal(state_dict.get(f"{prefix}_extra_state", own).cpu(), own):
            raise InputError(
                "the state belongs to a module of another network or conversion (other layers, "
                "grids or ranges): save and load the network itself, with save and load"
            )
        super()._load_from_state_dict(state_dict, prefix, *others, **options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SpikingModule":
        """This module with its buffers moved as `fn` does; their dtypes stay."""

        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return found if found.dtype == tensor.dtype else tensor.to(found.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


def key_of(node: Node, field: str) -> str:
    """The name of the buffer that is a node's tensor, in modules."""
    return f"{node.name}.{field}".replace("%", "%25").replace(".", "%2E")


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(
        tensor.device == other[name].device and torch.equal(tensor, other[name])
        for name, tensor in one.items()
    )
