"""The command `evaluate`: accuracy, agreement and spikes of a spiking network at every T."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import spiking_resnet as sr
from spiking_resnet.ann.class_names import class_names
from spiking_resnet.ann.images import ImageData
from spiking_resnet.cli import options
from spiking_resnet.cli.conversion import tell_normalisation, warn_of_guesses
from spiking_resnet.cli.decided import DecidedFlags, told_of
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.images import check_classes, fitted, loaded, said_by, sampled
from spiking_resnet.cli.kept import keeping, so_far
from spiking_resnet.cli.outputs import check_data, check_outputs, say_wrote, write_json
from spiking_resnet.cli.provenance import (
    all_images,
    command_line,
    file_facts,
    fingerprint,
    versions,
)
from spiking_resnet.cli.stopping import StopFlags
from spiking_resnet.cli.stored import stored
from spiking_resnet.cli.terminal import say, show, warn
from spiking_resnet.engines.simulate import choose
from spiking_resnet.evaluation.evaluate import usual_steps
from spiking_resnet.evaluation.progress_file import own
from spiking_resnet.graph import Graph
from spiking_resnet.images import usual_batch as usual
from spiking_resnet.processes.team import current
from spiking_resnet.records import Curve, InputError, Stop
from spiking_resnet.report import curve as report
from spiking_resnet.report.figure import check_path

EPILOG = """
Examples:

  spiking-resnet evaluate snn.safetensors --limit 200

  spiking-resnet evaluate snn.safetensors --data DIR --json results.json \\
      --plot accuracy.pdf

  spiking-resnet evaluate snn.safetensors --dataset test.npz --steps 16,64 \\
      --engine interpreter

  spiking-resnet evaluate snn.safetensors --data DIR --steps 32 \\
      --confidence 0.95,0.99

  spiking-resnet evaluate snn.safetensors --per-class \\
      --save-decisions decisions.csv

  spiking-resnet evaluate snn.safetensors --data DIR --resume progress.json
  (the same line again goes on where the last one was stopped)

  torchrun --nproc-per-node 8 -m spiking_resnet.cli evaluate \\
      snn.safetensors --data DIR

All T of --steps come from one simulation. Data set and normalisation are the file's own. Stopped
at any moment, the command says what to type to go on: counts are kept in the cache folder
(SPIKING_RESNET_CACHE, XDG_CACHE_HOME or ~/.cache) without --resume, until all is done.
"""


@dataclass(frozen=True)
class Test:
    """A test of a spiking network: its images, how they are simulated, and its progress file.

    stop: the rules by which images stop early. by_class, each: whether classes are counted, and
    decisions for single images kept.
    """

    data: ImageData
    steps: tuple[int, ...]
    batch_size: int
    engine: str = "auto"
    device: str = "cpu"
    resume: Path | None = None
    stop: tuple[Stop, ...] = ()
    by_class: bool = False
    each: bool = False


@grouped
def evaluate(
    ctx: typer.Context,
    snn: Annotated[Path, typer.Argument(help="A file that `convert` wrote.")],
    asked: options.ImageFlags,
    stopping: StopFlags,
    decided: DecidedFlags,
    split: options.SplitOption = "test",
    steps: options.OwnStepsOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Only so many images, chosen by --seed.", show_default=False)
    ] = None,
    batch_size: options.BatchSizeOption = None,
    engine: options.EngineOption = "auto",
    seed: options.SeedOption = 0,
    threads: options.ThreadsOption = None,
    device: options.DeviceOption = "cpu",
    resume: options.ResumeOption = None,
    json_path: options.JsonOption = None,
    plot: options.PlotOption = None,
) -> None:
    """Measure a spiking network on test images: accuracy, agreement, spikes at every T.

    With --confidence also where every image stops by itself, as soon as its
    read-out's margin is large; what is large enough at each step is found
    on training images, on which a share P then decides as at the last of
    --steps.
    """
    wanted = None if steps is None else options.parse_steps(steps)
    options.check_device(device)
    set_threads(threads)
    if plot is not None:
        check_path(plot)
    outputs = {"--json": json_path, "--plot": plot, "--resume": resume, **decided.outputs}
    check_outputs(outputs, {"the network": snn})
    graph = stored(snn)
    choose(graph, engine)
    name, images = test_images(graph, snn, split, asked)
    check_data(outputs, name, asked.data)
    training = stopping.images(graph, name, asked, images, seed)
    indices = images.chosen(limit, seed).tolist()
    images, some = sampled(images, limit, seed)
    size = usual_batch(images) if batch_size is None else batch_size
    if graph.made_for is not None and set(wanted or ()) - {graph.made_for}:
        warn(
            f"{snn} is made for T = {graph.made_for}, and what it reaches at others says little of "
            "its method: convert again for each"
        )
    told = f"{snn.name} on {name} ({split}){some}"
    partly = so_far(lambda found: report.blocks(found, f"{told}; {found.images:,} images so far"))
    with keeping(ctx, resume) as kept, partly:
        test = Test(
            images, wanted or usual_steps(graph), size, engine, device, kept,
            by_class=decided.by_class, each=decided.each,
        )  # fmt: skip
        if training is not None:
            rules = stopping.rules(graph, training, max(test.steps), size, engine, device)
            test = replace(test, stop=rules)
        curve = measured(graph, test)
    names = graph.notes.get("classes") or images.class_names or class_names(name)
    curve = told_of(curve, names, indices)
    show(report.blocks(curve, told))
    if curve.ann_accuracy is not None:
        right = round(curve.ann_accuracy * curve.images)
        warn_of_guesses_on(graph, images, right, curve.images)
    if graph.pre_steps:
        say(
            f"{graph.pre_steps} of the steps precede the counted ones; the read-out leaves them out"
        )
    facts = {
        "file": file_facts(snn), "dataset": name, "split": split, "limit": limit, "seed": seed,
        "command": command_line(ctx),
    }  # fmt: skip
    write_results(replace(curve, decisions=None), test, facts, json_path, plot)
    decided.write(curve)


def test_images(
    graph: Graph, snn: Path, split: str, asked: options.ImageFlags
) -> tuple[str, ImageData]:
    """(name, images) to test a network of file `snn` on: what was asked for, else the file's own.

    Raises InputError where no data set is named, and for the images it was calibrated on.
    """
    name = asked.dataset or graph.notes.get("dataset")
    if name is None:
        raise InputError(f"{snn} names no data set: use --dataset")
    found = loaded(graph, name, split, asked)
    refuse_training_images(graph, name, found, split)
    images = fitted(graph, found, asked.wanted)
    tell_normalisation(images, said_by(graph, images, asked.wanted))
    return name, images


def measured(graph: Graph, test: Test) -> Curve:
    """The curve of a spiking network on the test's images."""
    check_classes("the network", graph.output.shape[0], test.data)
    first = current().first  # who reads and writes the file
    facts = _facts(test) if first and test.resume is not None else None
    loader = test.data.loader(test.batch_size)
    return sr.evaluate(
        graph, loader, test.steps, engine=test.engine, device=test.device, resume=test.resume,
        facts=facts, stop=test.stop, per_class=test.by_class, decisions=test.each,
    )  # fmt: skip


