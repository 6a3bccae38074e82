"""Kernels that are compiled in another way than the package's, and tests that run with them."""

import subprocess
import sys
from pathlib import Path

from spiking_resnet.engines.cpu import library

ENGINES = Path(__file__).parent / "engines"
NATIVE = Path(library.__file__).parent / "native"
SHARED = ("-std=c++17", "-pthread", "-shared", "-fPIC", "-w")
RUN = """
import sys
from pathlib import Path
import pytest
from spiking_resnet.engines.cpu import library
library.folder = Path(sys.argv[1])
assert library.library() is not None
found = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *sys.argv[2:]])
if hasattr(library.kernels(), "tile_instructions"):
    print("instructions:", library.kernels().tile_instructions())
sys.exit(found)
"""


def compiled(folder, *flags, compiler="g++", source=NATIVE / "kernels.cpp"):
    """The folder, with the kernels in it."""
    made = str(folder / "_kernels.so")
    command = [compiler, *SHARED, *flags, f"-I{NATIVE}", str(source), "-o", made]
    subprocess.run(command, check=True)
    return folder


def passed(folder, *arguments, environment=None):
    """What pytest prints of tests of the folder `engines` that pass with these kernels."""
    files = [str(ENGINES / each) if each.endswith(".py") else each for each in arguments]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), *files],
        env=environment, cwd=ENGINES.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout
