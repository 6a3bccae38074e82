"""What a simulation costs on a CPU: this engine, the others of this package, and its peers.

    pip install -e '.[bench]'        # SpikingJelly, sinabs and snnTorch
    python benchmarks/bench_cpu.py --data DIR --network resnet20
    python benchmarks/bench_cpu.py --data DIR --network resnet18 --batch 4
    python benchmarks/bench_cpu.py --data DIR --sweep steps

Everything runs on the same images and the same weights, in turns, so that what disturbs the machine
disturbs all; figures are medians of the turns. The unit is one fp32 forward pass of the
ANN in PyTorch (channels-last, the same threads and batch): a simulator that runs every layer
densely at every step pays `steps` of them. Peak memory (--memory) is what one run adds to the
resident set of a process of its own. The peers get the network as a module made of nn.Conv2d,
nn.ReLU and nn.Linear with batch normalisation folded, and are used as their own documentation does;
for each, the best of its settings counts. ResNet-18 (224 pixels) has random weights and BatchNorm
statistics of real images. Results with hardware and versions: docs/results.md, "Speed on a CPU".
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, models

from spiking_resnet import convert, simulate
from spiking_resnet.ann.resnet import build
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.engines.cpu import kernels, library
from spiking_resnet.engines.cpu.as_convolution import without_moves
from spiking_resnet.environment import hardware
from spiking_resnet.evaluation.reproduce import NETWORKS, materials
from spiking_resnet.files import write_whole
from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Conv2d,
    Fire,
    Flatten,
    Input,
    Linear,
    MaxPool,
    Output,
    Pad,
    ReLU,
    Slice,
)

SWEEPS = {
    "steps": [8, 16, 32, 64, 128, 256, 512],
    "batch": [1, 2, 4, 8, 16, 32, 64, 128],
    "depth": [20, 32, 44, 56, 110],
    "threads": [1, 2],
}


class Modular(nn.Module):
    """A graph as a module of single layers, which other tools can convert; neuron: what to put for
    ReLU and Fire nodes."""

    def __init__(self, graph, neuron):
        super().__init__()
        self.plan = []
        for node in graph.nodes:
            name, inputs = node.name.replace(".", "_"), node.inputs
            if isinstance(node, Affine):  # gains of spikes cut out and padded: 1x1 convolutions
                node = without_moves(graph, node)
            elif isinstance(node, Pad):
                if all(isinstance(reader, Affine) for reader in graph.consumers[node.name]):
                    continue
                one = torch.ones(())
                gain = Affine(name=node.name, inputs=(node.name,), shape=node.shape, scale=one)
                node = without_moves(graph, gain)
            if isinstance(node, Conv2d):
                inputs = node.inputs
                if any(size < 0 for size in node.padding):
                    raise ValueError(f"{name}: cut off at the edge")
                layer = nn.Conv2d(
                    node.weight.shape[1] * node.groups, node.weight.shape[0],
                    node.weight.shape[2:], node.stride, node.padding, node.dilation, node.groups,
                )  # fmt: skip
                layer.weight.data = node.weight.float().clone()
                bias = torch.zeros(node.weight.shape[0]) if node.bias is None else node.bias
                layer.bias.data = bias.float().clone()
            elif isinstance(node, Linear):
                layer = nn.Linear(node.weight.shape[1], node.weight.shape[0])
                layer.weight.data = node.weight.float().clone()
                bias = torch.zeros(node.weight.shape[0]) if node.bias is None else node.bias
                layer.bias.data = bias.float().clone()
            elif isinstance(node, Affine):
                size = node.shape[0]
                layer = nn.Conv2d(size, size, 1, groups=size, bias=False)
                layer.weight.data = node.scale.float().expand(size).reshape(-1, 1, 1, 1).clone()
            elif isinstance(node, ReLU | Fire):
                layer = neuron()
            elif isinstance(node, AvgPool):
                layer = nn.AvgPool2d(node.kernel, node.stride, node.padding)
            elif isinstance(node, MaxPool):
                layer = nn.MaxPool2d(node.kernel, node.stride, node.padding)
            elif isinstance(node, Flatten):
                layer = nn.Flatten()
            elif isinstance(node, Add):
                layer = None
            elif isinstance(node, Input | Output | Slice):
                continue
            else:
                layer = nn.Identity()  # rounding to the grid
            if layer is not None:
                setattr(self, name, layer)
            self.plan.append((node.name, name, inputs, layer is None))
        self.first, self.last = graph.input.name, graph.output.inputs[0]

    def forward(self, x):
        values = {self.first: x}
        for name, attribute, inputs, is_sum in self.plan:
            if is_sum:
                total = values[inputs[0]]
                for other in inputs[1:]:
                    total = total + values[other]
                values[name] = total
            else:
                values[name] = getattr(self, attribute)(values[inputs[0]])
        return values[self.last]


def spikingjelly(task, mode):
    """ann2snn in single-step mode (channels-last), or multi-step."""
    from spikingjelly.activation_based import ann2snn, functional

    recipe = ann2snn.RateCodingRecipe(task.calibration, mode="99.9%")
    snn = ann2snn.Converter(recipe).convert(Modular(task.ann, nn.ReLU).eval()).eval()
    functional.set_step_mode(snn, mode)
    images = task.images.contiguous(memory_format=torch.channels_last)

    def run():
        functional.reset_net(snn)
        if mode == "m":
            return snn(task.images.expand(task.steps, *task.images.shape)).mean(0)
        return sum(snn(images) for _ in range(task.steps)) / task.steps

    return run


def sinabs(task, many):
    """from_model on the normalised network; many: images whose steps run as one batch."""
    from sinabs.from_torch import from_model

    snn = from_model(Modular(task.spiking, nn.ReLU), num_timesteps=task.steps, min_v_mem=None)
    snn = snn.spiking_model.eval()

    def run():
        parts = []
        for part in task.images.split(many):
            for layer in snn.modules():
                if hasattr(layer, "reset_states"):
                    layer.reset_states()
            out = snn(part.repeat_interleave(task.steps, 0))
            parts.append(out.unflatten(0, (len(part), task.steps)).mean(1))
        return torch.cat(parts)

    return run


def snntorch(task):
    """A loop over Leaky(beta = 1) neurons on the normalised network."""
    import snntorch as st

    def neuron():
        return st.Leaky(beta=1.0, init_hidden=True, reset_mechanism="subtract")

    snn = Modular(task.spiking, neuron).eval()
    images = task.images.contiguous(memory_format=torch.channels_last)

    def run():
        for layer in snn.modules():
            if isinstance(layer, st.Leaky):
                layer.reset_mem()
        return sum(snn(images) for _ in range(task.steps)) / task.steps

    return run


class Task:
    """A network, its images, and everybody who can simulate it."""

    def __init__(self, options):
        torch.set_num_threads(options.threads)
        self.steps, data = options.steps, Path(options.data)
        if options.network == "resnet18":
            self.model, self.calibration, self.images = resnet18(data, options.batch)
        else:
            found = materials(NETWORKS[options.network], data, None, options.batch)
            self.model, self.calibration, test = found
            self.images, _ = next(iter(test))
        self.spiking = convert(self.model, self.calibration, hu2021(steps=options.steps))
        self.fine = convert(
            self.model, self.calibration, hu2021(steps=options.steps, grid=14, sum_bits=24)
        )
        self.ann = fold_bn(trace(self.model, tuple(self.images.shape[1:])))
        fast = self.model.to(memory_format=torch.channels_last).eval()
        frames = self.images.contiguous(memory_format=torch.channels_last)
        self.runs = {"forward pass": lambda: lambda: fast(frames)}
        for label, graph, engine in (
            ("cpu, 16-bit sums", self.spiking, "cpu"),
            ("cpu, fine grid", self.fine, "cpu"),
            ("layerwise (torch, time-parallel)", self.spiking, "layerwise"),
            ("interpreter (torch loop)", self.spiking, "interpreter"),
        ):
            self.runs[label] = lambda g=graph, e=engine: (
                lambda: simulate(g, self.images, self.steps, engine=e)
            )
        self.runs["SpikingJelly, single-step"] = lambda: spikingjelly(self, "s")
        self.runs["SpikingJelly, multi-step"] = lambda: spikingjelly(self, "m")
        self.runs["sinabs"] = lambda: sinabs(self, 1 if options.network == "resnet18" else 4)
        self.runs["snnTorch"] = lambda: snntorch(self)


def resnet18(data, batch):
    """torchvision's ResNet-18, its BatchNorm statistics those of 32 real images."""
    torch.manual_seed(0)
    model = models.resnet18(weights=None)
    prepare = models.ResNet18_Weights.DEFAULT.transforms()
    frames = datasets.ImageFolder(str(data / "imagenet" / "one_per_class"), prepare)
    judged = datasets.ImageFolder(str(data / "imagenet" / "contest"), prepare, allow_empty=True)
    shown = torch.stack([frames[i][0] for i in range(0, 1000, 32)])
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
        model.train()(shown)
    loader = DataLoader(Subset(frames, range(5, 1000, 40)), 25)
    apart = len(judged) // batch
    images = torch.stack([judged[i * apart][0] for i in range(batch)])
    return model.eval(), loader, images


