"""The commands that make a network again which a comparison or a search tried."""

import shlex
from collections.abc import Sequence

from spiking_resnet.cli.method import OF_COMMAND
from spiking_resnet.cli.options import ImageFlags, ModelFlags
from spiking_resnet.conversion.methods import Method, calls

FILE = "snn.safetensors"


def typed_again(
    model: ModelFlags, images: ImageFlags, calibration_images: int, seed: int
) -> list[str]:
    """What to type after `convert` for the same network and images."""
    given = {
        "--weights": model.weights, "--weights-key": model.weights_key,
        "--dataset": images.dataset, "--data": images.data, "--crop": images.crop,
        "--normalisation": images.normalisation, "--calibration-images": calibration_images,
        "--seed": seed,
    }  # fmt: skip
    typed = [str(part) for pair in given.items() if pair[1] is not None for part in pair]
    return [model.model, *typed]


def commands(
    typed: Sequence[str], method: Method, recipe: str, images: ImageFlags, steps: int, *more: object
) -> str:
    """The commands that convert by a method, and evaluate the network at so many time steps.

    typed: as `typed_again` has it. recipe: the name of the method. more: of `evaluate`.
    """
    data = [] if images.data is None else ["--data", str(images.data)]
    convert = ["spiking-resnet", "convert", *typed, *calls.typed(method, recipe, OF_COMMAND)]
    judged = ["spiking-resnet", "evaluate", FILE, *data, "--steps", str(steps), *map(str, more)]
    return f"{shlex.join(convert)}\n{shlex.join(judged)}"
