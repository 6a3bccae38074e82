"""Edited files: refused in our own words, or run as they say, the same on every engine."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import file_mutations
import spiking_resnet as sr

TESTS = Path(file_mutations.__file__).parent


def mutated(folder, names, every, start=0):
    """(what was changed, file) of every n-th edit of each network."""
    found = []
    for name in names:
        whole = folder / f"{name}.safetensors"
        sr.save(file_mutations.NETWORKS[name](), whole)
        description, tensors = file_mutations.parts_of(whole)
        found.append((f"{name} as it is", whole))
        for i, (said, change) in enumerate(file_mutations.edits(description, tensors)):
            if i % every == start % every:
                path = folder / f"{name}-{i}.safetensors"
                file_mutations.write(path, description, tensors, change)
                found.append((f"{name}: {said}", path))
    return found


def outcomes(files):
    """What becomes of each file in a child, which is started again after one that ends it."""
    source = str(Path(sr.__file__).parent.parent)
    found = []
    while len(found) < len(files):
        child = subprocess.run(
            [sys.executable, str(TESTS / "file_mutations.py")],
            input="".join(f"{path}\n" for _, path in files[len(found) :]),
            capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1",
                 "PYTHONPATH": os.pathsep.join((source, str(TESTS)))},
        )  # fmt: skip
        found += child.stdout.splitlines()
        if len(found) < len(files):
            found.append(f"ended with {child.returncode}: {child.stderr[-300:]}")
    return found


def check(files):
    found = outcomes(files)
    wrong = [
        (said, result)
        for (said, _), result in zip(files, found, strict=True)
        if result not in ("refused", "runs") or (said.endswith("as it is") and result != "runs")
    ]
    counts = Counter(found)
    assert not wrong, (len(wrong), wrong[:20])
    assert counts["refused"] > counts["runs"] > 0
    return counts


@pytest.mark.sweep
def test_edited_files_break_nothing(tmp_path):
    check(mutated(tmp_path, ["plain", "differential"], 61))


@pytest.mark.slow
@pytest.mark.parametrize("name", file_mutations.NETWORKS)
def test_many_edited_files_break_nothing(name, tmp_path):
    print(name, check(mutated(tmp_path, [name], 7, 3)))
