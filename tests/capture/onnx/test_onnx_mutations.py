"""Damaged ONNX files: refused in words of our own, or converted to what they say."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import onnx_mutations
import spiking_resnet as sr

ALLOWED = {"converted", "OnnxError", "TraceError", "InputError", "GraphError"}
TESTS = Path(onnx_mutations.__file__).parent
LONGEST = 120  # seconds that one file may take, on a machine that does much else


def outcomes(folder, seed, count):
    """Of each file: what was done to it, the seconds it took, and what became of it."""
    source = str(Path(sr.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, str(TESTS / "onnx_mutations.py"), str(folder), str(seed), str(count)],
        capture_output=True, text=True, timeout=count * 2 + 10 * LONGEST,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((source, str(TESTS)))},
    )  # fmt: skip
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-2000:])
    assert len(lines) == count
    return lines


def check(lines):
    for number, said, seconds, kind, *message in lines:
        assert kind in ALLOWED, (number, said, kind, message)
        assert float(seconds) < LONGEST, (number, said)
        assert kind == "converted" or message[0].strip("'\""), (number, said)
    found = Counter(line[3] for line in lines)
    assert {"OnnxError", "TraceError", "converted"} <= set(found), found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_damaged_files_break_nothing(tmp_path):
    check(outcomes(tmp_path, 0, 40))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_many_damaged_files_break_nothing(tmp_path):
    check(outcomes(tmp_path, 1000, 1500))
