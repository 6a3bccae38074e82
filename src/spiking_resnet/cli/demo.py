"""The command `demo`: from a trained network to a figure, without downloads."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spiking_resnet.ann.data import DATA_VARIABLE, NORMALISATIONS, load_dataset
from spiking_resnet.cli import options
from spiking_resnet.cli.conversion import Choice, converted, store
from spiking_resnet.cli.evaluate import Test, measured, usual_batch, write_results
from spiking_resnet.cli.networks import Network, network
from spiking_resnet.cli.outputs import check_outputs
from spiking_resnet.cli.provenance import command_line, file_facts
from spiking_resnet.cli.terminal import say, show
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.evaluation.inspect import inspect_graph
from spiking_resnet.records import InputError
from spiking_resnet.report import curve as report
from spiking_resnet.report.network import exactness

CIFAR10_WEIGHTS = Path("weights") / "cifar10_resnet20_akamaster.pt"
CIFAR10_IMAGES = 256  # of the 10,000 test images: about a minute on two cores
EPILOG = f"""
Examples:

  spiking-resnet demo

  spiking-resnet demo --out elsewhere --steps 16,64 --limit 100

  {DATA_VARIABLE}=DIR spiking-resnet demo   (DIR/cifar10/*.npz and DIR/{CIFAR10_WEIGHTS}: ResNet-20)
"""


def demo(
    ctx: typer.Context,
    out_path: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("demo"),
    steps: options.StepsOption = options.DEFAULT_STEPS,
    limit: Annotated[
        int | None, typer.Option(help="Test images.", show_default=f"all; cifar10 {CIFAR10_IMAGES}")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="digits or cifar10.", show_default="cifar10 if there")
    ] = None,
) -> None:
    """Convert a trained network, simulate it, and draw what comes out: about a minute.

    It takes handwritten digits and the small network shipped with the
    package; with real data at hand, CIFAR-10 and ResNet-20.
    """
    wanted = options.parse_steps(steps)
    files = [out_path / name for name in ("snn.safetensors", "results.json", "accuracy.png")]
    check_outputs({f"the demo's {path.name}": path for path in files})
    name, source, limit = _subject(dataset, limit)
    _tell_source(source, name)
    test_set, training_set = (load_dataset(name, split) for split in ("test", "train"))
    normalisation = source.normalisation or test_set.normalisation
    training_set = replace(training_set, normalisation=normalisation)
    command = command_line(ctx)
    method = hu2021(steps=max(wanted[-1], hu2021.steps))
    graph = converted(source, name, training_set, method, Choice(), command)
    store(graph, files[0])
    chosen = replace(test_set, normalisation=normalisation).subset(limit)
    say(f"   {sum(graph.neurons.values()):,} neurons, thresholds from {Choice.images} training "
        f"images; {exactness(inspect_graph(graph))}.")  # fmt: skip
    say(f"3. Simulating {len(chosen):,} of {len(test_set):,} test images, which neither training "
        f"nor conversion has seen, for {wanted[-1]} time steps ...")  # fmt: skip
    test = Test(chosen, wanted, usual_batch(chosen))
    curve = measured(graph, test)
    say()
    show(report.blocks(curve, f"{source.spec} on {name}: n = {len(chosen):,} test images"))
    say()
    show((report.chart({"SNN": curve}),))
    say()
    facts = {"file": file_facts(files[0]), "dataset": name, "split": "test", "limit": limit,
             "seed": 0, "command": command}  # fmt: skip
    say(f"4. Saving.\nwrote {files[0]}")
    write_results(curve, test, facts, files[1], files[2])
    say(f"\nNext: spiking-resnet inspect {files[0]}\n"
        f"      spiking-resnet evaluate {files[0]} --steps 4,8,16 --limit 100\n"
        "      spiking-resnet convert --help      (your own network)")  # fmt: skip


def _subject(dataset: str | None, limit: int | None) -> tuple[str, Network, int | None]:
    """The data set, the network, and the number of test images."""
    root = Path(os.environ.get(DATA_VARIABLE, ""))
    weights = root / CIFAR10_WEIGHTS
    there = (root / "cifar10" / "test.npz").is_file() and weights.is_file()
    if dataset not in (None, "digits", "cifar10"):
        raise InputError(f"--dataset {dataset!r}: the demo knows digits and cifar10")
    if dataset == "cifar10" and not there:
        raise InputError(
            f"--dataset cifar10 needs {DATA_VARIABLE}, a folder with cifar10/train.npz, "
            f"cifar10/test.npz and {CIFAR10_WEIGHTS}"
        )
    if dataset == "digits" or not there:
        return "digits", network("digits_resnet8", None), limit
    found = replace(
        network("resnet20", str(weights)), normalisation=NORMALISATIONS["imagenet"]
    )  # what these weights were trained with
    return "cifar10", found, CIFAR10_IMAGES if limit is None else limit


def _tell_source(source: Network, name: str) -> None:
    """Print what the network is, and how it is converted."""
    origin = (
        "shipped with the package" if source.weights is None else f"weights: {source.weights.name}"
    )
    say(f"1. The network: {source.spec}, trained on {name}, {origin}. It is an ordinary artificial "
        "neural network (ANN): its neurons pass on real numbers.")  # fmt: skip
    say("2. Converting it with the method of Hu, Tang and Pan (hu2021): every ReLU becomes a "
        "neuron that adds up its input and sends a spike at its threshold ...")  # fmt: skip
