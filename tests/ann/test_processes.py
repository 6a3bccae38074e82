import subprocess
import sys

import pytest
import torch

from spiking_resnet.ann.checkpoint import load
from spiking_resnet.ann.data import DataError, load_dataset
from spiking_resnet.ann.recipe import TrainConfig
from spiking_resnet.ann.resnet import ResNetConfig
from spiking_resnet.ann.train import train
from spiking_resnet.processes.training import Processes, joined

MODEL = ResNetConfig(depth=8, classes=10, in_channels=1, width=8)

# Two processes; the gradients of a network without BatchNorm must be those of the whole batch. Then
# they run the command line, as `-m spiking_resnet.cli` does.
SCRIPT = """
import sys
import torch
from torch import nn
from spiking_resnet.processes.training import joined

processes = joined("cpu")
torch.manual_seed(0)
model, images, labels = nn.Linear(3, 2), torch.randn(7, 3), torch.tensor([0, 1, 1, 0, 1, 0, 0])
forward = processes.joint(model)
own = processes.share(labels)
loss = nn.functional.cross_entropy(forward(processes.share(images)), own)
torch.autograd.backward(loss * len(own) * processes.count / len(labels))
found = model.weight.grad.clone()
model.zero_grad()
torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
assert torch.allclose(found, model.weight.grad, atol=1e-6), (found, model.weight.grad)
assert processes.total(torch.tensor(processes.rank + 1.0)) == 3
with open(f"process_{processes.rank}", "w") as file:
    file.write(f"of {processes.count}")

from spiking_resnet.cli import app
app(sys.argv[1:])
"""


def torchrun(*arguments, cwd=None):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, cwd=cwd,
    )  # fmt: skip


def test_one_process_alone():
    alone = joined("cpu")
    assert alone == Processes()
    values = torch.arange(5)
    assert torch.equal(alone.share(values), values)
    assert torch.equal(alone.total(values), values)
    assert alone.joint(model := torch.nn.Linear(1, 1)) is model


def test_shares_are_disjoint_and_complete():
    values = torch.arange(11)
    shares = [Processes(rank, 3).share(values) for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == values.tolist()


@pytest.mark.sweep
def test_two_processes_train_one_network(tmp_path):
    script, out = tmp_path / "script.py", tmp_path / "out" / "net.safetensors"
    script.write_text(SCRIPT)
    out.parent.mkdir()
    usual = ("train", "--model", "resnet8", "--dataset", "digits", "--width", 8, "--epochs", 6,
             "--batch-size", 32, "--out", out)  # fmt: skip
    done = torchrun(script, *usual, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"process_{rank}").read_text() for rank in range(2)] == ["of 2"] * 2
    assert done.stdout.count("wrote") == 1  # one of them speaks
    found = load(out)
    assert found.metadata["processes"] == 2
    assert found.metadata["accuracy"] > 0.9
    assert [file.name for file in out.parent.iterdir()] == [out.name]


def test_batches_too_small_to_share_are_refused(tmp_path):
    data, test = load_dataset("digits", "train").subset(65), load_dataset("digits", "test")
    with pytest.raises(DataError, match="2 processes share a batch of 1"):
        train(
            TrainConfig(MODEL, batch_size=64), data, test, tmp_path / "a.safetensors",
            processes=Processes(0, 2),
        )  # fmt: skip
