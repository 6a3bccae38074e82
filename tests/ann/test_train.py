import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from spiking_resnet import files
from spiking_resnet.ann import checkpoint, training_run
from spiking_resnet.ann.augment import Augmentation, resized
from spiking_resnet.ann.checkpoint import CheckpointError, load
from spiking_resnet.ann.data import DataError, Normalisation, load_dataset
from spiking_resnet.ann.images import in_memory
from spiking_resnet.ann.initial_weights import Start
from spiking_resnet.ann.progress import progress_bar
from spiking_resnet.ann.recipe import (
    RECIPES,
    TrainConfig,
    augmentation_for,
    learning_rate_at,
    sides_at,
)
from spiking_resnet.ann.resnet import ResNet, ResNetConfig
from spiking_resnet.ann.train import TrainError, accuracy, train
from spiking_resnet.ann.training_state import state_path

MODEL = ResNetConfig(depth=8, classes=10, in_channels=1, width=8)
TRAIN = load_dataset("digits", "train").subset(200)
TEST = load_dataset("digits", "test").subset(100)


class Killed(Exception):
    pass


def config(**changes):
    return TrainConfig(**{"model": MODEL, "epochs": 3, "batch_size": 64, **changes})


def killing_at(step):
    def look(now):
        if now.step == step:
            raise Killed

    return look


def same(a, b):
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_training_learns_and_describes_itself(tmp_path):
    data = load_dataset("digits", "train"), load_dataset("digits", "test")
    out = tmp_path / "net.safetensors"
    result = train(config(epochs=8, command="the command"), *data, out)
    assert result.accuracy > 0.9
    metadata = load(out).metadata
    assert metadata["accuracy"] == result.accuracy
    assert metadata["dataset"] == "digits"
    assert (metadata["training_images"], metadata["test_images"]) == (1300, 497)
    assert metadata["command"] == "the command"
    assert metadata["recipe"] == "modern"
    assert metadata["training"]["epochs"] == 8
    assert metadata["seed"] == 0
    assert metadata["finished"] is True
    assert metadata["versions"]["torch"] == torch.__version__
    assert metadata["selection"].endswith("last epoch; never the test set")
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize(
    "changes",
    [{"recipe": "paper"}, {"recipe": "modern"}, {"recipe": "quick", "tails": 0.1}],
    ids=lambda changes: changes["recipe"],
)
@pytest.mark.parametrize(("step", "held_out"), [(2, 0), (4, 0), (7, 40), (9, 40)])
def test_resumed_training_ends_with_the_same_bits(tmp_path, monkeypatch, changes, step, held_out):
    monkeypatch.setattr(files, "WORK_PER_SAVING", 0.0)  # after every step
    settings = config(**changes, held_out=held_out)
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    expected = train(settings, TRAIN, TEST, whole)
    torch.manual_seed(5)  # global generators must not matter
    with pytest.raises(Killed):
        train(settings, TRAIN, TEST, resumed, progress=killing_at(step))
    torch.manual_seed(6)
    steps = []
    result = train(settings, TRAIN, TEST, resumed, progress=lambda now: steps.append(now.step))
    steps_per_epoch = 3 if held_out else 4
    # Killed at the last step of an epoch, before it is closed, that step is run again.
    assert steps[0] == (step if step % steps_per_epoch == 0 else step + 1)
    assert same(whole, resumed)
    assert (result.accuracy, result.held_out_accuracy) == (
        expected.accuracy, expected.held_out_accuracy,
    )  # fmt: skip


SCRIPT = """
import sys, time, torch
torch.set_num_threads(1)
from spiking_resnet.ann import ResNetConfig, load_dataset
from spiking_resnet.ann.train import TrainConfig, train
data = load_dataset("digits", "train").subset(200), load_dataset("digits", "test").subset(100)
model = ResNetConfig(depth=8, classes=10, in_channels=1, width=8)
settings = TrainConfig(model, epochs=3, batch_size=64)
def slow(now):
    print(now.step, flush=True)
    time.sleep(0.2)
train(settings, *data, sys.argv[1], progress=slow)
"""


