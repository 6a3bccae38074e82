"""Paths of modules before they moved."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_resnet
from spiking_resnet import moved

pytestmark = pytest.mark.whole


@pytest.mark.parametrize(("old", "new"), moved._NOW.items())
def test_an_old_path_gives_what_the_new_one_holds_and_says_so(old, new):
    old, new = (f"spiking_resnet.{path}".rstrip(".") for path in (old, new))
    module = importlib.import_module(new)
    name = next(name for name in vars(module) if not name.startswith("__"))
    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(importlib.import_module(old), name) is getattr(module, name)


@pytest.mark.parametrize("old", moved._NAMES)
def test_names_that_moved_are_found_in_their_old_module(old):
    module = importlib.import_module(f"spiking_resnet.{old}")
    for name, new in moved._NAMES[old].items():
        with pytest.warns(DeprecationWarning, match=new):
            found = getattr(module, name)
        assert found is getattr(importlib.import_module(f"spiking_resnet.{new}"), name)
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018


def test_functions_of_the_package_are_not_hidden_by_the_old_modules():
    code = (
        "import spiking_resnet.simulate, spiking_resnet.trace, spiking_resnet as sr;"
        "from spiking_resnet.simulate import ENGINES;"
        "assert callable(sr.simulate) and callable(sr.trace) and ENGINES;"
        "import spiking_resnet.engines.simulate as module; assert module.ENGINES is ENGINES"
    )
    path = str(Path(spiking_resnet.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path, "PATH": ""})


def test_an_old_module_is_imported_whole_listed_and_changed_as_the_new_one(monkeypatch):
    held: dict[str, object] = {}
    with pytest.warns(DeprecationWarning, match="environment"):
        exec("from spiking_resnet.machine import *", held)
    new = importlib.import_module("spiking_resnet.environment")
    assert {name for name in vars(new) if not name.startswith("_")} <= held.keys()
    assert dir(spiking_resnet.machine) == dir(new)
    monkeypatch.setattr(new, "told", 1, raising=False)
    spiking_resnet.machine.told = 2
    assert new.told == 2


def test_old_modules_are_found_in_the_package_and_in_its_folders():
    code = (
        "import spiking_resnet as sr; from spiking_resnet.engines import fuse;"
        "from spiking_resnet.ann import start; import spiking_resnet.graph.rules as rules;"
        "assert sr.statistics.measure and fuse.Fused and start and rules"
    )
    path = str(Path(spiking_resnet.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path, "PATH": ""})
