import argparse
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

import spiking_resnet as sr
from spiking_resnet.ann.checkpoint import (
    CheckpointError,
    load,
    load_into,
    pretrained,
    pretrained_names,
    save,
)
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.remarks import Remark
from spiking_resnet.ann.resnet import build
from spiking_resnet.ann.train import accuracy

CPU = torch.device("cpu")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build("resnet8", width=8, shortcut="B").eval()


def test_round_trip_keeps_weights_config_and_metadata(tmp_path, model):
    metadata = {"accuracy": 0.5, "normalisation": {"mean": [0.1], "std": [0.2]}}
    save(tmp_path / "a.safetensors", model, metadata)
    loaded = load(tmp_path / "a.safetensors")
    assert not loaded.model.training
    assert loaded.config == model.config
    assert loaded.metadata["accuracy"] == 0.5
    assert loaded.normalisation.mean == (0.1,)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.model(x), model(x))


def test_loading_leaves_the_global_generator_alone(tmp_path, model):
    save(tmp_path / "a.safetensors", model, {})
    before = torch.get_rng_state()
    load(tmp_path / "a.safetensors")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module.", "no counters", "net.model."])
def test_third_party_files(tmp_path, model, wrap):
    state = model.state_dict()
    if wrap == "module.":
        state = {f"module.{key}": value for key, value in state.items()}
    if wrap == "net.model.":
        state = {"net": {f"model.{key}": value for key, value in state.items()}}
    if wrap == "no counters":
        state = {key: value for key, value in state.items() if "num_batches" not in key}
    torch.save(
        {"state_dict": state, "epoch": 3} if wrap == "state_dict" else state, tmp_path / "a.pt"
    )
    loaded = load(tmp_path / "a.pt")
    assert loaded.metadata == {}
    assert loaded.normalisation is None
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.model(x), model(x))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files(tmp_path, model, suffix, keep):
    path = tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch.save(model.state_dict(), path)
    else:
        save(path, model, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CheckpointError, match=r"a\.(pt|safetensors): truncated.*again"):
        load(path)


def altered(model, change):
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if change == "missing":
        del state["layer2.0.bn1.bias"]
    elif change == "unexpected":
        state["extra.weight"] = torch.zeros(1)
    elif change == "shape":
        state["layer2.0.bn1.bias"] = torch.zeros(5)
    elif change == "nan":
        state["layer2.0.bn1.bias"][3] = float("nan")
    elif change == "infinite":
        state["layer2.0.bn1.bias"][3] = float("inf")
    return state


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("change", "words"),
    [("missing", r"missing 'layer2\.0\.bn1\.bias'"), ("unexpected", r"unexpected 'extra\.weight'"),
     ("shape", r"'layer2\.0\.bn1\.bias' has shape \[5\].*\[16\]"),
     ("nan", r"'layer2\.0\.bn1\.bias' has NaN"), ("infinite", r"'layer2\.0\.bn1\.bias' has NaN")],
)  # fmt: skip
def test_weights_that_do_not_fit_are_named(tmp_path, model, suffix, change, words):
    path = tmp_path / f"a{suffix}"
    (torch.save if suffix == ".pt" else save_file)(altered(model, change), path)
    with pytest.raises(CheckpointError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=words):
        load_into(model, path)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_other_contents_are_refused(tmp_path, model):
    for name, content, words in (
        ("a.pt", [1, 2], "no dict of tensors"),
        ("b.pt", {"epoch": 3}, "no dict of tensors"),
        ("c.pt", {"weight": torch.zeros(1)}, r"it holds 'weight' \[1\].*load_into"),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path / name)
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"\.safetensors"):
        load(tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        load(tmp_path / "none.pt")


def small():
    layers = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    return nn.Sequential(*layers)


@pytest.fixture
def trained():
    """A state dict of `small` with numbers that no initialisation gives."""
    torch.manual_seed(1)
    return {
        key: torch.randn(value.shape) if value.is_floating_point() else value
        for key, value in small().state_dict().items()
    }


def behind(prefix, state):
    return {prefix + key: value for key, value in state.items()}


WRAPPINGS = {
    "a.th": lambda s: {"state_dict": behind("module.", s), "best_prec1": 91.7},
    "a.pth.tar": lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {0: s}, "lr": 0.1}},
    "net.t7": lambda s: {"net": behind("module.", s), "acc": 95.1},
    "compiled.pt": lambda s: behind("_orig_mod.module.", s),
    "a.ckpt": lambda s: {
        "state_dict": behind("model.", s) | {"criterion.weight": torch.ones(4)},
        "pytorch-lightning_version": "2.4",
        "hyper_parameters": {"lr": 0.1},
    },
    "deep.model": lambda s: {"a": {"weights": {"params": behind("backbone.net.", s)}}},
    "inner.bin": lambda s: {f"{k[0]}.module{k[1:]}": v for k, v in s.items()},
    "swa.pkl": lambda s: {"n_averaged": torch.tensor(3), **behind("module.", s)},
    "thop": lambda s: s | {"total_ops": torch.ones(1), "0.total_params": torch.ones(1)},
    "few.pt": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "same.pt": lambda s: {"model": s, "model_ema": s},
}


