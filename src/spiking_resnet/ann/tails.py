"""A training loss for the tails of activations: how far the largest lie above the usual ones."""

import torch
from torch import Tensor, nn


class Tails(nn.Module):
    """A network that also says how long the tails of its activations are.

    A firing threshold is set by the largest activations of a layer, and the smaller the others are
    beside it, the fewer spikes carry them. The measure of a layer is log(E[a^4] / E[a^2]^2) over
    all its activations a of a batch, zeros included: 0 where all are equal, log 6 for the positive
    half of a normal distribution, and the same for any multiple of the activations, so that
    neither weights nor BatchNorm can shrink it by shrinking everything. In training mode only.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._layers: list[Tensor] = []
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(self._measure)

    def _measure(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if not module.training:
            return
        squares = output.float().square()
        mean = squares.mean().clamp(min=1e-12)
        self._layers.append((squares.square().mean() / mean.square()).clamp(min=1e-12).log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [N, C, H, W]
        """The logits [N, classes] and the mean of the layers' measures []."""
        self._layers.clear()
        logits = self.model(x)
        tails = torch.stack(self._layers).mean()
        self._layers.clear()
        return logits, tails
