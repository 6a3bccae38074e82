"""A layer's weights by ridge regression, bias included, from inputs and outputs it is to have.

    min over W', b' of  E |W' x + b' - z|^2 + ridge * |W' - W|^2

in float64: the order of additions, which depends on the number of threads, is lost in its rounding.
Inputs that are whole numbers of spikes are multiplied in float32, as far as its integers go: their
products are exact, in any order.
"""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from math import floor, log2

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.conversion.layer_by_layer import Weighted, portions
from spiking_resnet.graph import Conv2d
from spiking_resnet.graph.grids import MANTISSA

ROWS = 2**21  # numbers in the table of a layer's inputs that is computed at once
LEAST = 1e-9  # of a row's share in its own fit, what others leave
STRIPES = 4  # of products of two columns, of which only one triangle is computed

Outputs = Callable[[slice, Tensor], Tensor]


class Regression:
    """What is known of a layer's inputs x and outputs z: E x x^T, a 1 included, and E x z^T.

    Columns are what an output reads: K weights in each of the layer's groups, and the 1.
    """

    def __init__(self, node: Weighted) -> None:
        self._node = node
        self._groups = node.groups if isinstance(node, Conv2d) else 1
        weight = node.weight.unflatten(0, (self._groups, -1)).flatten(2)
        none = torch.zeros(len(node.weight), dtype=torch.float32)
        bias = (none if node.bias is None else node.bias).unflatten(0, (self._groups, -1))
        self._full = torch.cat([weight, bias[..., None]], 2).double()  # [groups, out, K + 1]
        columns = self._full.shape[2]
        self._square = torch.zeros((self._groups, columns, columns), dtype=torch.float64)
        self._cross = torch.zeros_like(self._full).transpose(1, 2).contiguous()
        self._rows = 0
        self._solution = self._full  # of inputs as they are added

    def again(self) -> "Regression":
        """Return one that knows the inputs: they are to be added `once_more`, all of them."""
        other = copy(self)
        other._cross = torch.zeros_like(self._cross)
        return other

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add inputs [n, ...], whole numbers or float64, and the outputs [n, ...] of each."""
        size, dtype, _ = self._at_once(inputs)
        for some in portions(len(inputs), size):
            x = self._columns(inputs[some].to(dtype))  # [groups, K + 1, M]
            self._multiply(x)
            self._cross_multiply(x, outputs[some])
            self._rows += x.shape[2]

    def once_more(self, inputs: Tensor, outputs: Outputs) -> None:
        """Add inputs that are known, with other outputs.

        outputs: makes of a slice of the inputs, and what the layer of `solved` gives on it, float64
        [n, ...], the outputs [n, ...].
        """
        size, dtype, largest = self._at_once(inputs)
        for some in portions(len(inputs), size):
            x = self._columns(inputs[some].to(dtype))
            self._cross_multiply(x, outputs(some, self._given(self._solution, x, largest)))

    def solved(self, unit: Tensor, ridge: float) -> Weighted:
        """Return the layer with the weights that fit best.

        unit: what 1 of the inputs of each channel stands for, float64 [C]. ridge: how strongly
        weights are held to what they were, as a share of their inputs' mean square.
        """
        scale, square, hold = self._system(unit, ridge)
        found = self._solve(scale, square, hold)
        self._solution, found = found * scale[:, None], found.float()
        return replace(
            self._node,
            weight=found[..., :-1].reshape(self._node.weight.shape).contiguous(),
            bias=found[..., -1].flatten().contiguous(),
        )

    def missed(
        self, pairs: Iterable[tuple[Tensor, Outputs]], unit: Tensor, ridges: Iterable[float]
    ) -> list[float]:
        """Return the sums of squared errors of fits by each ridge, on inputs that were not added.

        pairs: inputs [n, ...] and their outputs, both as for `once_more`. unit: as for `solved`.
        """
        solutions = []
        for ridge in ridges:
            scale, square, hold = self._system(unit, ridge)
            solutions.append(self._solve(scale, square, hold) * scale[:, None])
        errors = [0.0] * len(solutions)
        for inputs, outputs in pairs:
            size, dtype, largest = self._at_once(inputs)
            for some in portions(len(inputs), size):
                x = self._columns(inputs[some].to(dtype))
                for index, solution in enumerate(solutions):
                    given = self._given(solution, x, largest)
                    errors[index] += float((outputs(some, given) - given).square().sum())
        return errors

    def left_out(self, pairs: Iterable[tuple[Tensor, Tensor]], unit: Tensor, ridge: float) -> float:
        """Return the squared error on inputs and outputs, after `solved`, each without
        its own part in the fit.

        A fit without a row x misses z by (z - W x) / (1 - h), h = x^T (X^T X + hold)^-1 x (Allen's
        PRESS; Allen, Technometrics 16, 1974), so that nothing need be fitted again.
        """
        scale, square, hold = self._system(unit, ridge)
        factor, total = torch.linalg.cholesky(square + hold), 0.0
        for inputs, outputs in pairs:
            size, _, _ = self._at_once(inputs)
            for some in portions(len(inputs), size):
                x = self._columns(inputs[some].double())  # [groups, K + 1, M]
                missed = _by_group(outputs[some], self._groups) - self._solution @ x
                x = x * scale[:, :, None]
                leverage = (x * torch.cholesky_solve(x, factor)).sum(1, keepdim=True)
                total += float((missed / (1 - leverage).clamp(min=LEAST)).square().sum())
        return total

    def _solve(self, scale: Tensor, square: Tensor, hold: Tensor) -> Tensor:
        """Return weights and bias [groups, out, K + 1], in units of columns, of a `_system`."""
        wanted = self._cross * scale[:, :, None] + hold @ self._full.transpose(1, 2)
        return torch.linalg.solve(square + hold, wanted).transpose(1, 2)

    def _system(self, unit: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the units of columns [groups, K + 1]; in them, [groups, K + 1, K + 1] each, the
        products of every two columns and how strongly weights are held.
        """
        columns = self._full.shape[2]
        taps = self._groups * (columns - 1) // len(unit)
        each = unit.repeat_interleave(taps).view(self._groups, -1)
        scale = F.pad(each, (0, 1), value=1.0)
        square = self._square.tril() + self._square.tril(-1).transpose(1, 2)
        square *= scale[:, :, None] * scale[:, None]
        hold = ridge * square.diagonal(dim1=1, dim2=2).mean(1)
        hold = hold.clamp(min=1e-12 * self._rows)[:, None]
        return scale, square, torch.diag_embed(hold.expand(-1, columns))

    def _at_once(self, inputs: Tensor) -> tuple[int, torch.dtype, int]:
        """Return how many images' inputs are multiplied at once, in which dtype, and the largest of
        whole numbers.
        """
        places = torch.Size(self._node.shape[1:]).numel()
        most = ROWS // (self._groups * self._full.shape[2] * places)
        if not inputs.is_floating_point():
            largest = max(1, int(inputs.abs().max()))
            exact = 2**MANTISSA // (largest**2 * places)
            if exact:
                return min(most, exact), torch.float32, largest
        return most, torch.float64, 0

    def _columns(self, x: Tensor) -> Tensor:
        """Return what every output reads, from x [n, ...]: [groups, K + 1, M]."""
        node, table = self._node, x[..., None]
        if isinstance(node, Conv2d):
            table = F.unfold(x, node.weight.shape[2:], node.dilation, node.padding, node.stride)
        table = table.unflatten(1, (self._groups, -1)).permute(1, 2, 0, 3)
        found = torch.ones((self._groups, table.shape[1] + 1, *table.shape[2:]), dtype=x.dtype)
        found[:, :-1] = table
        return found.flatten(2)

    def _given(self, weights: Tensor, x: Tensor, largest: int) -> Tensor:
        """Return what a layer of such weights gives on columns x of whole numbers up to `largest`,
        or of float64: they are rounded so far that sums in float32 are exact, in any order.
        """
        grid = 1.0
        if x.dtype == torch.float32:
            room = max(2**MANTISSA / largest - weights.shape[2], 1)  # less what rounding may add
            most = float(weights.abs().sum(2).max())
            grid = 2.0 ** floor(log2(room / max(most, 1e-30)))
            weights = torch.round(weights * grid).float()
        table = (weights @ x).double() / grid  # [groups, out, M]
        places = self._node.shape[1:]
        return table.flatten(0, 1).unflatten(1, (-1, *places)).transpose(0, 1)

    def _cross_multiply(self, x: Tensor, outputs: Tensor) -> None:
        """Add the products of columns and outputs [n, ...]."""
        self._cross += x.double() @ _by_group(outputs, self._groups).transpose(1, 2)

    def _multiply(self, x: Tensor) -> None:
        """Add the products of every two columns: the lower triangle of them."""
        size = -(-x.shape[1] // STRIPES)
        for start in range(0, x.shape[1], size):
            stop = min(start + size, x.shape[1])
            self._square[:, start:stop, :stop] += x[:, start:stop] @ x[:, :stop].transpose(1, 2)


def _by_group(outputs: Tensor, groups: int) -> Tensor:
    """Return outputs [n, C, ...] as [groups, C / groups, M], M as columns have it."""
    table = outputs.double().flatten(2) if outputs.dim() > 2 else outputs.double()[..., None]
    return table.unflatten(1, (groups, -1)).permute(1, 2, 0, 3).flatten(2)
