"""Read files of weights as dictionaries of tensors. Nothing is ever unpickled."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

METADATA_KEY = "spiking_resnet"
SUFFIXES = (
    ".safetensors", ".pt", ".pth", ".bin", ".th", ".tar", ".ckpt", ".pkl", ".model", ".weights",
)  # fmt: skip
_ZIP, _PICKLE, _HDF5 = b"PK\x03\x04", b"\x80", b"\x89HDF"
_TRUSTED = "  # runs code that is in it: only if you trust it"


class CheckpointError(ValueError):
    """A file of weights that cannot be used; the message says which key, why, and what to do."""


def contents(path: Path) -> tuple[Any, dict[str, Any]]:
    """(what a file holds, mostly a dictionary; its metadata, empty for third parties' files).

    `.safetensors` by its name, all others by their content, whatever they are called. Raises
    FileNotFoundError, and CheckpointError for damaged files and for all that would have to be
    unpickled.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights; check the path")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if refused := _foreign(path):
        raise CheckpointError(f"{path}: {refused}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:  # torch raises many types for damaged files
        raise CheckpointError(f"{path}: {_refusal(path, error)}") from error


def _safetensors(path: Path) -> tuple[Any, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as opened:
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
        return state, json.loads(header.get(METADATA_KEY, "{}"))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: {_damaged(error)}") from error


def _foreign(path: Path) -> str:
    """What a file is that torch.save did not write, and what to do; else an empty text."""
    start = _start(path)
    if start == _HDF5:
        return "an HDF5 file, as Keras writes: save the network as .onnx and convert that"
    members = _members(path) if start == _ZIP else ()
    if any(name.endswith(".npy") for name in members):
        return "NumPy arrays: save them as tensors, torch.save({name: torch.from_numpy(array)}, …)"
    if any(name.endswith("/constants.pkl") for name in members):
        return (
            "a TorchScript archive, which holds a program: save its weights by\n"
            f"  found = torch.jit.load({str(path)!r}){_TRUSTED}\n"
            "  torch.save(found.state_dict(), 'weights.pt')"
        )
    if any(name.endswith("archive_format") for name in members):
        return (
            "an exported program: save its weights by\n"
            f"  found = torch.export.load({str(path)!r}){_TRUSTED}\n"
            "  torch.save(found.state_dict, 'weights.pt')"
        )
    return ""


def _refusal(path: Path, error: Exception) -> str:
    """Why torch does not load a file, and what to do."""
    if kinds := _pickled(path, error):
        return _objects(path, kinds)
    start = _start(path)
    if start in (b"", _ZIP) or start.startswith(_PICKLE) or path.suffix in SUFFIXES:
        return _damaged(error)
    return f"unknown kind of file; weights are {', '.join(SUFFIXES)}"


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)


def _members(path: Path) -> tuple[str, ...]:
    """The names in a zip archive; none where it is cut off."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return ()


def _pickled(path: Path, error: Exception) -> list[str]:
    """The classes, by name, of pickled objects that keep a file from being loaded."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # an old or damaged file: the message names the first class
        found = re.findall(r"(?:GLOBAL|class) ([A-Za-z_][\w.]*\.\w+)", str(error))
    return sorted(set(found))


def _objects(path: Path, kinds: list[str]) -> str:
    """The refusal of a file with pickled objects, and how to save its weights."""
    shown = ", ".join(kinds[:3]) + (f" and {len(kinds) - 3} more" if len(kinds) > 3 else "")
    load = f"  found = torch.load({str(path)!r}, weights_only=False){_TRUSTED}"
    if any(name.startswith("torch.nn.") for name in kinds):
        what = "a pickled network"
        save = "found.state_dict(), 'weights.pt')  # in a dictionary: found['model'].state_dict()"
    else:
        what = "weights together with pickled objects"
        save = "found['state_dict'], 'weights.pt')  # or the key that the weights have"
    return (
        f"{what} ({shown}), and unpickling runs any code that is in a file: save the weights alone "
        f"by\n{load}\n  torch.save({save}"
    )


def _damaged(error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"truncated or not a file of weights ({reason}); copy or download it again"
