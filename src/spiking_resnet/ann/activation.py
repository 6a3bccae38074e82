"""The activations of the source networks: ReLU, and the quantised one of QCFS.

Source: Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking
neural networks", ICLR 2022 (the quantisation clip-floor-shift activation, QCFS).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

Activation = Literal["relu", "qcfs"]


def _quantised(z: Tensor, threshold: Tensor, levels: int) -> Tensor:
    step = threshold / levels
    return (z / step).add_(0.5).floor_().clamp_(0, levels).mul_(step)


class _Trainable(torch.autograd.Function):
    """The activation with the floor taken for the identity in the gradients (straight-through).

    With y the activation and lambda the threshold: dy/dz = 1 and dy/dlambda = (y - z) / lambda
    where the clip is inactive, which is where y - z is at most lambda / (2 levels) either way;
    below (y = 0) both are 0; above (y = lambda) dy/dz = 0 and dy/dlambda = 1.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, levels: int) -> Tensor:
        output = _quantised(z, threshold, levels)
        ctx.save_for_backward((output - z) / threshold, threshold)
        ctx.levels = levels
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        error, threshold = ctx.saved_tensors
        inside = error.abs() <= 0.5 / ctx.levels
        own = torch.where(inside, error, (error < 0).to(error.dtype))
        return gradient * inside, (gradient * own).sum(dtype=threshold.dtype), None


@torch.library.custom_op("spiking_resnet::qcfs", mutates_args=())
def operator(z: Tensor, threshold: Tensor, levels: int) -> Tensor:
    """`qcfs` as an operation of its own, so that it is found again in an exported network."""
    return _quantised(z, threshold, levels)


@operator.register_fake
def _(z: Tensor, threshold: Tensor, levels: int) -> Tensor:
    return torch.empty_like(z)


def qcfs(z: Tensor, threshold: Tensor, levels: int) -> Tensor:
    """threshold * clip(floor(z * levels / threshold + 1/2) / levels, 0, 1), in z's dtype.

    z: any shape; threshold: [], positive. What a neuron with that firing threshold, and half of it
    as initial potential, has sent per step after `levels` steps of input z.
    """
    if torch.compiler.is_exporting():
        return operator(z, threshold, levels)
    out: Tensor = _Trainable.apply(z, threshold, levels)
    return out


class QCFS(nn.Module):
    """The quantised activation with a trainable threshold (a parameter []), see `qcfs`."""

    def __init__(self, levels: int, threshold: float = 1.0) -> None:
        super().__init__()
        self.levels = levels
        self.threshold = nn.Parameter(torch.tensor(threshold, dtype=torch.float32))

    def forward(self, z: Tensor) -> Tensor:
        """As many values, each a multiple of threshold / levels in 0..threshold."""
        return qcfs(z, self.threshold, self.levels)

    def extra_repr(self) -> str:
        """The number of levels."""
        return f"levels={self.levels}"


def activation(kind: Activation, levels: int) -> nn.Module:
    """A new module of this kind."""
    return QCFS(levels) if kind == "qcfs" else nn.ReLU()
