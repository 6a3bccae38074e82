"""Files of weights: ours (`.safetensors` with metadata) and third parties' (`.pt`, `.pth`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from spiking_resnet.ann.images import Normalisation
from spiking_resnet.ann.resnet import ResNet, ResNetConfig, infer_config
from spiking_resnet.files import write_whole

_METADATA_KEY = "spiking_resnet"
_TORCH_SUFFIXES = {".pt", ".pth", ".bin"}
_PRETRAINED = files("spiking_resnet") / "pretrained"


class CheckpointError(ValueError):
    """A file of weights that cannot be used; the message says which key, why, and what to do."""


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network from a file, in eval mode, with what the file says about it.

    `metadata` is empty for third parties' files; ours have config, dataset, normalisation, recipe,
    command, seed, accuracy, selection, versions, hardware, seconds.
    """

    model: ResNet
    config: ResNetConfig
    metadata: dict[str, Any]

    @property
    def normalisation(self) -> Normalisation | None:
        """What the network's images were normalised by; None where the file does not say."""
        found = self.metadata.get("normalisation")
        if found is None:
            return None
        return Normalisation(tuple(found["mean"]), tuple(found["std"]))


def save(path: str | Path, model: ResNet, metadata: Mapping[str, Any], half: bool = False) -> None:
    """Nothing; the file holds the weights, the configuration and the JSON-able metadata.

    half: matrices are rounded to float16, which halves the file; vectors and scalars, statistics of
    BatchNorm among them, stay float32.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if half:
        tensors = {key: each.half() if each.dim() > 1 else each for key, each in tensors.items()}
    described = {**metadata, "config": model.config.to_json()}
    header = {"format": "pt", _METADATA_KEY: json.dumps(described)}
    write_whole(Path(path), tensors_to_bytes(tensors, header))


def load(path: str | Path) -> LoadedNetwork:
    """The network in a `.safetensors` file of ours, or a 6n+2 network in a third party's `.pt`.

    The configuration comes from the metadata, else from the weights (`infer_config`). Prefixes
    "module." and missing `num_batches_tracked` are accepted. Raises CheckpointError for damaged
    files and for keys that are missing, unexpected, of another shape, or not finite.
    """
    path = Path(path)
    state, metadata = _read(path)
    try:
        described = metadata.get("config")
        config = infer_config(state) if described is None else ResNetConfig(**described)
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: no ResNet of this package: {error}; load other networks into their own "
            "module with load_into(model, path)"
        ) from error
    with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten
        model = ResNet(config)
    _fill(model, state, path)
    return LoadedNetwork(model.eval(), config, metadata)


def load_into(model: nn.Module, path: str | Path) -> None:
    """Nothing; the module holds the file's weights (`.safetensors`, `.pt`, `.pth`).

    Raises CheckpointError as `load` does, and then leaves the module as it was.
    """
    state, _ = _read(Path(path))
    _fill(model, state, Path(path))


def _fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Nothing; the module's weights are `state`'s, or CheckpointError says what does not fit."""
    own = model.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    kind = type(model).__name__
    remedy = f"choose the file of this {kind}, or build the network that the file belongs to"
    if missing := [key for key in own if key not in state and key not in counters]:
        raise CheckpointError(f"{path}: missing {_some(missing)}; {remedy}")
    if unexpected := [key for key in state if key not in own]:
        raise CheckpointError(f"{path}: unexpected {_some(unexpected)}; {remedy}")
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise CheckpointError(
                f"{path}: {key!r} has shape {list(value.shape)}, the {kind} needs "
                f"{list(own[key].shape)}; {remedy}"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path}: {key!r} has NaN or infinite values; the training that wrote it diverged: "
                "take an earlier checkpoint or train again with a smaller learning rate"
            )
    model.load_state_dict({**{key: own[key] for key in counters}, **state})


def _some(keys: list[str]) -> str:
    """The first few keys and how many more there are."""
    more = f" and {len(keys) - 3} more keys" if len(keys) > 3 else ""
    return ", ".join(repr(key) for key in keys[:3]) + more


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by name, without "module." prefixes, and its metadata."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights; check the path")
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    elif path.suffix in _TORCH_SUFFIXES:
        state, metadata = _read_torch(path), {}
    else:
        raise CheckpointError(
            f"{path}: unknown kind of file; weights are .safetensors, "
            f"{', '.join(sorted(_TORCH_SUFFIXES))}"
        )
    return {key.removeprefix("module."): value for key, value in state.items()}, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as opened:
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
        return state, json.loads(header.get(_METADATA_KEY, "{}"))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(_damaged(path, error)) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged files
        raise CheckpointError(_damaged(path, error)) from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: holds no dict of tensors; save model.state_dict()")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: {key!r} is a {type(value).__name__}, not a tensor; "
                "save model.state_dict()"
            )
    return content


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path}: truncated or not a file of weights ({reason}); copy or download it again"


def pretrained_names() -> tuple[str, ...]:
    """The networks that come with the package."""
    return tuple(
        sorted(
            entry.name.removesuffix(".safetensors")
            for entry in _PRETRAINED.iterdir()
            if entry.name.endswith(".safetensors")
        )
    )


def pretrained(name: str, dataset: str | None = None) -> LoadedNetwork:
    """A network that comes with the package: ("cifar10_resnet20"), or ("resnet20", "cifar10").

    CheckpointError, listing them, for other names.
    """
    return load(pretrained_file(name if dataset is None else f"{dataset}_{name}"))


def pretrained_file(name: str) -> Path:
    """The file of a network that comes with the package; CheckpointError for other names."""
    if name not in pretrained_names():
        raise CheckpointError(
            f"no network called {name!r} comes with the package; "
            f"choose one of {', '.join(pretrained_names())}"
        )
    return Path(str(_PRETRAINED / f"{name}.safetensors"))
