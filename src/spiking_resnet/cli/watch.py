"""The command `watch`: a spiking network at work on one image, in the terminal."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console, Group
from rich.control import Control
from rich.screen import Screen
from rich.text import Text
from torch import Tensor

from spiking_resnet.ann.class_names import class_names
from spiking_resnet.ann.pictures import read_picture
from spiking_resnet.ann.pixels import Framing
from spiking_resnet.cli import options
from spiking_resnet.cli.evaluate import test_images
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.images import stored_framing, stored_normalisation
from spiking_resnet.cli.stored import stored
from spiking_resnet.cli.terminal import out, say, show
from spiking_resnet.engines.simulate import choose
from spiking_resnet.evaluation.watching import Moment, moments
from spiking_resnet.graph import Graph, interpret
from spiking_resnet.records import InputError
from spiking_resnet.report import watching as report
from spiking_resnet.report.terminal import in_characters_of
from spiking_resnet.surroundings import undisturbed

EPILOG = """
Examples:

  spiking-resnet watch snn.safetensors cat.png

  spiking-resnet watch snn.safetensors --data DIR --index 7 --steps 64 \\
      --delay 0.3

  spiking-resnet watch snn.safetensors cat.png --every 8 > cat.txt

A picture is framed and normalised as the network's file says. Where there is no terminal, each
moment is a line.
"""
STEPS = 64  # where a network serves any number
_OPEN, _CLOSE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other screen, no cursor


@grouped
def watch(
    snn: Annotated[Path, typer.Argument(help="A file that `convert` wrote.")],
    asked: options.ImageFlags,
    image: Annotated[
        Path | None, typer.Argument(help="A picture; or --index of a data set.", show_default=False)
    ] = None,
    index: Annotated[
        int | None,
        typer.Option(help="The image of the data set, from 0.", show_default=False),
    ] = None,
    split: options.SplitOption = "test",
    steps: Annotated[
        int | None, typer.Option(help="Time steps to simulate.", show_default="its own T, or 64")
    ] = None,
    every: Annotated[int, typer.Option(help="Time steps from one frame to the next.")] = 1,
    delay: Annotated[float, typer.Option(help="Seconds from one frame to the next.")] = 0.1,
    engine: options.EngineOption = "auto",
) -> None:
    """Watch a spiking network decide: read-out and firing rates as time steps go by.

    Bars are the largest read-outs, in the ANN's units, and the rate of every
    population in the steps just simulated. Ctrl-C ends it.
    """
    for name, value in (("steps", steps), ("every", every)):
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}: at least 1")
    if not 0 <= delay < math.inf:
        raise InputError(f"--delay is {delay}: seconds, 0 or more")
    if (image is None) == (index is None):
        raise InputError("name one image: a picture, or --index of an image of the data set")
    graph = stored(snn)
    choose(graph, engine)
    label, dataset = None, asked.dataset or graph.notes.get("dataset")
    names = tuple(graph.notes.get("classes") or ())
    if image is not None:
        shown, pixels = image.name, picture(graph, snn, image, asked)
    else:
        shown, pixels, label, own = _of_data_set(graph, snn, index or 0, split, asked)
        names = names or own
    watched = report.Watched(
        title=f"{snn.name} on {shown}",
        steps=steps or graph.made_for or graph.pre_steps + STEPS,
        neurons=graph.neurons,
        names=_fitting(graph, names or class_names(dataset)),
        ann=_logits(graph, pixels),
        label=label,
    )
    last = follow(watched, moments(graph, pixels, watched.steps, every, engine), delay)
    show(report.blocks(watched, last))


def follow(watched: report.Watched, found: Iterable[Moment], delay: float) -> Moment:
    """Show the moments as they come, and return the last: on a terminal frames, else lines."""
    stream = iter(found)
    moment = next(stream)  # before the screen changes: what it warns of is seen
    with _frames(watched) if _on_terminal() else _lines(watched) as tell:
        tell(moment)
        for moment in stream:
            if _on_terminal():
                time.sleep(delay)
            tell(moment)
        if _on_terminal():
            time.sleep(delay)
    return moment


def _on_terminal() -> bool:
    plain = out.is_dumb_terminal or out.legacy_windows
    return out.is_terminal and out.file.isatty() and not plain


@contextmanager
def _lines(watched: report.Watched) -> Iterator[Callable[[Moment], None]]:
    yield lambda moment: say(report.line(watched, moment))


@contextmanager
def _frames(watched: report.Watched) -> Iterator[Callable[[Moment], None]]:
    """A context with the terminal's other screen, which is left as it was, whatever ends it.

    A signal may come at any moment, so the frames have a console of their own: nothing that waits
    in it is written later.
    """
    screen = Console(file=out.file, highlight=False, markup=False, emoji=False)

    def draw(moment: Moment) -> None:
        lines = [
            Text(in_characters_of(out, line.text), line.style, no_wrap=True, overflow="crop")
            for line in report.frame(watched, moment, *screen.size)
        ]
        screen.control(Control.home())
        screen.print(Screen(Group(*lines)), end="")

    try:
        _write(_OPEN)
        yield draw
    finally:
        _write(_CLOSE)


def _write(codes: str) -> None:
    out.file.write(codes)
    out.file.flush()


def picture(graph: Graph, snn: Path, path: Path, asked: options.ImageFlags) -> Tensor:
    """A picture [1, C, H, W], framed and normalised as asked for, else as the network's notes say.

    Raises InputError where nobody says how, FileNotFoundError and DataError for no picture.
    """
    if path.is_dir() or path.suffix == ".npz":
        raise InputError(f"{path} is a data set: say --dataset {path} --index 0")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    channels, height, width = graph.input.shape
    if channels not in (1, 3) or height != width:
        raise InputError(
            f"{snn} takes inputs of {channels} x {height} x {width}, which is no square picture: "
            "use --dataset and --index"
        )
    framing = asked.framing or stored_framing(graph) or Framing(height, height)
    if framing.crop != height:
        raise InputError(f"--crop makes squares of {framing.crop}, and {snn} takes {height}")
    normalisation = asked.wanted or stored_normalisation(graph)
    if normalisation is None:
        raise InputError(f"{snn} does not say how its images are normalised: use --normalisation")
    say(
        f"{path}: shortest side to {framing.resize} pixels, the central {framing.crop} x "
        f"{framing.crop}; normalisation: {normalisation}"
    )
    return normalisation.apply(framing.apply(read_picture(path, channels))[None])


def _of_data_set(
    graph: Graph, snn: Path, index: int, split: str, asked: options.ImageFlags
) -> tuple[str, Tensor, int, tuple[str, ...]]:
    """(what it is called, the image [1, C, H, W], its label, the set's names of classes)."""
    name, data = test_images(graph, snn, split, asked)
    if not 0 <= index < len(data):
        raise InputError(f"--index is {index}: {name} ({split}) has images 0 to {len(data) - 1}")
    one = data.select(torch.tensor([index], dtype=torch.int64, device="cpu"))
    pixels, labels = next(iter(one.loader(1)))
    return f"image {index} of {name} ({split})", pixels, int(labels[0]), data.class_names or ()


def _fitting(graph: Graph, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names where there is one for each class of the network."""
    return names if len(names) == max(2, graph.output.shape[0]) else ()


@undisturbed()
def _logits(graph: Graph, image: Tensor) -> Tensor | None:
    return None if graph.ann is None else interpret.logits(graph.ann, image)[0]
