"""What is loaded when: torch takes seconds, so names and commands wait until they are asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_resnet as sr
from spiking_resnet.cli import COMMANDS, app
from spiking_resnet.cli.commands import loaded

PACKAGE = Path(sr.__file__).parent


def test_checkers_of_types_see_the_public_names_where_they_are():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (one for one in tree.body if isinstance(one, ast.If))
    seen = {
        (name.asname, f"{one.module}.{name.name}")
        for one in block.body
        if isinstance(one, ast.ImportFrom)
        for name in one.names
    }
    told = {
        (name, f"spiking_resnet.{where}" + f".{name}" * (name != "methods"))
        for name, where in sr._PUBLIC.items()
    }
    assert seen == told


def test_public_names_are_what_they_are_called():
    for name in sr.__all__:
        found = getattr(sr, name)
        assert getattr(found, "__name__", name).rpartition(".")[2] == name
        assert name in dir(sr)


@pytest.mark.parametrize("name", ["graph.nope", "nope.graph", ".graph", "", "a b"])
def test_what_is_no_name_is_not_there(name):
    assert not hasattr(sr, name)


def test_a_name_that_is_not_there_is_refused_by_name():
    with pytest.raises(AttributeError, match="nothing"):
        sr.nothing  # noqa: B018
    assert not hasattr(sr, "__wrapped__")


@pytest.mark.parametrize(
    "code",
    [
        "import spiking_resnet",
        "from spiking_resnet.cli import app; app(['--version'], standalone_mode=False)",
        "from spiking_resnet.cli import app; app(['--help'], standalone_mode=False)",
    ],
)
def test_torch_is_notloaded_for(code):
    ends = "import sys; assert not {'torch', 'numpy', 'matplotlib'} & sys.modules.keys()"
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PATH": ""}
    subprocess.run([sys.executable, "-c", f"{code}; {ends}"], check=True, env=environment)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_listed_command_is_the_one_of_its_module(name):
    command = loaded(name)
    assert command.name == name
    assert command.help
    assert "spiking-resnet" in command.epilog
    assert len(COMMANDS[name]) < 65  # one line of 80 columns


def test_commands_have_their_modules():
    assert [one.name for one in app.registered_commands] == list(COMMANDS)
