"""Whether images are scaled as those that a model was trained on: its BatchNorm remembers."""

from contextlib import suppress
from math import isfinite
from threading import get_ident

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spiking_resnet.capture.logits import own_logits

UNLIKE = 10.0  # times the variance of training, or a tenth of it: no image set differs so much
_IMAGES = 32  # that are looked at, at most
_UPDATES = 50  # of statistics, after which nothing is left of what they begin with


class _Seen(Exception):
    """The model has run far enough."""


def unlike_training(model: nn.Module, images: Tensor) -> list[str]:
    """Return a sentence if images are scaled otherwise than in training; none if nothing says so.

    The maps that reach the first BatchNorm have the variance that it kept from training, summed up
    over its channels, if the images are normalised alike. What says nothing: features, of which a
    few rows may all be of one kind; statistics that are as before any training (variance 1), or
    after a few steps of it. images: [N, C, H, W], as the model takes them; at most 32 are run.
    """
    names = {module: name for name, module in model.named_modules() if _remembers(module)}
    ratios, thread = list[tuple[str, float]](), get_ident()

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if get_ident() != thread:  # whoever else uses the model meanwhile
            return
        maps, kept = inputs[0].detach(), module.get_buffer("running_var").double()
        if maps.dim() == 4:
            found = maps.double().transpose(0, 1).flatten(1).var(1)
            ratios.append((names[module], float(found.sum() / kept.sum())))
        raise _Seen

    hooks = [module.register_forward_pre_hook(look) for module in names]
    try:
        with suppress(Exception):  # seen; or a model that takes other batches alone
            own_logits(model, images[:: -(-len(images) // _IMAGES)])
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
    steps = 0 if module.num_batches_tracked is None else int(module.num_batches_tracked)
    untouched = torch.ones_like(module.running_var)  # or made an identity by hand
    return not (0 < steps < _UPDATES or torch.allclose(module.running_var, untouched, rtol=1e-3))
