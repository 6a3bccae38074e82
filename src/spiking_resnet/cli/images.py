"""Images of a data set as a spiking network takes them: as its notes say, or as asked for."""

from dataclasses import replace

from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.images import ImageData, Normalisation
from spiking_resnet.ann.pixels import Framing
from spiking_resnet.cli.conversion import framed
from spiking_resnet.cli.options import ImageFlags
from spiking_resnet.cli.terminal import warn
from spiking_resnet.graph import Graph
from spiking_resnet.records import InputError


def loaded(graph: Graph, name: str, split: str, asked: ImageFlags) -> ImageData:
    """The images of a split, with the network's channels and framing."""
    images = load_dataset(name, split, asked.data, asked.download)
    images = images.with_channels(graph.input.shape[0])
    return framed(images, asked.framing, stored_framing(graph))


def fitted(graph: Graph, data: ImageData, chosen: Normalisation | None) -> ImageData:
    """`data` with labels in the order of the network's classes, normalised as asked for, else as
    for the calibration, else in its own way.
    """
    data = data.ordered_as(graph.notes.get("classes") or data.class_names or ())
    chosen = chosen or stored_normalisation(graph)
    return data if chosen is None else replace(data, normalisation=chosen)


def sampled(images: ImageData, limit: int | None, seed: int) -> tuple[ImageData, str]:
    """(`images.subset(limit, seed)`, what a title says of it: nothing where it is all of them)."""
    some = images.subset(limit, seed)
    if len(some) == len(images):
        return images, ""
    return some, f": {len(some):,} of {len(images):,} images, by --seed {seed}"


def check_classes(network: str, logits: int, data: ImageData) -> None:
    """Raise InputError for images of more classes than a network has logits; warn of fewer.

    network: what it is called.
    """
    told = f"{network} knows {logits} classes, {data.name} has {data.classes}"
    if logits < data.classes:
        raise InputError(f"{told}: evaluate it on the data set that it was made for")
    if logits > data.classes:
        warn(told)


def stored_normalisation(graph: Graph) -> Normalisation | None:
    """The normalisation of the calibration, from the network's notes."""
    found = graph.notes.get("normalisation")
    return None if found is None else Normalisation.from_json(found, "normalisation")


def stored_framing(graph: Graph) -> Framing | None:
    """The framing of the calibration's image files, from the network's notes."""
    found = graph.notes.get("framing")
    return None if found is None else Framing(**found)


def said_by(graph: Graph, data: ImageData, chosen: Normalisation | None) -> str:
    """The origin of the normalisation that `fitted` takes, in words."""
    if chosen is not None:
        return "said by --normalisation"
    if graph.notes.get("normalisation") is None:
        return f"usual for {data.name}: if the network has another, say --normalisation"
    return ", ".join(filter(None, ("as in conversion", graph.notes.get("normalisation_from"))))
