"""Checks an installed package: kernels, shipped networks and images, simulation, the command."""

import subprocess
import sys

import torch

import spiking_resnet as sr
from spiking_resnet import ann
from spiking_resnet.engines.cpu import library

assert library.library() is not None, f"there are no kernels in {library.folder}"
assert library.kernels().machine_level() >= 0
model = ann.pretrained("digits_resnet8").model.eval()
calibration, test = (ann.load_dataset("digits", split) for split in ("train", "test"))
snn = sr.convert(model, (images for images, _ in calibration.subset(100).loader(50)))
images, _ = next(iter(test.loader(20)))
run = sr.simulate(snn, images, 16, trains=list(snn.neurons))
slow = sr.simulate(snn, images, 16, trains=list(snn.neurons), engine="interpreter")
assert run.engine == "cpu", run.engine
assert run.exact
assert all(torch.equal(run.trains[name], slow.trains[name]) for name in snn.neurons)
command = [sys.executable, "-m", "spiking_resnet.cli", "demo", "--dataset", "digits"]
subprocess.run([*command, "--limit", "20", "--steps", "8"], check=True)
print(f"spiking-resnet {sr.__version__} is installed well, kernels and all")
