"""Turns trained residual networks into spiking ones, simulates them exactly, and measures them.

>>> import spiking_resnet as sr
>>> snn = sr.convert(network, calibration)  # a torch.nn.Module; some hundred training images
>>> curve = sr.evaluate(snn, loader, steps=(8, 32))  # print(curve); curve.plot()
>>> run = sr.simulate(snn, calibration[:4], steps=32)  # run.logits, run.spikes
>>> sr.save(snn, "snn.safetensors")

Which method, at what cost: `compare`, `tune`, `diagnose`, `energy`, `summary`; names of methods are
in `RECIPES`. To others: `to_nir`, `to_onnx`, `to_c` (of `to_integers`), `to_torch`; from ONNX:
`convert("model.onnx", ...)`. Trained networks and images to try it on: `spiking_resnet.ann`.
On the command line: `spiking-resnet --help`.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from spiking_resnet import moved
from spiking_resnet.shown import Shown, Views

if TYPE_CHECKING:
    from spiking_resnet.capture.calls import TraceError as TraceError
    from spiking_resnet.capture.module import trace as trace
    from spiking_resnet.capture.onnx.package import OnnxError as OnnxError
    from spiking_resnet.capture.onnx.translate import trace_onnx as trace_onnx
    from spiking_resnet.conversion import methods as methods
    from spiking_resnet.conversion.calibration import Calibration as Calibration
    from spiking_resnet.conversion.convert import convert as convert
    from spiking_resnet.conversion.presets import RECIPES as RECIPES
    from spiking_resnet.conversion.presets import Recipe as Recipe
    from spiking_resnet.costs.energy import Account as Account
    from spiking_resnet.costs.events import Events as Events
    from spiking_resnet.decided import Decisions as Decisions
    from spiking_resnet.decided import PerClass as PerClass
    from spiking_resnet.engines.simulate import simulate as simulate
    from spiking_resnet.evaluation.compare import Comparison as Comparison
    from spiking_resnet.evaluation.compare import compare as compare
    from spiking_resnet.evaluation.diagnose import diagnose as diagnose
    from spiking_resnet.evaluation.diagnosis import Diagnosis as Diagnosis
    from spiking_resnet.evaluation.energy import count_events as count_events
    from spiking_resnet.evaluation.energy import energy as energy
    from spiking_resnet.evaluation.evaluate import evaluate as evaluate
    from spiking_resnet.evaluation.progress_file import ResumeError as ResumeError
    from spiking_resnet.evaluation.stopping import calibrate_stop as calibrate_stop
    from spiking_resnet.evaluation.summary import Summary as Summary
    from spiking_resnet.evaluation.summary import summary as summary
    from spiking_resnet.evaluation.trials import Limits as Limits
    from spiking_resnet.evaluation.trials import Tuning as Tuning
    from spiking_resnet.evaluation.tune import tune as tune
    from spiking_resnet.export.c.source import to_c as to_c
    from spiking_resnet.export.format import ExportError as ExportError
    from spiking_resnet.export.integer import to_integers as to_integers
    from spiking_resnet.export.nir.file import NirError as NirError
    from spiking_resnet.export.nir.read import from_nir as from_nir
    from spiking_resnet.export.nir.verification import Verification as Verification
    from spiking_resnet.export.nir.verify import verify as verify
    from spiking_resnet.export.nir.write import to_nir as to_nir
    from spiking_resnet.export.onnx.write import to_onnx as to_onnx
    from spiking_resnet.export.stream import Stream as Stream
    from spiking_resnet.export.torch import to_torch as to_torch
    from spiking_resnet.export.tuned import from_torch as from_torch
    from spiking_resnet.graph import Graph as Graph
    from spiking_resnet.graph import GraphError as GraphError
    from spiking_resnet.records import Curve as Curve
    from spiking_resnet.records import InputError as InputError
    from spiking_resnet.records import LayerCount as LayerCount
    from spiking_resnet.records import Point as Point
    from spiking_resnet.records import Run as Run
    from spiking_resnet.records import Stop as Stop
    from spiking_resnet.records import Stopped as Stopped
    from spiking_resnet.spiking_module import as_module as as_module
    from spiking_resnet.store import StoreError as StoreError
    from spiking_resnet.store import load as load
    from spiking_resnet.store import save as save

# Public names, and the modules that hold them: loaded when they are first asked for, because torch
# takes seconds to load.
_PUBLIC = {
    "Account": "costs.energy",
    "Calibration": "conversion.calibration",
    "Comparison": "evaluation.compare",
    "Curve": "records",
    "Decisions": "decided",
    "Diagnosis": "evaluation.diagnosis",
    "Events": "costs.events",
    "ExportError": "export.format",
    "Graph": "graph",
    "GraphError": "graph",
    "InputError": "records",
    "LayerCount": "records",
    "Limits": "evaluation.trials",
    "NirError": "export.nir.file",
    "OnnxError": "capture.onnx.package",
    "PerClass": "decided",
    "Point": "records",
    "RECIPES": "conversion.presets",
    "Recipe": "conversion.presets",
    "ResumeError": "evaluation.progress_file",
    "Run": "records",
    "Stop": "records",
    "Stopped": "records",
    "StoreError": "store",
    "Stream": "export.stream",
    "Summary": "evaluation.summary",
    "TraceError": "capture.calls",
    "Tuning": "evaluation.trials",
    "Verification": "export.nir.verification",
    "as_module": "spiking_module",
    "calibrate_stop": "evaluation.stopping",
    "compare": "evaluation.compare",
    "convert": "conversion.convert",
    "count_events": "evaluation.energy",
    "diagnose": "evaluation.diagnose",
    "energy": "evaluation.energy",
    "evaluate": "evaluation.evaluate",
    "from_nir": "export.nir.read",
    "from_torch": "export.tuned",
    "load": "store",
    "methods": "conversion.methods",
    "save": "store",
    "simulate": "engines.simulate",
    "summary": "evaluation.summary",
    "to_c": "export.c.source",
    "to_integers": "export.integer",
    "to_nir": "export.nir.write",
    "to_onnx": "export.onnx.write",
    "to_torch": "export.torch",
    "trace": "capture.module",
    "trace_onnx": "capture.onnx.translate",
    "tune": "evaluation.tune",
    "verify": "export.nir.verify",
}


def __getattr__(name: str) -> Any:
    """A public name, or a module of the package (PEP 562)."""
    if name.startswith("__") or not name.isidentifier():  # asked by Python itself, or no name
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = f"{__name__}.{_PUBLIC.get(name, name)}"
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    if name not in _PUBLIC:
        return module
    globals()[name] = getattr(module, name, module)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def _views() -> Views:
    from spiking_resnet.report.views import VIEWS

    return VIEWS


try:
    __version__ = version("spiking-resnet")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "unknown"

__all__ = list(_PUBLIC)

moved.register()
Shown.views = _views
