"""What a population needs of a layer with weights, which is more than the layer's like in the ANN.

A population in a residual block receives y besides, on other paths, with errors of its own; and the
ANN's ReLU tells no values below 0 from one another. So the best weights W' and biases b', for a
layer that receives x on the mean, minimise

    E | t - y - W' x - b' |^2,    t = z where z > 0, else min(y + W' x + b', 0)

with z what the ReLU receives in the ANN. That is convex in W' and b'. As t depends on them it is
taken from the fit before, which never makes the error larger: the nonlinear case of Zhang, Zou, He,
Sun, "Accelerating Very Deep Convolutional Networks for Classification and Detection", arXiv
1505.06798. Above the ceiling of an activation it is likewise.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_resnet.conversion.layer_by_layer import Weighted


@dataclass(frozen=True)
class Need:
    """What is needed of a layer on the mean over T steps: wanted - beside.

    wanted: what its population's ReLU receives in the ANN, [n, ...]. beside: what the population
    receives without the layer, [n, ...], or the same for all images and places of a channel.
    relu: whether there is a ReLU, and ceiling: of it.
    """

    wanted: Tensor
    beside: Tensor
    relu: bool = False
    ceiling: float | None = None

    def near(self, some: slice, given: Tensor) -> Tensor:
        """Return what is as good as what is needed, and nearer to what a layer gives: a ReLU takes
        all below 0 for the same, and all above its ceiling.
        """
        wanted, beside = self.wanted[some], self.beside.expand_as(self.wanted)[some]
        if not self.relu:
            return wanted - beside
        found = beside + given
        near = torch.where(wanted > 0, wanted, found.clamp(max=0))
        if self.ceiling is not None:
            near = torch.where(wanted < self.ceiling, near, found.clamp(min=self.ceiling))
        return near - beside


def put_there(node: Weighted, own: Weighted) -> Tensor:
    """Return how much larger the bias [C] of a layer is than in the ANN: by an earlier pass."""
    none = torch.zeros(node.shape[0], dtype=torch.float32)
    now, before = (none if each.bias is None else each.bias for each in (node, own))
    return now - before
