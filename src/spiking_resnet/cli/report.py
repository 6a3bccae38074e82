"""The command `report`: all that is known of a spiking network, on one page that opens anywhere."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import spiking_resnet as sr
from spiking_resnet.ann.images import ImageData
from spiking_resnet.cli import options
from spiking_resnet.cli.evaluate import (
    Test,
    measured,
    set_threads,
    test_images,
    usual_batch,
    warn_of_guesses_on,
)
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.images import sampled
from spiking_resnet.cli.kept import keeping
from spiking_resnet.cli.outputs import check_data, check_outputs, say_wrote, standard, write_json
from spiking_resnet.cli.provenance import (
    command_line,
    file_facts,
    fingerprint,
    versions,
)
from spiking_resnet.cli.stored import stored
from spiking_resnet.cli.terminal import show, warn
from spiking_resnet.codec import RecordError
from spiking_resnet.costs import models as cost_models
from spiking_resnet.engines.simulate import choose
from spiking_resnet.evaluation.compare import Comparison
from spiking_resnet.evaluation.diagnosis import Diagnosis
from spiking_resnet.evaluation.evaluate import usual_steps
from spiking_resnet.evaluation.findings import Energy, Findings, energy_at, findings
from spiking_resnet.evaluation.observe import Observation, known, observe
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Graph
from spiking_resnet.printable import printable
from spiking_resnet.records import InputError
from spiking_resnet.report import curve as curve_report
from spiking_resnet.report.findings import page
from spiking_resnet.report.observation import png
from spiking_resnet.report.page import render
from spiking_resnet.report.provenance import made
from spiking_resnet.report.rows import LONG, long

EPILOG = """
Examples:

  spiking-resnet report snn.safetensors --data DIR --limit 500 \\
      --out report.html

  spiking-resnet report snn.safetensors --data DIR --steps 8,16,32 \\
      --diagnosis 0 --samples 3 --out report.html

  spiking-resnet compare resnet20 --weights r20.pt --data DIR \\
      --json compare.json

  spiking-resnet report snn.safetensors --data DIR \\
      --comparison compare.json --json report.json --csv report.csv \\
      --out report.html

