"""The examples run, are short, and say what they promise."""

import runpy
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"


def run(name):
    return runpy.run_path(str(FOLDER / name))["main"]()


def test_convert_and_evaluate():
    curve = run("convert_and_evaluate.py")
    assert curve.images == 200
    assert curve.points[-1].accuracy >= curve.ann_accuracy - 0.01
    assert curve.points[-1].agreement > 0.97


@pytest.mark.sweep
def test_own_network():
    curve = run("own_network.py")
    assert curve.ann_accuracy > 0.93
    assert curve.points[0].accuracy > curve.ann_accuracy - 0.02


def test_spike_trains():
    assert run("spike_trains.py") > 0.99


@pytest.mark.slow
def test_fine_tune(real_data, tmp_path):
    main = runpy.run_path(str(FOLDER / "fine_tune.py"))["main"]
    before, after = main(
        str(real_data), images=500, epochs=1, out=str(tmp_path / "snn.safetensors")
    )
    assert after > before


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_examples_stay_short(path):
    assert len(path.read_text().splitlines()) < 40


@pytest.mark.sweep
def test_a_microcontroller_fires_the_spikes_of_simulate():
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    main = runpy.run_path(str(FOLDER / "microcontroller" / "build.py"))["main"]
    assert main("digits_resnet8", steps=16)
