"""Files of weights: ours (`.safetensors` with metadata) and third parties' (`.pt`, `.ckpt`, …)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from spiking_resnet.ann.images import Normalisation
from spiking_resnet.ann.remarks import remark
from spiking_resnet.ann.resnet import ResNet, ResNetConfig, infer_config
from spiking_resnet.ann.state_dicts import Part, Wanted, chosen, dictionaries, named
from spiking_resnet.ann.weight_files import METADATA_KEY, CheckpointError, contents
from spiking_resnet.files import write_whole
from spiking_resnet.surroundings import undisturbed

__all__ = [
    "CheckpointError",
    "LoadedNetwork",
    "load",
    "load_into",
    "pretrained",
    "pretrained_file",
    "pretrained_names",
    "save",
]

_PRETRAINED = files("spiking_resnet") / "pretrained"


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network from a file, in eval mode, with what the file says about it.

    `metadata` is empty for third parties' files; ours have config, dataset, normalisation, recipe,
    command, seed, accuracy, selection, versions, hardware, seconds.
    """

    model: ResNet
    config: ResNetConfig
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        weights = sum(weight.numel() for weight in self.model.parameters())
        dataset, accuracy = (self.metadata.get(key) for key in ("dataset", "accuracy"))
        told = f"{weights:,} parameters"
        told += f", trained on {dataset}" if isinstance(dataset, str) else ""
        told += f", {100 * accuracy:.2f} %" if isinstance(accuracy, float) else ""
        return f"<LoadedNetwork: {told}; .model, .config, .metadata>"

    @property
    def normalisation(self) -> Normalisation | None:
        """What the network's images were normalised by; None where the file does not say."""
        found = self.metadata.get("normalisation")
        return None if found is None else Normalisation.from_json(found, "normalisation")


def save(path: str | Path, model: ResNet, metadata: Mapping[str, Any], half: bool = False) -> None:
    """Write the weights, the configuration and the JSON-able metadata to the file.

    half: matrices are rounded to float16, which halves the file; vectors and scalars, statistics of
    BatchNorm among them, stay float32.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if half:
        tensors = {key: each.half() if each.dim() > 1 else each for key, each in tensors.items()}
    described = {**metadata, "config": model.config.to_json()}
    header = {"format": "pt", METADATA_KEY: json.dumps(described)}
    write_whole(Path(path), tensors_to_bytes(tensors, header))


def load(path: str | Path, weights_key: str | None = None) -> LoadedNetwork:
    """The network in a `.safetensors` file of ours, or a 6n+2 network in a third party's file.

    The configuration comes from the metadata, else from the weights (`infer_config`). Files and
    weights_key are those of `load_into`. Raises CheckpointError as it does.
    """
    path = Path(path)
    content, metadata = contents(path)
    try:
        described = metadata.get("config")
        config = (
            _config(content, path, weights_key)
            if described is None
            else ResNetConfig.from_json(described, "config")
        )
    except CheckpointError:
        raise
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: no ResNet of this package: {error}{_held(content)}; load other networks into "
            "their own module with load_into(model, path)"
        ) from error
    with undisturbed(), torch.random.fork_rng(devices=[]):  # the initial weights are overwritten
        model = ResNet(config)
    remark_of = _fill(model, content, path, weights_key)
    if remark_of:
        remark(remark_of)
    return LoadedNetwork(model.eval(), config, metadata)


def load_into(model: nn.Module, path: str | Path, weights_key: str | None = None) -> None:
    """Load the weights of a file that safetensors or torch.save wrote into the module.

    They are found by the module's own names and shapes: in whatever dictionary they stand
    (`state_dict`, `model`, …), whatever prefix they have (`module.`, `_orig_mod.`, `model.`, …).
    weights_key: the dictionary's or the prefix' name, where several fit ("state_dict_ema");
    otherwise running averages are passed over, with a Remark that says so.

    Raises CheckpointError for damaged files, for pickled networks (nothing is unpickled), and for
    weights that are missing, unexpected, of another shape, or not finite; the module is then as it
    was.
    """
    path = Path(path)
    remark_of = _fill(model, contents(path)[0], path, weights_key)
    if remark_of:
        remark(remark_of)


@undisturbed()
def _held(content: Any) -> str:
    """What a file of another network holds; an empty text where it holds no tensors."""
    parts = dictionaries(content)
    if not parts:
        return ""
    return f" (it holds {max(parts, key=lambda part: len(part.tensors)).first_names})"


def _config(content: Any, path: Path, weights_key: str | None) -> ResNetConfig:
    """The configuration of the ResNet in a file; ValueError for other networks."""
    parts = dictionaries(content)
    if not parts:
        raise CheckpointError(f"{path}: holds no dict of tensors; save model.state_dict()")
    problems = []
    for state in _stems(parts, path, weights_key):
        try:
            return infer_config(state)
        except ValueError as error:
            problems.append(error)
    raise problems[0]


def _stems(parts: list[Part], path: Path, weights_key: str | None) -> Iterator[dict[str, Tensor]]:
    """The tensors of every part by the names that follow what stands before a stem's."""
    stem = Wanted(nn.ModuleDict({"conv1": nn.Conv2d(1, 1, 1, bias=False, dtype=torch.float32)}))
    for part in named([each for one in parts for each in stem.candidates(one)], weights_key, path):
        yield part.tensors


@undisturbed()
def _fill(model: nn.Module, content: Any, path: Path, weights_key: str | None) -> str:
    """A remark on the weights that the module now has, or an empty text; CheckpointError says what
    does not fit.
    """
    wanted = Wanted(model)
    part, said = chosen(content, wanted, path, weights_key)
    state = wanted.own_names(part)
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path}: {key!r} has NaN or infinite values; the training that wrote it diverged: "
                "take an earlier checkpoint or train again with a smaller learning rate"
            )
    model.load_state_dict({**model.state_dict(), **state})
    return said


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
