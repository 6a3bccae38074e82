"""The kind of node that adds up its inputs: Add."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spiking_resnet.graph.grids import finest
from spiking_resnet.graph.nodes.base import Bounds, GraphError, Node, Shape
from spiking_resnet.rules import Rules


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """The sum of its inputs (the same one may occur twice)."""

    RULES: ClassVar[Rules] = {}
    ARITY = None
    shares_grid = True

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of all its inputs, which must be the same."""
        if any(shape != shapes[0] for shape in shapes):
            raise GraphError(f"{self.name!r}: cannot add shapes {list(shapes)}")
        return shapes[0]

    def value(self, *values: Tensor) -> Tensor:
        """Return the sum of the values, added from left to right."""
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total

    def bounds(self, inputs: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """Return the sums of the inputs' lowest and of their highest values."""
        zero = torch.zeros((), dtype=torch.float64)
        return sum((b[0] for b in inputs), zero), sum((b[1] for b in inputs), zero)

    def value_grid(self, inputs: Sequence[int | None], bounds: Bounds) -> int | None:
        """Return the finest of the inputs' grids."""
        return finest(inputs)

    def input_scale(self, scale: Tensor, position: int, shapes: Sequence[Shape]) -> Tensor | None:
        """Return `scale` for every input."""
        return scale

    def existing(self, *inputs: Tensor) -> Tensor:
        """Return 1 where one of the inputs can differ from 0."""
        return self.value(*inputs).sign()