def _facts(test: Test) -> dict[str, Any]:
    """What must be the same for an evaluation to go on, beside network, steps and engine.

    A file of our own, which nobody asked for, is not worth reading every image before.
    """
    known = fingerprint if own(test.resume) else all_images
    return {
        "data": known(test.data),
        "images": len(test.data),
        "normalisation": test.data.normalisation.to_json(),
        "batch size": test.batch_size,
        "device": test.device,
    }


def write_results(
    curve: Curve, test: Test, facts: dict[str, Any], json_path: Path | None, plot: Path | None
) -> None:
    """Write the results and the figure to the files that were asked for."""
    if json_path is not None:
        conditions = {
            "normalisation": test.data.normalisation.to_json(),
            "framing": None if test.data.framing is None else test.data.framing.to_json(),
            "batch_size": test.batch_size,
            "device": test.device,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
        write_json(json_path, {**curve.to_json(), **facts, **conditions})
        say_wrote(json_path)
    if plot is not None:
        label = f"SNN, {curve.notes.get('method', 'spiking')}"
        title = f"{curve.notes.get('model', 'network')}, {facts['dataset']}, n = {curve.images:,}"
        report.plot({label: curve}, plot, title)
        say_wrote(plot)


def refuse_training_images(graph: Graph, name: str, data: ImageData, split: str) -> None:
    """Raise InputError for images that the network was calibrated on, unless asked for as such."""
    if split == "train":
        return
    calibration = graph.notes.get("calibration", {})
    same = calibration.get("data") == fingerprint(data)
    if same or (name.endswith(".npz") and Path(name).stem.lower().startswith("train")):
        why = "holds the images it was calibrated on" if same else "looks like training images"
        raise InputError(
            f"{name} {why}, and accuracy on training images says little: name test images with "
            "--dataset, or say --split train if that is what you want"
        )


def usual_batch(data: ImageData) -> int:
    """The default number of images in a batch."""
    return usual(data.size)


def set_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads; None: as many as before. InputError if impossible."""
    if threads is None:
        return
    most = 4 * (os.cpu_count() or 1)
    if not 1 <= threads <= most:
        raise InputError(
            f"--threads is {threads}: at least 1, and at most {most} (4 for each processor)"
        )
    torch.set_num_threads(threads)


def warn_of_guesses_on(graph: Graph, data: ImageData, right: int, images: int) -> None:
    """Warn where the ANN guesses, or is far from the accuracy that the file says."""
    said = graph.notes.get("calibration", {}).get("ann_accuracy")
    warn_of_guesses(right, images, data.classes, "test", said)
