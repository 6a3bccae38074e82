"""The documentation site builds without a warning, and shows every public name once."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_resnet

pytest.importorskip("sphinx", reason="the extra docs is not installed")

ROOT = Path(__file__).parents[2]
SHOWN = re.compile(r"^\.\. auto(?:function|class|exception|data|module):: (\S+)$", re.MULTILINE)


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    built = subprocess.run([*command, ROOT / "docs", tmp_path], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").exists()


def test_the_reference_shows_every_public_name_once():
    pages = (ROOT / "docs" / "reference" / "api").glob("*.rst")
    shown = [name for page in pages for name in SHOWN.findall(page.read_text())]
    assert sorted(shown) == sorted(set(shown))
    assert set(spiking_resnet.__all__) <= set(shown)
