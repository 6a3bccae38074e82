"""What few steps of differential spikes cost on a CPU, in forward passes of the ANN.

    python benchmarks/bench_few_steps.py --data DIR
    python benchmarks/bench_few_steps.py --data DIR --steps 16 --levels 1

ResNet-20 of CIFAR-10 (../weights/cifar10_resnet20_akamaster.pt of --data) and its network of
differential neurons, in turns on the same test images. The unit is one fp32 forward pass in PyTorch
(channels-last, the same threads and batch). Best and median of the turns.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from spiking_resnet import ann, convert, simulate
from spiking_resnet.conversion.methods import differential
from spiking_resnet.environment import hardware
from spiking_resnet.files import write_whole

WEIGHTS, NORMALISATION = "weights/cifar10_resnet20_akamaster.pt", "imagenet"


def timed(function):
    begin = perf_counter()
    function()
    return perf_counter() - begin


def measured(options):
    """The row of a table: seconds of both, and their ratio."""
    training, test = (ann.load_dataset("cifar10", part, options.data) for part in ("train", "test"))
    model = ann.load(options.data / WEIGHTS).model.eval()
    method = differential(steps=options.steps, levels=options.levels)
    spiking = convert(model, training.loader(100, 500, NORMALISATION), method)
    images, _ = next(iter(test.loader(options.batch, options.batch, NORMALISATION)))
    fast = model.to(memory_format=torch.channels_last)
    frames = images.contiguous(memory_format=torch.channels_last)
    passes, runs = [], []
    with torch.inference_mode():
        fast(frames)
        found = simulate(spiking, images, options.steps)
        for _ in range(options.repeats):
            passes.append(timed(lambda: fast(frames)))
            runs.append(timed(lambda: simulate(spiking, images, options.steps)))
    return {
        "steps": options.steps, "levels": options.levels, "batch": options.batch,
        "engine": found.engine, "exact": found.exact,
        "pass_seconds": median(passes), "run_seconds": median(runs),
        "passes": median(runs) / median(passes), "best_passes": min(runs) / min(passes),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also written there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    row = measured(options)
    print(
        f"{hardware()}\nT = {row['steps']}, {row['levels']} sizes, batch {row['batch']}: "
        f"{row['passes']:.2f} forward passes (best {row['best_passes']:.2f}), "
        f"a pass {1e3 * row['pass_seconds']:.0f} ms, engine {row['engine']}"
    )
    if options.json:
        write_whole(options.json, json.dumps({"hardware": hardware(), "row": row}).encode())


if __name__ == "__main__":
    main()
