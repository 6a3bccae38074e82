"""The native kernels under the address and undefined-behaviour sanitizers; by hand (-m slow)."""

import os
import shutil
import subprocess

import pytest

from compiled import compiled, passed

FLAGS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
GRAPHS = "200"  # random ones
CHOSEN = "geometry or steps or threads or resets or planes or cut"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the kernels are, compiled with the sanitizers."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    return compiled(tmp_path_factory.mktemp("kernels"), *FLAGS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        ("test_kernel_steps.py",),
        ("test_tiles.py", "-m", "not sweep", "-k", "not instructions"),
        ("test_engines_native.py", "-k", CHOSEN),
        ("test_fuzz.py", "-k", "not worth"),
    ],
    ids=["single populations", "tiles", "by hand", "random graphs"],
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
    print(passed(folder, *chosen, environment=environment)[-500:])