@pytest.mark.filterwarnings("ignore::spiking_resnet.ann.remarks.Remark")
@pytest.mark.parametrize("name", WRAPPINGS)
def test_weights_are_found_by_their_names_wherever_they_are(tmp_path, trained, name):
    torch.save(WRAPPINGS[name](trained), tmp_path / name)
    model = small()
    load_into(model, tmp_path / name)
    assert all(torch.equal(trained[key], value) for key, value in model.state_dict().items())


def test_wrapped_modules_take_plain_weights(tmp_path, trained):
    torch.save(trained, tmp_path / "a.pt")
    model = nn.DataParallel(small())
    load_into(model, tmp_path / "a.pt")
    assert torch.equal(model.module[0].weight, trained["0.weight"])


def test_half_precision_is_read_as_the_numbers_it_holds(tmp_path, trained):
    half = {k: v.half() if v.is_floating_point() else v for k, v in trained.items()}
    torch.save(half, tmp_path / "a.pt")
    model = small()
    load_into(model, tmp_path / "a.pt")
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, half["0.weight"].float())


@pytest.mark.parametrize("averages", ["state_dict_ema", "model_ema", "ema", "callbacks.EMA.shadow"])
def test_running_averages_are_never_taken_or_passed_over_in_silence(tmp_path, trained, averages):
    other = {key: value + 1 for key, value in trained.items()}
    content = {"state_dict": trained}
    inner = content
    *outer, last = averages.split(".")
    for key in outer:
        inner = inner.setdefault(key, {})
    inner[last] = other
    torch.save(content, tmp_path / "a.pt")
    model = small()
    with pytest.warns(Remark, match=f"took the weights 'state_dict'.*{averages}.*weights_key"):
        load_into(model, tmp_path / "a.pt")
    assert torch.equal(model[0].weight, trained["0.weight"])
    for key in (averages, last):
        load_into(model, tmp_path / "a.pt", weights_key=key)
        assert torch.equal(model[0].weight, other["0.weight"])
    with pytest.raises(CheckpointError, match=r"no weights called 'best'.*state_dict"):
        load_into(model, tmp_path / "a.pt", weights_key="best")


def test_averages_behind_another_prefix(tmp_path, trained):
    other = {key: value + 1 for key, value in trained.items()}
    torch.save(behind("model.", trained) | behind("ema_model.module.", other), tmp_path / "a.pt")
    model = small()
    with pytest.warns(Remark, match="took the weights 'model'.*'ema_model'"):
        load_into(model, tmp_path / "a.pt")
    load_into(model, tmp_path / "a.pt", "ema_model")
    assert torch.equal(model[0].weight, other["0.weight"])


def test_several_networks_in_a_file_need_a_choice(tmp_path, trained):
    teacher = {key: value + 1 for key, value in trained.items()}
    torch.save({"student": trained, "teacher": teacher}, tmp_path / "a.pt")
    model = small()
    with pytest.raises(CheckpointError, match=r"'student', 'teacher'; choose one by --weights-key"):
        load_into(model, tmp_path / "a.pt")
    load_into(model, tmp_path / "a.pt", "teacher")
    assert torch.equal(model[0].weight, teacher["0.weight"])


