"""Runs an NIR file in another simulator, as a program of its own: the simulator's Python may know
nothing of this package.

    python client.py NAME FILE.nir IN.npz OUT.npz

IN holds `images` [N, C, H, W] and `steps`. OUT has the spikes of every population by its name in
the file: `spikes/NAME` (the bits of bytes or, where a neuron fired more than once, numbers)
[T, N, …], `shape/NAME`, what reached the output as `output` [T, N, K], and `versions`, a text.
"""

import importlib.metadata
import sys
import warnings
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import torch

Trains = dict[str, list[torch.Tensor]]
BATCH = 4


def norse(path: str, images: torch.Tensor, steps: int) -> tuple[Trains, list[torch.Tensor]]:
    """Norse: every population resets to 0 and fires above its threshold."""
    import norse.torch

    module = norse.torch.from_nir(nir.read(path))
    return _step_by_step(module, "IAFCell", images, steps)


def spikingjelly(path: str, images: torch.Tensor, steps: int) -> tuple[Trains, list[torch.Tensor]]:
    """SpikingJelly: every population resets to 0 and fires at its threshold."""
    from spikingjelly.activation_based import nir_exchange

    module = nir_exchange.import_from_nir(path, dt=1.0)
    return _step_by_step(module, "_NIRStatefulModule", images, steps)


def _step_by_step(
    module: torch.nn.Module, kind: str, images: torch.Tensor, steps: int
) -> tuple[Trains, list[torch.Tensor]]:
    """Return spikes and outputs of a module that takes its state and gives the next one."""
    trains: Trains = {}
    _listen(module, kind, lambda name, found: trains.setdefault(name, []).append(found[0].clone()))
    outputs, state = [], None
    for _ in range(steps):
        found, state = module(images, state)
        outputs.append(found.flatten(1).clone())
    return trains, outputs


def sinabs(path: str, images: torch.Tensor, steps: int) -> tuple[Trains, list[torch.Tensor]]:
    """sinabs as it reads a file: several spikes in a step, potentials clamped at -threshold."""
    return _sinabs(path, images, steps, plain=False)


def sinabs_single(path: str, images: torch.Tensor, steps: int) -> tuple[Trains, list[torch.Tensor]]:
    """sinabs with one spike in a step at most, and no clamp."""
    return _sinabs(path, images, steps, plain=True)


def _sinabs(
    path: str, images: torch.Tensor, steps: int, plain: bool
) -> tuple[Trains, list[torch.Tensor]]:
    import sinabs.activation
    from sinabs.nir import from_nir

    module = from_nir(nir.read(path), batch_size=len(images))
    trains: Trains = {}

    def hear(name: str, found: torch.Tensor) -> None:
        trains[name] = list(found.unflatten(0, (len(images), steps)).transpose(0, 1))

    for each in module.modules():
        if type(each).__name__ == "IAFSqueeze" and plain:
            each.spike_fn, each.min_v_mem = sinabs.activation.SingleSpike, None
    _listen(module, "IAFSqueeze", hear)
    frames = images[:, None].expand(-1, steps, -1, -1, -1).flatten(0, 1)
    found, _ = module(frames)
    return trains, list(found.flatten(1).unflatten(0, (len(images), steps)).transpose(0, 1))


def _listen(module: torch.nn.Module, kind: str, hear: Callable[[str, Any], None]) -> None:
    """Call `hear` with the name and the output of every population, whenever it has computed."""
    for name, each in module.named_modules():
        if type(each).__name__ == kind:
            each.register_forward_hook(
                lambda _module, _inputs, found, name=name: hear(name.split(".")[0], found)
            )


CLIENTS = {
    "norse": (norse, ("norse", "nirtorch", "nir")),
    "spikingjelly": (spikingjelly, ("spikingjelly", "nirtorch", "nir")),
    "sinabs": (sinabs, ("sinabs", "nirtorch", "nir")),
    "sinabs-single": (sinabs_single, ("sinabs", "nirtorch", "nir")),
}


def main(name: str, path: str, given: str, written: str) -> None:
    """Run the client on the images of a file, and write what it fired to another."""
    with np.load(given) as file:
        images, steps = torch.from_numpy(file["images"]), int(file["steps"])
    run, packages = CLIENTS[name]
    parts: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in images.split(BATCH):
            trains, outputs = run(path, batch, steps)
            numbers = {key: torch.stack(value).numpy() for key, value in trains.items()}
            parts.append(({k: _whole(v) for k, v in numbers.items()}, torch.stack(outputs).numpy()))
    found = {"output": np.concatenate([part[1] for part in parts], 1)}
    for key in parts[0][0]:
        train = np.concatenate([part[0][key] for part in parts], 1)
        found[f"shape/{key}"] = np.array(train.shape)
        binary = train.max(initial=0) <= 1 and train.min(initial=0) >= 0
        found[f"spikes/{key}"] = np.packbits(train) if binary else train
    versions = [f"{each} {importlib.metadata.version(each)}" for each in packages]
    found["versions"] = np.array(", ".join(versions))
    np.savez(written, **found)  # type: ignore[arg-type]


def _whole(values: np.ndarray) -> np.ndarray:
    small = np.abs(values).max(initial=0) < 128
    return values.astype(np.int8 if small else np.int32)


if __name__ == "__main__":
    main(*sys.argv[1:])