@pytest.mark.sweep
def test_killed_process_goes_on(tmp_path):
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    train(config(), TRAIN, TEST, whole)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(resumed)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(training_run.__file__).parents[2])},
    )  # fmt: skip
    for line in process.stdout:
        if int(line) == 6:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert (tmp_path / "resumed.safetensors.training").is_file()
    steps = []
    train(config(), TRAIN, TEST, resumed, progress=lambda now: steps.append(now.step))
    assert 5 <= steps[0] <= 7  # the first epoch's four steps were stored, and later ones
    assert same(whole, resumed)


def test_killed_between_the_weights_and_the_state(tmp_path, monkeypatch):
    settings = config(held_out=40)
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    expected = train(settings, TRAIN, TEST, whole)
    original, calls = training_run.write_state, []

    def killed_the_second_time(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        original(*arguments)

    monkeypatch.setattr(training_run, "write_state", killed_the_second_time)
    with pytest.raises(Killed):
        train(settings, TRAIN, TEST, resumed)
    result = train(settings, TRAIN, TEST, resumed)
    assert same(whole, resumed)
    assert result.held_out_accuracy == expected.held_out_accuracy


def test_no_resume_starts_over(tmp_path):
    out = tmp_path / "net.safetensors"
    with pytest.raises(Killed):
        train(config(), TRAIN, TEST, out, progress=killing_at(6))
    steps = []
    train(config(), TRAIN, TEST, out, resume=False, progress=lambda now: steps.append(now.step))
    assert steps == list(range(1, 13))


def test_state_of_other_settings_or_damaged_is_refused(tmp_path):
    out = tmp_path / "net.safetensors"
    with pytest.raises(Killed):
        train(config(), TRAIN, TEST, out, progress=killing_at(6))
    with pytest.raises(CheckpointError, match=r"seed 0 \(now 1\).*--no-resume"):
        train(config(seed=1), TRAIN, TEST, out)
    with pytest.raises(CheckpointError, match="data"):
        train(config(), TEST, TEST, out)
    state = tmp_path / "net.safetensors.training"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"damaged.*--no-resume"):
        train(config(), TRAIN, TEST, out)


@pytest.fixture
def finished(tmp_path):
    """The file of a finished training, and its result."""
    out = tmp_path / "net.safetensors"
    return out, train(config(), TRAIN, TEST, out)


def never(now):
    raise AssertionError("nothing is trained again")


def test_a_finished_training_is_not_done_again(finished):
    out, result = finished
    before = out.read_bytes()
    state_path(out).touch()  # killed before it was removed
    assert result.repeated is False
    for resume in (True, False):
        again = train(config(command="another"), TRAIN, TEST, out, resume, progress=never)
        assert again == replace(result, repeated=True, seconds=round(result.seconds, 1))
    assert out.read_bytes() == before
    assert os.listdir(out.parent) == [out.name]


def test_files_of_old_versions_are_known_too(finished):
    out, _ = finished
    found = load(out)
    metadata = {
        key: value for key, value in found.metadata.items() if key not in ("data", "images")
    }
    checkpoint.save(out, found.model, metadata)
    assert train(config(), TRAIN, TEST, out, progress=never).repeated


def test_what_another_training_made_is_not_replaced(finished):
    out, _ = finished
    before = out.read_bytes()
    for settings, data in ((config(seed=1), TRAIN), (config(), TRAIN.subset(199))):
        with pytest.raises(CheckpointError, match=r"(seed 0 \(now 1\)|data |images ).*--overwrite"):
            train(settings, data, TEST, out, progress=never)
    with pytest.raises(CheckpointError, match=r"would be replaced.*--overwrite"):
        train(config(epochs=2), TRAIN, TEST, out, resume=False, progress=never)
    assert out.read_bytes() == before
    checkpoint.save(out, load(out).model, {})
    with pytest.raises(CheckpointError, match=r"no training wrote it.*--overwrite"):
        train(config(), TRAIN, TEST, out, progress=never)
    assert os.listdir(out.parent) == [out.name]