def test_weights_of_another_network_show_what_is_there_and_what_is_needed(tmp_path, trained):
    torch.save({"model": behind("encoder.", trained) | {"encoder.9.bias": torch.ones(2)}},
               tmp_path / "a.pt")  # fmt: skip
    with pytest.raises(
        CheckpointError, match=r"a\.pt \(model\.encoder\): unexpected '9.bias' \[2\]"
    ):
        load_into(small(), tmp_path / "a.pt")
    with pytest.raises(
        CheckpointError, match=r"missing 'conv1\.weight' \[64, 3, 7, 7\].*unexpected"
    ):
        load_into(torchvision.models.resnet18(), tmp_path / "a.pt")
    trained["4.weight"], trained["4.bias"] = torch.ones(7, 12), torch.ones(7)
    torch.save(trained, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"only the last layer differs, it knows 7 .* not 4"):
        load_into(small(), tmp_path / "b.pt")


class Trap:
    """Code that runs when its pickle is loaded."""

    def __reduce__(self):
        return (os.mkdir, ("trap",))


def test_nothing_is_unpickled_and_the_remedy_is_named(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    torch.save(small(), "whole.pth")
    torch.save({"model": small(), "epoch": 3}, "inside.pt")
    for name in ("whole.pth", "inside.pt"):
        with pytest.raises(CheckpointError, match=r"pickled network.*\n.*\n.*state_dict\(\), 'we"):
            load_into(small(), name)
    torch.save({"state_dict": trained, "args": argparse.Namespace(lr=0.1)}, "args.pt")
    with pytest.raises(CheckpointError, match=r"(?s)argparse\.Namespace.*found\['state_dict'\]"):
        load_into(small(), "args.pt")
    torch.save({"state_dict": trained, "trap": Trap()}, "trap.pt")
    with pytest.raises(CheckpointError, match="mkdir"):
        load_into(small(), "trap.pt")
    assert not Path("trap").exists()
    np.savez("keras.npz", **{key: value.numpy() for key, value in trained.items()})
    with pytest.raises(CheckpointError, match="NumPy arrays"):
        load_into(small(), "keras.npz")
    Path("keras.h5").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(CheckpointError, match=r"HDF5.*\.onnx"):
        load_into(small(), "keras.h5")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_scripted_archive_is_named(tmp_path):
    torch.jit.save(torch.jit.script(small()), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"TorchScript.*\n.*jit\.load.*\n.*state_dict\(\)"):
        load_into(small(), tmp_path / "a.pt")


def test_load_into_any_module(tmp_path):
    source = torchvision.models.resnet18(num_classes=5)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    target = torchvision.models.resnet18(num_classes=5)
    load_into(target, tmp_path / "resnet18.pth")
    assert torch.equal(target.fc.weight, source.fc.weight)
    with pytest.raises(CheckpointError, match=r"'fc\.weight' has shape \[5, 512\].*\[7, 512\]"):
        load_into(torchvision.models.resnet18(num_classes=7), tmp_path / "resnet18.pth")
    with pytest.raises(CheckpointError, match="missing 'weight'"):
        load_into(nn.Linear(2, 2), tmp_path / "resnet18.pth")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, model, monkeypatch, failing):
    save(tmp_path / "a.safetensors", model, {"n": 1})
    old = (tmp_path / "a.safetensors").read_bytes()

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / "a.safetensors", model, {"n": 2})
    assert (tmp_path / "a.safetensors").read_bytes() == old
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_shipped_digits_network_is_as_good_as_it_says():
    assert "digits_resnet8" in pretrained_names()
    found = pretrained("digits_resnet8")
    measured = accuracy(found.model, load_dataset("digits", "test"), CPU)
    assert measured == pytest.approx(found.metadata["accuracy"], abs=1e-12)
    assert measured >= 0.98
    assert found.metadata["finished"]
    assert "never the test set" in found.metadata["selection"]
    assert found.normalisation == load_dataset("digits", "test").normalisation
    with pytest.raises(CheckpointError, match="digits_resnet8"):
        pretrained("resnet1001")


