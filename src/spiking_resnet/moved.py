"""Keep the module paths of version 0.1 importable, with a DeprecationWarning."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any
from warnings import warn

_PASSES = (
    "calibrate", "compensate", "differential", "encode", "fire", "fold_bn", "gate", "normalise",
    "pools", "serial", "shift", "shortcuts", "snap", "thresholds",
)  # fmt: skip
_NOW = {
    **{f"passes.{name}": f"conversion.passes.{name}" for name in ("", *_PASSES)},
    "aliases": "capture.aliases",
    "ann.processes": "processes.training",
    "ann.start": "ann.initial_weights",
    "aten": "capture.aten",
    "aten_arithmetic": "capture.arithmetic",
    "aten_clips": "capture.clips",
    "aten_linear": "capture.linear",
    "aten_pools": "capture.pools",
    "aten_writes": "capture.writes",
    "calls": "capture.calls",
    "cli.facts": "cli.provenance",
    "compare": "evaluation.compare",
    "convert": "conversion.convert",
    "diagnose": "evaluation.diagnose",
    "engines.code": "engines.cpu.bit_code",
    "engines.fuse": "engines.cpu.fuse",
    "engines.kernels": "engines.cpu.library",
    "engines.memory": "engines.cpu.memory",
    "engines.population": "engines.cpu.population",
    "evaluate": "evaluation.evaluate",
    "fairness": "evaluation.conditions",
    "from_onnx": "capture.onnx",
    "from_onnx.borders": "capture.onnx.padding",
    "from_onnx.ends": "capture.onnx.logits",
    "from_onnx.evaluate": "capture.onnx.evaluator",
    "from_onnx.facts": "capture.onnx.inference",
    "from_onnx.file": "capture.onnx.file",
    "from_onnx.load": "capture.onnx.load",
    "from_onnx.moves": "capture.onnx.layout",
    "from_onnx.nearest": "capture.onnx.nearest",
    "from_onnx.operators": "capture.onnx.operators",
    "from_onnx.package": "capture.onnx.package",
    "from_onnx.reference": "capture.onnx.reference",
    "from_onnx.standard": "capture.onnx.standard",
    "from_onnx.step": "capture.onnx.operation",
    "from_onnx.translate": "capture.onnx.translate",
    "from_onnx.windows": "capture.onnx.spatial",
    "graph.rules": "rules",
    "heads": "capture.heads",
    "inspection": "evaluation.inspect",
    "interpret": "graph.interpret",
    "judging": "evaluation.candidate",
    "logits": "capture.logits",
    "machine": "environment",
    "methods": "conversion.methods",
    "methods.differential_coded": "conversion.methods.differential",
    "methods.layer_by_layer": "conversion.methods.calibrated",
    "methods.rate_coded": "conversion.methods.rate_coded",
    "moves": "capture.reindex",
    "operations": "costs.operations",
    "pair": "conversion.layer_by_layer",
    "paired": "evaluation.paired",
    "plain": "graph.plain",
    "programs": "capture.batch_size",
    "rates": "evaluation.rates",
    "recipes": "conversion.presets",
    "rectifiers": "capture.rectifiers",
    "report.plot": "report.curve",
    "reproduce": "evaluation.reproduce",
    "resume": "evaluation.progress_file",
    "simulate": "engines.simulate",
    "sources": "capture.sources",
    "statistics": "conversion.statistics",
    "structure": "graph.structure",
    "synapses": "costs.sizes",
    "tally": "evaluation.counts",
    "trace": "capture.module",
    "tune": "evaluation.tune",
    "windows": "capture.windows",
}
# Names that were in a module which is there still, and asks `elsewhere` for them.
_NAMES = {
    "conversion.passes.snap": dict.fromkeys(("exact_steps", "exact_steps_of"), "graph.exactness"),
    "evaluation.tune": dict.fromkeys(("least_images", "within"), "evaluation.trials"),
    "records": {
        **dict.fromkeys(("Calibration", "Sample"), "conversion.calibration"),
        **dict.fromkeys(
            (
                "LABELS", "as_images", "as_maps", "given_images", "image_digest", "images_of",
                "map_shape", "parts_of",
            ),
            "images",
        ),
    }
}  # fmt: skip


class _Moved(ModuleType):
    """A stand-in at an old path; its attributes are those of the module at the new path."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(old, f"Moved to {new}.")
        self.__dict__["_new"] = new

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":  # what a star imports
            return [each for each in dir(self) if not each.startswith("_")]
        if name.startswith("__"):  # asked by Python itself
            raise AttributeError(name)
        found = getattr(import_module(self._new), name)
        warn(f"{self.__name__} is now {self._new}", DeprecationWarning, stacklevel=2)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(import_module(self._new), name, value)

    def __dir__(self) -> list[str]:
        return dir(import_module(self._new))


def elsewhere(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose names moved elsewhere (PEP 562)."""
    names = _NAMES[module.removeprefix(f"{__package__}.")]

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = f"{__package__}.{names[name]}"
        warn(f"{module}.{name} is now {new}.{name}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(new), name)

    return find


def register() -> None:
    """Make the old paths importable. Names of the package stay what they are."""
    for old, new in _NOW.items():
        path = f"{__package__}.{old}".rstrip(".")
        sys.modules.setdefault(path, _Moved(path, f"{__package__}.{new}".rstrip(".")))
