"""A network in one .safetensors file: tensors as they are, everything else as JSON in its metadata.

Nothing is pickled. A file knows a checksum of all it holds. What it says is believed only after it
was checked: the fields of every node (`graph.checks`), and what it claims about exactness
(`passes.claims`).
"""

import gc
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Graph, GraphError
from spiking_resnet.graph.checks import check_node
from spiking_resnet.graph.claims import claimed
from spiking_resnet.graph.notes import unwritable
from spiking_resnet.graph.plain import arrays, build, describe
from spiking_resnet.rules import shown
from spiking_resnet.surroundings import undisturbed

VERSION = 5
# In 1 neurons fire 0 or 1 spike in a step; before 3 no read-out is delayed, before 4 no neuron is
# layer-serial, before 5 none is DCGS's or gated and no ReLU has levels. Of 5 only the newer have a
# checksum.
READABLE = (1, 2, 3, 4, 5)
KEY = "spiking_resnet"
CHECKSUM = "spiking_resnet.checksum"
HASH = "blake2b"
_TORCH = (b"PK", b"\x80\x02")  # how files of torch.save begin
_TOLD = {"version", "checksum", "snn", "ann"}  # of a file's description


class StoreError(ValueError):
    """A file that does not hold a network this version can read; the message names the file."""


@arguments.checked(graph=arguments.network, path=arguments.path)
@undisturbed()
def save(graph: Graph, path: str | Path) -> None:
    """Write `graph`, and the ANN it came from, to one .safetensors file.

    Raises StoreError for notes that JSON cannot hold, GraphError for tensors that were spoilt in
    place, IsADirectoryError for a folder, and OSError (a full disk, a missing folder), without
    leaving a file behind; a file that was at `path` stays as it was until the new one is complete.

    >>> sr.save(snn, "snn.safetensors")
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")
    write_whole(path, packed(graph, path), folders=False)


@undisturbed()
def packed(graph: Graph, name: str | Path = "the network") -> bytes:
    """The content of a network's file, which errors call by `name`. Raises as `save`."""
    parts = {"snn": graph, **({} if graph.ann is None else {"ann": graph.ann})}
    for part in parts.values():
        if problem := next(unwritable(part.notes), None):
            raise StoreError(f"{name} cannot be written: {problem}")
        for node in part.nodes:
            check_node(node)
    told = {prefix: describe(part) for prefix, part in parts.items()}
    description = json.dumps({"version": VERSION, "checksum": HASH, **told})
    found = {
        f"{prefix}/{name}": tensor
        for prefix, part in parts.items()
        for name, tensor in arrays(part).items()
    }
    metadata = {KEY: description, CHECKSUM: _checksum(description, found)}
    return _in_order(to_bytes(found, metadata=metadata))


def _in_order(content: bytes) -> bytes:
    """Return a file's content with its metadata in the order of names: the library has none."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % 8)
    return len(told).to_bytes(8, "little") + told + content[8 + size :]


@undisturbed()
def digest(graph: Graph) -> str:
    """A hash of a network and of the one it came from: of all but its notes."""
    content = hashlib.blake2b(digest_size=16)
    for part in (graph, *([] if graph.ann is None else [graph.ann])):
        content.update(json.dumps(describe(part)["nodes"]).encode())
        for tensor in arrays(part).values():
            content.update(tensor.numpy().tobytes())
    return content.hexdigest()


@arguments.checked(path=arguments.path)
@undisturbed()
def load(path: str | Path) -> Graph:
    """The network in a file that `save` wrote. Raises StoreError, or FileNotFoundError.

    What it claims about exactness holds: bounds that are too low are raised (`passes.claims`).

    >>> sr.save(snn, "snn.safetensors")
    >>> sr.load("snn.safetensors").notes["method"]
    'hu2021'
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: make it with `spiking-resnet convert`")
    if not path.is_file():
        raise StoreError(f"{path} is no file: name one that `spiking-resnet convert` wrote")
    try:
        with safe_open(path, framework="pt") as file:  # fails on other files before all is read
            metadata = file.metadata() or {}
    except (SafetensorError, ValueError, KeyError) as error:
        raise _incomplete(path, error) from error
    return _read(path, metadata, path.read_bytes())