@pytest.mark.sweep
@pytest.mark.parametrize("held_out", [0, 40])
def test_what_is_replaced_stays_until_the_new_training_is_finished(finished, held_out):
    out, _ = finished
    before, settings = out.read_bytes(), config(seed=1, held_out=held_out)
    whole = out.with_name("whole.safetensors")
    train(settings, TRAIN, TEST, whole)

    def look(now):
        assert out.read_bytes() == before
        if now.step in (2, 5, 7, 9):
            raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            train(settings, TRAIN, TEST, out, progress=look, overwrite=True)
    assert load(out.with_name("net.new.safetensors")).metadata["finished"] is False
    with pytest.raises(CheckpointError, match="--overwrite"):  # it must be said again
        train(settings, TRAIN, TEST, out)
    train(settings, TRAIN, TEST, out, overwrite=True)
    assert same(out, whole)
    assert sorted(os.listdir(out.parent)) == ["net.safetensors", "whole.safetensors"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("removed", [0, 1, 2])
def test_killed_at_the_very_end(tmp_path, monkeypatch, overwrite, removed):
    settings, out = config(held_out=40), tmp_path / "net.safetensors"
    if overwrite:
        train(config(seed=1), TRAIN, TEST, out)
    unlink, calls = Path.unlink, []

    def killed(path, **options):
        if path.suffix in (".training", ".safetensors"):
            calls.append(path)
            if len(calls) > removed:
                raise Killed
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        if removed < 2:
            with pytest.raises(Killed):
                train(settings, TRAIN, TEST, out, overwrite=overwrite)
        else:
            train(settings, TRAIN, TEST, out, overwrite=overwrite)
    assert load(out).metadata["finished"]
    assert train(settings, TRAIN, TEST, out, progress=never).repeated
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_what_is_stopped_between_two_steps_loses_none(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WORK_PER_SAVING", float("inf"))
    out, steps = tmp_path / "net.safetensors", []

    def stop(now):
        steps.append(now.step)
        if now.step in (2, 4, 7):
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(config(), TRAIN, TEST, out, progress=stop)
    train(config(), TRAIN, TEST, out, progress=stop)
    assert steps == list(range(1, 13))


def test_one_process_trains_a_file(tmp_path):
    out = tmp_path / "net.safetensors"
    with files.held(out), pytest.raises(files.BusyError, match="in use by another process"):
        train(config(), TRAIN, TEST, out)


def test_nan_loss_names_the_step_and_keeps_the_last_good_weights(tmp_path, monkeypatch):
    out = tmp_path / "net.safetensors"
    original = training_run.functional.cross_entropy
    calls = []

    def poisoned(*arguments, **named):
        calls.append(1)
        loss = original(*arguments, **named)
        return loss * float("nan") if len(calls) == 7 else loss

    monkeypatch.setattr(training_run.functional, "cross_entropy", poisoned)
    with pytest.raises(TrainError, match=r"step 3 of 4 of epoch 2.*--lr"):
        train(config(), TRAIN, TEST, out)
    kept = load(out)  # refuses NaN itself
    assert kept.metadata["finished"] is False
    assert kept.metadata["accuracy"] is None
    state = torch.load(tmp_path / "net.safetensors.training", weights_only=True)
    assert state["state"]["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_exploding_rate_is_reported(tmp_path):
    with pytest.raises(TrainError, match="smaller --lr"):
        train(config(recipe="paper", learning_rate=1e30), TRAIN, TEST, tmp_path / "a.safetensors")


def test_full_disk_leaves_no_half_written_file(tmp_path, monkeypatch):
    out = tmp_path / "net.safetensors"
    with pytest.raises(Killed):
        train(config(), TRAIN, TEST, out, progress=killing_at(6))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            train(config(), TRAIN, TEST, out)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    train(config(), TRAIN, TEST, out)  # with room again it goes on
    assert load(out).metadata["finished"]


def test_held_out_images_choose_and_the_file_says_so(tmp_path):
    out = tmp_path / "net.safetensors"
    result = train(config(held_out=50), TRAIN, TEST, out)
    metadata = load(out).metadata
    assert metadata["held_out_accuracy"] == result.held_out_accuracy
    assert "best on 50 held-out training images" in metadata["selection"]
    assert 1 <= metadata["epoch"] <= 3


def test_test_labels_do_not_change_the_weights(tmp_path):
    shuffled = in_memory(
        "digits", "test", TEST.pixels(torch.arange(100)), TEST.labels.flip(0), 10,
        TEST.normalisation,
    )  # fmt: skip
    train(config(), TRAIN, TEST, tmp_path / "a.safetensors")
    train(config(), TRAIN, shuffled, tmp_path / "b.safetensors")
    assert same(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_seeds_differ(tmp_path):
    for seed in (0, 1):
        train(config(seed=seed, epochs=1), TRAIN, TEST, tmp_path / f"{seed}.safetensors")
    assert not same(tmp_path / "0.safetensors", tmp_path / "1.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"epochs": 0}, "epochs"), ({"batch_size": 0}, "batch_size"), ({"recipe": "best"}, "paper"),
     ({"learning_rate": 0.0}, "learning_rate"), ({"learning_rate": float("nan")}, "learning_rate"),
     ({"held_out": -1}, "held_out"), ({"precision": "fp8"}, "bf16")],
)  # fmt: skip
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        config(**changes)


def test_networks_that_torch_cannot_train_on_avx2_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    narrow, out = config(model=replace(MODEL, width=4), epochs=1), tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"layer2.* 4 input channels .*width of 8"):
        train(narrow, TRAIN, TEST, out)
    assert list(tmp_path.iterdir()) == []
    train(config(model=replace(narrow.model, shortcut="paper-average"), epochs=1), TRAIN, TEST, out)


def test_data_that_does_not_fit_is_refused(tmp_path):
    out = tmp_path / "net.safetensors"
    with pytest.raises(DataError, match="1 channels"):
        train(config(model=ResNetConfig(depth=8)), TRAIN, TEST, out)
    with pytest.raises(DataError, match="leaves nothing"):
        train(config(held_out=200), TRAIN, TEST, out)
    with pytest.raises(DataError, match="no images"):
        in_memory("none", "train", torch.zeros(0, 1, 8, 8, dtype=torch.uint8), [], 10,
                  TEST.normalisation)  # fmt: skip
    with pytest.raises(ValueError, match=r"\.safetensors"):
        train(config(), TRAIN, TEST, tmp_path / "net.pt")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA"):
            train(config(device="cuda"), TRAIN, TEST, out)


def test_papers_schedule():
    settings = TrainConfig(MODEL, recipe="paper")
    per_epoch = 391
    rates = [learning_rate_at(settings, epoch * per_epoch, 113 * per_epoch) for epoch in range(113)]
    expected = [0.01] * 3 + [0.1] * 80 + [0.01] * 10 + [0.001] * 20
    assert rates == pytest.approx(expected)
    last = learning_rate_at(settings, 83 * per_epoch - 1, 113 * per_epoch)
    assert last == pytest.approx(0.1)


def test_modern_schedule_rises_then_falls_to_zero():
    settings = TrainConfig(MODEL, recipe="modern")
    rates = [learning_rate_at(settings, step, 100) for step in range(100)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(RECIPES["modern"].learning_rate)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.01 * max(rates)


def test_the_quick_recipe_sees_small_images_first():
    settings = TrainConfig(MODEL, recipe="quick")
    sides = [sides_at(settings, epoch, (32, 32)) for epoch in range(50)]
    assert sides == [(16, 16)] * 20 + [(24, 24)] * 20 + [(32, 32)] * 10
    assert [sides_at(settings, epoch, (28, 40)) for epoch in (0, 20, 49)] == [
        (16, 20), (20, 32), (28, 40),
    ]  # fmt: skip
    assert sides_at(settings, 0, (8, 8)) == (8, 8)
    assert sides_at(config(), 0, (31, 7)) == (31, 7)


def test_sizes_and_alternate_flips_reach_the_network(tmp_path, monkeypatch):
    """Colour images of 16 pixels without crops: what the network is given, epoch by epoch."""
    pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    data = in_memory("colours", "train", pixels, [0, 1] * 4, 2, TEST.normalisation)
    data = replace(data, normalisation=Normalisation((0.0,) * 3, (1.0,) * 3))
    monkeypatch.setattr(training_run, "augmentation_for", lambda data: Augmentation(0, flip=True))
    monkeypatch.setattr(
        training_run.torch, "randperm", lambda count, generator: torch.arange(count)
    )
    seen = []
    model = ResNetConfig(depth=8, classes=2, width=8)
    run = training_run.Run(TrainConfig(model, recipe="quick", epochs=5), data, tmp_path / "a")
    run.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    told = []
    for _ in range(5):
        run.epoch(told.append)
    work = [64, 64, 144, 144, 256]  # pixels of an image
    assert [now.done for now in told] == pytest.approx(
        [sum(work[: each + 1]) / sum(work) for each in range(5)]
    )
    assert [images.shape[2] for images in seen] == [8, 8, 12, 12, 16]
    assert torch.equal(seen[0], seen[1].flip(3))
    last = (seen[4] * 255).round().to(torch.uint8)
    same = (last == pixels).flatten(1).all(1)
    mirrored = (last == pixels.flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 0 < int(same.sum()) < 8
    # half the size is antialiased: close to the mean of 2x2 pixels on smooth images
    flat = torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)
    assert resized(flat, (8, 8)).unique().tolist() == [77]


def test_a_teacher_is_asked_about_whole_images_alone(tmp_path):
    pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    data = in_memory("colours", "train", pixels, [0, 1] * 4, 2, TEST.normalisation)
    data = replace(data, normalisation=Normalisation((0.5,) * 3, (0.25,) * 3))
    model = ResNetConfig(depth=8, classes=2, width=8)
    taught = Start(ResNet(model), None, 97.0, {"file": "teacher"})
    settings = TrainConfig(model, recipe="quick", epochs=5)
    alone = training_run.Run(settings, data, tmp_path / "a")
    pupil = training_run.Run(settings, data, tmp_path / "b", teacher=taught)
    same_after = []
    for _ in range(5):
        alone.epoch(None)
        pupil.epoch(None)
        pairs = zip(alone.model.parameters(), pupil.model.parameters(), strict=True)
        same_after.append(all(torch.equal(one, other) for one, other in pairs))
    assert same_after == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"tails": float("nan")}, "tails must not be negative"),
        ({"norm_momentum": 0.0}, "norm_momentum must be above 0"),
    ],
)
def test_settings_that_train_nothing_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        config(**changes)


