"""Images that come with the package: handwritten digits, and photographs of CIFAR-10's classes."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spiking_resnet.ann.images import NORMALISATIONS, ImageData, in_memory
from spiking_resnet.ann.pixels import DataError

_NORMALISATIONS = {"digits": "digits", "photographs": "cifar10"}
SAMPLES = tuple(_NORMALISATIONS)
FOLDER = Path(__file__).parents[1] / "sample_images"  # whose README says where they come from


def sample_images(name: str, split: str) -> ImageData:
    """The split "train" or "test" of a set of `SAMPLES`; DataError for another split.

    digits: 8x8 pixels, a fixed stratified split, 1300 to train and 497 to test. photographs: 32x32
    pixels, 48 to calibrate and 96 to test.
    """
    if split not in ("train", "test"):
        raise DataError(f"{name} has the splits train and test, not {split!r}")
    with np.load(FOLDER / f"{name}.npz") as arrays:
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
        if name == "digits":
            test = _tested(labels)
            images = np.round(images * (255 / 16)).astype(np.uint8)[..., None]  # values were 0..16
        else:
            test = arrays["test"]
    wanted = test if split == "test" else ~test
    return in_memory(
        name, split, torch.from_numpy(images[wanted]).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(labels[wanted]), 10, NORMALISATIONS[_NORMALISATIONS[name]],
    )  # fmt: skip


def _tested(digits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which digits are for tests: 497 of 1,797, of every digit the same share."""
    # RandomState's stream is frozen by numpy's policy, so the split never changes.
    order = np.random.RandomState(0).permutation(len(digits))
    test = np.concatenate(
        [(chosen := order[digits[order] == digit])[: round(len(chosen) * 497 / 1797)]
         for digit in range(10)]
    )  # fmt: skip
    return np.isin(np.arange(len(digits)), test)
