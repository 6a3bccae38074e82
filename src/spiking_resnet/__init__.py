"""Turns trained residual networks into spiking ones, simulates them exactly, and measures them."""

from importlib.metadata import PackageNotFoundError, version

from spiking_resnet import moved
from spiking_resnet.capture.calls import TraceError
from spiking_resnet.capture.module import trace
from spiking_resnet.capture.onnx.package import OnnxError
from spiking_resnet.capture.onnx.translate import trace_onnx
from spiking_resnet.conversion import methods
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.convert import convert
from spiking_resnet.conversion.presets import RECIPES, Recipe
from spiking_resnet.costs.energy import Account
from spiking_resnet.costs.events import Events
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.evaluation.compare import Comparison, compare
from spiking_resnet.evaluation.diagnose import Diagnosis, diagnose
from spiking_resnet.evaluation.energy import count_events, energy
from spiking_resnet.evaluation.evaluate import evaluate
from spiking_resnet.evaluation.progress_file import ResumeError
from spiking_resnet.evaluation.stopping import calibrate_stop
from spiking_resnet.evaluation.trials import Limits, Tuning
from spiking_resnet.evaluation.tune import tune
from spiking_resnet.export.c.source import to_c
from spiking_resnet.export.format import ExportError
from spiking_resnet.export.integer import to_integers
from spiking_resnet.export.nir.file import NirError
from spiking_resnet.export.nir.read import from_nir
from spiking_resnet.export.nir.verification import Verification
from spiking_resnet.export.nir.verify import verify
from spiking_resnet.export.nir.write import to_nir
from spiking_resnet.export.onnx.write import to_onnx
from spiking_resnet.export.stream import Stream
from spiking_resnet.export.torch import to_torch
from spiking_resnet.export.tuned import from_torch
from spiking_resnet.graph import Graph, GraphError
from spiking_resnet.records import Curve, InputError, LayerCount, Point, Run, Stop, Stopped
from spiking_resnet.shown import Shown, Views
from spiking_resnet.spiking_module import as_module
from spiking_resnet.store import StoreError, load, save


def _views() -> Views:
    from spiking_resnet.report.views import VIEWS

    return VIEWS


try:
    __version__ = version("spiking-resnet")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "unknown"

__all__ = [
    "RECIPES",
    "Account",
    "Calibration",
    "Comparison",
    "Curve",
    "Diagnosis",
    "Events",
    "ExportError",
    "Graph",
    "GraphError",
    "InputError",
    "LayerCount",
    "Limits",
    "NirError",
    "OnnxError",
    "Point",
    "Recipe",
    "ResumeError",
    "Run",
    "Stop",
    "Stopped",
    "StoreError",
    "Stream",
    "TraceError",
    "Tuning",
    "Verification",
    "as_module",
    "calibrate_stop",
    "compare",
    "convert",
    "count_events",
    "diagnose",
    "energy",
    "evaluate",
    "from_nir",
    "from_torch",
    "load",
    "methods",
    "save",
    "simulate",
    "to_c",
    "to_integers",
    "to_nir",
    "to_onnx",
    "to_torch",
    "trace",
    "trace_onnx",
    "tune",
    "verify",
]

moved.register()
Shown.views = _views
