"""The native kernels under the address and undefined-behaviour sanitizers; by hand (-m slow)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "spiking_resnet" / "engines" / "cpu" / "native" / "kernels.cpp"
FLAGS = ["-O1", "-g", "-std=c++17", "-pthread", "-shared", "-fPIC", "-Wno-maybe-uninitialized"]
FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
RUN = """
import sys
from pathlib import Path
import pytest
from spiking_resnet.engines.cpu import library as kernels
kernels.folder = Path(sys.argv[1])
assert kernels.library() is not None
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""
GRAPHS = "200"  # random ones
CHOSEN = "geometry or steps or threads or resets or planes or cut"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the kernels are, compiled with the sanitizers."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    found = tmp_path_factory.mktemp("kernels")
    subprocess.run(["g++", *FLAGS, str(SOURCE), "-o", str(found / "_kernels.so")], check=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        ("test_kernel_steps.py",),
        ("test_engines_native.py", "-k", CHOSEN),
        ("test_fuzz.py", "-k", "not worth"),
    ],
    ids=["single populations", "by hand", "random graphs"],
)
def test_the_kernels_run_clean_under_sanitizers(folder, chosen):
    preload = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True)
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(found.stdout.strip() for found in preload),
        "ASAN_OPTIONS": "detect_leaks=0",
        "FUZZ_GRAPHS": GRAPHS,
    }
    file, *options = chosen
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), str(HERE / file), *options],
        env=environment, cwd=HERE.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    print(done.stdout[-500:])
