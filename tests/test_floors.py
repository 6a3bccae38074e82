"""Imports only go down: a file may read the files of lower floors, and of its own never."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_resnet

ROOT = Path(spiking_resnet.__file__).parent
FLOORS = [
    ("machine", "labels", "neurons", "files", "paired", "printable", "surroundings"),
    ("graph.nodes", "graph.rules"),
    ("graph.fields", "graph.values", "graph.shapes", "graph.notes"),
    ("graph.checks",),
    ("graph", "from_onnx"),
    ("records", "structure", "interpret", "calls", "windows"),
    ("aliases", "arguments", "logits", "programs", "sources"),
    ("capture",),
    ("moves", "rectifiers"),
    ("aten_pools", "aten_arithmetic", "aten_linear"),
    ("aten_clips", "aten_writes"),
    ("aten",),
    ("heads",),
    ("trace", "from_onnx.package"),
    ("from_onnx.nearest",),
    ("from_onnx.load", "from_onnx.ends", "from_onnx.standard"),
    ("from_onnx.evaluate",),
    ("from_onnx.facts",),
    ("from_onnx.file",),
    ("from_onnx.step", "from_onnx.reference"),
    ("from_onnx.borders",),
    ("from_onnx.windows",),
    ("from_onnx.moves",),
    ("from_onnx.operators",),
    ("from_onnx.translate",),
    ("statistics", "rates", "synapses", "pair"),
    ("plain",),
    ("passes",),
    ("passes.claims",),
    ("engines.code", "engines.memory", "engines.plan"),
    ("engines.kernels", "engines.fuse"),
    ("engines.population",),
    ("engines",),
    ("simulate", "store", "energy", "tally", "operations"),
    ("resume", "spiking_module"),
    ("methods.checks",),
    ("methods.rate_coded", "methods.differential_coded", "methods.layer_by_layer"),
    ("methods",),
    ("convert", "evaluate", "recipes", "fairness"),
    ("judging",),
    ("reproduce", "diagnose", "inspection", "compare"),
    ("tune",),
    ("report",),
    ("__init__",),
    ("cli",),
]
ABOVE = ("reproduce", "report", "cli")  # folders of several floors of their own; they may use `ann`


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


def floor(name):
    """(number, what it is called there) of a module; the most specific entry counts."""
    entries = [(i, entry) for i, floor in enumerate(FLOORS) for entry in floor]
    fits = [(i, e) for i, e in entries if name == e or name.startswith(f"{e}.")]
    return max(fits, key=lambda fit: len(fit[1])) if fits else None


def imported(path):
    """The modules of this package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            whole = {module(p) for p in FILES}
            names = [
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}".removeprefix("spiking_resnet.") in whole
                else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "spiking_resnet":
                yield name.removeprefix("spiking_resnet").removeprefix(".") or "__init__"


FILES = sorted(ROOT.rglob("*.py"))
CORE = [path for path in FILES if module(path).split(".")[0] != "ann"]


@pytest.mark.parametrize("path", CORE, ids=module)
def test_imports_only_go_down(path):
    own = floor(module(path))
    assert own is not None, f"{module(path)} has no floor: give it one in FLOORS"
    for name in imported(path):
        if name.split(".")[0] == "ann":
            assert own[1] in ABOVE, f"{module(path)} imports {name}"
            continue
        below = floor(name)
        assert below is not None, f"{name} has no floor: give it one in FLOORS"
        within = below[1] == own[1] and own[1] in ABOVE
        assert below[0] < own[0] or within, f"{module(path)} imports {name}"


@pytest.mark.parametrize("path", [path for path in FILES if path not in CORE], ids=module)
def test_the_source_networks_know_nothing_of_the_rest(path):
    below = ("ann", "machine", "labels", "files", "surroundings")
    assert all(name.split(".")[0] in below for name in imported(path))


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, torch; before = set(sys.modules); import spiking_resnet; " + (
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    environment = {"PYTHONPATH": str(ROOT.parent), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    loaded = set(done.stdout.split())
    assert "spiking_resnet" in loaded
    unwanted = {
        "matplotlib",
        "typer",
        "rich",
        "nir",
        "timm",
        "sklearn",
        "torchvision",
        "PIL",
        "onnx",
    }
    assert loaded & unwanted == set()