The page holds all it needs: it opens without a network, and loads nothing. It shows accuracy and
agreement over T and against operations and joules, the network with what each layer fires and
spends, where decisions are lost, spikes, and decisions as they form. --json and --csv are the same
numbers, unrounded.
"""
POOL = 8  # images observed for each sample that is shown
DIAGNOSED = 200
FORMULAS = ("=", "+", "-", "@")  # what they begin with
WIDEST = 160  # pixels of a sample's image in the page


@grouped
def report(
    ctx: typer.Context,
    snn: Annotated[Path, typer.Argument(help="A file that `convert` wrote.")],
    asked: options.ImageFlags,
    out: Annotated[Path, typer.Option("--out", help="The page (.html).")] = Path("report.html"),
    split: options.SplitOption = "test",
    steps: options.OwnStepsOption = None,
    limit: Annotated[int | None, typer.Option(help="Only so many images, chosen by --seed.")] = 500,
    comparison: Annotated[
        Path | None,
        typer.Option(help="Methods side by side: what compare --json wrote.", show_default=False),
    ] = None,
    rasters: Annotated[
        str | None,
        typer.Option(
            help="Populations whose spikes are drawn, by commas.",
            show_default="three, spread over the depth",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Images whose decision is shown as it forms; 0: none.")
    ] = 6,
    diagnosis: Annotated[
        int, typer.Option(min=0, help="Images to find out where decisions are lost; 0: none.")
    ] = DIAGNOSED,
    energy: Annotated[
        int, typer.Option(min=0, help="Images whose spikes are counted for energy; 0: none.")
    ] = 16,
    models: options.ModelsOption = "all",
    batch_size: options.BatchSizeOption = None,
    engine: options.EngineOption = "auto",
    seed: options.SeedOption = 0,
    threads: options.ThreadsOption = None,
    device: options.DeviceOption = "cpu",
    resume: options.ResumeOption = None,
    json_path: options.JsonOption = None,
    csv_path: Annotated[
        Path | None,
        typer.Option("--csv", help="The same numbers, one in a row.", show_default=False),
    ] = None,
) -> None:
    """Write a report of a spiking network: one page to look at, to print, and to pass on."""
    wanted = None if steps is None else options.parse_steps(steps)
    if out.suffix.lower() not in (".html", ".htm") and standard(out) == out:
        raise InputError(f"--out {out}: the name of a page ends in .html")
    options.check_device(device)
    set_threads(threads)
    outputs = {"--out": out, "--json": json_path, "--csv": csv_path, "--resume": resume}
    check_outputs(outputs, {"the network": snn, "--comparison": comparison})
    wanted_models = cost_models.named(models)
    compared = None if comparison is None else read_comparison(comparison)
    graph = stored(snn)
    choose(graph, engine)
    drawn = None if rasters is None else known(graph, map(str.strip, rasters.split(",")))
    name, images = test_images(graph, snn, split, asked)
    check_data(outputs, name, asked.data)
    images, some = sampled(images, limit, seed)
    size = usual_batch(images) if batch_size is None else batch_size
    with keeping(ctx, resume) as kept:
        test = Test(images, wanted or usual_steps(graph), size, engine, device, kept)
        curve = measured(graph, test)
    show(curve_report.blocks(curve, f"{snn.name} on {name} ({split}){some}"))
    if curve.ann_accuracy is not None:
        warn_of_guesses_on(graph, images, round(curve.ann_accuracy * curve.images), curve.images)
    taken = _energy(graph, test, energy, wanted_models)
    diagnosed, why = _diagnosed(graph, test, diagnosis, seed)
    observed = _observed(graph, test, samples, drawn)
    classes = graph.notes.get("classes") or images.class_names or ()
    found = findings(graph, curve, diagnosed, why, observed, compared, taken, classes)
    facts: dict[str, Any] = {
        "file": file_facts(snn), "dataset": name, "split": split, "limit": limit, "seed": seed,
        "images_hash": fingerprint(images), "normalisation": images.normalisation.to_json(),
        "framing": None if images.framing is None else images.framing.to_json(),
        "batch_size": size, "device": device, "threads": torch.get_num_threads(),
        "comparison_file": None if comparison is None else file_facts(comparison),
        "command": command_line(ctx), "versions": versions(),
    }  # fmt: skip
    content = {**found.to_json(), **facts}
    told = made(facts, curve.hardware, graph.notes)
    whole = page(found, _called(graph, snn), Path(name).name, told, _pictures(images), content)
    write_whole(standard(out), render(whole))
    say_wrote(out)
    _write_numbers(found, content, json_path, csv_path)


def _called(graph: Graph, snn: Path) -> str:
    """What a network is called: its model, and its method."""
    model = str(graph.notes.get("model", snn.name))
    return f"{Path(model).name}, {graph.notes.get('method', 'spiking')}"


def read_comparison(path: Path) -> Comparison:
    """The comparison that `compare --json` wrote; InputError for another file."""
    try:
        return Comparison.read(path)
    except RecordError as error:
        raise InputError(
            f"{path} is not what `spiking-resnet compare --json` writes ({error}): make it again"
        ) from error


def _energy(
    graph: Graph, test: Test, images: int, models: Sequence[cost_models.Model]
) -> Energy | None:
    """What an image takes under each model, at every T."""
    if not images:
        return None
    loader = test.data.select(
        torch.arange(min(images, len(test.data)), dtype=torch.int64, device="cpu")
    ).loader(test.batch_size)
    return energy_at(graph, loader, test.steps, models, test.engine)


def _diagnosed(graph: Graph, test: Test, images: int, seed: int) -> tuple[Diagnosis | None, str]:
    """The diagnosis at the last T, or why there is none."""
    if not images:
        return None, "--diagnosis 0 asks for none."
    chosen = test.data.subset(images, seed)
    try:
        loader = chosen.loader(test.batch_size)
        return sr.diagnose(graph, loader, test.steps[-1], test.engine), ""
    except InputError as error:
        warn(f"where decisions are lost cannot be said: {error}")
        return None, str(error)


def _observed(graph: Graph, test: Test, samples: int, names: Sequence[str] | None) -> Observation:
    """What is seen of some images, step by step."""
    pool = torch.arange(
        min(len(test.data), max(1, POOL * samples)), dtype=torch.int64, device="cpu"
    )
    loader = test.data.select(pool).loader(len(pool))
    images, labels = next(iter(loader))
    return observe(graph, images, labels, test.steps[-1], samples, names, test.engine)


def _pictures(data: ImageData) -> Callable[[int], bytes]:
    """The PNG of an image by its place, small."""
    from PIL import Image

    def drawn(place: int) -> bytes:
        pixels = data.pixels(torch.tensor([place], dtype=torch.int64, device="cpu"))[0]
        grey = len(pixels) != 3
        array = (pixels[0] if grey else pixels.permute(1, 2, 0)).contiguous().numpy()
        image = Image.fromarray(array, "L" if grey else "RGB")
        image.thumbnail((WIDEST, WIDEST))
        return png(image)

    return drawn


def _write_numbers(
    found: Findings, content: Mapping[str, Any], json_path: Path | None, csv_path: Path | None
) -> None:
    if json_path is not None:
        write_json(json_path, content)
        say_wrote(json_path)
    if csv_path is not None:
        write_whole(standard(csv_path), _table(long(found)))
        say_wrote(csv_path)


def _table(rows: Iterable[tuple[Any, ...]]) -> bytes:
    """The rows as a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([LONG, *(tuple(map(_cell, row)) for row in rows)])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """What stands in a cell; a name that a spreadsheet would take for a formula has a ' before."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(FORMULAS) else printable(value)
