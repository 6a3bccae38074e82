"""Load the network that the argument MODEL of a command names."""

import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from spiking_resnet import ann
from spiking_resnet.ann.images import Normalisation
from spiking_resnet.ann.pixels import Framing
from spiking_resnet.ann.resnet import NAMES, depth_of
from spiking_resnet.capture.onnx.translate import trace_onnx
from spiking_resnet.records import InputError

Shape = tuple[int, int, int]
IMAGES: dict[str, Shape] = {
    "digits": (1, 8, 8),
    "photographs": (3, 32, 32),
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "imagenet": (3, 224, 224),
}
PUBLISHED = "default"  # as --weights: what torchvision or timm publish
SHIPPED = "pretrained"  # as --weights: those that come with this package


@dataclass(frozen=True, eq=False)
class Network:
    """A loaded network (of an ONNX file: its path) and what its file or library says of it.

    weights: the file they came from. normalisation, framing, dataset: what file or library say
    about the images; said_by: which of them. accuracy: what the file says, in 0..1. remark: a
    warning for the user, or an empty text. shape: (C, H, W) of images that it is made for.
    """

    model: nn.Module | Path
    spec: str
    weights: Path | None = None
    normalisation: Normalisation | None = None
    dataset: str | None = None
    remark: str = ""
    framing: Framing | None = None
    shape: Shape | None = None
    said_by: str = ""
    accuracy: float | None = None