# The accuracy on the whole test set that was stated or measured elsewhere, and how many of the 500
# images of `subset(500, seed=0)` are right. On CIFAR-10 those 500 are harder than average: of 400
# seeds no other is as hard for the ResNet-20 of karanchahal (89.0 against 93.0 % on all images;
# mean over the seeds 93.1, deviation 1.1, as chance has it). So the small test compares with the
# counts of these very images, not with the accuracy on all.
THIRD_PARTY = [
    ("cifar10_resnet20_akamaster", "imagenet", 0.9173, 447),
    ("cifar10_resnet56_akamaster", "imagenet", 0.9339, 451),
    ("cifar10_resnet8_karanchahal", None, 0.8958, 439),
    ("cifar10_resnet20_karanchahal", None, 0.9301, 445),
    ("cifar100_resnet8_karanchahal", None, 0.6411, 341),
    ("cifar100_resnet20_karanchahal", None, 0.6969, 361),
]


def by_hand(state, x, signed_sums):
    """The logits, from functions and names of weights alone; two kinds of published networks."""

    def convolve(x, convolution, norm, stride, padding):
        x = functional.conv2d(x, state[f"{convolution}.weight"], None, stride, padding)
        return functional.batch_norm(
            x, state[f"{norm}.running_mean"], state[f"{norm}.running_var"],
            state[f"{norm}.weight"], state[f"{norm}.bias"],
        )  # fmt: skip

    x = convolve(x, "conv1", "bn1", 1, 1).relu()
    for stage in (1, 2, 3):
        index = 0
        while f"layer{stage}.{index}.conv1.weight" in state:
            block = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            branch = convolve(x, f"{block}.conv1", f"{block}.bn1", stride, 1).relu()
            branch = convolve(branch, f"{block}.conv2", f"{block}.bn2", 1, 1)
            if f"{block}.shortcut.0.weight" in state:
                x = convolve(x, f"{block}.shortcut.0", f"{block}.shortcut.1", stride, 0)
            elif stride == 2:
                zeros = torch.zeros(len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3] // 2)
                x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
            x = branch + x if signed_sums else (branch + x).relu()
            index += 1
        x = x.relu()
    x = functional.avg_pool2d(x, 4 if signed_sums else 8).flatten(1)
    return functional.linear(x, state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize("name", ["akamaster", "karanchahal"])
def test_third_party_kinds_give_the_logits_worked_out_by_hand(tmp_path, name):
    torch.manual_seed(0)
    signed = name == "karanchahal"
    if signed:
        model = build("resnet20", shortcut="B", stem_width=64, relu_after_sum="stage", pool_grid=2)
    else:
        model = build("resnet20", shortcut="A")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 1.5)
            for values in (module.bias.data, module.running_mean):
                values.normal_(0, 0.3)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        logits = load(tmp_path / "a.pt").model(x)
    expected = by_hand(model.state_dict(), x, signed)
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4)


def third_party_accuracy(root, name, normalisation, limit):
    path = root / "weights" / f"{name}.pt"
    dataset = name.split("_")[0]
    if not path.is_file() or not (root / dataset).is_dir():
        pytest.skip(f"{path} or {root / dataset} is not there")
    model = load(path).model
    data = load_dataset(dataset, "test", data=root)
    correct, seen = 0, 0
    with torch.no_grad():
        for images, labels in data.loader(250, limit=limit, normalisation=normalisation):
            correct, seen = (
                correct + int((model(images).argmax(1) == labels).sum()),
                seen + len(labels),
            )
    return correct / seen


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "normalisation", "_published", "right"), THIRD_PARTY)
def test_third_party_networks_on_500_images(real_data, name, normalisation, _published, right):
    measured = third_party_accuracy(real_data, name, normalisation, 500)
    assert abs(500 * measured - right) < 1.5  # another processor may round one image away


@pytest.mark.slow
@pytest.mark.parametrize(("name", "normalisation", "published", "_right"), THIRD_PARTY)
def test_third_party_networks_on_all_images(real_data, name, normalisation, published, _right):
    measured = third_party_accuracy(real_data, name, normalisation, None)
    assert measured == pytest.approx(published, abs=2e-4)


def test_the_repr_of_a_loaded_network_is_a_line():
    told = (
        "<LoadedNetwork: 78,042 parameters, trained on digits, 99.60 %; .model, .config, .metadata>"
    )
    assert repr(pretrained("digits_resnet8")) == told


def test_a_loaded_network_is_told_from_its_model():
    loaded = pretrained("digits_resnet8")
    with pytest.raises(sr.TraceError, match=r"a LoadedNetwork: give its \.model"):
        sr.convert(loaded, torch.zeros(2, 1, 8, 8, dtype=torch.float32))
