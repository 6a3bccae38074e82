"""What networks with signed streams cost on a CPU: residual sums without ReLU, linear bottlenecks.

    python benchmarks/bench_streams.py --data DIR
    python benchmarks/bench_streams.py --network mobilenet_v2

Values between populations that are no spikes are read by convolutions and gains as numbers of 16
bits (docs/architecture.md). The unit is one fp32 forward pass of the ANN in PyTorch (channels-last,
the same threads and batch), measured in turns with the simulations; a dense simulator pays one for
each time step. Time is the processor's, of all threads, so that other programs disturb less.

linear: ../weights/cifar10_resnet20_karanchahal.pt of --data (a ResNet-20 without ReLU after its
sums) on CIFAR-10. The others have random weights and the BatchNorm statistics of random images:
wide (a pre-activation ResNet of 160, 320 and 640 channels), mobilenet_v2 (torchvision) and
efficientnet_lite0 (timm), these two at 224 pixels. --old: streams that are read as they are, by
weights in float64, as in files of earlier versions.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import process_time

import torch
from torch import nn

from spiking_resnet import ann, convert, simulate
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes import snap
from spiking_resnet.environment import hardware
from spiking_resnet.files import write_whole

SETTINGS = {  # time steps, images
    "linear": (64, 16),
    "wide": (64, 16),
    "mobilenet_v2": (16, 2),
    "efficientnet_lite0": (16, 2),
}


class PreActivated(nn.Module):
    """BatchNorm, ReLU and 3x3 convolution, twice, beside a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(),
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )  # fmt: skip
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        return self.layers(x) + self.shortcut(x)


def wide():
    """A pre-activation ResNet-20 of ten times the usual channels."""
    widths = [160, 160, 160, 160, 320, 320, 320, 640, 640, 640]
    blocks = [
        PreActivated(inputs, outputs, 1 + (outputs > inputs))
        for inputs, outputs in pairwise(widths)
    ]
    ends = (nn.BatchNorm2d(640), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(640, 10))
    return nn.Sequential(nn.Conv2d(3, 160, 3, padding=1, bias=False), *blocks, *ends)


def mobilenet_v2():
    """MobileNetV2 of torchvision."""
    from torchvision.models import mobilenet_v2

    return mobilenet_v2(weights=None, dropout=0.0)


def efficientnet_lite0():
    """EfficientNet-Lite0 of timm."""
    import timm

    return timm.create_model("efficientnet_lite0", pretrained=False)


def material(name, data, batch):
    """(network, images to calibrate on, images to simulate)."""
    torch.manual_seed(0)
    if name == "linear":
        model = ann.load(Path(data, "weights", "cifar10_resnet20_karanchahal.pt")).model
        held = ann.load_dataset("cifar10", "train", data=data)
        shown = ann.load_dataset("cifar10", "test", data=data)
        loaders = (each.loader(n, limit=n) for each, n in ((held, 256), (shown, batch)))
        calibration, images = (next(iter(loader))[0] for loader in loaders)
        return model.eval(), calibration, images
    size = 32 if name == "wide" else 224
    model = {"wide": wide, "mobilenet_v2": mobilenet_v2, "efficientnet_lite0": efficientnet_lite0}
    made = model[name]()
    coarse = nn.functional.interpolate(torch.randn(32 + batch, 3, 8, 8), size, mode="bilinear")
    images = coarse + 0.3 * torch.randn_like(coarse)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        made.train()(images[:16])
    return made.eval(), images[16:32], images[32:]


def timed(function):
    begin = process_time()
    function()
    return process_time() - begin


def measured(name, options):
    """A row: what a simulation costs, in forward passes a time step."""
    steps, batch = SETTINGS[name]
    model, calibration, images = material(name, options.data, batch)
    # as torch's own networks with many channels need it: a threshold for each
    method = hu2021(steps=steps, per_channel=name != "linear", compensation=1.0)
    spiking = convert(model, calibration, method)
    fast = model.to(memory_format=torch.channels_last)
    frames = images.contiguous(memory_format=torch.channels_last)
    passes, runs = [], []
    with torch.inference_mode():
        fast(frames)
        found = simulate(spiking, images, steps)
        for _ in range(options.repeats):
            passes += [timed(lambda: fast(frames)) for _ in range(5)]
            runs.append(timed(lambda: simulate(spiking, images, steps)))
        row = {
            "network": name, "steps": steps, "batch": batch, "engine": found.engine,
            "exact": found.exact, "pass_seconds": median(passes), "run_seconds": median(runs),
            "passes_a_step": median(runs) / median(passes) / steps,
            "best_passes_a_step": min(runs) / min(passes) / steps,
        }  # fmt: skip
    if options.check:
        few, layers = images[:1], list(spiking.neurons)
        one, other = (
            simulate(spiking, few, steps, engine=engine, neurons=layers)
            for engine in ("interpreter", "auto")
        )
        row["differing"] = sum(
            int((one.neuron_spikes[name] != other.neuron_spikes[name]).sum()) for name in layers
        )
    print(
        f"{name:<20} T = {steps}, batch {batch}: {row['passes_a_step']:.2f} forward passes a step "
        f"(best {row['best_passes_a_step']:.2f}), a pass {1000 * row['pass_seconds']:.0f} ms"
        + (f", {row['differing']} differing spike counts" if options.check else ""),
        flush=True,
    )
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=".", help="CIFAR-10 and weights/ (for linear)")
    parser.add_argument("--network", choices=SETTINGS, action="append", help="default: all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--old", action="store_true", help="streams in float64")
    parser.add_argument("--check", action="store_true", help="compare with the interpreter")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.old:
        snap.number_grids = lambda *_: {}
    print(hardware())
    rows = [measured(name, options) for name in options.network or SETTINGS]
    if options.json:
        write_whole(options.json, json.dumps({"hardware": hardware(), "rows": rows}).encode())


if __name__ == "__main__":
    main()
