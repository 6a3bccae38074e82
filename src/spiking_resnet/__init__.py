"""Turns trained residual networks into spiking ones, simulates them exactly, and measures them."""

from importlib.metadata import PackageNotFoundError, version

from spiking_resnet import methods
from spiking_resnet.calls import TraceError
from spiking_resnet.compare import Comparison, compare
from spiking_resnet.convert import convert
from spiking_resnet.diagnose import Diagnosis, diagnose
from spiking_resnet.evaluate import evaluate
from spiking_resnet.from_onnx.package import OnnxError
from spiking_resnet.from_onnx.translate import trace_onnx
from spiking_resnet.graph import Graph, GraphError
from spiking_resnet.recipes import RECIPES, Recipe
from spiking_resnet.records import Calibration, Curve, InputError, LayerCount, Point, Run
from spiking_resnet.resume import ResumeError
from spiking_resnet.simulate import simulate
from spiking_resnet.spiking_module import as_module
from spiking_resnet.store import StoreError, load, save
from spiking_resnet.trace import trace
from spiking_resnet.tune import Limits, Tuning, tune

try:
    __version__ = version("spiking-resnet")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "unknown"

__all__ = [
    "RECIPES",
    "Calibration",
    "Comparison",
    "Curve",
    "Diagnosis",
    "Graph",
    "GraphError",
    "InputError",
    "LayerCount",
    "Limits",
    "OnnxError",
    "Point",
    "Recipe",
    "ResumeError",
    "Run",
    "StoreError",
    "TraceError",
    "Tuning",
    "as_module",
    "compare",
    "convert",
    "diagnose",
    "evaluate",
    "load",
    "methods",
    "save",
    "simulate",
    "trace",
    "trace_onnx",
    "tune",
]
