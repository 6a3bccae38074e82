"""From a trained network and some training images to a spiking network."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet import interpret
from spiking_resnet.graph import Graph
from spiking_resnet.methods import METHODS, hu2021
from spiking_resnet.records import Calibration, InputError
from spiking_resnet.trace import TraceError, trace

TOLERANCE = 1e-3  # of the largest logit: far above float32 rounding, far below a wrong operation


def convert(
    model: nn.Module, calibration: Tensor | Iterable[Any], method: str | hu2021 = "hu2021"
) -> Graph:
    """The spiking network of a trained artificial one.

    model: any traceable classifier of images [N, C, H, W] -> logits [N, K]; it is not changed, need
        not be in evaluation mode and may live on any device.
    calibration: training images, normalised as for the model: a tensor [N, C, H, W] or an iterable
        of batches (a tensor, (images, labels), or a dictionary with one image entry), read once.
        The result depends neither on their order nor on how they are batched.
    method: a name from METHODS, or a method object such as `methods.hu2021(percentile=99.99)`.

    Raises TraceError for operations that cannot be converted, InputError for images that cannot be
    used, GraphError for weights that are not finite.
    """
    chosen = _method(method)
    images = Calibration(calibration)
    traced = trace(model, images.shape)
    _compare(model, traced, images.first[:2])
    return chosen.apply(traced, images)


def _method(method: str | hu2021) -> hu2021:
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}: use one of {', '.join(METHODS)}")
    return METHODS[method]()


def _compare(model: nn.Module, traced: Graph, images: Tensor) -> None:
    """Raises TraceError unless the traced network gives the model's own logits."""
    parameter = next(model.parameters(), torch.zeros(()))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            expected = model(images.to(parameter.device, parameter.dtype)).float().cpu()
            found = interpret.logits(traced, images)
    finally:
        for module, training in modes.items():
            module.training = training
    error = float((found - expected).abs().max())
    if not error <= TOLERANCE * max(float(expected.abs().max()), 1e-6):
        raise TraceError(
            f"the traced network's logits differ from the model's by {error:.3g}: its forward pass "
            "does something that tracing did not see (random numbers, state kept between calls, "
            "half precision, hooks); remove it and convert again"
        )
