"""The command `demo`: a trained network becomes a spiking one in three ways, without downloads."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.images import ImageData
from spiking_resnet.ann.pixels import MissingDataError
from spiking_resnet.cli import options
from spiking_resnet.cli.conversion import Choice, converted, store
from spiking_resnet.cli.evaluate import Test, measured, usual_batch
from spiking_resnet.cli.networks import Network, network
from spiking_resnet.cli.outputs import check_outputs, say_wrote, write_json
from spiking_resnet.cli.provenance import command_line, file_facts, versions
from spiking_resnet.cli.terminal import say, show
from spiking_resnet.conversion.methods import Method, differential, hu2021
from spiking_resnet.environment import hardware
from spiking_resnet.evaluation.inspect import inspect_graph
from spiking_resnet.records import Curve, InputError
from spiking_resnet.report import curve as report
from spiking_resnet.report.block import Column, Row, Table, Text
from spiking_resnet.report.network import exactness
from spiking_resnet.report.numbers import count, percent

NETWORKS = {
    "photographs": "cifar10_resnet20",
    "cifar10": "cifar10_resnet20",
    "digits": "digits_resnet8",
}
CIFAR10_IMAGES = 256  # of the 10,000 test images
FEW_STEPS = 4
PAPER, ABLATION, FEW = (
    "the paper's method",
    "without shortcut conversion",
    "four sizes of spikes",
)
EPILOG = """
Examples:

  spiking-resnet demo

  spiking-resnet demo --data DIR
  (DIR/cifar10/test.npz and train.npz, or torchvision's files)

  spiking-resnet demo --dataset digits --steps 16,64 --limit 100 --out other
"""


def demo(
    ctx: typer.Context,
    out_path: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("demo"),
    steps: Annotated[
        str, typer.Option(help="Time steps of the paper's method, as T,T,...")
    ] = "8,16,32,64,128",
    limit: Annotated[
        int | None, typer.Option(help="Test images.", show_default=f"all; cifar10 {CIFAR10_IMAGES}")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(NETWORKS)}.", show_default="cifar10 where --data has it, photographs"
        ),
    ] = None,
    data: options.DataOption = None,
) -> None:
    """See it work: convert a shipped network, simulate, draw. A minute or two, no downloads.

    A ResNet-20, trained on CIFAR-10, becomes a spiking network in three ways: as in the paper, as
    in the paper's ablation, and by the method that needs the fewest time steps. All are judged on
    96 photographs that come with the package, or on CIFAR-10's own test images.
    """
    wanted = options.parse_steps(steps)
    names = ("snn.safetensors", "results.json", "accuracy.png")
    network_path, results_path, plot_path = (out_path / name for name in names)
    check_outputs({f"the demo's {name}": out_path / name for name in names})
    name, source, training, test_set = _subject(dataset, data, limit)
    _tell_source(source, name, test_set)
    command = command_line(ctx)
    longest = max(wanted[-1], hu2021.steps)
    ways: dict[str, Method] = {
        PAPER: hu2021(steps=longest),
        ABLATION: hu2021(steps=longest, shortcut_conversion=False),
        FEW: differential(levels=4, steps=FEW_STEPS),
    }
    curves: dict[str, Curve] = {}
    for number, (way, method) in enumerate(ways.items(), 2):
        _tell(f"{number}. {_STORY[way]}")
        graph = converted(source, name, training, method, Choice(), command)
        at = (FEW_STEPS,) if way == FEW else wanted
        curves[way] = measured(graph, Test(test_set, at, usual_batch(test_set)))
        _tell(f"{sum(graph.neurons.values()):,} neurons, {exactness(inspect_graph(graph))}.")
    say()
    show((_table(curves),))
    say()
    show((report.chart(curves, _title(source, name, test_set)),))
    say()
    store(graph, network_path)
    say_wrote(network_path)
    facts = {
        "dataset": name, "split": "test", "images": len(test_set), "model": source.spec,
        "file": file_facts(network_path), "command": command, "hardware": hardware(),
        "versions": versions(),
    }  # fmt: skip
    told = {way: curve.to_json() for way, curve in curves.items()}
    write_json(results_path, {**facts, "ways": told})
    say_wrote(results_path)
    report.plot(curves, plot_path, _title(source, name, test_set))
    say_wrote(plot_path)
    _tell_next(network_path, source, name, data)


_STORY: Mapping[str, str] = {
    PAPER: "As in the paper (Hu, Tang, Pan): every ReLU becomes a neuron that adds up its input "
    "and sends a spike at its threshold; both paths of a residual block are brought to one scale.",
    ABLATION: "The same without the shortcut conversion: the paths arrive on different scales.",
    FEW: "Four sizes of spikes, each of which corrects what was sent before (differential-4), "
    f"for T = {FEW_STEPS}.",
}


def _subject(
    dataset: str | None, data: Path | None, limit: int | None
) -> tuple[str, Network, ImageData, ImageData]:
    """The data set, the network, and the images to calibrate on and to judge by."""
    if dataset is not None and dataset not in NETWORKS:
        raise InputError(f"--dataset {dataset!r}: the demo knows {', '.join(NETWORKS)}")
    name = dataset or "cifar10"
    try:
        training, test = (load_dataset(name, split, data) for split in ("train", "test"))
    except MissingDataError:
        if dataset is not None or data is not None:
            raise
        name = "photographs"
        training, test = (load_dataset(name, split) for split in ("train", "test"))
    source = network(NETWORKS[name], None)
    if limit is None and name == "cifar10":
        limit = CIFAR10_IMAGES
    normalisation = source.normalisation or test.normalisation
    return (
        name,
        source,
        replace(training, normalisation=normalisation),
        replace(test, normalisation=normalisation).subset(limit),
    )


def _tell_source(source: Network, name: str, test: ImageData) -> None:
    """Print what the network is, and what it is judged by."""
    known = "" if source.accuracy is None else f" ({percent(source.accuracy)} of its test images)"
    whose = " that others took, of the same classes" if name == "photographs" else f" of {name}"
    _tell(
        f"1. The network: {source.spec}, trained on {source.dataset}{known}, shipped with the "
        f"package: an ordinary artificial neural network (ANN). It is judged on {len(test)} images"
        f"{whose}, which neither training nor conversion has seen."
        f"{_PHOTOGRAPHS if name == 'photographs' else ''}"
    )


_PHOTOGRAPHS = (
    " They were shrunk from larger ones and look unlike CIFAR-10's, so the ANN itself knows some "
    "two in three: look at how far the spiking networks are from it."
)


def _tell(text: str) -> None:
    """Print a paragraph."""
    show((Text(text, apart=True),))


def _table(curves: Mapping[str, Curve]) -> Table:
    """Every way at every T, and the ANN."""
    columns = (
        Column("spiking network", align="left"),
        Column("T", note="time steps"),
        Column("accuracy"),
        Column("agreement", note="same class as the ANN"),
        Column("spikes/image"),
    )
    rows = [
        Row(
            (way if first else "", str(point.steps), percent(point.accuracy, curve.images),
             percent(point.agreement, curve.images), count(point.spikes_per_image)),
            ruled=first and way != PAPER,
        )
        for way, curve in curves.items()
        for first, point in ((point is curve.points[0], point) for point in curve.points)
    ]  # fmt: skip
    curve = curves[PAPER]
    known = percent(curve.ann_accuracy, curve.images)
    ann = Row(("the ANN", "", known, "", ""), "strong", ruled=True)
    return Table(columns, (*rows, ann), footnotes=(f"n = {curve.images:,} images.",))


def _title(source: Network, name: str, test: ImageData) -> str:
    return f"{source.spec} on {name}, n = {len(test):,}"


def _tell_next(path: Path, source: Network, name: str, data: Path | None) -> None:
    """Print three commands to go on with."""
    where = f"--dataset {name}" + ("" if data is None else f" --data {data}")
    methods = "--methods hu2021,calibrated,differential-4 --steps 4,16,32"
    say(
        f"\nNext:\n"
        f"  spiking-resnet report {path} {where} --out {path.parent / 'report.html'}\n"
        "      where accuracy goes, operations and energy: one page\n"
        f"  spiking-resnet compare {source.spec} {where} {methods}\n"
        "      the methods side by side\n"
        "  spiking-resnet convert torchvision:resnet18 --weights default --dataset FOLDER "
        "--out snn.safetensors\n"
        "      your own network: FOLDER/train/CLASS/*.jpg"
    )
