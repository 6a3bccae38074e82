import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import spiking_resnet as sr
from spiking_resnet import ann
from spiking_resnet.ann import Framing
from spiking_resnet.cli import app
from spiking_resnet.cli.networks import network
from spiking_resnet.graph import Conv2d, Fire

MODEL_FILE = """
import torch
from dataclasses import dataclass
from torch import nn

@dataclass
class Options:
    width: "int" = 4

def build():
    width = Options().width
    first = nn.Conv2d(1, width, 3, 2)
    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(9 * width, 10))

def gated():
    layers = nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 10), nn.Softmax(0)
    return nn.Sequential(*layers)

def broken():
    raise KeyError("width")

def number():
    return 3

def nan():
    model = build()
    nn.init.constant_(model[0].weight, float("nan"))
    return model
"""


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments, code=2):
    """The one message of a command that is expected to fail."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    errors = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.output
    return result.output[result.output.index("error: ") :]


def convert_digits(path, *more):
    return ok(
        "convert", "digits_resnet8", "--out", path, "--calibration-images", 60, "--steps", 32, *more
    )  # fmt: skip


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("snn") / "snn.safetensors"
    convert_digits(path)
    return path


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "networks.py"
    path.write_text(MODEL_FILE)
    return path


@pytest.fixture
def digits_npz(tmp_path):
    """The first digits of either split as files a user might have."""
    for split in ("train", "test"):
        data = ann.load_dataset("digits", split).subset(40, None)
        pixels = data.pixels(torch.arange(40)).squeeze(1).numpy()
        np.savez(tmp_path / f"{split}.npz", images=pixels, labels=data.labels.numpy())
    return tmp_path


# What every command promises


def test_version_and_help():
    assert ok("--version").startswith("spiking-resnet ")
    for command in ("demo", "train", "inspect", "convert", "evaluate", "diagnose"):
        text = re.sub(r"\x1b\[[0-9;]*m", "", ok(command, "--help"))
        assert f"spiking-resnet {command}" in text  # an example


def test_convert_notes_what_evaluate_needs(snn):
    notes = sr.load(snn).notes
    assert (notes["dataset"], notes["model"], notes["weights"]) == (
        "digits",
        "digits_resnet8",
        None,
    )
    assert notes["normalisation"] == {"mean": [0.3057], "std": [0.3763]}
    calibration = notes["calibration"]
    assert (calibration["images"], calibration["seed"], calibration["split"]) == (60, 0, "train")
    assert calibration["ann_accuracy"] > 0.98
    assert notes["command"].startswith("spiking-resnet convert digits_resnet8 --out")
    assert notes["options"]["steps"] == 32


def test_convert_prints_a_summary(tmp_path):
    text = convert_digits(tmp_path / "snn.safetensors")
    for expected in ("layer1.0.relu1", "16x8x8", "1,024", "4,682 neurons", "exact for",
                     "60 calibration images", "next: spiking-resnet evaluate"):  # fmt: skip
        assert expected in text


def test_every_option_of_the_method_arrives(tmp_path):
    path = tmp_path / "snn.safetensors"
    convert_digits(
        path, "--percentile", 99, "--per-channel", "--initial-potential", 0.25, "--reset", "zero",
        "--compensation", 1.01, "--compensation-steps", 7, "--no-pool-neurons",
        "--max-pooling", "instant", "--readout", "membrane", "--input-coding", "poisson",
        "--seed", 3, "--grid", 12, "--sum-bits", 20, "--shortcut-conversion",
        "--shared-scale", "stage",
    )  # fmt: skip
    options = sr.load(path).notes["options"]
    assert options == {
        "percentile": 99.0, "per_channel": True, "initial_potential": 0.25, "reset": "zero",
        "shortcut_conversion": True, "shared_scale": "stage", "compensation": 1.01,
        "compensation_steps": 7, "compensation_images": 100, "pool_neurons": False,
        "max_pooling": "instant", "readout": "membrane", "input_coding": "poisson",
        "seed": 3, "steps": 32, "grid": 12, "sum_bits": 20, "levels": 1, "signed": False,
    }  # fmt: skip


def test_levels_and_signs_arrive(tmp_path):
    path = tmp_path / "snn.safetensors"
    convert_digits(path, "--levels", 3, "--signed")
    for node in sr.load(path).of(Fire):
        assert (node.neuron.levels, node.neuron.signed) == (3, True)


@pytest.mark.sweep
def test_a_differential_network_is_converted_and_evaluated_where_it_ends(tmp_path):
    path, results = tmp_path / "snn.safetensors", tmp_path / "results.json"
    text = convert_digits(path, "--method", "differential", "--steps", 6, "--levels", 2)
    assert re.search(r"made for 6 steps; spikes shrink to [\d.e-]+ \.\. [\d.e-]+ of the", text)
    text = ok("evaluate", path, "--limit", 50, "--json", results)
    (point,) = json.loads(results.read_text())["snn"]
    assert point["steps"] == 6
    assert point["agreement"] >= 0.98
    assert "convert with more steps" in refused("evaluate", path, "--steps", "7")


def test_grid_none_and_the_ablation(tmp_path):
    text = convert_digits(
        tmp_path / "snn.safetensors", "--grid", "none", "--no-shortcut-conversion"
    )
    assert "not exact" in text
    options = sr.load(tmp_path / "snn.safetensors").notes["options"]
    assert (options["grid"], options["shortcut_conversion"]) == (None, False)


def test_a_search_of_the_compensation_shows_its_trials(tmp_path):
    path = tmp_path / "snn.safetensors"
    text = convert_digits(path, "--compensation", "search", "--compensation-steps", 4)
    trials = sr.load(path).notes["compensation"]["trials"]
    assert text.count("agreement") == len(trials) > 1


def test_two_conversions_are_the_same_but_for_the_command(tmp_path, snn):
    convert_digits(tmp_path / "again.safetensors")
    first, second = sr.load(snn), sr.load(tmp_path / "again.safetensors")
    assert {**first.notes, "command": ""} == {**second.notes, "command": ""}
    images, _ = next(iter(ann.load_dataset("digits", "test").loader(8)))
    assert torch.equal(sr.simulate(first, images, 8).logits, sr.simulate(second, images, 8).logits)


def test_evaluate_writes_all_facts(tmp_path, snn):
    json_path, plot = tmp_path / "a" / "results.json", tmp_path / "a" / "curve.svg"
    text = ok(
        "evaluate", snn, "--limit", 40, "--steps", "16,4", "--json", json_path, "--plot", plot
    )
    results = json.loads(json_path.read_text())
    assert {"ann", "images", "engine", "seconds", "snn", "hardware", "exact", "notes"} <= set(
        results
    )
    assert (results["images"], results["limit"], results["seed"]) == (40, 40, 0)
    assert 0.9 < results["ann"]["accuracy"] <= 1
    assert [point["steps"] for point in results["snn"]] == [4, 16]
    for point in results["snn"]:
        keys = {"steps", "accuracy", "agreement", "spikes_per_image", "firing_rate"}
        assert keys <= set(point)
    assert results["command"].startswith(f"spiking-resnet evaluate {snn} --limit 40")
    assert results["versions"]["torch"] == torch.__version__
    assert (results["dataset"], results["split"]) == ("digits", "test")
    assert len(results["file"]["sha256"]) == 64
    assert plot.read_bytes().startswith(b"<?xml")
    assert "n = 40 images" in text


def test_batches_engines_and_threads_do_not_change_the_result(tmp_path, snn):
    found = []
    for more in (
        ("--batch-size", 40),
        ("--batch-size", 7, "--engine", "interpreter", "--threads", 1),
    ):
        path = tmp_path / "results.json"
        ok("evaluate", snn, "--limit", 40, "--steps", "4,16", "--json", path, *more)
        found.append(json.loads(path.read_text()))
    assert found[0]["engine"] != found[1]["engine"]
    assert found[0]["snn"] == found[1]["snn"]


def test_inspect_tells_what_a_file_holds(snn, tmp_path):
    text = ok("inspect", snn, "--json", tmp_path / "facts.json")
    for expected in ("Conv2d", "layer3.0.relu", "4,682 neurons", '"percentile": 99.9', '"method"',
                     "reset: subtract", "exact for"):  # fmt: skip
        assert expected in text
    found = json.loads((tmp_path / "facts.json").read_text())
    graph = sr.load(snn)
    assert [entry["name"] for entry in found["populations"]] == list(graph.neurons)
    assert found["total"]["neurons"] == 4682
    assert min(entry["exact_steps"] for entry in found["populations"]) >= 32


def test_inspect_sums_up_long_notes_and_keeps_them_in_its_json(tmp_path):
    path, facts = tmp_path / "snn.safetensors", tmp_path / "facts.json"
    convert_digits(path, "--per-channel")
    text = ok("inspect", path, "--json", facts)
    assert '"relu": "16 numbers: ' in text
    assert ", median " in text
    assert max(len(line.strip()) for line in text.splitlines() if '": "16 numbers' in line) < 80
    thresholds = json.loads(facts.read_text())["notes"]["thresholds"]["relu"]
    assert thresholds == sr.load(path).notes["thresholds"]["relu"]
    assert len(thresholds) == 16


@pytest.mark.sweep
def test_inspect_shows_a_network_that_converts(tmp_path, model_file):
    text = ok("inspect", "resnet20", "--json", tmp_path / "facts.json")  # random weights serve
    for expected in ("layer3.2.relu1", "64x8x8", "19 ReLUs", "22 BatchNorms are folded"):
        assert expected in text
    found = json.loads((tmp_path / "facts.json").read_text())
    assert found["converts"]
    own = {entry["name"]: entry for entry in found["nodes"]}
    assert own["layer1.0.bn1"]["remark"] == "folded"
    assert own["layer1.0.conv1"]["source"].startswith("resnet.py:")
    assert "3x224x224" not in ok("inspect", "digits_resnet8")
    text = ok("inspect", f"{model_file}:build", "--image-size", 8)
    assert "images of 1x8x8" in text
    assert "--image-size is missing" in refused("inspect", f"{model_file}:build")
    assert "like 224" in refused("inspect", f"{model_file}:build", "--image-size", "big")
    assert "images of 3x64x48" in ok("inspect", "torchvision:resnet18", "--image-size", "64x48")


def test_inspect_lists_every_problem_and_what_was_traced(tmp_path, model_file):
    text = run("inspect", f"{model_file}:gated", "--image-size", "8", "--json", tmp_path / "f.json")
    assert text.exit_code == 1
    for expected in ("Conv2d", "cannot be converted", "2 problem(s)", "silu", "softmax", "ReLU in"):
        assert expected in text.output
    found = json.loads((tmp_path / "f.json").read_text())
    assert not found["converts"]
    assert len(found["problems"]) == 2


def test_diagnose_says_where_most_is_lost(snn, tmp_path):
    facts, plot = tmp_path / "facts.json", tmp_path / "new" / "where.png"
    text = ok("diagnose", snn, "--steps", 4, "--limit", 60, "--json", facts, "--plot", plot)
    for expected in ("layer3.0.relu", "T = 4, 60 images", "To reduce it:", "--per-channel"):
        assert expected in text
    found = json.loads(facts.read_text())
    assert [layer["name"] for layer in found["layers"]] == list(sr.load(snn).neurons)
    assert found["advice"] in " ".join(text.split())
    assert sum(found["lost"].values()) == pytest.approx(1 - found["agreement"])
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "--steps is 0" in refused("diagnose", snn, "--steps", 0)
    assert "where.txt" in refused("diagnose", snn, "--plot", "where.txt")


def test_train_convert_and_evaluate(tmp_path):
    weights, snn = tmp_path / "r8.safetensors", tmp_path / "snn.safetensors"
    text = ok("train", "--model", "resnet8", "--dataset", "digits", "--epochs", 1, "--width", 8,
              f"--data={tmp_path}", "--shortcut", "A", "--batch-size", 64, "--lr", 0.1,
              "--out", weights)  # fmt: skip
    assert "497 test images" in text
    assert "1 epoch in" in text
    assert f"next: spiking-resnet convert resnet8 --weights {weights}" in text
    assert ann.load(weights).metadata["command"] == (
        "spiking-resnet train --model resnet8 --dataset digits --epochs 1 --width 8 --data=DIR "
        "--shortcut A --batch-size 64 --lr 0.1 --out r8.safetensors"
    )
    ok("convert", "resnet8", "--weights", weights, "--out", snn, "--calibration-images", 40)
    notes = sr.load(snn).notes
    assert notes["weights"]["file"] == "r8.safetensors"
    assert notes["dataset"] == "digits"  # as the weights say
    ok("evaluate", snn, "--limit", 20, "--steps", "8")


@pytest.mark.sweep
def test_fine_tune_to_quantised_activations_and_convert(tmp_path):
    relu, quantised, snn = (tmp_path / f"{name}.safetensors" for name in ("r", "q", "s"))
    usual = ("train", "--model", "resnet8", "--dataset", "digits", "--epochs", 1)
    ok(*usual, "--width", 8, "--normalisation", "0.5/0.25", "--out", relu)
    ok(*usual, "--from", relu, "--activation", "qcfs", "--levels", 4, "--recipe", "finetune",
       "--out", quantised)  # fmt: skip
    found = ann.load(quantised)
    assert (found.config.activation, found.config.levels, found.config.width) == ("qcfs", 4, 8)
    assert found.metadata["from"]["file"] == "r.safetensors"
    assert found.metadata["normalisation"] == {"mean": [0.5], "std": [0.25]}  # the start's
    taught = ("train", "--model", "resnet8", "--dataset", "digits", "--epochs", 1, "--width", 8)
    ok(*taught, "--teacher", relu, "--out", tmp_path / "t.safetensors")
    assert ann.load(tmp_path / "t.safetensors").metadata["teacher"]["file"] == "r.safetensors"
    ok(*taught, "--teacher", relu, "--teacher-normalisation", "0.1/0.2",
       "--out", tmp_path / "t2.safetensors")  # fmt: skip
    told = ann.load(tmp_path / "t2.safetensors").metadata["teacher"]
    assert told["normalisation"] == {"mean": [0.1], "std": [0.2]}
    message = refused(*taught, "--teacher-normalisation", "0.1/0.2", "--out", quantised)
    assert "without --teacher" in message
    usual = ("convert", "resnet8", "--calibration-images", 40, "--out", snn)
    text = ok(*usual, "--weights", quantised, "--method", "qcfs", "--gate", "cos",
              "--pre-steps", 4, "--steps", 8)  # fmt: skip
    assert "the read-out leaves out 4 steps" in text
    assert sr.load(snn).pre_steps == 4
    text = ok("evaluate", snn, "--limit", 20, "--steps", "4,8,12")
    assert "4 of the steps precede the counted ones" in text
    message = refused(*usual, "--weights", relu, "--method", "qcfs")
    assert "--activation qcfs --from" in message


def test_a_start_says_what_it_is(tmp_path):
    start = tmp_path / "r.safetensors"
    ann.checkpoint.save(start, ann.build("resnet8", in_channels=1, width=8), {})
    usual = ("train", "--dataset", "digits", "--epochs", 1, "--from", start, "--out")
    out = tmp_path / "q.safetensors"
    assert "holds a resnet8" in refused(*usual, out)
    message = refused(*usual, out, "--model", "resnet8", "--width", 16)
    assert "--width with --from" in message
    assert "gelu" in refused(*usual, out, "--model", "resnet8", "--activation", "gelu")
    deeper = ann.build("resnet14", in_channels=1, width=8)
    ann.checkpoint.save(tmp_path / "deep.safetensors", deeper, {})
    message = refused(
        *usual[:-2], tmp_path / "deep.safetensors", "--out", out, "--model", "resnet8"
    )
    assert "holds a resnet14: name it, or a deeper one" in message
    assert not out.exists()
    ok(*usual, out, "--model", "resnet14", "--batch-size", 650)
    grown = ann.checkpoint.load(out)
    assert grown.config.depth == 14
    assert grown.metadata["from"]["file"] == "r.safetensors"


def test_a_network_from_the_users_file(tmp_path, model_file):
    out = tmp_path / "snn.safetensors"
    text = ok("convert", f"{model_file}:build", "--dataset", "digits", "--out", out,
              "--calibration-images", 40, "--normalisation", "0.5/0.25")  # fmt: skip
    assert "no --weights" in text
    assert "near chance" in text  # untrained
    assert sr.load(out).notes["normalisation"] == {"mean": [0.5], "std": [0.25]}


def test_weights_for_a_network_from_the_users_file(tmp_path, model_file):
    from torch import nn

    model = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "mine.pt")
    text = ok("convert", f"{model_file}:build", "--dataset", "digits", "--weights",
              tmp_path / "mine.pt", "--out", tmp_path / "snn.safetensors",
              "--calibration-images", 40)  # fmt: skip
    assert "no --weights" not in text
    stored = sr.load(tmp_path / "snn.safetensors").ann.of(Conv2d)[0]
    assert torch.equal(stored.weight.float(), model[0].weight)


def test_weights_among_several_are_chosen_by_their_key(tmp_path, model_file):
    from torch import nn

    models = [nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10))
              for _ in range(2)]  # fmt: skip
    content = dict(zip(("model", "model_ema"), (each.state_dict() for each in models), strict=True))
    torch.save(content, tmp_path / "mine.ckpt")
    out = tmp_path / "snn.safetensors"
    common = ("convert", f"{model_file}:build", "--dataset", "digits", "--weights",
              tmp_path / "mine.ckpt", "--out", out, "--calibration-images", 40)  # fmt: skip
    for chosen, more in ((models[0], ()), (models[1], ("--weights-key", "model_ema"))):
        text = ok(*common, *more)
        assert ("warning:" in text and "choose by --weights-key" in text) == (not more)
        stored = sr.load(out).ann.of(Conv2d)[0]
        assert torch.equal(stored.weight.float(), chosen[0].weight)
    message = refused("convert", f"{model_file}:build", "--weights-key", "ema")
    assert "is for a file of --weights" in message


def test_a_network_from_an_onnx_file(tmp_path):
    onnx_files = pytest.importorskip("onnx_files")
    path = onnx_files.keras_like(8, 1, one_channel_reshape=True).save(tmp_path / "model.onnx")
    out = tmp_path / "snn.safetensors"
    common = ("--dataset", "digits", "--out", out, "--calibration-images", 40)
    assert "knows 5 classes" in refused("convert", path, *common)
    net = onnx_files.Builder(("N", 8, 8, 1))
    net.add("Reshape", np.array([-1, 1, 8, 8]))
    net.conv(4, 1)
    net.add("Relu")
    net.add("Flatten")
    net.add("Gemm", onnx_files.random(256, 10))
    net.add("Softmax")
    text = ok("convert", net.save(path), *common, "--normalisation", "pixels")
    assert "Softmax" in text
    assert "N, H, W, C" in text
    notes = sr.load(out).notes
    assert notes["weights"]["file"] == "model.onnx"
    ok("evaluate", out, "--limit", 20, "--steps", 4)
    assert "leave out --weights" in refused("convert", path, "--weights", "x.pt", *common)
    path.write_bytes(path.read_bytes()[:100])
    assert "cut off" in refused("convert", path, *common)
    path.unlink()
    assert "no such file" in refused("convert", path, *common)


@pytest.mark.sweep
@pytest.mark.parametrize("spec", ["torchvision:resnet18", "timm:resnet18"])
def test_library_networks_with_random_weights_say_so_loudly(tmp_path, spec):
    if spec.startswith("timm"):
        pytest.importorskip("timm")
    folder = tmp_path / "images"
    for name in ("cat", "dog"):
        (folder / "train" / name).mkdir(parents=True)
        picture = np.random.default_rng(len(name)).integers(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "train" / name / "1.png")
    out = tmp_path / "snn.safetensors"
    text = ok("convert", spec, "--dataset", folder, "--out", out, "--calibration-images", 2)
    assert "RANDOM weights" in text
    assert sr.load(out).notes["normalisation"]["mean"] == [0.485, 0.456, 0.406]


def test_npz_files_and_the_guard_of_training_images(tmp_path, digits_npz):
    snn = tmp_path / "snn.safetensors"
    common = ("convert", "digits_resnet8", "--out", snn)
    ok(*common, "--dataset", digits_npz / "train.npz")
    assert "test images" in refused(*common, "--dataset", digits_npz / "test.npz")
    assert "--split train" in refused("evaluate", snn)  # its own data set is the calibration's
    (digits_npz / "train.npz").rename(digits_npz / "renamed.npz")
    assert "calibrated on" in refused("evaluate", snn, "--dataset", digits_npz / "renamed.npz")
    ok("evaluate", snn, "--dataset", digits_npz / "renamed.npz", "--split", "train", "--steps", 4)
    ok("evaluate", snn, "--dataset", digits_npz / "test.npz", "--steps", 4)


@pytest.fixture
def digits_folder(tmp_path):
    """Digits as grey image files: 5 of each class to train, 2 of each but the threes to test."""
    for split, count in (("train", 5), ("test", 2)):
        data = ann.load_dataset("digits", split).per_class(count)
        for number, label in enumerate(data.labels.tolist()):
            if split == "test" and label == 3:
                continue
            path = tmp_path / "digits" / split / f"digit {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.pixels(torch.tensor([number]))[0, 0].numpy()).save(path)
    return tmp_path / "digits"


def test_grey_image_files_for_a_network_of_one_channel(tmp_path, digits_folder):
    out, results = tmp_path / "snn.safetensors", tmp_path / "results.json"
    text = ok("convert", "digits_resnet8", "--dataset", digits_folder, "--out", out)
    assert "read as grey" in text
    assert "near chance" not in text
    notes = sr.load(out).notes
    assert notes["classes"] == [f"digit {label}" for label in range(10)]
    text = ok("evaluate", out, "--steps", 32, "--json", results)
    assert "no images of 1 of 10 classes (digit 3)" in text
    assert json.loads(results.read_text())["ann"]["accuracy"] > 0.9
    (digits_folder / "test" / "digit 0").rename(digits_folder / "test" / "zero")
    (digits_folder / "train").rename(digits_folder / "other")
    message = refused("evaluate", out, "--dataset", digits_folder / "test")
    assert "images of 'zero', which is none of the network's 10 classes" in message


# The protocol of ImageNet


THOUSAND = """
from torch import nn