@undisturbed()
def unpacked(content: bytes) -> Graph:
    """The network whose file has this content (`packed`)."""
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    return _read(Path("the network"), metadata, content)


def _incomplete(path: Path, error: Exception) -> StoreError:
    with path.open("rb") as file:
        begin = file.read(2)
    if begin in _TORCH:
        return StoreError(
            f"{path} is a file of torch.save, no spiking network: `spiking-resnet convert MODEL "
            f"--weights {path}` makes one"
        )
    return StoreError(
        f"{path} is not a complete .safetensors file ({error}): convert the network again"
    )


def _read(path: Path, metadata: Mapping[str, str], content: bytes) -> Graph:
    """The network in the content of the file at `path`."""
    try:
        found = from_bytes(content)
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: an unknown type of numbers
        raise _incomplete(path, error) from error
    if KEY not in metadata:
        raise StoreError(
            f"{path} holds no spiking network: was it written by `spiking-resnet convert`?"
        )
    try:
        with _many_objects():
            description = json.loads(metadata[KEY], object_pairs_hook=_once)
            return _graph(description, metadata, found, path)
    except StoreError:
        raise
    except (ValueError, RecursionError) as error:  # ValueError: bad JSON, or a GraphError
        raise StoreError(f"{path} is damaged ({error}): convert the network again") from error


@contextmanager
def _many_objects() -> Iterator[None]:
    """Python's collector rests: it would look again and again through all that is being built."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _graph(
    description: Any, metadata: Mapping[str, str], found: Mapping[str, Tensor], path: Path
) -> Graph:
    """The spiking network a description stands for, with its ANN beside it."""
    if not isinstance(description, dict):
        raise GraphError(f"its description is {shown(description)}, not a dictionary")
    if "snn" not in description:
        raise StoreError(
            f"{path} holds trained weights: make a spiking network of them first, with "
            "`spiking-resnet convert`"
        )
    version = description.get("version")
    if type(version) is not int or version not in READABLE:
        raise StoreError(
            f"{path} has format version {shown(version)}; this one reads {VERSION}: convert the "
            "network again, or install the version that wrote the file"
        )
    if unknown := description.keys() - _TOLD:
        raise GraphError(f"its description has an entry {shown(min(unknown))}")
    if "checksum" in description or CHECKSUM in metadata:
        told = (description.get("checksum"), metadata.get(CHECKSUM))
        if told != (HASH, _checksum(metadata[KEY], found)):
            raise GraphError("its checksum is not that of its content")
    parts: dict[str, dict[str, Tensor]] = {"snn": {}, "ann": {}}
    for name, tensor in found.items():
        prefix, _, rest = name.partition("/")
        if prefix not in description or prefix not in parts:
            raise GraphError(f"there is a tensor {shown(name)}, which belongs to no network")
        parts[prefix][rest] = tensor
    ann = build(description["ann"], parts["ann"]) if "ann" in description else None
    graph = build(description["snn"], parts["snn"], ann)
    for part in (graph, *([] if ann is None else [ann])):
        if problem := next(unwritable(part.notes), None):
            raise GraphError(problem)
    return claimed(graph)


def _checksum(description: str, found: Mapping[str, Tensor]) -> str:
    """A hash of everything a file holds."""
    content = hashlib.blake2b(description.encode(), digest_size=16)
    for name in sorted(found):
        tensor = found[name]
        content.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        whole = tensor.clone(memory_format=torch.contiguous_format).view(-1)  # of any dtype
        content.update(whole.view(torch.uint8).numpy().data)
    return content.hexdigest()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON's entries as a dictionary; GraphError where two have one name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise GraphError("an entry of its description stands there twice")
    return found
