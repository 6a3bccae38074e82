"""From a trained network and some training images to a spiking network."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet import arguments
from spiking_resnet.capture.batch_size import only_batch, rebatched
from spiking_resnet.capture.calls import BATCH, TraceError
from spiking_resnet.capture.heads import with_heads
from spiking_resnet.capture.logits import own_logits
from spiking_resnet.capture.module import trace
from spiking_resnet.capture.onnx.file import read
from spiking_resnet.capture.onnx.reference import reference_logits
from spiking_resnet.capture.onnx.translate import graph_of, layout_of
from spiking_resnet.capture.scale import unlike_training
from spiking_resnet.capture.sources import Model, module_of, path_of, single_precision
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import Method, Recipe
from spiking_resnet.conversion.methods.recipes import entitled
from spiking_resnet.graph import Fire, Graph, ReLU, interpret, remarks_of
from spiking_resnet.images import as_maps
from spiking_resnet.processes.team import current
from spiking_resnet.progress import Asked, shown
from spiking_resnet.records import InputError
from spiking_resnet.store import packed, unpacked
from spiking_resnet.surroundings import undisturbed

TOLERANCE = 1e-3  # of the largest logit: far above float32 rounding, far below a wrong operation


class ConversionWarning(UserWarning):
    """Something that a conversion decided for its user; the network's notes have it too."""


@arguments.checked(calibration=arguments.batches, progress=arguments.progress)
def convert(
    model: Model,
    calibration: Tensor | Iterable[Any],
    method: str | Method | Recipe = "hu2021",
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    progress: Asked = None,
    **options: Any,
) -> Graph:
    """Return the spiking network converted from a trained ANN.

    model: any traceable classifier of images [N, C, H, W] -> logits [N, K], in a tuple, dictionary
        or dataclass if it likes; it is not changed, need not be in evaluation mode and may live on
        any device. Or an exported program, or the path of an ONNX file that
        holds one; images are [N, C, H, W] even where the file takes [N, H, W, C]. A softmax over
        the classes and a sigmoid at the end are left out.
        A model of signals [N, C, L] or features [N, F] is taken as one of maps with axes of size 1.
    calibration: training images, normalised as for the model: a tensor [N, C, H, W] or an iterable
        of batches (a tensor, (images, labels), or a dictionary with one image entry), read once.
        The result depends neither on their order nor on how they are batched.
    method: a name (`print(*sr.RECIPES)` shows all), or an object such as
        `methods.hu2021(percentile=99.99)`. The notes of the result have its name ("recipe") and
        all options.
    normalisation: (means, stds) of the channels, of pixels in 0..1, by which these images were
        normalised. It changes nothing; the network's file keeps it, and the command line's
        `evaluate` and `diagnose` normalise their images by it.
    progress: whether a bar is shown; see `evaluate`.
    options: of the method, in the place of its own: `convert(model, images, "burst", steps=100)`.

    Of a team (`processes.team.together`) the first process converts, and hands on the network.

    What was decided for the user, and may not be what is wanted, is a ConversionWarning; so are
    images that are scaled otherwise than in the model's training.
    Raises TraceError for operations that cannot be converted, InputError for images that cannot be
    used, GraphError for weights that are not finite, OnnxError for files that cannot be read.

    >>> sr.convert(network, calibration, method="calibrated", steps=16)
    <Graph: calibrated, (1, 8, 8) -> (10,), ...>
    """
    recipe = entitled(method, **options)
    said: list[str] = []

    def make() -> Graph:
        images = Calibration(calibration)
        notes = {} if normalisation is None else _note(normalisation, images.shape[0])
        traced = traced_alike(model, images.first)
        if isinstance(model, nn.Module):
            said.extend(unlike_training(module_of(model), images.first))
        made = recipe.method.apply(traced, images)
        if not traced.of(ReLU) and not made.of(Fire):
            raise InputError(
                f"the network has no ReLU, so {recipe.name} finds no place for neurons in it"
            )
        return made.with_notes({"recipe": recipe.name, **notes})

    with shown(progress, "converting"):
        made = current().handed(make, packed, unpacked)
    for remark in (*remarks_of(made), *said):
        warnings.warn(remark, ConversionWarning, stacklevel=3)
    return made


def _note(normalisation: tuple[Sequence[float], Sequence[float]], channels: int) -> dict[str, Any]:
    """Return the note of a normalisation; InputError for one that images cannot have."""
    try:
        mean, std = ([float(value) for value in part] for part in normalisation)
    except (TypeError, ValueError):
        mean, std = [], []
    finite = all(isfinite(value) for value in (*mean, *std))
    if len(mean) != len(std) or len(mean) not in (1, channels) or not finite or min(std) <= 0:
        raise InputError(
            f"normalisation is {normalisation!r}: give (means, stds), each with one number or one "
            f"for each of the {channels} channels, stds above 0"
        )
    return {"normalisation": {"mean": mean, "std": std}}


@undisturbed()
def traced_alike(model: Model, images: Tensor) -> Graph:
    """Return the traced graph of a model, checked to give the model's own logits.

    images: [N, C, H, W] (or [N, C, L], or [N, F]), as the model takes them; some of them are
    compared, in batches of several sizes. Raises what `convert` raises.
    """
    shape = tuple(images.shape[1:])
    if (path := path_of(model)) is None:
        network = single_precision(module_of(model))
        fixed = only_batch(model)
        traced = trace(network if fixed is None else rebatched(model), shape)
        sizes: tuple[int, ...] = (BATCH, 1, 3) if fixed is None else (fixed,)
        _compare(traced, images, sizes, lambda few: own_logits(network, few))
    else:
        images = as_maps(images)
        file = read(path, tuple(images.shape[1:]))
        traced, sizes = graph_of(file), (2,) if file.batch else (2, 1)
        layout = layout_of(traced)
        _compare(traced, images, sizes, lambda few: reference_logits(file, few, layout))
    return traced


def _compare(
    traced: Graph, images: Tensor, sizes: Sequence[int], logits: Callable[[Tensor], Tensor]
) -> None:
    """Raise TraceError unless the traced network gives the model's logits in batches of all sizes.

    images: repeated where there are too few. A model that fails for a size but the first is right
    wherever it answers.
    """
    for size in sizes:
        few = torch.cat([images] * -(-size // len(images)))[:size]
        try:
            expected = logits(few)
        except Exception:
            if size == sizes[0]:
                raise
            continue
        with undisturbed():
            found = with_heads(traced, interpret.logits(traced, as_maps(few)))
        error = float((found - expected).abs().max())
        if not error <= TOLERANCE * max(float(expected.abs().max()), 1e-6):
            raise TraceError(_difference(error, size, sizes[0]))


def _difference(error: float, size: int, first: int) -> str:
    """Return why the logits of a batch may differ from the model's by so much."""
    if size != first:
        return (
            f"the traced network's logits of a batch of {size} differ from the model's by "
            f"{error:.3g}, those of {first} do not: its forward pass does something else for "
            "another number of images; make it treat every image alike and convert again"
        )
    return (
        f"the traced network's logits differ from the model's by {error:.3g}: its forward pass "
        "does something that tracing did not see (random numbers, state kept between calls, "
        "half precision, hooks; in an ONNX file a batch size that is computed with); remove it "
        "and convert again"
    )
