"""Imports only go down: a file may read the files of lower floors, and of its own never."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_resnet

pytestmark = pytest.mark.whole

ROOT = Path(spiking_resnet.__file__).parent
FLOORS = [
    ("shown",),
    (
        *("codec", "environment", "files", "labels", "moved", "printable", "rules", "shares"),
        "signatures",
        "surroundings",
    ),
    ("processes", "progress"),
    ("neurons",),
    ("graph",),
    ("decided",),
    ("records",),
    ("images",),
    ("arguments",),
    ("capture", "costs", "engines"),
    ("spiking_module", "store"),
    ("conversion",),
    ("evaluation", "export"),
    ("report",),
    ("__init__",),
    ("cli",),
    ("__main__",),
]
# What `ann` may use.
BELOW_ANN = ("ann", "codec", "environment", "files", "labels", "processes", "surroundings")
ABOVE_ANN = ("evaluation.reproduce", "report", "cli")  # what may use `ann`


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


FILES = {module(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(name):
    """The modules of this package that a module imports, wherever in its file."""
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            names = [
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}".removeprefix("spiking_resnet.") in FILES
                else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        for found in names:
            if found.split(".")[0] == "spiking_resnet":
                yield found.removeprefix("spiking_resnet").removeprefix(".") or "__init__"


def floor(name):
    """The number of a module's floor."""
    room = name.split(".")[0]
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{room} has no floor: give it one in FLOORS"
    return found[0]


@pytest.mark.parametrize("name", [name for name in FILES if name.split(".")[0] != "ann"])
def test_imports_only_go_down(name):
    room = name.split(".")[0]
    for other in imported(name):
        if other.split(".")[0] == "ann":
            assert name.startswith(ABOVE_ANN), f"{name} imports {other}"
        elif other.split(".")[0] != room:
            assert floor(other) < floor(name), f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in FILES if name.split(".")[0] == "ann"])
def test_the_source_networks_know_nothing_of_the_rest(name):
    assert all(other.split(".")[0] in BELOW_ANN for other in imported(name))


def test_no_imports_go_in_circles():
    waiting = {name: {other for other in imported(name) if other != name} for name in FILES}
    while waiting:
        free = {name for name, others in waiting.items() if not others & waiting.keys()}
        assert free, f"these import one another: {sorted(waiting)}"
        waiting = {name: others for name, others in waiting.items() if name not in free}


def test_all_public_names_load_nothing_heavy():
    code = (
        "import sys, torch; before = set(sys.modules); from spiking_resnet import *; "
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
        "torchvision",
        "PIL",
        "onnx",
    }
    assert loaded & unwanted == set()
