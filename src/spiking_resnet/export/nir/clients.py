"""Other simulators that read NIR: which a Python has, how they step neurons, and runs of them."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.export.nir.executor import Rule, packed
from spiking_resnet.records import InputError, Trains

_PROGRAM = Path(__file__).with_name("client.py")  # not imported: it needs nir
_FOUND = (
    "import importlib.util as u, json, sys;"
    "print(json.dumps([name for name in sys.argv[1:] if u.find_spec(name)]))"
)


@dataclass(frozen=True)
class Client:
    """A simulator, as `client` calls it.

    package: what it is imported as. rule: how it steps a file's populations. profile: the one that
    a file for it has.
    """

    name: str
    package: str
    rule: Rule
    profile: str


_BLIND = {"starts": False, "rounds": False}  # no simulator reads our metadata
CLIENTS = (
    Client("norse", "norse", Rule(reset="zero", strict=True, **_BLIND), "norse"),
    Client("spikingjelly", "spikingjelly", Rule(reset="zero", **_BLIND), "spikingjelly"),
    Client(
        "sinabs", "sinabs", Rule(reset="subtract", several=True, clamped=True, **_BLIND), "sinabs"
    ),
    Client("sinabs-single", "sinabs", Rule(reset="subtract", **_BLIND), "sinabs"),
)


@dataclass(frozen=True)
class Heard:
    """What a client fired: spikes by the names in the file, what reached the output [T, N, K]."""

    trains: Trains
    output: Tensor
    versions: str


def installed(pythons: Sequence[str] = ()) -> Iterator[tuple[Client, str]]:
    """Yield each client that this Python, or one of others, has, with that Python.

    Raises InputError for a program that is no Python.
    """
    seen: set[str] = set()
    for python in (sys.executable, *pythons):
        packages = _packages(python)
        for each in CLIENTS:
            if each.package in packages and each.name not in seen:
                seen.add(each.name)
                yield each, python


def _packages(python: str) -> list[str]:
    names = sorted({each.package for each in CLIENTS})
    asked = [python, "-c", _FOUND, *names]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        found: list[str] = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise InputError(
            f"{python} is no Python that can be asked for its packages ({error}): name one such as "
            "interop/bin/python"
        ) from error
    return found


def run(which: Client, python: str, path: Path, images: Tensor, steps: int) -> Heard:
    """Return what a client fires for a file and images; RuntimeError with what it says itself."""
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder, "given.npz"), Path(folder, "found.npz")
        np.savez(given, images=images.float().numpy(), steps=np.array(steps))
        command = [python, str(_PROGRAM), which.name, str(path), str(given), str(written)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise RuntimeError(said[-1] if said else f"exit code {done.returncode}")
        with np.load(written) as found:
            return _heard(found)


def _heard(found: Mapping[str, np.ndarray]) -> Heard:
    trains: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for key in found:
        what, _, name = key.partition("/")
        if what != "shape":
            continue
        shape = tuple(int(size) for size in found[key])
        spikes = found[f"spikes/{name}"]
        if spikes.dtype == np.uint8:
            spikes = np.unpackbits(spikes, count=int(np.prod(shape))).reshape(shape)
        trains[name], shapes[name] = torch.from_numpy(spikes).flatten(2), shape[2:]
    return Heard(packed(trains, shapes), torch.from_numpy(found["output"]), str(found["versions"]))
