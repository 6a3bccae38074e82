"""Compiles exported C programs and runs them, for tests."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import spiking_resnet as sr

SPIKES = Path(__file__).parents[2] / "examples" / "microcontroller" / "spikes.c"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiled(folder, compiler="gcc", options=SANITIZED):
    """The program that writes the spikes of the network in `folder`."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = folder / f"spikes_{compiler}"
    sources = [folder / "network.c", SPIKES]
    command = [compiler, *STRICT, *options, "-I", folder, *sources, "-o", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def check(program, made, graph, images, steps):
    """The program's spikes, sums and decisions are those of `simulate`."""
    file = program.parent / "images.bin"
    file.write_bytes(made.pixels(images).numpy().tobytes())
    found = subprocess.run([program, file, str(steps)], capture_output=True, check=False)
    assert found.returncode == 0, found.stderr.decode()
    run = sr.simulate(graph, images, steps, trains=list(graph.neurons), keep_state=True)
    assert run.exact, run.remark
    data, at, trains = found.stdout, 0, dict(run.trains)
    size = np.dtype(kind(made))
    for image in range(len(images)):
        for step in range(steps):
            for layer in graph.neurons:
                train = hwc(trains[layer][step, image])
                spikes = np.frombuffer(data, size, train.size, at)
                at += spikes.nbytes
                assert np.array_equal(spikes, train), (image, step, layer)
        sums = np.frombuffer(data, np.int32, run.logits.shape[2], at)
        decision = int(np.frombuffer(data, np.int32, 1, at + sums.nbytes)[0])
        at += sums.nbytes + 4
        assert np.array_equal(sums, totals(graph, run.state, image, steps)), image
        logits = run.logits[-1, image]
        expected = int(logits > 0) if len(logits) == 1 else int(logits.argmax())
        ties = bool((logits == logits.max()).sum() > 1)
        assert decision == expected or (ties and logits[decision] == logits.max())
    assert at == len(data)


def hwc(train):
    """Spikes [C, H, W] or [C] in the order of the program."""
    return (train.permute(1, 2, 0) if train.ndim == 3 else train).flatten().numpy().astype(int)


def totals(graph, state, image, steps):
    """What the read-out has summed up, as integers."""
    total = state.memory[graph.output.name][image].double()
    if graph.output.readout == "mean" and 0 < graph.output.delay < steps:
        total = total - state.memory[f"{graph.output.name}:left out"][image].double()
    return (total * 2.0 ** (graph.output.grid or 0)).numpy().astype(int)


def kind(made):
    """The dtype of a spike, as the header says."""
    (line,) = (each for each in made.header.read_text().splitlines() if "network_spike;" in each)
    return line.split()[1].removesuffix("_t")
