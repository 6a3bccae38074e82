"""What of a model's output are the logits, whatever they stand in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet.capture.calls import TraceError
from spiking_resnet.capture.sources import ALONE
from spiking_resnet.surroundings import evaluation_mode, undisturbed


class Picked(nn.Module):
    """A model whose output is the one tensor that its own output holds."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The one tensor in the model's output. Raises TraceError."""
        return picked(self.model(images), type(self.model).__name__)


def picked(output: Any, model: str) -> Tensor:
    """The one tensor in an output: alone or in a tuple, list, dictionary or dataclass.

    model: its name in a message. Raises TraceError for none, and for several.
    """
    found = dict(_tensors(output, ""))
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise TraceError(
            f"{model} returns a {type(output).__name__} without a tensor: return the logits [N, K]"
        )
    listed = ", ".join(f"output{path} {_shape(tensor)}" for path, tensor in found.items())
    raise TraceError(
        f"{model} returns {len(found)} tensors: {listed}. Give a module that returns the logits "
        f"alone: its forward(self, images) is `return self.model(images){next(iter(found))}`"
    )


def _tensors(output: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """(how it is reached, tensor) of every tensor in an output."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _tensors(value, f"{path}[{key!r}]")
    elif is_dataclass(output):
        for entry in fields(output):
            yield from _tensors(getattr(output, entry.name), f"{path}.{entry.name}")
    elif isinstance(output, tuple | list):
        names = getattr(output, "_fields", None)
        for number, value in enumerate(output):
            own = f"[{number}]" if names is None else f".{names[number]}"
            yield from _tensors(value, f"{path}{own}")


def _shape(tensor: Tensor) -> str:
    if tensor.ndim == 0:
        return "[]"
    return f"[{', '.join(['N', *(str(size) for size in tensor.shape[1:])])}]"


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model is in evaluation mode while it is open, and afterwards what it was.

    Also what its forward pass keeps: attributes that it sets, buffers that it counts in, weights
    that it writes to. One thread at a time: modes and torch.export belong to the process.
    """
    with ALONE:
        yield from _evaluating(model)


def _evaluating(model: nn.Module) -> Iterator[None]:
    modules = list(model.modules())
    kept = [(vars(module), dict(vars(module)), dict(module._buffers)) for module in modules]
    copies = [
        (tensor, tensor.detach().clone()) for tensor in chain(model.parameters(), model.buffers())
    ]
    try:
        with evaluation_mode(model):
            yield
    finally:
        for own, before, buffers in kept:
            own.clear()
            own.update(before)
            own["_buffers"].update(buffers)
        for tensor, copy in copies:
            if not torch.equal(tensor, copy):
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    tensor.copy_(copy)


def own_logits(model: nn.Module, images: Tensor) -> Tensor:
    """What the model itself makes of images [N, C, H, W]: logits [N, K], in evaluation mode."""
    with undisturbed(), evaluating(model):
        parameter = next(model.parameters(), torch.zeros((), dtype=torch.float32))
        own = images.to(parameter.device, parameter.dtype, copy=True)  # it may be written to
        logits = picked(model(own), type(model).__name__)
        return logits.to("cpu", torch.float32, copy=True).reshape(len(images), -1)
