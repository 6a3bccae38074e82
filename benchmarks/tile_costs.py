"""What the kernel of tiles (AMX) has to do, layer by layer: on any processor with AVX-512.

    python benchmarks/tile_costs.py --data DIR
    python benchmarks/tile_costs.py --data DIR --steps 4 --levels 4

No processor with AMX is needed, and none is timed. The kernel is compiled with tile operations that
only count themselves. A product of two tiles takes the matrix unit 16 cycles, a load of a tile two
load ports 8, a store 16 (Intel, Optimization Reference Manual, chapter on AMX); the unit's limit
are 1,024 multiply-adds of bytes a cycle, where weights of 16 bits are two planes of bytes. What is
left is measured: bits to bytes, sums of planes, neurons and their spikes, on one thread of this
processor, beside the kernels that it has itself. Results: docs/results.md, "Tiles, counted".
"""

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import torch
from bench_cpu import resnet18

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import differential, hu2021
from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.kernels import Call, Kernel
from spiking_resnet.environment import hardware
from spiking_resnet.evaluation.reproduce import NETWORKS, materials

NATIVE = Path(library.__file__).parent / "native"
PRODUCT, LOAD, STORE = 16, 8, 16  # cycles of a tile's
MULTIPLY_ADDS = 1024  # a cycle
FLAGS = ["-O3", "-std=c++17", "-pthread", "-fvisibility=hidden", "-shared", "-fPIC", "-w"]


@dataclass
class Layer:
    """Populations of one shape together, in a step of an image; from limit to stores: cycles."""

    shape: str
    number: int = 0
    limit: float = 0.0
    products: float = 0.0
    loads: float = 0.0
    stores: float = 0.0
    rest: float = 0.0  # microseconds, at best
    own: float = 0.0  # those of this processor's own kernel


def shape_of(call: Call) -> str:
    """A population and the convolutions that reach it, in words."""
    p = call.population
    inputs = []
    for source in call.sources[: call.number]:
        size = f"{source.kernel_height} x {source.kernel_width}"
        stride = f", stride {source.stride_height}" if source.stride_height > 1 else ""
        what = "itself" if source.identity else f"{source.channels} ({size}{stride})"
        inputs.append(what)
    reached = " + ".join(inputs) or "a current"
    return f"{p.channels} at {p.height} x {p.width} from {reached}"


def multiply_adds(call: Call) -> int:
    """Those of bytes that a step of an image needs, of the synapses that padding cuts off, too:
    twice as many as there are synapses, unless a byte holds all weights.
    """
    p, inner, planes = call.population, 0, 1
    for source in call.sources[: call.number]:
        if source.identity:
            continue
        own = source.kernel_height * source.kernel_width * source.channels // source.groups
        inner += own
        weights = (ctypes.c_int32 * (p.channels * own)).from_address(source.weights)
        if min(weights) < -128 or max(weights) > 127:
            planes = 2
    return planes * p.channels * p.height * p.width * inner


class Watch:
    """Notes what every call of a kernel takes, by shape, while it is in place."""

    def __init__(self, counting: bool) -> None:
        self.layers: dict[str, Layer] = {}
        self._run, self._counting = Call.run, counting
        self._counts = (ctypes.c_int64 * 3)()

    def __enter__(self) -> "Watch":
        def run(call: Call, kernel: Kernel, threads: int) -> None:
            begin = perf_counter()
            self._run(call, kernel, threads)
            self._note(call, perf_counter() - begin)

        Call.run = run
        if self._counting:
            library.kernels().tiles_counted(self._counts)
        return self

    def __exit__(self, *_: object) -> None:
        Call.run = self._run

    def _note(self, call: Call, seconds: float) -> None:
        extent = call.population.images * call.population.steps
        layer = self.layers.setdefault(shape_of(call), Layer(shape_of(call)))
        layer.number += 1
        layer.limit += multiply_adds(call) / MULTIPLY_ADDS
        layer.rest += seconds * 1e6 / extent
        if self._counting:
            library.kernels().tiles_counted(self._counts)
            products, loads, stores = (count / extent for count in self._counts)
            layer.products += PRODUCT * products
            layer.loads += LOAD * loads
            layer.stores += STORE * stores


