"""A shipped network as a program for a Cortex-M7: its flash and RAM, and its spikes on an emulator.

Run: python examples/microcontroller/build.py digits_resnet8 32     (see README.md there)
"""

import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import spiking_resnet as sr
from spiking_resnet import ann

HERE = Path(__file__).parent
ARM = "arm-none-eabi-"
CPU = ["-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=soft", "-O2", "-std=c99", "-Wall", "-Wextra"]
LINK = ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-nostartfiles"]
EMULATOR = ["qemu-system-arm", "-M", "mps2-an500", "-nographic", "-semihosting", "-kernel"]


def main(name="digits_resnet8", steps=32, emulate=True):
    folder = Path(mkdtemp())
    network = ann.pretrained(name)
    training = ann.load_dataset(network.metadata["dataset"], "train").loader(100, limit=500)
    image, _ = next(iter(ann.load_dataset(network.metadata["dataset"], "test").loader(1)))
    graph = sr.to_integers(sr.convert(network.model, training), bits=8, potential_bits=16)
    made = sr.to_c(graph, folder)
    print(f"{made.weights:,} bytes of weights, {made.state:,} bytes of state")
    pixels = ",".join(map(str, made.pixels(image).flatten().tolist()))
    (folder / "image.h").write_text(f"static const int16_t image[] = {{{pixels}}};\n")
    sources = [made.source, HERE / "main.c", HERE / "start.c"]
    program = folder / "network.elf"
    command = [f"{ARM}gcc", *CPU, *LINK, "--specs=rdimon.specs", f"-T{HERE / 'mps2_an500.ld'}"]
    options = [f"-DSTEPS={steps}", f"-I{folder}", "-o", program]
    subprocess.run([*command, *options, *sources], check=True)
    subprocess.run([f"{ARM}gcc", *CPU, "-c", made.source, "-o", folder / "network.o"], check=True)
    for built in (folder / "network.o", program):
        subprocess.run([f"{ARM}size", built], check=True)
    if not emulate:
        return None
    told = subprocess.run([*EMULATOR, program], check=True, capture_output=True, text=True)
    print(told.stdout)
    same = told.stdout.split() == expected(graph, image, steps)
    print("the spikes are those of simulate" if same else "the spikes DIFFER from simulate's")
    return same


def expected(graph, image, steps):
    """What the program prints, of the spikes of `simulate`: names and hashes, and the class."""
    run = sr.simulate(graph, image, steps, trains=list(graph.neurons))
    words = []
    for layer, train in run.trains.items():
        train = train[:, 0].movedim(1, -1) if train.ndim == 5 else train[:, 0]
        value = 2166136261
        for spike in train.flatten().numpy().astype("uint8").tobytes():
            value = (value ^ spike) * 16777619 & 0xFFFFFFFF
        words += [layer, f"{value:08x}"]
    return [*words, "class", str(int(run.logits[-1, 0].argmax()))]


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
