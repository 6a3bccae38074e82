"""What choices of training do to the loss of conversion: one network, several trainings.

    python benchmarks/trained_for_conversion.py --data DIR --model resnet8 --epochs 8 --out FOLDER

Result, hardware and versions: docs/results.md, "Trained with conversion in mind". Every variant is
trained, converted by the paper's method on 500 training images, and tested on test images. Whatever
is in FOLDER already is not done again: stop and start as you like.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from rich.console import Console

from spiking_resnet import ann, convert, evaluate
from spiking_resnet.ann.progress import progress_bar
from spiking_resnet.ann.train import TrainConfig, train
from spiking_resnet.evaluation.reproduce import CALIBRATION_IMAGES
from spiking_resnet.files import write_whole

# What differs from the recipe: of the network, and of its training.
VARIANTS = {
    "the recipe": ({}, {}),
    "average pooling in shortcuts": ({"shortcut": "paper-average"}, {}),
    "BatchNorm momentum 0.01": ({}, {"norm_momentum": 0.01}),
    "weight decay 1e-4": ({}, {"weight_decay": 1e-4}),
    "weight decay 2e-3": ({}, {"weight_decay": 2e-3}),
    "tails 0.03": ({}, {"tails": 0.03}),
    "tails 0.1": ({}, {"tails": 0.1}),
    "tails 0.3": ({}, {"tails": 0.3}),
}


def trained(label, seed, options, path):
    """Train one variant and write its network to `path`."""
    training, test = (
        ann.load_dataset(options.dataset, split, options.data) for split in ("train", "test")
    )
    of_network, of_training = VARIANTS[label]
    model = ann.ResNetConfig(
        int(options.model.removeprefix("resnet")), training.classes, training.channels, **of_network
    )
    config = TrainConfig(
        model, options.recipe, options.epochs, seed=seed, device=options.device,
        compiled=options.compile, command=" ".join(sys.argv), **of_training,
    )  # fmt: skip
    with progress_bar(Console(stderr=True)) as progress:
        train(config, training, test, path, progress=progress)


def measured(label, seed, options):
    """What the table says of one variant: JSON-able."""
    name = "-".join("".join(c if c.isalnum() or c == "." else " " for c in label).split())
    path = options.out / f"{options.model}_{name}_{seed}.safetensors"
    result = path.with_suffix(f".{options.images}.json")
    if result.is_file():
        return json.loads(result.read_text())
    if not path.is_file() or not ann.load(path).metadata["finished"]:
        print(f"training {path.name}", file=sys.stderr)
        trained(label, seed, options, path)
    network = ann.load(path)
    training, test = (
        ann.load_dataset(options.dataset, split, options.data) for split in ("train", "test")
    )
    snn = convert(network.model, training.loader(50, CALIBRATION_IMAGES, network.normalisation))
    curve = evaluate(snn, test.loader(50, options.images, network.normalisation), options.steps)
    found = {
        "label": label, "seed": seed, "metadata": network.metadata, "curve": curve.to_json(),
    }  # fmt: skip
    write_whole(result, json.dumps(found, indent=1).encode())
    return found


def spread(values):
    """Mean and, of several, standard deviation: of shares, in percent."""
    mean = f"{100 * statistics.mean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean


def table(results):
    """Markdown: a row for every training variant, with means and deviations over its seeds.

    ANN: of all test images; loss, agreement and rate: of those that the spiking network saw.
    """
    steps = [point["steps"] for point in results[0]["curve"]["snn"]]
    heads = [f"T = {step}: {what}" for step in steps for what in ("loss", "agreement")]
    lines = [
        f"| training | seeds | ANN | {' | '.join(heads)} | firing rate | training time |",
        "|---" * (5 + len(heads)) + "|",
    ]
    for label in dict.fromkeys(found["label"] for found in results):
        own = [found for found in results if found["label"] == label]
        curves = [found["curve"] for found in own]
        cells = []
        for index in range(len(steps)):
            points = [curve["snn"][index] for curve in curves]
            losses = [
                curve["ann"]["accuracy"] - point["accuracy"]
                for curve, point in zip(curves, points, strict=True)
            ]
            cells += [spread(losses), spread([point["agreement"] for point in points])]
        accuracy = spread([found["metadata"]["accuracy"] for found in own])
        rate = spread([curve["snn"][-1]["firing_rate"] for curve in curves])
        seconds = statistics.mean(found["metadata"]["seconds"] for found in own)
        cells = [label, str(len(own)), accuracy, *cells, rate, f"{seconds:.0f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", default="0", help="by commas")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="any of these, by commas")
    parser.add_argument("--steps", default="32,350")
    parser.add_argument("--images", type=int, default=2000, help="test images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("trained_for_conversion"))
    options = parser.parse_args()
    options.steps = [int(step) for step in options.steps.split(",")]
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = [label for label in VARIANTS if label in options.variants.split(",")]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    results = [measured(label, seed, options) for label in wanted for seed in seeds]
    text = table(results)
    print(f"{text}\n\n{results[0]['curve']['hardware']}")
    write_whole(options.out / "table.md", f"{text}\n".encode())


if __name__ == "__main__":
    main()