def timed(function):
    begin = perf_counter()
    function()
    return perf_counter() - begin


def peak_memory(options, label):
    """MB that one run adds to the resident set of a process that has everything ready."""
    command = [sys.executable, __file__, "--only", label]
    for name in ("data", "network", "steps", "batch", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def resident(field):
    """MB of this process: now (VmRSS), or at its peak since that was last reset (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def only(options):
    """Print what a single run of one simulator adds to the memory of this process."""
    task = Task(options)
    with torch.inference_mode():
        run = task.runs[options.only]()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what conversion has left
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now
        before = resident("VmRSS")
        run()
    print(resident("VmHWM") - before)


def compare(options):
    """Everybody on one network; a row for each."""
    task = Task(options)
    print(f"{options.network}, T = {options.steps}, batch {options.batch}, {hardware()}")
    print(", ".join(f"{name} {installed(name)}" for name in ("spikingjelly", "sinabs", "snntorch")))
    runs = {}
    with torch.inference_mode():
        for label, make in task.runs.items():
            if options.own and label.split(",")[0].split(" (")[0] not in (
                "forward pass", "cpu", "layerwise", "interpreter",
            ):  # fmt: skip
                continue
            try:
                run = make()
                run()  # once, to warm up
            except Exception as error:
                print(f"{label:<34} does not run: {type(error).__name__}: {str(error)[:120]}")
                continue
            runs[label] = run
        times = {label: [] for label in runs}
        for _ in range(options.repeats):
            for label, run in runs.items():
                often = {"forward pass": 5, "cpu, 16-bit sums": 3, "cpu, fine grid": 3}.get(
                    label, 1
                )
                times[label] += [timed(run) for _ in range(often)]
        mismatches = differences(task, ("cpu", "layerwise"))
    unit = median(times["forward pass"])
    rows = []
    for label, found in times.items():
        seconds = median(found)
        rows.append({
            "simulator": label,
            "seconds": seconds,
            "passes": seconds / unit,
            "images_per_second": len(task.images) / seconds,
            "peak_megabytes": peak_memory(options, label) if options.memory else None,
            "differing_spike_counts": mismatches.get(label),
        })  # fmt: skip
        row = rows[-1]
        memory = "" if row["peak_megabytes"] is None else f"{row['peak_megabytes']:7.0f} MB"
        differing = row["differing_spike_counts"]
        note = "" if differing is None else f"   {differing} differing spike counts"
        print(
            f"{label:<34} {row['passes']:7.1f} passes {row['images_per_second']:8.1f} images/s "
            f"{memory}{note}",
            flush=True,
        )
    return rows


def differences(task, engines):
    """Neurons' spike counts that differ from the interpreter's, by label."""
    found = {}
    for label, graph, engine in (
        ("cpu, 16-bit sums", task.spiking, "cpu"),
        ("cpu, fine grid", task.fine, "cpu"),
        ("layerwise (torch, time-parallel)", task.spiking, "layerwise"),
    ):
        names, few = list(graph.neurons), task.images[:4]
        expected = simulate(graph, few, task.steps, engine="interpreter", neurons=names)
        run = simulate(graph, few, task.steps, engine=engine, neurons=names)
        found[label] = sum(
            int((run.neuron_spikes[name] != expected.neuron_spikes[name]).sum()) for name in names
        )
    return found


def sweep(options):
    """How this engine's cost grows with one quantity."""
    rows = []
    print(f"{options.network}, {hardware()}")
    for value in SWEEPS[options.sweep]:
        steps, batch, threads = options.steps, options.batch, options.threads
        steps = value if options.sweep == "steps" else steps
        batch = value if options.sweep == "batch" else batch
        threads = value if options.sweep == "threads" else threads
        torch.set_num_threads(threads)
        name = options.network
        network = NETWORKS[name if name in NETWORKS else "resnet20"]
        model, calibration, test = materials(network, Path(options.data), None, batch)
        images, _ = next(iter(test))
        if options.sweep == "depth":  # random weights: nobody's trained ones have all depths
            torch.manual_seed(0)
            model = build(f"resnet{value}", shortcut="A").train()
            with torch.no_grad():
                for batch_norm in model.modules():
                    if isinstance(batch_norm, nn.BatchNorm2d):
                        batch_norm.momentum = None
                model(images)
            model = model.eval()
        snn = convert(model, calibration, hu2021(steps=steps))
        fast = model.to(memory_format=torch.channels_last)
        frames = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            fast(frames)
            run = simulate(snn, images, steps)
            units, times = [], []
            for _ in range(options.repeats):
                units += [timed(lambda f=fast, x=frames: f(x)) for _ in range(5)]
                times.append(timed(lambda s=snn, x=images, t=steps: simulate(s, x, t)))
        unit, seconds = median(units), median(times)
        spikes = sum(float(c.spikes[-1].double().mean()) for c in run.spikes.values())
        rows.append({
            options.sweep: value, "seconds": seconds, "passes": seconds / unit,
            "milliseconds_per_image_and_step": 1000 * seconds / batch / steps,
            "spikes_per_neuron_and_step": spikes / sum(snn.neurons.values()) / steps,
        })  # fmt: skip
        print(
            f"{options.sweep} {value:<5} {seconds:8.4f} s {seconds / unit:7.1f} passes "
            f"{1000 * seconds / batch / steps:8.4f} ms per image and step, "
            f"{rows[-1]['spikes_per_neuron_and_step']:.3f} spikes per neuron and step",
            flush=True,
        )
    return rows


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", default="resnet20", choices=["resnet18", *sorted(NETWORKS)])
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sweep", choices=sorted(SWEEPS), help="this engine alone, over a range")
    parser.add_argument("--own", action="store_true", help="leave the peers out")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too (slower)")
    parser.add_argument(
        "--kernel",
        "--way",
        choices=[kernel.name for kernel in kernels.table()],
        help="one kernel wherever it fits",
    )
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    library.kernel = options.kernel
    if options.only:
        return only(options)
    rows = sweep(options) if options.sweep else compare(options)
    if options.json:
        report = {"arguments": vars(options) | {"json": None}, "hardware": hardware(), "rows": rows}
        write_whole(options.json, json.dumps(report, indent=2, default=str).encode())
    return None


if __name__ == "__main__":
    main()
