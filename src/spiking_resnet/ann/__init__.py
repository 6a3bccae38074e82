"""The ANNs to convert: residual networks for small images, their data and their training."""

from spiking_resnet.ann.checkpoint import (
    CheckpointError,
    LoadedNetwork,
    load,
    load_into,
    pretrained,
    pretrained_file,
    pretrained_names,
)
from spiking_resnet.ann.data import (
    DATASETS,
    NORMALISATIONS,
    Augmentation,
    DataError,
    Framing,
    ImageData,
    MissingDataError,
    Normalisation,
    load_dataset,
)
from spiking_resnet.ann.resnet import ResNet, ResNetConfig, build, infer_config

__all__ = [
    "DATASETS",
    "NORMALISATIONS",
    "Augmentation",
    "CheckpointError",
    "DataError",
    "Framing",
    "ImageData",
    "LoadedNetwork",
    "MissingDataError",
    "Normalisation",
    "ResNet",
    "ResNetConfig",
    "build",
    "infer_config",
    "load",
    "load_dataset",
    "load_into",
    "pretrained",
    "pretrained_file",
    "pretrained_names",
]
