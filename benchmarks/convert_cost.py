"""What one conversion costs on a CPU: seconds of processor time, and peak memory.

    python benchmarks/convert_cost.py --network resnet50 --pixels 224 --images 32 --method hu2021
    python benchmarks/convert_cost.py --method calibrated --steps 8 --json

The network is one of torchvision's with random weights, the images are random numbers, and every
conversion runs in a process of its own with one thread; of several (--repeat) the one of the median
time is told. Seconds are user and system time of `convert` alone, in all and by part; memory is the
largest resident set of the process, and what of it was there before (libraries and weights).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import warnings
from contextlib import contextmanager
from time import process_time

PARTS = {  # shown name: module and function whose time it is
    "tracing": ("spiking_resnet.conversion.convert", "trace"),
    "check of logits": ("spiking_resnet.conversion.convert", "_compare"),
    "measuring": ("spiking_resnet.conversion.statistics", "measure"),
}


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


def cost(options):
    """One conversion in this process."""
    import torch
    from torchvision import models

    from spiking_resnet import convert
    from spiking_resnet.conversion.methods import named
    from spiking_resnet.environment import hardware
    from spiking_resnet.store import digest

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = getattr(models, options.network)(weights=None)
    images = torch.randn(options.images, 3, options.pixels, options.pixels)
    method = named(options.method, **({} if options.steps is None else {"steps": options.steps}))
    parts = {}
    before, begin = peak(), process_time()
    with warnings.catch_warnings(), timed(parts):
        warnings.simplefilter("ignore")
        made = convert(network, images, method)
    seconds = process_time() - begin
    return {
        "network": options.network,
        "pixels": options.pixels,
        "images": options.images,
        "method": method.describe(),
        "seconds": seconds,
        "parts": {**parts, "the rest": seconds - sum(parts.values())},
        "peak_mb": peak(),
        "before_mb": before,
        "digest": digest(made),
        "hardware": hardware(),
    }


def in_a_process(options):
    """`cost`, in a process of its own."""
    shown = [f"--{name}={getattr(options, name)}" for name in ("network", "pixels", "images")]
    shown += [f"--method={options.method}", "--here"]
    shown += [] if options.steps is None else [f"--steps={options.steps}"]
    done = subprocess.run(
        [sys.executable, __file__, *shown],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
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
    parser.add_argument("--repeat", type=int, default=1, help="conversions, one after another")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(cost(options)))
        return
    found = sorted((in_a_process(options) for _ in range(options.repeat)), key=seconds_of)
    result = found[(len(found) - 1) // 2]
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{options.network}, {options.pixels} pixels, {options.images} images, {options.method}")
    for part, seconds in {**result["parts"], "in all": result["seconds"]}.items():
        print(f"  {part:16} {seconds:7.1f} s of processor time")
    print(f"  {'peak memory':16} {result['peak_mb']:7.0f} MB, {result['before_mb']:.0f} before")


def seconds_of(result):
    """What results are ordered by."""
    return result["seconds"]


if __name__ == "__main__":
    main()
