"""Reproduce the tables of docs/results.md: each by one call, which resumes where it stopped.

A study is a list of cases: a trained network, the method's options, and the time steps to read out.
Every case is calibrated on training images and tested on test images, and its curve is written to a
JSON file of its own as soon as it is known. A case whose file is there already is not run again;
one that was stopped goes on with the images it counted.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from spiking_resnet import ann
from spiking_resnet.ann.images import Batches
from spiking_resnet.conversion import methods
from spiking_resnet.conversion.convert import convert
from spiking_resnet.evaluation.evaluate import evaluate
from spiking_resnet.evaluation.progress_file import ResumeError
from spiking_resnet.files import slug, write_whole
from spiking_resnet.processes.team import current
from spiking_resnet.progress import shown
from spiking_resnet.records import Curve, InputError

STEPS = (8, 16, 32, 64, 128, 256, 350)
CALIBRATION_IMAGES = 500
BATCH = 50


@dataclass(frozen=True)
class Network:
    """A trained network: its file below the data folder, its data set, and its normalisation.

    weights may also name a network that comes with the package. normalisation None: what the
    file says.
    """

    weights: str
    dataset: str = "cifar10"
    normalisation: str | None = "imagenet"


OTHERS = {  # trained by others
    "resnet20": Network("weights/cifar10_resnet20_akamaster.pt"),
    "resnet44": Network("weights/cifar10_resnet44_fhempcnn.pt", normalisation="cifar10"),
    "resnet56": Network("weights/cifar10_resnet56_akamaster.pt"),
    "resnet110": Network("weights/cifar10_resnet110_fhempcnn.pt", normalisation="cifar10"),
    "cifar100_resnet32": Network(
        "weights/cifar100_resnet32_fhempcnn.pt", "cifar100", normalisation="cifar100"
    ),
}
OWN = {name: Network(name, name.partition("_")[0], None) for name in ann.pretrained_names()}
NETWORKS = {**OTHERS, **OWN}
USUAL = ("resnet20", "resnet56")  # of a study that names none


@dataclass(frozen=True)
class Case:
    """One row of a table: its label, and options of the method `hu2021`.

    curve: what it is called in the study's figure; None: the same; empty: it is not drawn.
    """

    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[int, ...] = STEPS
    curve: str | None = None


def _shortcut_cases() -> tuple[Case, ...]:
    return tuple(
        Case(
            f"{'converted' if converted else 'unconverted'} shortcuts, "
            f"v0 = {'θ/2' if initial else '0'}, "
            f"compensation {'searched' if compensation == 'search' else 'off'}",
            {
                "shortcut_conversion": converted,
                "initial_potential": initial,
                "compensation": compensation,
            },
            curve=""
            if compensation == "search"
            else f"{'converted' if converted else 'unconverted'}, v0 = {'θ/2' if initial else '0'}",
        )
        for converted in (True, False)
        for initial in (0.5, 0.0)
        for compensation in (1.0, "search")
    )


STUDIES: dict[str, tuple[Case, ...]] = {
    # The paper's two ideas: shortcut conversion and compensation, and the initial potential.
    "shortcuts": _shortcut_cases(),
    # Every other choice the method leaves open, one changed at a time.
    "choices": (
        Case("defaults"),
        Case("percentile 99", {"percentile": 99.0}),
        Case("percentile 99.99", {"percentile": 99.99}),
        Case("maximum", {"percentile": 100.0}),
        Case("per channel", {"per_channel": True}),
        Case("per channel, 99.99", {"per_channel": True, "percentile": 99.99}),
        Case("reset to zero", {"reset": "zero"}),
        Case("membrane read-out", {"readout": "membrane"}),
        Case("no neurons after the pool", {"pool_neurons": False}),
        Case("both of these", {"pool_neurons": False, "readout": "membrane"}),
        Case(
            "per channel, both of these",
            {"per_channel": True, "pool_neurons": False, "readout": "membrane"},
        ),
        Case("poisson input", {"input_coding": "poisson"}),
    ),
    # The choices that the deeper network gains most from.
    "best": (
        Case("percentile 99.99", {"percentile": 99.99}),
        Case("maximum", {"percentile": 100.0}),
        Case("99.99, compensation searched", {"percentile": 99.99, "compensation": "search"}),
        Case("per channel, 99.99", {"per_channel": True, "percentile": 99.99}),
    ),
    # The paper's own question: how deep a network may be. For the networks of the package.
    "depths": (Case("hu2021, as convert has it", {"sum_bits": 16}),),
    # What the grid that makes simulation exact does to accuracy.
    "grid": (
        Case("no grid", {"grid": None}, STEPS[:5]),
        *(
            Case(f"grid of at most {bits} bits", {"grid": bits}, STEPS[:5])
            for bits in (14, 12, 10, 8, 6)
        ),
    ),
    # The same for the sums of a step: 16 bits are what convert takes.
    "widths": (
        Case("fine grid, sums of 24 bits", {}, STEPS[:5]),
        Case("sums of 16 bits", {"sum_bits": 16}, STEPS[:5]),
        Case("sums of 16 bits, grid of at most 10", {"sum_bits": 16, "grid": 10}, STEPS[:5]),
    ),
}


def usual_networks(study: str) -> tuple[str, ...]:
    """The networks of a study where none are named."""
    return tuple(OWN) if study == "depths" else USUAL


def run(
    study: str,
    data: str | Path,
    out: str | Path,
    networks: Sequence[str] | None = None,
    images: int | None = None,
    tell: Callable[[str], None] = print,
    engine: str = "auto",
) -> Iterator[dict[str, Any]]:
    """Run a study; yields the result of every case: {network, label, options, images, curve}.

    data: the folder of data sets and weights. networks: None takes `usual_networks`. out: where the
    JSON files go. images: the number of test images, a fixed random subset (None: all); a smaller
    run's images are among a larger one's. tell: called with a line of progress now and then.
    """
    if study not in STUDIES:
        raise InputError(f"there is no study {study!r}: one of {', '.join(STUDIES)}")
    networks = usual_networks(study) if networks is None else networks
    for name in networks:
        if name not in NETWORKS:
            raise InputError(f"there is no network {name!r}: one of {', '.join(NETWORKS)}")
        for case in STUDIES[study]:
            count = "all" if images is None else str(images)
            path = Path(out) / f"{study}_{name}_{count}_{slug(case.label)}.json"
            counted = path.with_suffix(".progress")
            result = _known(path)
            if result is None:
                tell(f"{name}: {case.label}")
                network = NETWORKS[name]
                place = f"case {STUDIES[study].index(case) + 1} of {len(STUDIES[study])} of {name}"
                made = network, name, case, Path(data), images, tell, engine, counted, place
                result = _run_case(*made)
                write_whole(path, json.dumps(result, indent=1, allow_nan=False).encode())
            if current().first:
                counted.unlink(missing_ok=True)
            yield result


def _known(path: Path) -> dict[str, Any] | None:
    """The result of a case from its file, read by the first process; None where it is not there."""
    return current().handed(
        lambda: _read(path) if path.is_file() else None,
        lambda found: json.dumps(found).encode(),
        json.loads,
    )


def _read(path: Path) -> dict[str, Any]:
    """The result of a case from its file."""
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        Curve.from_json(result["curve"], "curve")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to run its case again") from error
    return result


def materials(
    network: Network, data: Path, images: int | None, batch: int = BATCH
) -> tuple[nn.Module, Batches, Batches]:
    """(trained model, batches of 500 training images, batches of `images` test images).

    images: None takes all; fewer are a fixed random choice. batch: test images in one batch.
    """
    training = ann.load_dataset(network.dataset, "train", data)
    test = ann.load_dataset(network.dataset, "test", data)
    found = loaded(network, data)
    normalisation = network.normalisation or found.normalisation
    calibration = training.loader(BATCH, CALIBRATION_IMAGES, normalisation)
    return found.model, calibration, test.loader(batch, images, normalisation)


def loaded(network: Network, data: Path) -> ann.LoadedNetwork:
    """A network with its weights: of the package, or from a file below the data folder."""
    named = network.weights in ann.pretrained_names()
    return ann.pretrained(network.weights) if named else ann.load(data / network.weights)


def _run_case(
    network: Network,
    name: str,
    case: Case,
    data: Path,
    images: int | None,
    tell: Callable[[str], None],
    engine: str,
    counted: Path,
    place: str,
) -> dict[str, Any]:
    """Convert one network on training images and evaluate it on test images.

    counted: its progress file. place: which case of the study it is.
    The studies are about methods: their grid is fine unless the case says otherwise.
    """
    model, calibration, loader = materials(network, data, images)
    graph = convert(model, calibration, methods.hu2021(**{"sum_bits": 24, **case.options}))
    total = len(loader.data)

    def progress(done: int, right: int) -> None:
        bar.images(done, right)
        if done % 500 == 0 or done == total:
            tell(f"  {done} of {total} images, {100 * right / done:.2f} % right")

    def curve_of_all() -> Curve:
        return evaluate(graph, loader, case.steps, engine=engine, progress=progress, resume=counted)

    with shown(None, case.label, total, plan=f"{total:,} images, {place}") as bar:
        try:
            curve = curve_of_all()
        except ResumeError:  # counted by another version, or on another engine
            if current().first:
                counted.unlink()
            curve = curve_of_all()
    return {
        "network": name,
        "label": case.label,
        "options": dict(case.options),
        "images": total,
        "curve": curve.to_json(),
    }


def curves(study: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """The curves of a study's figure, by their labels."""
    names = {case.label: case.curve for case in STUDIES[study]}
    found: dict[str, Curve] = {}
    for result in results:
        name = names[result["label"]]
        if name != "":
            found[name or result["label"]] = Curve.from_json(result["curve"])
    return found
