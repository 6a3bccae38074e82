"""What one conversion costs on a CPU: seconds of processor time, and peak memory.

    python benchmarks/convert_cost.py --network resnet50 --pixels 224 --images 32 --method hu2021
    python benchmarks/convert_cost.py --method calibrated --steps 8 --json
    python benchmarks/convert_cost.py --all

The network is one of torchvision's or a CIFAR ResNet (resnet20, ...) with random weights and the
BatchNorm statistics of some images, the images are random numbers, and every conversion runs in a
process of its own, with one thread (--threads); of several (--repeat) the one of the median time is
told. Seconds are user and system time of `convert` alone, in all and by part, beside a forward pass
over the images, and how long one waits for both; memory is the largest resident set of the process,
and what of it was there before (libraries, weights and a forward pass). --all: the conversions in
CASES, and then what a simulation of one image costs, and how much of that is spent in the compiled
kernels.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import warnings
from contextlib import contextmanager
from time import perf_counter, process_time

PARTS = {  # shown name: module and function whose time it is
    "tracing": ("spiking_resnet.conversion.convert", "trace"),
    "check of logits": ("spiking_resnet.conversion.convert", "_compare"),
    "measuring": ("spiking_resnet.conversion.statistics", "measure"),
}


CASES = (  # network, pixels, images, method, steps
    ("resnet20", 32, 512, "calibrated", 32),
    ("mobilenet_v2", 224, 16, "differential", None),
    ("resnet50", 224, 100, "hu2021", None),
)
SIMULATED = (("tiny", 28), ("resnet20", 32))  # network and pixels, of one image
MOST_AT_ONCE = 16  # images in a forward pass


def peak():
    """The largest resident set of this process so far, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@contextmanager
def timed(seconds):
    """Adds the processor time of every part's calls to `seconds` while it is open."""

    def wrapped(part, plain):
        def call(*args, **options):
            begin = process_time()
            try:
                return plain(*args, **options)
            finally:
                seconds[part] = seconds.get(part, 0) + process_time() - begin

        return call

    changed = []
    for part, (home, name) in PARTS.items():
        plain = getattr(sys.modules[home], name)
        for module in [one for key, one in sys.modules.items() if key.startswith("spiking_")]:
            if vars(module).get(name) is plain:
                setattr(module, name, wrapped(part, plain))
                changed.append((module, name, plain))
    yield
    for module, name, plain in changed:
        setattr(module, name, plain)


def made(name, images):
    """A network of random weights, with the BatchNorm statistics of some images."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if name == "tiny":
        layers = (nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        side = -(-images.shape[-1] // 4)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * side**2, 10)).eval()
    if images.shape[-1] == 32 and name.startswith("resnet"):
        from spiking_resnet import ann

        network = ann.build(name)
    else:
        from torchvision import models

        network = getattr(models, name)(weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(images[:MOST_AT_ONCE])
    return network.eval()


def forward(network, images):
    """Seconds of a forward pass over the images: of processors, and of waiting."""
    import torch

    with torch.no_grad():
        network(images[:MOST_AT_ONCE])
        begin, since = process_time(), perf_counter()
        for part in images.split(MOST_AT_ONCE):
            network(part)
    return process_time() - begin, perf_counter() - since


def simulated(name, pixels, steps=64, times=20):
    """Milliseconds of a simulation of one image: the median, in all and in the kernels."""
    import torch

    from spiking_resnet import convert, simulate
    from spiking_resnet.engines.cpu import library

    torch.set_num_threads(1)
    images = torch.rand(50, 3, pixels, pixels)
    graph = convert(made(name, images), images)
    inside, plain = [0.0], library.call

    def call(*arguments):
        begin = process_time()
        plain(*arguments)
        inside[0] += process_time() - begin

    found = []
    for _ in range(times + 1):
        library.call, inside[0], begin = call, 0.0, process_time()
        simulate(graph, images[:1], steps)
        found.append((process_time() - begin, inside[0]))
    library.call = plain
    return [1e3 * seconds for seconds in sorted(found[1:])[times // 2]]


def cost(options):
    """One conversion in this process."""
    import torch

    from spiking_resnet import convert
    from spiking_resnet.conversion.methods import named
    from spiking_resnet.environment import hardware
    from spiking_resnet.store import digest

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    images = torch.randn(options.images, 3, options.pixels, options.pixels)
    network = made(options.network, images)
    passed, passed_wall = forward(network, images)
    method = named(options.method, **({} if options.steps is None else {"steps": options.steps}))
    parts = {}
    before, begin, since = peak(), process_time(), perf_counter()
    with warnings.catch_warnings(), timed(parts):
        warnings.simplefilter("ignore")
        graph = convert(network, images, method)
    seconds, wall = process_time() - begin, perf_counter() - since
    return {
        "network": options.network,
        "pixels": options.pixels,
        "images": options.images,
        "method": method.describe(),
        "seconds": seconds,
        "forward": passed,
        "wall": wall,
        "forward_wall": passed_wall,
        "parts": {**parts, "the rest": seconds - sum(parts.values())},
        "peak_mb": peak(),
        "before_mb": before,
        "digest": digest(graph),
        "hardware": hardware(),
    }


def in_a_process(options):
    """`cost`, in a process of its own."""
    shown = [f"--{name}={getattr(options, name)}" for name in ("network", "pixels", "images")]
    shown += [f"--method={options.method}", f"--threads={options.threads}", "--here"]
    shown += [] if options.steps is None else [f"--steps={options.steps}"]
    done = subprocess.run(
        [sys.executable, __file__, *shown],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
    )
    return json.loads(done.stdout)


def main():
    """Print the cost of a conversion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet50", help="a classifier of torchvision.models")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--method", default="hu2021", help="a method's name")
    parser.add_argument("--steps", type=int, help="T that it is made for (its own default)")
    parser.add_argument("--all", action="store_true", help="the conversions in CASES, and more")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1, help="conversions, one after another")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(cost(options)))
        return
    names = "network", "pixels", "images", "method", "steps"
    cases = CASES if options.all else [tuple(getattr(options, name) for name in names)]
    for case in cases:
        vars(options).update(zip(names, case, strict=True))
        found = sorted((in_a_process(options) for _ in range(options.repeat)), key=seconds_of)
        show(found[(len(found) - 1) // 2], options)
    for name, pixels in SIMULATED if options.all else ():
        whole, inside = simulated(name, pixels)
        print(f"{name}, one image, T = 64: {whole:.1f} ms, {inside:.1f} in the kernels")


def show(result, options):
    """Print what a conversion costs."""
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{options.network}, {options.pixels} pixels, {options.images} images, {options.method}")
    both = {"in all": result["seconds"], "a forward pass": result["forward"]}
    for part, seconds in {**result["parts"], **both}.items():
        print(f"  {part:16} {seconds:7.1f} s of processor time")
    for part, key in (("waited", "wall"), ("for a pass", "forward_wall")):
        print(f"  {part:16} {result[key]:7.1f} s, {options.threads} threads")
    print(f"  {'peak memory':16} {result['peak_mb']:7.0f} MB, {result['before_mb']:.0f} before")


def seconds_of(result):
    """What results are ordered by."""
    return result["seconds"]


if __name__ == "__main__":
    main()
