"""What users hand over as a model: the module in it, or an error that says what it is instead."""

import copy
import inspect
import zipfile
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from spiking_resnet import signatures
from spiking_resnet.capture.calls import TraceError

Model = nn.Module | torch.export.ExportedProgram | str | Path
signatures.alias("Model", Model)

# Held while a user's module is looked at or run: torch.export, in another thread, puts stand-ins in
# the place of its weights.
ALONE = RLock()

_LIBRARIES = ("torch", "torchao")  # whose modules of these names quantise
_QUANTISING = {"quantized", "qat", "fake_quantize", "observer", "quantization"}
_HALF = (torch.float16, torch.bfloat16)
_STUBS = ("QuantStub", "DeQuantStub", "QuantWrapper")  # which compute nothing
_LOAD = "build the network in Python and give it its weights with load_state_dict"


def path_of(model: Any) -> Path | None:
    """The path of an ONNX file; None for what is no path. Raises TraceError for other files."""
    if not isinstance(model, str | Path):
        return None
    path = Path(model)
    if path.is_file() and path.suffix != ".onnx" and (found := _file_kind(path)):
        raise TraceError(f"{path} is {found}")
    if not path.exists() and not path.suffix:
        raise TraceError(
            f"{str(model)!r} is no file: give the module itself, or the path of an ONNX file "
            "(networks are called by name on the command line alone)"
        )
    if path.is_dir():
        raise TraceError(f"{path} is a folder: give the path of an ONNX file, or the module itself")
    return path


def _file_kind(path: Path) -> str:
    """What a file that is no ONNX file holds, and what to do; empty if it is not known."""
    if path.suffix == ".safetensors":
        return f"a file of tensors: a converted network is read by load; of weights, {_LOAD}"
    if path.suffix in (".py", ".ipynb"):
        return "source code: import it and give the module itself"
    if path.suffix in (".h5", ".keras", ".pb", ".tflite"):
        return "a network of TensorFlow's or Keras's: export it to ONNX (tf2onnx) and give that"
    if not zipfile.is_zipfile(path):
        legacy = path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".tar")
        return f"a checkpoint, or a pickled object: {_LOAD}, and give the module" if legacy else ""
    names = {name.partition("/")[2] or name for name in zipfile.ZipFile(path).namelist()}
    if any(name.startswith("code/") for name in names):
        return f"a TorchScript archive, whose calls cannot be read reliably: {_LOAD}"
    if path.suffix == ".pt2" or any(name.startswith(("models/", "serialized_")) for name in names):
        return "an exported program: give torch.export.load(path) instead of its path"
    if "data.pkl" in names:
        return (
            f"a file of torch.save, a state dict or a pickled module: {_LOAD}, and give the module"
        )
    return ""


def module_of(model: Any) -> nn.Module:
    """The user's own module, without what training and compilation put around it.

    Of an exported program its module. Raises TraceError for anything that cannot be one.
    """
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(original := getattr(model, "_orig_mod", None), nn.Module):
            model = original
        else:
            break
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if not isinstance(model, nn.Module):
        raise TraceError(f"the model is {_described(model)}")
    with ALONE:
        _check(model)
    return model


def single_precision(model: nn.Module) -> nn.Module:
    """The module; of one in half precision a copy that computes with its weights in float32."""
    try:
        with ALONE:
            if not any(parameter.dtype in _HALF for parameter in model.parameters()):
                return model
            return copy.deepcopy(model).float()
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__} is in half precision, and cannot be copied to float32 "
            f"({type(error).__name__}): give model.float()"
        ) from error


def _described(model: Any) -> str:
    """What something that is no module is, and what to give instead."""
    kind = type(model).__name__
    if isinstance(model, type):
        return f"the class {model.__name__}: give an instance of it, {model.__name__}(...)"
    if isinstance(model, Mapping):
        return (
            f"a {kind} of {len(model)} entries, such as a state dict: it holds weights without the "
            f"network; {_LOAD}, and give the module"
        )
    if kind == "ModelProto":
        return "an ONNX network in memory: write it with onnx.save and give the file's path"
    if kind == "Graph":
        return "a converted or traced Graph already: give the module or ONNX file it came from"
    if callable(model):
        name = getattr(model, "__name__", kind)
        return (
            f"{name!r}, a function or callable object: wrap it in a torch.nn.Module that holds its "
            "weights, and whose forward(self, images) returns the logits"
        )
    if isinstance(getattr(model, "model", None), nn.Module):
        return f"a {kind}: give its .model"
    return f"a {kind}: give a torch.nn.Module, or the path of an ONNX file"


def _check(model: nn.Module) -> None:
    """Raises TraceError for modules that cannot run, or not as ANNs."""
    kind = type(model).__name__
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            which = f"{name!r} of {kind} is" if name else f"{kind} is"
            raise TraceError(
                f"{which} a TorchScript module, whose calls cannot be read reliably: {_LOAD} "
                "(its own state_dict() has them)"
            )
    for name, module in model.named_modules():
        parts = type(module).__module__.split(".")
        quantises = parts[0] in _LIBRARIES and _QUANTISING & set(parts)
        if quantises and type(module).__name__ not in _STUBS:
            raise TraceError(
                f"{kind} is quantised, or prepared for it ({name!r} is a {type(module).__name__}): "
                "convert the float network, as it was before prepare, prepare_qat or convert"
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise TraceError(
                f"{name!r} of {kind} has no shape yet: run it once on a batch of images, and train "
                "it, before it is converted"
            )
        if tensor.is_meta:
            raise TraceError(f"{name!r} of {kind} is on the device 'meta', without values: load it")
    _check_arguments(model)


def _check_arguments(model: nn.Module) -> None:
    """Raises TraceError where forward needs more than a batch of images."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a forward without a signature
        return
    needed = [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    by_name = [each.name for each in parameters if each.kind == each.KEYWORD_ONLY]
    images = [each.name for each in parameters if each.kind != each.KEYWORD_ONLY]
    extra = [name for name in needed if name in by_name or name != images[0]]
    if extra or not images:
        raise TraceError(
            f"{type(model).__name__}.forward needs {', '.join(extra) or 'no images'} besides one "
            "batch of images: wrap it in a module whose forward(self, images) gives it the rest"
        )
