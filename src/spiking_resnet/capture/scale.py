"""Whether images are scaled as those that a model was trained on: its BatchNorm remembers."""

from contextlib import suppress
from math import isfinite
from threading import get_ident

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spiking_resnet.capture.logits import own_logits

UNLIKE = 10.0  # times the variance of training, or a tenth of it: no image set differs so much
_IMAGES = 16  # that are looked at, and
_VALUES = 16  # of a channel, at least


class _Seen(Exception):
    """The model has run far enough."""


def unlike_training(model: nn.Module, images: Tensor) -> list[str]:
    """Return a sentence if images are scaled otherwise than in training; none if nothing says so.

    What reaches the first BatchNorm has the variance that it kept from training, channel by
    channel, if the images are normalised alike. Statistics as they are before any training (mean 0,
    variance 1) say nothing. images: as the model takes them.
    """
    names = {module: name for name, module in model.named_modules() if _remembers(module)}
    ratios, thread = list[tuple[str, float]](), get_ident()

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if get_ident() != thread:  # whoever else uses the model meanwhile
            return
        values = inputs[0].detach().double().transpose(0, 1).flatten(1)
        kept = module.get_buffer("running_var").double()
        if values.shape[1] >= _VALUES:
            ratio = float((values.var(1) / kept.clamp(min=1e-12)).median())
            ratios.append((names[module], ratio))
        raise _Seen

    hooks = [module.register_forward_pre_hook(look) for module in names]
    try:
        with suppress(Exception):  # seen; or a model that takes other batches alone
            own_logits(model, images[:_IMAGES])
    finally:
        for hook in hooks:
            hook.remove()
    if not ratios or not isfinite(ratios[0][1]) or 1 / UNLIKE <= ratios[0][1] <= UNLIKE:
        return []
    name, ratio = ratios[0]
    return [
        f"what reaches {name} varies {ratio:.2g} times as much as in the model's training: "
        "normalise the images as its training images were (usually pixels / 255, minus a mean, "
        "over a deviation)"
    ]


def _remembers(module: nn.Module) -> bool:
    """Return whether a module holds the statistics of a training."""
    if not isinstance(module, _BatchNorm) or module.running_var is None:
        return False
    untouched = torch.ones_like(module.running_var)
    return not torch.equal(module.running_var, untouched)
