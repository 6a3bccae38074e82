"""The benchmarks that make the tables run, and their rows say what they should."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
PHOTOGRAPHS = Path(os.environ.get("SPIKING_RESNET_DATA", "")) / "imagenet"
real = pytest.mark.skipif(
    not (PHOTOGRAPHS.is_absolute() and PHOTOGRAPHS.is_dir()),
    reason="SPIKING_RESNET_DATA has no folder imagenet",
)


def run(script, *arguments):
    command = [sys.executable, FOLDER / script, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("source", [[], pytest.param(["--data", PHOTOGRAPHS], marks=real)])
def test_coverage(tmp_path, source):
    """One network that is converted and one that is refused, and the page of both."""
    rows, page = tmp_path / "rows.jsonl", tmp_path / "coverage.md"
    networks = "torchvision:squeezenet1_1@32", "torchvision:mobilenet_v3_small@32"
    run("coverage.py", *networks, "--json", rows, *source)
    converted, refused = map(json.loads, rows.read_text().splitlines())
    assert converted["error"] < 1e-4
    assert converted["correlations"][-1] > 0.99
    assert converted["unsupported"] == {"cpu": [], "layerwise": [], "interpreter": []}
    assert any("hardswish" in culprit for culprit in refused["refused"])
    run("coverage.py", "--json", rows, "--write", page)
    assert "1 of 2 architectures are converted" in page.read_text()