def test_half_files_are_measured_as_they_are(tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    train(config(), TRAIN, TEST, whole)
    result = train(config(half=True), TRAIN, TEST, half)
    exact, rounded = load_file(whole), load_file(half)
    for key, value in exact.items():
        expected = value.half() if value.dim() > 1 else value
        assert torch.equal(rounded[key], expected)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    network = load(half)
    assert network.metadata["accuracy"] == result.accuracy
    assert accuracy(network.model, TEST, torch.device("cpu")) == result.accuracy
    assert {value.dtype for value in network.model.parameters()} == {torch.float32}


def test_weight_decay_and_momentum_reach_the_training(tmp_path):
    run = training_run.Run(
        config(weight_decay=0.25, norm_momentum=0.5), TRAIN, tmp_path / "a.safetensors"
    )
    assert [group["weight_decay"] for group in run.optimizer.param_groups] == [0.25, 0.0]
    assert run.model.bn1.momentum == 0.5
    assert config().identity()["weight_decay"] == RECIPES["modern"].weight_decay


def test_characters_are_never_mirrored():
    assert augmentation_for(TRAIN).flip is False
    assert augmentation_for(TRAIN).pad == 1


def test_bf16_trains_on_the_cpu(tmp_path):
    result = train(config(precision="bf16", epochs=1), TRAIN, TEST, tmp_path / "a.safetensors")
    assert load(result.path).metadata["training"]["precision"] == "bf16"


def test_progress_bar_shows_accuracy_and_time_left(tmp_path):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with progress_bar(console) as show:
        train(config(held_out=40), TRAIN, TEST, tmp_path / "a.safetensors", progress=show)
    shown = screen.getvalue()
    assert "epoch 3/3" in shown
    assert "training" in shown
    assert "held out" in shown
    assert "0:00:00" in shown


def test_progress_in_a_file_is_a_line_an_epoch(tmp_path):
    written = io.StringIO()
    with progress_bar(Console(file=written, width=40)) as show:
        train(config(), TRAIN, TEST, tmp_path / "a.safetensors", progress=show)
    lines = written.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all("loss" in line and "training" in line for line in lines)
    assert lines[-1].endswith("0:00:00 left")


def test_identity_is_json():
    assert json.loads(json.dumps(config().identity()))["model"]["depth"] == 8


@pytest.mark.gpu
def test_resumed_training_ends_with_the_same_bits_on_cuda(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    settings = config(device="cuda", epochs=12)
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    train(settings, TRAIN, TEST, whole)
    started = time.monotonic()
    with pytest.raises(Killed):
        train(settings, TRAIN, TEST, resumed, progress=killing_at(24))
    assert time.monotonic() - started < 60
    train(settings, TRAIN, TEST, resumed)
    assert same(whole, resumed)
