"""Conversion as the commands do it: from MODEL and training images to a noted spiking network."""

from dataclasses import dataclass, replace
from pathlib import Path
from warnings import catch_warnings, simplefilter, warn_explicit

import spiking_resnet as sr
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.images import ImageData, Normalisation
from spiking_resnet.ann.pixels import Framing
from spiking_resnet.cli.networks import Network, channels_of
from spiking_resnet.cli.options import ImageFlags, ModelFlags
from spiking_resnet.cli.outputs import Outputs, check_data, check_outputs
from spiking_resnet.cli.provenance import file_facts, fingerprint, versions
from spiking_resnet.cli.terminal import say, warn
from spiking_resnet.conversion.convert import ConversionWarning
from spiking_resnet.conversion.methods import Method, Recipe
from spiking_resnet.graph import Graph, interpret
from spiking_resnet.progress import shown
from spiking_resnet.records import InputError, decisions
from spiking_resnet.shares import wilson
from spiking_resnet.surroundings import undisturbed

BATCH = 50


@dataclass(frozen=True)
class Choice:
    """The choice of calibration images: how many, in all or per class, by which seed and split."""

    images: int = 500
    per_class: int | None = None
    seed: int = 0
    split: str = "train"


def source_and_images(
    model: ModelFlags, images: ImageFlags, seed: int, outputs: Outputs, *splits: str
) -> tuple[Network, str, list[ImageData]]:
    """The network, the name of its data set, and the images of one split or of two.

    They are normalised and framed as asked for, else as is usual for the network. outputs: the
    command's files, which are looked at before any work.
    """
    check_outputs(outputs, model.files)
    source = model.load(seed, images.dataset)
    name = dataset_of(source, images.dataset)
    refuse_test_images(name, splits[0]) if len(splits) == 1 else refuse_a_single_file(name)
    check_data(outputs, name, images.data)
    found = [_images_of(source, name, split, images) for split in splits]
    tell_normalisation(found[-1], said_by(source, found[-1].name, images.wanted))
    return source, name, found


def _images_of(source: Network, name: str, split: str, images: ImageFlags) -> ImageData:
    found = load_dataset(name, split, images.data, images.download)
    channels = channels_of(source)
    if channels in (1, 3):
        found = found.with_channels(channels)
    chosen = images.wanted or source.normalisation or found.normalisation
    return framed(replace(found, normalisation=chosen), images.framing, source.framing)


def said_by(source: Network, name: str, asked: Normalisation | None) -> str:
    """The origin of the normalisation that `images_for` takes, in words."""
    if asked is not None:
        return "said by --normalisation"
    if source.normalisation is not None:
        return f"said by {source.said_by}"
    return f"usual for {name}: if the weights were trained with another, say --normalisation"


def tell_normalisation(data: ImageData, origin: str) -> None:
    """Print what the images are normalised by, and where that comes from."""
    say(f"normalisation: {data.normalisation}, {origin}")


def dataset_of(source: Network, asked: str | None) -> str:
    """The data set that was asked for, else the network's own; InputError where there is none."""
    name = asked or source.dataset
    if name is None:
        raise InputError("--dataset is missing: name the training images to calibrate on")
    return name


def framed(data: ImageData, asked: Framing | None, usual: Framing | None) -> ImageData:
    """`data` with its image files framed as asked for; else, if they are large, as is usual for the
    network.
    """
    if asked is not None and data.framing is None:
        raise InputError(f"--crop is for image files; {data.name} holds pixels of one size")
    if asked is None and data.framing == Framing():
        asked = usual
    return data if asked is None else data.framed(asked)


def refuse_test_images(name: str, split: str) -> None:
    """Raise InputError for a file that is called after a test set but taken for training."""
    stem = Path(name).stem.lower()
    if split == "train" and name.endswith(".npz") and stem.startswith(("test", "val")):
        raise InputError(
            f"{name} looks like test images: calibrate on training images, or say --split {stem} "
            "if that is what you want"
        )


def refuse_a_single_file(name: str) -> None:
    """Raise InputError for a data set that cannot have training and test images."""
    if name.endswith(".npz"):
        raise InputError(
            f"{name} is one set of images, and two are needed: name a folder that holds train.npz "
            "and test.npz"
        )


def converted(
    source: Network, name: str, data: ImageData, method: Method | Recipe, choice: Choice,
    command: str, origin: str = "",
) -> Graph:  # fmt: skip
    """The spiking network, calibrated on images of `data`, with notes of how it was made.

    name: what the data set is to be loaded by again. origin: where the normalisation comes from.
    """
    if choice.per_class is None:
        chosen = data.subset(choice.images, choice.seed)
    else:
        chosen = data.per_class(choice.per_class, choice.seed)
    with shown(True, "converting", unit="") as bar:
        with catch_warnings(record=True) as said:
            simplefilter("always", ConversionWarning)  # said below, in this command's own way
            batches = (images for images, _ in chosen.loader(BATCH))
            graph = sr.convert(source.model, batches, method)
        for each in said:
            if issubclass(each.category, ConversionWarning):
                warn(str(each.message))
            else:
                warn_explicit(each.message, each.category, each.filename, each.lineno)
        bar.part("measuring the ANN on the calibration images", 0, 0)
        accuracy = calibration_accuracy(graph, chosen, source.accuracy)
    return graph.with_notes(
        {
            "model": source.spec,
            "weights": None if source.weights is None else file_facts(source.weights),
            "dataset": name,
            "classes": None if data.class_names is None else list(data.class_names),
            "normalisation": data.normalisation.to_json(),
            "normalisation_from": origin,
            "framing": None if data.framing is None else data.framing.to_json(),
            "calibration": {
                "images": len(chosen),
                "per_class": choice.per_class,
                "seed": choice.seed,
                "split": choice.split,
                "data": fingerprint(data),
                "ann_accuracy": accuracy,
            },
            "command": command,
            "versions": versions(),
        }
    )


def calibration_accuracy(graph: Graph, data: ImageData, said: float | None = None) -> float:
    """The accuracy, in 0..1, of the network that `graph` came from; warns where it guesses."""
    if graph.ann is None:
        raise InputError("the graph does not know the network it came from: convert it again")
    classes = graph.output.shape[0]
    if classes < data.classes:
        raise InputError(
            f"the network knows {classes} classes, {data.name} has {data.classes}: choose the data "
            "set that it was trained on"
        )
    with undisturbed():
        right = sum(
            int((decisions(interpret.logits(graph.ann, images)) == labels).sum())
            for images, labels in data.loader(BATCH)
        )
    warn_of_guesses(right, len(data), data.classes, "calibration", said)
    return right / len(data)


def warn_of_guesses(
    right: int, images: int, classes: int, which: str, said: float | None = None
) -> None:
    """Warn where an ANN's decisions are hardly better than chance, or far from the accuracy `said`
    (in 0..1) by its file.
    """
    low, high = wilson(right, images)
    if low <= min(1.5 / classes, 1 / classes + 0.05):
        found = "which is near chance"
    elif said is not None and max(high, 2 * right / images) < said:
        found = f"its file says {100 * said:.1f} %"
    else:
        return
    warn(
        f"the ANN is right on {right} of {images} {which} images, {found}: are the "
        "weights trained, and --normalisation and --dataset right?"
    )


def store(graph: Graph, path: Path) -> None:
    """Write a network to a file, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sr.save(graph, path)
