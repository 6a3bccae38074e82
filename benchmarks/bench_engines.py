"""What a simulation costs on each engine, in forward passes of the artificial network.

    python benchmarks/bench_engines.py --data DIR --network resnet20 --steps 64 --batch 64

Result, hardware and versions: docs/results.md, "Speed". The unit is one fp32 forward pass of the
same network in PyTorch (channels-last, the same threads and batch), measured in the same run; a
simulator that runs every layer densely at every step pays `steps` of them. Medians of repeats.
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from spiking_resnet import convert, simulate
from spiking_resnet.evaluate import hardware
from spiking_resnet.reproduce import NETWORKS, materials
from spiking_resnet.simulate import ENGINES


def seconds(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        begin = perf_counter()
        function()
        times.append(perf_counter() - begin)
    return median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", default="resnet20", choices=sorted(NETWORKS))
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    network = NETWORKS[options.network]
    model, calibration, test = materials(network, Path(options.data), None, options.batch)
    snn = convert(model, calibration)
    images, _ = next(iter(test))
    model = model.to(memory_format=torch.channels_last)
    frames = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        unit = seconds(lambda: model(frames), 5 * options.repeats)
    print(f"{options.network}, T = {options.steps}, batch {options.batch}, {hardware()}")
    print(f"one forward pass: {1000 * unit:.1f} ms")
    expected = simulate(snn, images, options.steps, engine="interpreter")
    for name, engine in ENGINES.items():
        if reasons := engine.unsupported(snn):
            print(f"{name:<12} does not run here: {reasons[0]}")
            continue
        run = simulate(snn, images, options.steps, engine=name)
        differing = sum(
            int((run.spikes[layer].spikes != count.spikes).sum())
            for layer, count in expected.spikes.items()
        )
        time = seconds(
            lambda e=name: simulate(snn, images, options.steps, engine=e), options.repeats
        )
        print(
            f"{name:<12} {time / unit:6.1f} passes   {options.batch / time:7.1f} images/s   "
            f"{differing} differing spike counts"
        )


if __name__ == "__main__":
    main()
