"""Checks of a node's tensors: their sizes, types and entries."""

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.graph.nodes import Node, Shape, tensors
from spiking_resnet.neurons import TensorRule
from spiking_resnet.rules import LARGEST, shown

DTYPES = (torch.float32, torch.float64)
FIXED: dict[str, Shape | None] = {  # sizes that do not depend on the node
    "one": (),
    "steps": (-1,),
    "matrix": (-1, -1),
    "kernels": (-1, -1, -1, -1),
    "none": None,
}
MOST_UNITS = 2.0**31  # of its grid that an entry counts: engines keep them in 32 bits


def problems(node: Node) -> Iterator[str]:
    """Yield what is wrong with the tensors of a node whose other fields are sound."""
    found = tensors(node)
    for name, rule in node.tensor_rules().items():
        allowed = sizes(node, rule)
        if name not in found:
            value = attrgetter(name)(node)
            if value is not None or None not in allowed:
                yield f"{name} is {shown(value)}; it must be a tensor"
            continue
        tensor = found[name]
        if tensor.dtype not in DTYPES:
            yield f"{name} is {_word(tensor.dtype)}: only float32 and float64 can be computed with"
        elif name == node.ADDED and tensor.dtype != (weight := next(iter(found.values()))).dtype:
            yield f"{name} is {_word(tensor.dtype)} beside {_word(weight.dtype)} weights"
        elif not any(_fits(tuple(tensor.shape), size) for size in allowed):
            yield f"{name} has shape {tuple(tensor.shape)}; it must be {_listed(allowed)}"
        else:
            yield from _entries(name, tensor, rule, getattr(node, "grid", None))


def sizes(node: Node, rule: TensorRule) -> tuple[Any, ...]:
    """Return the sizes that a tensor may have; -1 is any number from 1 on, None no tensor."""
    return tuple(
        node.shape[:1] if size == "channels" else node.shape if size == "map" else FIXED[size]
        for size in rule.sizes
    )


def _entries(name: str, tensor: Tensor, rule: TensorRule, grid: int | None) -> Iterator[str]:
    """Yield what is wrong with the numbers in a tensor."""
    entries = tensor.detach().cpu().numpy()  # of small ones numpy makes less ado than torch
    low, high = float(entries.min()), float(entries.max())
    size = max(abs(low), abs(high))
    if not size < float("inf"):
        yield f"{name} has NaN or infinite entries; load a sound checkpoint"
    elif size > LARGEST:
        yield f"{name} has entries up to {size:g}, beyond {LARGEST:g}: float32 would overflow"
    elif rule.positive and not low > 0:
        yield f"{name} is {low:g} somewhere; it must be positive"
    elif grid is not None and rule.on_grid:
        units = entries.astype(np.float64) * 2.0**grid
        if size * 2.0**grid >= MOST_UNITS:
            yield f"{name} has entries up to {size:g}, too many for 32 bits on the grid 2^-{grid}"
        elif not np.array_equal(units, np.rint(units)):
            yield f"{name} does not lie on the grid 2^-{grid} that the node claims"


def _fits(shape: Shape, size: Any) -> bool:
    return shape == size or (
        size is not None
        and len(shape) == len(size)
        and all(
            have == want or (want == -1 and have > 0)
            for have, want in zip(shape, size, strict=True)
        )
    )


def _listed(allowed: tuple[Any, ...]) -> str:
    words = [str(size).replace("-1", "any") for size in dict.fromkeys(allowed) if size is not None]
    return " or ".join(words)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
