"""The benchmarks that make the tables run, and their rows say what they should."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_resnet as sr
from spiking_resnet import ann
from spiking_resnet.engines.cpu import library

FOLDER = Path(__file__).parent.parent / "benchmarks"
PHOTOGRAPHS = Path(os.environ.get("SPIKING_RESNET_DATA", "")) / "imagenet"
CIFAR = PHOTOGRAPHS.parent / "cifar10"
real = pytest.mark.skipif(
    not (PHOTOGRAPHS.is_absolute() and PHOTOGRAPHS.is_dir()),
    reason="SPIKING_RESNET_DATA has no folder imagenet",
)


def run(script, *arguments):
    command = [sys.executable, FOLDER / script, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.sweep
@pytest.mark.parametrize("source", [[], pytest.param(["--data", PHOTOGRAPHS], marks=real)])
def test_coverage(tmp_path, source):
    """One network that is converted and one that is refused, and the page of both."""
    rows, page = tmp_path / "rows.jsonl", tmp_path / "coverage.md"
    networks = "torchvision:squeezenet1_1@32", "torchvision:mobilenet_v3_small@32"
    run("coverage.py", *networks, "--json", rows, "--here", *source)
    converted, refused = map(json.loads, rows.read_text().splitlines())
    assert converted["error"] < 1e-4
    assert converted["correlations"][-1] > 0.99
    assert converted["unsupported"] == {"cpu": [], "layerwise": [], "interpreter": []}
    assert any("hardswish" in culprit for culprit in refused["refused"])
    run("coverage.py", "--json", rows, "--write", page)
    assert "1 of 2 architectures are converted" in page.read_text()


@pytest.mark.sweep
def test_trained_for_conversion(tmp_path):
    """One way of training with two seeds; what is there already is not made again."""
    arguments = [
        *("--data", tmp_path, "--dataset", "digits", "--epochs", 2, "--seeds", "0,1"),
        *("--images", 50, "--steps", "4,8", "--variants", "tails 0.3"),
        *("--out", tmp_path / "out"),
    ]
    run("trained_for_conversion.py", *arguments)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.*[sn]")}
    assert len(made) == 4  # weights and results of two trainings
    table = (tmp_path / "out" / "table.md").read_text()
    head, _, row = table.splitlines()
    assert "T = 4: loss | T = 4: agreement | T = 8: loss" in head
    assert row.split(" | ")[:2] == ["| tails 0.3", "2"]
    results = [json.loads(path.read_text()) for path in made if path.suffix == ".json"]
    assert all(found["metadata"]["training"]["tails"] == 0.3 for found in results)
    accuracies = [100 * found["metadata"]["accuracy"] for found in results]
    assert f"| {sum(accuracies) / 2:.2f} ± " in row
    run("trained_for_conversion.py", *arguments)
    assert {path: path.stat().st_mtime_ns for path in made} == made


@pytest.mark.sweep
def test_integer_bits(tmp_path):
    """A row for each integer form, the C program beside them, and the widths."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    network = ann.pretrained("digits_resnet8").model
    training = ann.load_dataset("digits", "train").loader(100, limit=200)
    snn, table = tmp_path / "snn.safetensors", tmp_path / "table.md"
    graph = sr.convert(network, training).with_notes({"dataset": "digits"})
    sr.save(graph, snn)
    run("integer_bits.py", snn, "--images", 40, "--steps", 16, "--bits", 6, "--out", table)
    text = table.read_text()
    assert "| 6 bits, per channel |" in text
    assert "20 of 20 images decided as by simulate" in text
    assert "| layer1.0.relu | 8 |" in text


@pytest.mark.sweep
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.skipif(not CIFAR.is_dir(), reason="SPIKING_RESNET_DATA has no folder cifar10")
def test_tile_costs():
    """No layer needs fewer products of tiles than the matrix unit's limit, nor many more."""
    if library.INSTRUCTION_SETS[library.kernels().machine_level()] not in ("avx512", "amx"):
        pytest.skip("this processor lacks AVX-512")
    options = ["--batch", 4, "--steps", 16, "--repeats", 1]
    command = [sys.executable, FOLDER / "tile_costs.py", "--data", CIFAR.parent, *options]
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    rows = [line.split(" | ") for line in done.stdout.splitlines()[3:-2]]  # without the classifier
    assert len(rows) == 10
    for row in rows:
        limit, products = (int(each.split()[0].replace(",", "")) for each in row[2:4])
        assert limit <= products <= 1.5 * limit
