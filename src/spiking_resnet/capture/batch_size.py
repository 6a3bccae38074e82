"""Exported programs that were exported for one number of images, as modules for BATCH of them."""

from typing import Any

import torch
from torch import Tensor

from spiking_resnet.capture.calls import BATCH


def only_batch(model: Any) -> int | None:
    """The number of images that an exported program takes; None if it takes any, or BATCH."""
    if not isinstance(model, torch.export.ExportedProgram):
        return None
    names = model.graph_signature.user_inputs
    images = [node for node in model.graph.nodes if node.op == "placeholder" and node.name in names]
    value = images[0].meta.get("val") if images else None
    size = value.shape[0] if isinstance(value, Tensor) and value.ndim else None
    return size if isinstance(size, int) and size != BATCH else None


def rebatched(model: Any) -> Any:
    """The model; a program that takes one number of images alone as a module that takes BATCH.

    Where a shape that it makes begins with that number, it begins with BATCH. Whether the program
    computes the same then must be looked at.
    """
    size = only_batch(model)
    if size is None:
        return model
    module = model.module()
    module._forward_pre_hooks.clear()  # they look at the number of images
    for call in list(module.graph.nodes):
        produced = call.meta.get("val")
        if call.op == "call_module" and not call.users:  # so does this
            module.graph.erase_node(call)
        elif isinstance(produced, Tensor) and tuple(produced.shape[:1]) == (size,):
            call.args = tuple(_with_batch(a, size, produced.ndim) for a in call.args)
    module.recompile()
    return module


def _with_batch(argument: Any, size: int, axes: int) -> Any:
    """A shape of so many axes that begins with `size` begins with BATCH; all else as it is."""
    if isinstance(argument, list | tuple) and len(argument) == axes and argument[0] == size:
        return [BATCH, *argument[1:]]
    return argument