def build():
    body = nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(4, 1000))
"""


@pytest.fixture
def thousand(tmp_path):
    """A folder of a thousand classes, three of which have images of 90 x 120 pixels."""
    (tmp_path / "networks.py").write_text(THOUSAND)
    generator = np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 4)):
        for label in range(1000):
            (tmp_path / "imagenet" / split / f"{label:04d}").mkdir(parents=True)
        for label in (3, 40, 999):
            for number in range(count):
                pixels = generator.integers(0, 255, (90, 120, 3), dtype=np.uint8)
                path = tmp_path / "imagenet" / split / f"{label:04d}" / f"{number}.png"
                Image.fromarray(pixels).save(path)
    return tmp_path


@pytest.mark.sweep
def test_imagenet_calibrates_with_images_per_class_and_the_papers_percentile(thousand):
    out = thousand / "snn.safetensors"
    common = ("convert", f"{thousand / 'networks.py'}:build", "--dataset", "imagenet", "--data",
              thousand, "--out", out, "--crop", "40/32/bicubic", "--steps", 16)  # fmt: skip
    ok(*common, "--per-class", 5)
    notes = sr.load(out).notes
    assert notes["options"]["percentile"] == 99.99
    assert notes["framing"] == {"resize": 40, "crop": 32, "interpolation": "bicubic"}
    assert (notes["calibration"]["images"], notes["calibration"]["per_class"]) == (15, 5)
    first = notes["thresholds"]
    ok(*common, "--per-class", 5, "--percentile", 99)
    notes = sr.load(out).notes
    assert notes["options"]["percentile"] == 99
    ok(*common, "--per-class", 5, "--seed", 1)
    assert sr.load(out).notes["thresholds"] != first  # other images
    ok(*common, "--per-class", 5)
    assert sr.load(out).notes["thresholds"] == first
    assert "at least 1" in refused(*common, "--per-class", 0)
    results, progress = thousand / "results.json", thousand / "progress.json"
    test = ("evaluate", out, "--data", thousand, "--steps", "2,4", "--batch-size", 4)
    ok(*test, "--json", results, "--resume", progress)
    found = json.loads(results.read_text())
    assert found["framing"] == notes["framing"]  # as in calibration
    assert found["images"] == 12
    assert 0 <= found["snn"][1]["accuracy"] <= found["snn"][1]["top5"] <= 1
    again = ok(*test, "--json", results, "--resume", progress)
    assert "n = 12 images" in again
    assert json.loads(results.read_text())["snn"] == found["snn"]
    assert json.loads(results.read_text())["seconds"] == found["seconds"]  # nothing was run
    assert "batch size was 4, now 3" in refused(*test[:-1], 3, "--resume", progress)
    assert "images was" in refused(*test, "--limit", 8, "--resume", progress)
    assert "not the same data" in refused(*test, "--crop", "36/32", "--resume", progress)
    assert "normalisation was" in refused(*test, "--normalisation", "none", "--resume", progress)
    ok(*common, "--per-class", 4)
    assert "not the same network" in refused(*test, "--resume", progress)
    progress.write_text("{")
    assert "holds no progress" in refused(*test, "--resume", progress)


def test_a_stopped_evaluation_leaves_what_it_counted(tmp_path, monkeypatch, snn):
    common = ("evaluate", snn, "--limit", 40, "--steps", "4,16", "--batch-size", 8)
    results, progress = tmp_path / "results.json", tmp_path / "progress.json"
    ok(*common, "--json", results)
    expected = json.loads(results.read_text())
    whole, calls = sr.simulate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(sys.modules["spiking_resnet.evaluation.evaluate"], "simulate", interrupted)
    assert run(*common, "--resume", progress).exit_code != 0
    assert json.loads(progress.read_text())["tally"]["images"] == 24
    ok(*common, "--json", results, "--resume", progress)
    assert len(calls) == 6
    found = json.loads(results.read_text())
    for key in ("snn", "ann", "images", "exact"):
        assert found[key] == expected[key]


def test_an_evaluation_goes_on_with_the_same_images_only(tmp_path, snn, digits_npz):
    progress = tmp_path / "progress.json"
    test = ("evaluate", snn, "--dataset", digits_npz / "test.npz", "--steps", 4, "--resume",
            progress)  # fmt: skip
    ok(*test)
    arrays = dict(np.load(digits_npz / "test.npz"))
    arrays["images"][17, 3, 3] ^= 1
    np.savez(digits_npz / "test.npz", **arrays)
    assert "not the same data" in refused(*test)


@pytest.mark.parametrize(
    ("crop", "words"),
    [("224", "RESIZE|shortest side"), ("a/b", "--crop 'a/b'"), ("200/224", "crop must be"),
     ("256/224/cubic", "no interpolation 'cubic'"), ("256/224", "for image files")],
)  # fmt: skip
def test_crops_that_cannot_be(snn, crop, words):
    assert re.search(words, refused("evaluate", snn, "--crop", crop))


def test_torchvisions_weights_bring_their_own_transforms(tmp_path, monkeypatch):
    import torchvision

    state = torchvision.models.mobilenet_v2().state_dict()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(state)
    )
    spec = "torchvision:mobilenet_v2"
    old, new = Framing(256, 224), Framing(232, 224)
    assert network(spec, "IMAGENET1K_V1").framing == old
    for weights in ("default", "IMAGENET1K_V2"):
        found = network(spec, weights)
        assert (found.framing, found.weights, found.remark) == (new, None, "")
        assert found.normalisation == ann.NORMALISATIONS["imagenet"]
        assert torch.equal(next(found.model.parameters()), next(iter(state.values())))
    assert network(spec, None).framing == old
    url = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2.url
    for name, framing in ((url.rpartition("/")[2], new), ("mine.pth", old)):
        torch.save(state, tmp_path / name)
        assert network(spec, str(tmp_path / name)).framing == framing
    with pytest.raises(sr.InputError, match="IMAGENET1K_V1, IMAGENET1K_V2"):
        network(spec, "IMAGENET1K_V3")


def test_timms_data_configuration_is_taken(monkeypatch):
    timm = pytest.importorskip("timm")
    found = network("timm:resnet18", None)
    wanted = timm.data.resolve_model_data_config(found.model)
    assert found.framing.crop == wanted["input_size"][1]
    assert found.framing.resize == int(found.framing.crop / wanted["crop_pct"])
    assert found.framing.interpolation == wanted["interpolation"]
    assert found.normalisation.mean == tuple(wanted["mean"])
    with pytest.raises(sr.InputError, match="default"):
        network("timm:resnet18", "IMAGENET1K_V1")
    odd = {**wanted, "crop_mode": "squash"}
    monkeypatch.setattr("timm.data.resolve_model_data_config", lambda _: odd)
    with pytest.raises(sr.InputError, match="squash"):
        network("timm:resnet18", None)


# The normalisation, and networks that guess


@pytest.mark.sweep
def test_every_command_says_what_images_are_normalised_by_and_who_says_so(tmp_path, snn):
    text = convert_digits(tmp_path / "snn.safetensors")
    assert "normalisation: digits (0.3057/0.3763), said by the network's file" in text
    text = convert_digits(tmp_path / "own.safetensors", "--normalisation", "0.5/0.25")
    assert "normalisation: 0.5/0.25, said by --normalisation" in text
    common = ("--steps", 4, "--limit", 20)
    for command in ("evaluate", "diagnose"):
        text = ok(command, tmp_path / "own.safetensors", *common)
        assert "on digits (test): 20 of 497 images, by --seed 0" in text
        assert "normalisation: 0.5/0.25, as in conversion, said by --normalisation" in text
        text = ok(command, snn, *common, "--normalisation", "none")
        assert "normalisation: none (0/1), said by --normalisation" in text
    few = ("--steps", 4, "--limit", 20, "--calibration-images", 20, "--methods", "hu2021")
    text = ok("compare", "digits_resnet8", *few)
    assert text.count("normalisation: digits") == 1
    assert "on digits (test): 20 of 497 images, by --seed 0" in text
    whole = ok("evaluate", tmp_path / "own.safetensors", "--steps", 4, "--limit", 497)
    assert "images, by" not in whole


def test_weights_of_others_get_the_data_sets_normalisation_with_a_hint(tmp_path, model_file):
    text = ok("convert", f"{model_file}:build", "--dataset", "digits", "--calibration-images", 40,
              "--out", tmp_path / "snn.safetensors")  # fmt: skip
    assert "normalisation: digits (0.3057/0.3763), usual for digits" in text
    assert "say --normalisation" in text


def test_a_network_made_in_python_keeps_its_normalisation(tmp_path):
    found = ann.pretrained("digits_resnet8")
    images, _ = next(iter(ann.load_dataset("digits", "train").loader(60, normalisation="none")))
    scaled = (images - 0.3057) / 0.3763
    graph = sr.convert(found.model, scaled, normalisation=((0.3057,), (0.3763,)))
    sr.save(graph, tmp_path / "snn.safetensors")
    text = ok("evaluate", tmp_path / "snn.safetensors", "--dataset", "digits", "--steps", 32,
              "--limit", 60)  # fmt: skip
    assert "normalisation: digits (0.3057/0.3763), as in conversion" in text
    assert "near chance" not in text
    for wrong in (((0.5,), (0.0,)), ((0.5, 0.5), (1.0, 1.0)), ((0.5,), (1.0, 1.0)), (0.5, 1.0)):
        with pytest.raises(sr.InputError, match="normalisation"):
            sr.convert(found.model, scaled, normalisation=wrong)


def test_networks_that_guess_are_told(tmp_path, snn, digits_npz):
    arrays = dict(np.load(digits_npz / "test.npz"))
    right = ("--steps", 4, "--dataset", digits_npz / "test.npz")
    for command in ("evaluate", "diagnose"):
        assert "are the weights trained" not in ok(command, snn, *right)
    guess = (arrays["labels"] + 1) % 10
    np.savez(tmp_path / "guess.npz", images=arrays["images"], labels=guess)
    half = np.where(np.arange(40) % 3 == 0, arrays["labels"], guess)  # a third of them
    np.savez(tmp_path / "half.npz", images=arrays["images"], labels=half)
    for command in ("evaluate", "diagnose"):
        common = (command, snn, "--steps", 4, "--dataset")
        assert "0 of 40 test images, which is near chance" in ok(*common, tmp_path / "guess.npz")
        text = ok(*common, tmp_path / "half.npz")
        assert re.search(r"right on 1\d of 40 test images, its file says 100.0 %", text)


# What every command refuses


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("resnet20",), "needs --weights"),
        (("resnet21", "--weights", "x.pt", "--dataset", "digits"), "x.pt"),
        (("resnext",), "there is no model 'resnext'.*digits_resnet8.*torchvision:NAME"),
        (("torchvision:resnet1000", "--dataset", "digits"), "torchvision has no"),
        (("timm:resnet1000", "--dataset", "digits"), "timm"),
        (("resnet20", "--weights", "missing.pt"), "missing.pt: no such file"),
        (("missing.py:build", "--dataset", "digits"), "missing.py: no such file"),
        (("networks.py", "--dataset", "digits"), "file.py:function"),
        (("digits_resnet8", "--weights", "x.pt"), "leave out --weights"),
        (("digits_resnet8", "--dataset", "digitz"), "digitz.*digits, photographs"),
        (("digits_resnet8", "--dataset", "digits", "--split", "all"), "train and test"),
        (("digits_resnet8", "--method", "hu2020"), "hu2020.*hu2021"),
        (("digits_resnet8", "--percentile", "0"), "percentile"),
        (("digits_resnet8", "--reset", "soft"), "reset.*subtract"),
        (("digits_resnet8", "--readout", "argmax"), "readout.*membrane"),
        (("digits_resnet8", "--compensation", "best"), "--compensation 'best'.*search"),
        (("digits_resnet8", "--compensation", "-1"), "--compensation '-1'"),
        (("digits_resnet8", "--grid", "0"), "--grid '0'.*none"),
        (("digits_resnet8", "--grid", "fine"), "--grid 'fine'.*none"),
        (("digits_resnet8", "--steps", "0"), "steps"),
        (("digits_resnet8", "--calibration-images", "0"), "limit must be at least 1"),
        (("digits_resnet8", "--normalisation", "imagnet"), "imagnet.*imagenet"),
        (("digits_resnet8", "--normalisation", "0.5,0.5"), "choose one of"),
        (("digits_resnet8", "--normalisation", "a/b"), "--normalisation 'a/b'"),
        (("digits_resnet8", "--normalisation", "0.5/0"), "positive stds"),
        (("digits_resnet8", "--normalisation", "imagenet"), "3 channels"),
    ],
)  # fmt: skip
def test_convert_refuses(tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPIKING_RESNET_DATA", raising=False)
    message = refused("convert", *arguments)
    assert re.search(expected, message), message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--steps", "0"), "--steps '0'"),
        (("--steps", "8,a"), "--steps '8,a'.*8,16,32"),
        (("--steps", ""), "--steps ''"),
        (("--limit", "0"), "limit must be at least 1"),
        (("--batch-size", "0"), "batch_size must be at least 1"),
        (("--engine", "quantum"), "quantum.*interpreter"),
        (("--dataset", "mnist"), "mnist: no data directory.*--data"),
        (("--dataset", "nowhere.npz"), "nowhere.npz"),
        (("--split", "validation"), "train and test"),
        (("--normalisation", "x"), "no normalisation is called 'x'"),
        (("--device", "tpu"), "--device 'tpu'"),
        (("--device", "cuda:99"), "CUDA devices here"),
        (("--threads", "0"), "--threads"),
        (("--threads", "99999"), "99999.*at most"),
        (("--plot", "curve.gif"), r"curve.gif.*\.png"),
        (("--json", "."), "is a folder"),
    ],
)  # fmt: skip
def test_evaluate_refuses(tmp_path, monkeypatch, snn, arguments, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPIKING_RESNET_DATA", raising=False)
    message = refused("evaluate", snn, *arguments)
    assert re.search(expected, message), message
    assert list(tmp_path.iterdir()) == []


def test_images_that_do_not_fit_the_network(tmp_path, monkeypatch, snn):
    monkeypatch.chdir(tmp_path)
    for name, classes, sides in (("more", 11, 8), ("larger", 10, 12), ("fewer", 2, 8)):
        images = np.zeros((20, sides, sides), np.uint8)
        np.savez(f"{name}.npz", images=images, labels=np.arange(20) % classes)
    evaluate = ("evaluate", snn, "--steps", 4, "--dataset")
    assert "knows 10 classes, more has 11" in refused(*evaluate, "more.npz")
    assert "(1, 12, 12)" in refused(*evaluate, "larger.npz")
    assert "knows 10 classes, fewer has 2" in ok(*evaluate, "fewer.npz")  # a warning
    colour = np.zeros((20, 8, 8, 3), np.uint8)
    np.savez("colour.npz", images=colour, labels=np.arange(20) % 10)
    message = refused("convert", "digits_resnet8", "--dataset", "colour.npz")
    assert "channels" in message


@pytest.mark.parametrize("command", ["evaluate", "inspect", "diagnose"])
def test_files_that_hold_no_network(tmp_path, snn, command):
    assert "missing.safetensors does not exist" in refused(
        command, tmp_path / "missing.safetensors"
    )
    cut = tmp_path / "cut.safetensors"
    for size in (0, 100, snn.stat().st_size // 2):
        cut.write_bytes(snn.read_bytes()[:size])
        assert "cut.safetensors" in refused(command, cut)
    ann.checkpoint.save(cut, ann.build("resnet8", in_channels=1), {})
    assert "cut.safetensors" in refused(command, cut)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--model", "vgg"), "vgg"),
        (("--model", "resnet21"), "6n"),
        (("--recipe", "fast"), "recipe must be one of"),
        (("--epochs", "0"), "epochs must be at least 1"),
        (("--lr", "nan"), "learning_rate"),
        (("--shortcut", "C"), "shortcut must be one of"),
        (("--width", "0"), "width must be at least 1"),
        (("--dataset", "digitz"), "digitz"),
        (("--device", "cuda:99"), "CUDA devices here"),
        (("--out", "weights.pt"), "must end in .safetensors"),
    ],
)  # fmt: skip
def test_train_refuses(tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    usual = ("--model", "resnet8", "--dataset", "digits", "--epochs", 1, "--out", "r8.safetensors")
    message = refused("train", *usual, *arguments)
    assert re.search(expected, message), message
    assert list(tmp_path.iterdir()) == []


def test_weights_in_the_place_of_a_network_are_told_where_they_belong(tmp_path):
    (tmp_path / "w.safetensors").touch()
    message = refused("convert", tmp_path / "w.safetensors", "--dataset", "digits")
    assert f"--weights {tmp_path / 'w.safetensors'}" in message
    assert "there is no model" not in message


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("missing", "defines no function 'missing': it defines build, "),
        ("broken", r"broken\(\) failed: KeyError: 'width' \(line 20\)"),
        ("number", "returned a int, not a torch.nn.Module"),
        ("nan", "NaN"),
    ],
)
def test_functions_that_give_no_network(tmp_path, model_file, function, expected):
    message = refused("convert", f"{model_file}:{function}", "--dataset", "digits", "--out",
                      tmp_path / "snn.safetensors")  # fmt: skip
    assert re.search(expected, message), message
    assert not (tmp_path / "snn.safetensors").exists()


def test_a_file_that_cannot_be_imported_names_the_line(tmp_path):
    (tmp_path / "bad.py").write_text("import os\nimport no_such_module_at_all\n")
    message = refused("convert", f"{tmp_path / 'bad.py'}:build", "--dataset", "digits")
    assert re.search(r"no_such_module_at_all.*\(line 2\)", message)


def test_nan_weights_of_another_depth_and_of_another_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ann.build("resnet8", in_channels=1)
    ann.checkpoint.save(tmp_path / "r8.safetensors", model, {})
    common = ("--weights", "r8.safetensors", "--dataset", "digits")
    assert "holds a resnet8, not a resnet20" in refused("convert", "resnet20", *common)
    assert "--dataset is missing" in refused("convert", "resnet8", "--weights", "r8.safetensors")
    few = ann.build("resnet8", classes=5, in_channels=1)
    ann.checkpoint.save(tmp_path / "r8.safetensors", few, {})
    assert "knows 5 classes, digits has 10" in refused("convert", "resnet8", *common)
    torch.nn.init.constant_(model.linear.bias, float("nan"))
    ann.checkpoint.save(tmp_path / "r8.safetensors", model, {})
    assert "'linear.bias' has NaN" in refused("convert", "resnet8", *common)


def test_without_timm_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    message = refused("convert", "timm:resnet18", "--dataset", "digits")
    assert "pip install 'spiking-resnet[timm]'" in message


# Where the system refuses


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--out", "file/demo"),
        ("convert", "digits_resnet8", "--out", "file/snn.safetensors"),
        ("train", "--dataset", "digits", "--out", "file/r8.safetensors"),
    ],
)  # fmt: skip
def test_an_unwritable_folder_is_found_before_the_work(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(sr, "convert", None)  # never reached
    assert "cannot write file/" in refused(*arguments, code=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path, snn):
    (tmp_path / "mine").mkdir(mode=0o500)
    path = tmp_path / "mine" / "results.json"
    assert "Permission denied" in refused("evaluate", snn, "--json", path, code=1)


def disk_full(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", disk_full)
    path = tmp_path / "snn.safetensors"
    message = refused(
        "convert", "digits_resnet8", "--calibration-images", 20, "--out", path, code=1
    )
    assert "No space left" in message
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_results_and_shows_the_new(tmp_path, monkeypatch, snn):
    path = tmp_path / "results.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", disk_full)
    result = run("evaluate", snn, "--limit", 20, "--steps", 4, "--json", path)
    assert result.exit_code == 1
    assert "No space left" in result.output
    assert "n = 20 images" in result.output  # the table was printed before
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_a_stopped_training_says_how_to_go_on(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("spiking_resnet.cli.train.train_network", stopped)
    result = run("train", "--model", "resnet8", "--dataset", "digits", "--out",
                 tmp_path / "r8.safetensors")  # fmt: skip
    assert result.exit_code == 130
    assert "go on with: spiking-resnet train --model resnet8" in result.output


def test_a_terminal_without_unicode_gets_plain_bars(tmp_path):
    arguments = ["demo", "--dataset", "digits", "--out", tmp_path, "--limit", 20, "--steps", 8]
    result = CliRunner(charset="latin-1").invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert b"T =    8 ###" in result.stdout_bytes


def test_debug_keeps_the_traceback(snn):
    result = run("--debug", "evaluate", snn, "--steps", "0")
    assert isinstance(result.exception, sr.InputError)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError("no memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=["allocator", "python", "cuda"],
)
def test_memory_that_is_not_there_is_told_with_advice(monkeypatch, snn, error):
    def full(*_):
        raise error

    monkeypatch.setattr(sr, "load", full)
    message = refused("inspect", snn, code=1)
    assert "out of memory" in message
    assert str(error) in message.replace("\n", " ")
    assert "--batch-size" in message


def test_a_defect_keeps_its_traceback(monkeypatch, snn):
    def defect(*_):
        raise AssertionError("a defect")

    monkeypatch.setattr(sr, "load", defect)
    assert isinstance(run("inspect", snn).exception, AssertionError)


# With real images


@pytest.fixture
def real_data():
    root = os.environ.get("SPIKING_RESNET_DATA")
    if not root:
        pytest.skip("SPIKING_RESNET_DATA is not set: no real data sets and third-party weights")
    if not (Path(root) / "weights" / "cifar10_resnet20_akamaster.pt").is_file():
        pytest.skip(f"{root} holds no weights/cifar10_resnet20_akamaster.pt")
    return Path(root)


def test_resnet20_on_cifar10(real_data, tmp_path):
    snn, results = tmp_path / "snn.safetensors", tmp_path / "results.json"
    weights = real_data / "weights" / "cifar10_resnet20_akamaster.pt"
    ok("convert", "resnet20", "--weights", weights, "--dataset", "cifar10", "--data", real_data,
       "--normalisation", "imagenet", "--calibration-images", 200, "--out", snn)  # fmt: skip
    assert sr.load(snn).notes["calibration"]["ann_accuracy"] > 0.97  # training images
    ok("evaluate", snn, "--data", real_data, "--limit", 64, "--steps", "16,64", "--json", results)
    found = json.loads(results.read_text())
    assert found["ann"]["accuracy"] > 0.8
    assert found["snn"][1]["accuracy"] > found["ann"]["accuracy"] - 0.1
    assert found["snn"][1]["accuracy"] >= found["snn"][0]["accuracy"]
    assert 0.05 < found["snn"][1]["firing_rate"] < 0.2


def test_images_of_another_scale_than_in_training_are_a_warning(tmp_path):
    usual = (
        "convert",
        "digits_resnet8",
        "--dataset",
        "digits",
        "--calibration-images",
        40,
        "--out",
    )
    text = ok(*usual, tmp_path / "wrong.safetensors", "--normalisation", "pixels")
    assert "warning: what reaches bn1 varies" in text
    assert "normalise the images" in text
    assert "varies" not in ok(*usual, tmp_path / "right.safetensors")