def best(run: Callable[[], object], repeats: int, counting: bool) -> dict[str, Layer]:
    """The layers of the quickest of so many runs."""
    found = []
    run()
    for _ in range(repeats):
        with Watch(counting) as watch:
            run()
        found.append(watch.layers)
    return min(found, key=lambda layers: sum(each.rest for each in layers.values()))


def task(options: argparse.Namespace) -> Callable[[], object]:
    """A simulation."""
    if options.network == "resnet18":
        model, calibration, images = resnet18(options.data, options.batch)
    else:
        network = NETWORKS[options.network]
        model, calibration, test = materials(network, options.data, None, options.batch)
        images, _ = next(iter(test))
    few = differential(levels=options.levels or 1, steps=options.steps)
    graph = convert(model, calibration, few if options.levels else hu2021(steps=options.steps))
    return lambda: simulate(graph, images, options.steps, engine="cpu")


def measure(options: argparse.Namespace) -> list[Layer]:
    """By this processor's kernels, or with tiles that are counted: those in the library given."""
    torch.set_num_threads(1)
    counting = options.library is not None
    library.folder = options.library or library.folder
    run = task(options)
    library.kernel = "amx-twin" if counting else None
    with torch.inference_mode():
        return list(best(run, options.repeats, counting).values())


def in_a_process(options: argparse.Namespace, folder: Path | None) -> list[Layer]:
    """What `measure` finds in a process of its own, with the library in that folder, if any."""
    command = [sys.executable, __file__, "--only"]
    for name in ("data", "network", "steps", "batch", "levels", "repeats"):
        command += [f"--{name}", str(getattr(options, name))]
    if folder is not None:
        command += ["--library", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Layer(**each) for each in json.loads(done.stdout.splitlines()[-1])]


def compiled(folder: Path) -> Path:
    """The folder, with the kernels in it."""
    source = Path(__file__).with_name("tile_costs.cpp")
    made = str(folder / "_kernels.so")
    subprocess.run(["g++", *FLAGS, f"-I{NATIVE}", str(source), "-o", made], check=True)
    return folder


def report(layers: list[Layer]) -> None:
    """Print a table of them, and of all together."""
    total = Layer("all")
    for each in layers:
        for name in ("number", "limit", "products", "loads", "stores", "rest", "own"):
            setattr(total, name, getattr(total, name) + getattr(each, name))
    print(
        "| populations | how many | limit, cycles | products | loads | stores | "
        "the rest here, µs | own kernels here, µs |\n|---|---|---|---|---|---|---|---|"
    )
    for each in (*layers, total):
        share = f" ({each.limit / each.products:.0%})" if each.products else ""
        print(
            f"| {each.shape} | {each.number} | {each.limit:,.0f} | {each.products:,.0f}{share} | "
            f"{each.loads:,.0f} | {each.stores:,.0f} | {each.rest:.1f} | {each.own:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", default="resnet20", help="of bench_cpu.py")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--levels", type=int, default=0, help="sizes; 0: spikes of 0 or 1")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--library", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps([asdict(each) for each in measure(options)]))
        return
    if library.INSTRUCTION_SETS[library.kernels().machine_level()] not in ("avx512", "amx"):
        parser.error("the vectors beside tiles are those of AVX-512, which this processor lacks")
    own = {each.shape: each.rest for each in in_a_process(options, None)}
    with tempfile.TemporaryDirectory() as folder:
        layers = in_a_process(options, compiled(Path(folder)))
    layers = [each for each in layers if each.limit]
    for each in layers:
        each.own = own[each.shape]
    print(f"{options.network}, T = {options.steps}, {hardware()}, one thread; a step of an image")
    report(layers)


if __name__ == "__main__":
    main()
