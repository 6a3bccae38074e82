"""Data sets by name or path: samples, `.npz` files, torchvision's layouts, folders of images."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from spiking_resnet.ann.augment import Augmentation
from spiking_resnet.ann.folders import from_folder
from spiking_resnet.ann.images import (
    NORMALISATIONS,
    Batches,
    ImageData,
    Normalisation,
    in_memory,
    normalisation_named,
)
from spiking_resnet.ann.npz import from_npz
from spiking_resnet.ann.pixels import DataError, Framing, MissingDataError
from spiking_resnet.ann.sample_images import SAMPLES, sample_images
from spiking_resnet.surroundings import undisturbed

__all__ = [
    "DATASETS",
    "DATA_VARIABLE",
    "NORMALISATIONS",
    "Augmentation",
    "Batches",
    "DataError",
    "Framing",
    "ImageData",
    "MissingDataError",
    "Normalisation",
    "load_dataset",
    "normalisation_named",
]

DATA_VARIABLE = "SPIKING_RESNET_DATA"
DATASETS = (*SAMPLES, "mnist", "fashion_mnist", "cifar10", "cifar100", "imagenet")

_CLASSES = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100}
# torchvision's class, and the folder it makes under its root.
_TORCHVISION = {
    "mnist": ("MNIST", "MNIST/raw"),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
}


@undisturbed()
def load_dataset(
    name: str, split: str, data: str | Path | None = None, download: bool = False
) -> ImageData:
    """The images and labels of one split ("train", "test") of a data set.

    `name` is one of `DATASETS`, or the path of an `.npz` file (`images` uint8 [N, H, W] or
    [N, H, W, C], `labels` integers; it is the split, whichever is asked for), or of a folder that
    holds `{split}.npz`, `{split}/CLASS/*` or `CLASS/*` (see `folders.from_folder`). `data` (or the
    environment variable SPIKING_RESNET_DATA) is the directory of the named sets:
    `NAME/{train,test}.npz`, torchvision's own layout, or `imagenet/SPLIT/CLASS/*`. `download` lets
    torchvision fetch what is missing.

    Raises MissingDataError, naming the places looked at, and DataError for unusable contents.
    """
    if name in SAMPLES:
        return sample_images(name, split)
    if name in DATASETS:
        root = _root(name, data)
        if name == "imagenet":
            return _imagenet(root, split, download)
        return _small_images(name, split, root, download)
    path = Path(name)
    if path.suffix == ".npz":
        return from_npz(path, path.stem, split, None, NORMALISATIONS["none"])
    if path.is_dir():
        if (path / f"{split}.npz").is_file():
            file = path / f"{split}.npz"
            return from_npz(file, path.name, split, None, NORMALISATIONS["none"])
        return from_folder(path, path.name, split)
    raise MissingDataError(
        f"{name!r} is neither a data set ({', '.join(DATASETS)}) nor a folder that exists; "
        "check the name, or give the path of an .npz file or a folder"
    )


def _root(name: str, data: str | Path | None) -> Path:
    """The directory of the named sets."""
    chosen = data or os.environ.get(DATA_VARIABLE)
    if not chosen:
        raise MissingDataError(
            f"{name}: no data directory given; use --data DIRECTORY (`data=`) or set "
            f"{DATA_VARIABLE}, with download if the set is not there yet"
        )
    return Path(chosen)


def _torchvision_sets(name: str) -> Any:
    """torchvision's data sets; MissingDataError where it is not installed."""
    try:
        return import_module("torchvision.datasets")
    except ImportError as error:
        raise MissingDataError(
            f"{name}: its own files are read by torchvision, which cannot be loaded ({error}): "
            "pip install 'spiking-resnet[vision]', or save the images as .npz files"
        ) from None


def _small_images(name: str, split: str, root: Path, download: bool) -> ImageData:
    """A CIFAR or MNIST set from `NAME/SPLIT.npz` or torchvision's files."""
    if split not in ("train", "test"):
        raise DataError(f"{name} has the splits train and test, not {split!r}")
    packed = root / name / f"{split}.npz"
    if packed.is_file():
        return from_npz(packed, name, split, _CLASSES[name], NORMALISATIONS[name])
    class_name, folder = _TORCHVISION[name]
    base = root / name if (root / name / folder).is_dir() else root
    if not download and not (base / folder).is_dir():
        raise MissingDataError(
            f"{name}: neither {packed} nor {root / folder} nor {root / name / folder} is there; "
            f"point --data (or {DATA_VARIABLE}) at the directory that holds them, or ask for a "
            "download"
        )
    sets = _torchvision_sets(name)
    try:
        found = getattr(sets, class_name)(str(base), train=split == "train", download=download)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{name}: {base / folder} could not be read or downloaded ({error}); "
            "delete it and ask for a download"
        ) from error
    pixels = torch.as_tensor(found.data, dtype=torch.uint8)  # uint8 [N, H, W] or [N, H, W, C]
    pixels = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return in_memory(
        name,
        split,
        pixels,
        torch.as_tensor(found.targets, dtype=torch.int64),
        _CLASSES[name],
        NORMALISATIONS[name],
    )


def _imagenet(root: Path, split: str, download: bool) -> ImageData:
    """ImageNet from `imagenet/SPLIT/CLASS/*`; torchvision unpacks the archives when asked to."""
    folder = "val" if split == "test" else split
    places = [root / "imagenet" / folder, root / folder]
    for place in places:
        if place.is_dir():
            return from_folder(place, "imagenet", split)
    if download:  # torchvision cannot fetch ImageNet, but unpacks archives that lie here
        base = root / "imagenet" if (root / "imagenet").is_dir() else root
        sets = _torchvision_sets("imagenet")
        try:
            sets.ImageNet(str(base), split=folder)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(
                f"imagenet: {base} has no archives that torchvision can unpack ({error}); get them "
                "from image-net.org (an account is needed)"
            ) from error
        return from_folder(base / folder, "imagenet", split)
    raise MissingDataError(
        f"imagenet: neither {places[0]} nor {places[1]} is there; point --data (or "
        f"{DATA_VARIABLE}) at the directory that holds them, or put the archives of image-net.org "
        "there and ask for a download to have them unpacked"
    )
