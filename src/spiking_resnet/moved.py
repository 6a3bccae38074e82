"""Keep the module paths of version 0.1 importable, with a DeprecationWarning."""

import sys
from collections.abc import Callable, Mapping
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
    "ann.start": "ann.initial_weights",
    "aten": "capture.aten",
    "calls": "capture.calls",
    "compare": "evaluation.compare",
    "convert": "conversion.convert",
    "diagnose": "evaluation.diagnose",
    "engines.code": "engines.cpu.bit_code",
    "engines.fuse": "engines.cpu.fuse",
    "engines.kernels": "engines.cpu.library",
    "engines.population": "engines.cpu.population",
    "evaluate": "evaluation.evaluate",
    "fairness": "evaluation.conditions",
    "from_onnx": "capture.onnx",
    "from_onnx.translate": "capture.onnx.translate",
    "inspection": "evaluation.inspect",
    "interpret": "graph.interpret",
    "judging": "evaluation.candidate",
    "machine": "environment",
    "methods": "conversion.methods",
    "methods.differential_coded": "conversion.methods.differential",
    "methods.layer_by_layer": "conversion.methods.calibrated",
    "methods.rate_coded": "conversion.methods.rate_coded",
    "moves": "capture.reindex",
    "operations": "costs.operations",
    "pair": "conversion.layer_by_layer",
    "rates": "evaluation.rates",
    "recipes": "conversion.presets",
    "report.plot": "report.curve",
    "reproduce": "evaluation.reproduce",
    "resume": "evaluation.progress_file",
    "simulate": "engines.simulate",
    "statistics": "conversion.statistics",
    "structure": "graph.structure",
    "synapses": "costs.sizes",
    "tally": "evaluation.counts",
    "trace": "capture.module",
    "tune": "evaluation.tune",
    "windows": "capture.windows",
}
# Names that were in a module which is there still.
_NAMES = {
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
        if name.startswith("__"):  # asked by Python itself
            raise AttributeError(name)
        found = getattr(import_module(self._new), name)
        warn(f"{self.__name__} is now {self._new}", DeprecationWarning, stacklevel=2)
        return found


def _elsewhere(old: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a module that finds names which moved elsewhere (PEP 562)."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        new = f"{__package__}.{names[name]}"
        warn(f"{old}.{name} is now {new}.{name}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(new), name)

    return find


def register() -> None:
    """Make the old paths importable. Names of the package stay what they are."""
    for old, new in _NOW.items():
        path = f"{__package__}.{old}".rstrip(".")
        sys.modules.setdefault(path, _Moved(path, f"{__package__}.{new}".rstrip(".")))
    for old, names in _NAMES.items():
        path = f"{__package__}.{old}"
        vars(import_module(path))["__getattr__"] = _elsewhere(path, names)
