"""Accuracy of the integer form by bits, per channel and per layer, and the C program beside it.

Run: python benchmarks/integer_bits.py SNN --data DIR --steps 64 --images 2000 --out table.md

SNN is a file that `spiking-resnet convert` wrote; its data set's training images calibrate, its
test images measure. Every row is one integer form: accuracy, and how many images it decides as the
network on its grid does. The C program (gcc -O2) of the form of --program-bits bits runs the first
--program-images of them: its decisions, sizes and seconds.
"""

import argparse
import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

import torch

import spiking_resnet as sr
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.export.widths import widths


def main(arguments=None):
    asked = parsed(arguments)
    graph = sr.load(asked.snn)
    name = graph.notes["dataset"]
    test = load_dataset(name, "test", asked.data).loader(100, limit=asked.images)
    images, labels = (torch.cat(parts) for parts in zip(*test, strict=True))
    training, _ = next(iter(load_dataset(name, "train", asked.data).loader(50)))
    reference = decided(graph, images, asked.steps)
    rows = [row("grid", reference, reference, labels)]
    print(rows[-1], flush=True)
    for bits in asked.bits:
        for per_channel in (True, False):
            for calibration in (None, training) if asked.uncalibrated else (training,):
                whole = sr.to_integers(graph, bits, per_channel, calibration)
                found = decided(whole, images, asked.steps)
                kind = "channel" if per_channel else "layer"
                told = f"{bits} bits, per {kind}" + ("" if calibration is not None else ", none")
                rows.append(row(told, found, reference, labels))
                print(rows[-1], flush=True)
    whole = sr.to_integers(
        graph, asked.program_bits, images=training, potential_bits=asked.potential_bits
    )
    table = "\n".join(width_rows(whole, asked.steps))
    told = program(whole, images[: asked.program_images], asked.steps)
    print(told, table, sep="\n\n")
    head = "| weights | accuracy | as on the grid |\n| --- | --- | --- |"
    if asked.out is not None:
        asked.out.write_text("\n".join([head, *rows, "", told, "", table, ""]))
    return rows


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("snn", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 4])
    parser.add_argument("--uncalibrated", action="store_true", help="also without calibration")
    parser.add_argument("--program-bits", type=int, default=8)
    parser.add_argument("--program-images", type=int, default=20)
    parser.add_argument("--potential-bits", type=int, default=16)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def decided(graph, images, steps):
    """The class of every image."""
    parts = (sr.simulate(graph, part, steps).logits[-1] for part in images.split(100))
    return torch.cat([logits.argmax(1) for logits in parts])


def row(name, found, reference, labels):
    accuracy = 100 * (found == labels).double().mean()
    agreement = 100 * (found == reference).double().mean()
    return f"| {name} | {accuracy:.2f} | {agreement:.2f} |"


def width_rows(graph, steps):
    """The bits of every population's numbers."""
    yield "| population | weights | shift | gains | bias | threshold | one step | potential |"
    yield "| --- " * 8 + "|"
    for found in widths(graph, steps):
        bits = (found.weights, found.shift, found.gains, found.bias, found.threshold)
        cells = [bit or "" for bit in (*bits, found.step, found.potential)]
        yield f"| {found.name} | {' | '.join(map(str, cells))} |"


def program(graph, images, steps):
    """Sizes and seconds of the C program, and whether it decides as `simulate`."""
    with tempfile.TemporaryDirectory() as folder:
        made = sr.to_c(graph, folder)
        library, object_file = Path(folder) / "network.so", Path(folder) / "network.o"
        command = ["gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
        subprocess.run([*command, "-c", made.source, "-o", object_file], check=True)
        subprocess.run([*command, "-fPIC", "-shared", made.source, "-o", library], check=True)
        sizes = subprocess.run(["size", object_file], capture_output=True, text=True, check=True)
        text, data, _ = map(int, sizes.stdout.splitlines()[1].split()[:3])
        run = ctypes.CDLL(str(library))
        pixels, same, begin = made.pixels(images).numpy(), 0, time.perf_counter()
        decisions = [ran(run, image.tobytes(), steps) for image in pixels]
        seconds = (time.perf_counter() - begin) / len(images)
        expected = sr.simulate(graph, images, steps).logits[-1].argmax(1).tolist()
        same = sum(one == other for one, other in zip(decisions, expected, strict=True))
    code = text + data - made.weights - made.parameters
    return (
        f"C program: {made.weights:,} bytes of weights, {made.parameters:,} of other constants, "
        f"{code:,} of code and tables, {made.state:,} of state; {same} of {len(images)} images "
        f"decided as by simulate; {seconds:.2f} s an image ({steps} steps)"
    )


def ran(run, image, steps):
    run.network_init()
    run.network_set_image(image)
    for _ in range(steps):
        run.network_step()
    return run.network_decision()


if __name__ == "__main__":
    main()
