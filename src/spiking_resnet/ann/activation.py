"""The activations of the source networks: ReLU, and the quantised one of QCFS.

Source: Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking
neural networks", ICLR 2022 (the quantisation clip-floor-shift activation, QCFS).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

Activation = Literal["relu", "qcfs"]


@torch.library.custom_op("spiking_resnet::qcfs", mutates_args=())
def qcfs(z: Tensor, threshold: Tensor, levels: int) -> Tensor:
    """threshold * clip(floor(z * levels / threshold + 1/2) / levels, 0, 1), in z's dtype.

    z: any shape; threshold: [], positive. What a neuron with that firing threshold, and half of it
    as initial potential, has sent per step after `levels` steps of input z. An operation of its
    own, so that it is found again in an exported network.
    """
    step = threshold / levels
    return (z / step).add_(0.5).floor_().clamp_(0, levels).mul_(step)


@qcfs.register_fake
def _(z: Tensor, threshold: Tensor, levels: int) -> Tensor:
    return torch.empty_like(z)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    z, threshold, levels = inputs
    ctx.save_for_backward((output - z).div_(threshold / (2 * levels)), threshold)
    ctx.levels = levels


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    """Those of z and of the threshold, the floor taken for the identity (straight-through).

    With y the activation and lambda the threshold: dy/dz = 1 and dy/dlambda = (y - z) / lambda
    where the clip is inactive, which is where y - z is at most lambda / (2 levels) either way;
    below (y = 0) both are 0; above (y = lambda) dy/dz = 0 and dy/dlambda = 1.
    """
    error, threshold = ctx.saved_tensors  # of y, in half steps: within -1..1 inside the clip
    own = torch.ops.aten.hardtanh_backward(gradient, error, -1, 1)
    above = torch.ops.aten.threshold_backward(gradient, -error, 1)
    inside = torch.sum(own * error, dtype=threshold.dtype) / (2 * ctx.levels)
    return own, inside + torch.sum(above, dtype=threshold.dtype), None


qcfs.register_autograd(_gradients, setup_context=_remember)


class QCFS(nn.Module):
    """The quantised activation with a trainable threshold (a parameter []), see `qcfs`."""

    def __init__(self, levels: int, threshold: float = 1.0) -> None:
        super().__init__()
        self.levels = levels
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, z: Tensor) -> Tensor:
        """As many values, each a multiple of threshold / levels in 0..threshold."""
        out: Tensor = qcfs(z, self.threshold, self.levels)
        return out

    def extra_repr(self) -> str:
        """The number of levels."""
        return f"levels={self.levels}"


def activation(kind: Activation, levels: int) -> nn.Module:
    """A new module of this kind."""
    return QCFS(levels) if kind == "qcfs" else nn.ReLU()
