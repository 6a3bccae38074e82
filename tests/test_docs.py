"""What the documents name is there."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "spiking_resnet"
# `folder/file.py`, `folder/file`, `folder/file.name`, `folder/`, `file.h`
PATH = re.compile(
    r"`((?:[a-z_0-9]+/)+(?:[a-z_0-9*]+(?:\.[A-Za-z_]+)?)?|[a-z_0-9*]+\.(?:py|h|cpp))`"
)
THEIRS = ("demo/", "path/", "weights/")  # a user's own folders


def exists(named):
    plain = named if named.endswith((".py", ".h", ".cpp", ".md")) else named.split(".")[0]
    forms = (plain.rstrip("/"), f"{plain}.py")
    return any((ROOT / form).exists() or any(PACKAGE.rglob(form)) for form in forms)


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_every_file_that_a_document_names_is_there(document):
    named = [path for path in PATH.findall(document.read_text()) if not path.startswith(THEIRS)]
    missing = [path for path in named if not exists(path)]
    assert not missing, missing


def test_a_file_that_is_not_there_is_found_out():
    assert PATH.findall("see `engines/no_such.py` and `graph/interpret`") == [
        "engines/no_such.py", "graph/interpret",
    ]  # fmt: skip
    assert not exists("engines/no_such.py")
    assert exists("graph/interpret")
    assert exists("graph/exactness.exact_steps")