def network(
    spec: str,
    weights: str | None,
    seed: int = 0,
    random: bool = False,
    dataset: str | None = None,
    key: str | None = None,
) -> Network:
    """The network that MODEL and --weights name; random weights are drawn from the seed.

    dataset: what shipped weights were trained on, where that is said. random: this package's own
    networks need no weights either. key: which weights of a file (`ann.load_into`).
    Raises InputError for unknown names, CheckpointError for files that do not fit.
    """
    if key is not None and (weights is None or weights == SHIPPED or not _is_file(weights)):
        raise InputError("--weights-key is for a file of --weights: leave it out")
    if spec.endswith(".nir"):
        raise InputError(
            f"{spec} is a spiking network already: `inspect`, `evaluate` and `verify` take it"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.startswith("torchvision:"):
            return _library(spec, weights, key, _torchvision)
        if spec.startswith("timm:"):
            return _library(spec, weights, key, _timm)
        if spec.endswith(".onnx"):
            return _from_onnx(spec, weights)
        if ".py" in spec:
            return _from_file(spec, weights, key)
        return _own(spec, weights, key, random, dataset)


def file_of(spec: str) -> Path:
    """The file that MODEL names, if it names one."""
    return Path(spec.rpartition(":")[0] if ".py:" in spec else spec)


def image_shape(source: Network, size: str | None) -> Shape:
    """The shape (C, H, W) of images: --image-size ("224", "32x32", "3x32x32"), or what is known.

    Channels that are not given are those the network's first convolution reads.
    """
    if size is None:
        if source.shape is None:
            raise InputError(
                f"--image-size is missing: {source.spec} does not say how large images are; "
                "give their side or shape, as --image-size 32 or 3x32x48"
            )
        return source.shape
    try:
        numbers = [int(part) for part in size.lower().split("x")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or min(numbers) < 1:
        raise InputError(f"--image-size {size!r}: write it like 224, 32x32 or 3x32x32")
    if len(numbers) == 3:
        return numbers[0], numbers[1], numbers[2]
    return channels_of(source) or 3, numbers[0], numbers[-1]


def channels_of(source: Network) -> int | None:
    """The channels of the images that a network takes; None where that cannot be seen."""
    if isinstance(source.model, Path):
        try:
            return trace_onnx(source.model).input.shape[0]
        except ValueError:  # conversion says what is wrong with the file
            return None
    first = next((m for m in source.model.modules() if isinstance(m, nn.Conv2d)), None)
    known = None if source.shape is None else source.shape[0]
    return known if first is None else first.in_channels


def _own(
    spec: str, weights: str | None, key: str | None, random: bool, dataset: str | None
) -> Network:
    """A shipped network, or one of this package's ResNets with weights from a file."""
    if spec in ann.pretrained_names():
        if weights is not None:
            raise InputError(f"{spec} comes with its own weights: leave out --weights")
        return _described(spec, None, ann.pretrained(spec))
    try:
        depth = depth_of(spec)
    except ValueError:
        if Path(spec).is_file():
            raise InputError(
                f"{spec} is a file, not the name of a network: weights are given beside the "
                f"network that they belong to, as {NAMES[0]} --weights {spec}"
            ) from None
        raise InputError(
            f"there is no model {spec!r}: use one of {', '.join(NAMES)} with --weights, "
            f"{', '.join(ann.pretrained_names())} (shipped), torchvision:NAME, timm:NAME, "
            "path/to/file.py:function, or path/to/model.onnx"
        ) from None
    if weights is None and random:
        return Network(ann.build(spec), spec, shape=IMAGES["cifar10"])
    if weights == SHIPPED:
        name = _shipped(spec, dataset)
        return _described(spec, ann.pretrained_file(name), ann.pretrained(name))
    if weights is None:
        raise InputError(
            f"{spec} needs --weights: {SHIPPED!r} if it comes with the package (`spiking-resnet "
            f"models` lists them), or a FILE: `spiking-resnet train --model {spec}` makes one"
        )
    loaded = ann.load(weights, key)
    if loaded.config.depth != depth:
        raise InputError(f"{weights} holds a resnet{loaded.config.depth}, not a {spec}")
    return _described(spec, Path(weights), loaded)


def _shipped(spec: str, dataset: str | None) -> str:
    """The name of the network of this architecture that comes with the package."""
    known = ann.pretrained_names()
    if dataset is not None and f"{dataset}_{spec}" in known:
        return f"{dataset}_{spec}"
    fitting = [name for name in known if name.endswith(f"_{spec}")] if dataset is None else []
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"several networks called {spec} come with the package ({', '.join(fitting)}): say "
            "--dataset, or take one by its name"
        )
    where = "" if dataset is None else f" for {dataset}"
    raise InputError(
        f"no {spec}{where} comes with the package: use one of {', '.join(known)}, or train it with "
        f"`spiking-resnet train --model {spec}`"
    )


def _described(spec: str, path: Path | None, loaded: ann.LoadedNetwork) -> Network:
    name = loaded.metadata.get("dataset")
    shape = IMAGES.get(str(name), (loaded.config.in_channels, *IMAGES["cifar10"][1:]))
    return Network(
        loaded.model, spec, path, loaded.normalisation, name, shape=shape,
        said_by="the network's file", accuracy=loaded.metadata.get("accuracy"),
    )  # fmt: skip


def _library(spec: str, weights: str | None, key: str | None, build: Any) -> Network:
    """A network of torchvision or timm, with a file's, the published or random weights."""
    try:
        model, normalisation, framing = build(spec.partition(":")[2], weights)
    except URLError as error:
        raise ConnectionError(
            f"the published weights of {spec} could not be downloaded ({error.reason}): give a "
            "file of weights, or a network of your own as path/to/file.py:function"
        ) from error
    shape, said_by = (3, framing.crop, framing.crop), spec.partition(":")[0]
    if weights is None:
        remark = (
            f"{spec} has RANDOM weights, so nothing it says means anything: give --weights FILE, "
            f"or --weights {PUBLISHED} to download the published ones"
        )
        return Network(
            model, spec, None, normalisation, remark=remark, framing=framing, shape=shape,
            said_by=said_by,
        )  # fmt: skip
    path = Path(weights)
    if _is_file(weights):
        ann.load_into(model, weights, key)
    source = path if _is_file(weights) else None
    return Network(
        model, spec, source, normalisation, framing=framing, shape=shape, said_by=said_by
    )


def _is_file(weights: str) -> bool:
    """Whether --weights names a file, and not weights that a library publishes."""
    return bool(Path(weights).suffix) or Path(weights).exists()


def _torchvision(name: str, weights: str | None) -> tuple[nn.Module, Normalisation, Framing]:
    """(model, what the weights' own transforms do to images); downloads published weights."""
    try:
        import torchvision
    except ImportError as error:
        raise InputError(
            f"torchvision:{name} needs torchvision, which cannot be loaded ({error}): "
            "pip install 'spiking-resnet[vision]'"
        ) from None
    if name not in torchvision.models.list_models(torchvision.models):
        raise InputError(f"torchvision has no classifier {name!r}: use a name such as resnet34")
    known = torchvision.models.get_model_weights(name)
    if weights is None or _is_file(weights):
        chosen = None
        # A downloaded file is known by its name; others are taken for the first, usual recipe's.
        named = [e for e in known if weights and Path(e.url).name == Path(weights).name]
        described = next(iter(named or known))
    else:
        if weights != PUBLISHED and weights not in known.__members__:
            raise InputError(
                f"--weights {weights!r}: a file, {PUBLISHED!r}, or one of "
                f"{', '.join(known.__members__)}"
            )
        chosen = described = known[weights.upper() if weights == PUBLISHED else weights]
    transforms = described.transforms()
    return (
        torchvision.models.get_model(name, weights=chosen),
        Normalisation(tuple(transforms.mean), tuple(transforms.std)),
        Framing(transforms.resize_size[0], transforms.crop_size[0], transforms.interpolation.value),
    )


def _timm(name: str, weights: str | None) -> tuple[nn.Module, Normalisation, Framing]:
    """(model, what timm's data configuration does to images); downloads published weights."""
    try:
        timm = importlib.import_module("timm")
    except ImportError:
        raise InputError(
            f"timm:{name} needs timm, which is not installed: pip install 'spiking-resnet[timm]'"
        ) from None
    if not timm.is_model(name):
        raise InputError(f"timm has no model {name!r}: see timm.list_models('*resnet*')")
    if weights not in (None, PUBLISHED) and not _is_file(weights):
        raise InputError(f"--weights {weights!r}: a file, or {PUBLISHED!r}")
    model = timm.create_model(name, pretrained=weights == PUBLISHED)
    found = importlib.import_module("timm.data").resolve_model_data_config(model)
    _, height, width = found["input_size"]
    if height != width or found["crop_mode"] != "center":
        raise InputError(
            f"timm:{name} takes images of {height} x {width}, cropped as {found['crop_mode']!r}; "
            "only central squares can be made here"
        )
    resize = math.floor(height / found["crop_pct"])
    normalisation = Normalisation(tuple(found["mean"]), tuple(found["std"]))
    return model, normalisation, Framing(resize, height, found["interpolation"])


def _from_onnx(spec: str, weights: str | None) -> Network:
    """The network in an ONNX file, which holds its weights."""
    if weights is not None:
        raise InputError(f"{spec} comes with its own weights: leave out --weights")
    if not Path(spec).is_file():
        raise FileNotFoundError(f"{spec}: no such file")
    return Network(Path(spec), spec, Path(spec))


def _functions(module: ModuleType) -> str:
    """What to write instead: the functions that the file itself defines."""
    found = [n for n, f in vars(module).items() if inspect.isfunction(f)]
    own = [n for n in found if getattr(module, n).__module__ == module.__name__ and n[0] != "_"]
    return f": it defines {', '.join(own[:8])}" if own else ": write one that returns the network"


def _from_file(spec: str, weights: str | None, key: str | None) -> Network:
    """What a function without arguments in the user's file returns."""
    path, _, name = spec.rpartition(":")
    if not path.endswith(".py") or not name:
        raise InputError(f"{spec!r}: write path/to/file.py:function, with the function's name")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path in {spec!r}")
    module = _imported(Path(path))
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{path} defines no function {name!r}{_functions(module)}")
    try:
        model = function()
    except (Exception, SystemExit) as error:
        raise InputError(f"{name}() failed: {_where(Path(path), error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{name}() returned a {type(model).__name__}, not a torch.nn.Module")
    if weights is not None:
        ann.load_into(model, weights, key)
        return Network(model, spec, Path(weights))
    remark = f"no --weights: {spec} is taken with the weights that its function gave it"
    return Network(model, spec, remark=remark)


def _imported(path: Path) -> Any:
    """The module in a file; its folder is where it finds its neighbours."""
    found = importlib.util.spec_from_file_location(f"_user_{path.stem}", path)
    if found is None or found.loader is None:
        raise InputError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses look their module up there
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"importing {path} failed: {_where(path, error)}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _where(path: Path, error: BaseException) -> str:
    """An error's kind and text, and its last line in the user's file."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path
    ]
    place = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{place}"
