"""A converted CIFAR-10 ResNet-20 learns through time, at T = 4, by a surrogate gradient.

Run: python examples/fine_tune.py --data DIR       (--help: images, epochs, learning rate, …)
"""

import time

import torch
import typer

import spiking_resnet as sr
from spiking_resnet import ann


def main(data: str | None = None, method: str = "mmse", steps: int = 4, images: int = 5000,
         tested: int = 2000, epochs: int = 2, rate: float = 3e-4, seed: int = 0,
         out: str = "tuned.safetensors"):  # fmt: skip
    torch.manual_seed(seed)
    training = ann.load_dataset("cifar10", "train", data)
    held_out = ann.load_dataset("cifar10", "test", data).loader(50, tested, seed=seed)
    network, calibration = ann.pretrained("cifar10_resnet20").model, training.loader(50, limit=256)
    snn = sr.convert(network, calibration, method, steps=steps)
    module, accuracy = sr.to_torch(snn), [sr.evaluate(snn, held_out, (steps,)).points[0].accuracy]
    optimizer = torch.optim.Adam(module.parameters(), rate)
    for epoch in range(epochs):  # each with other images
        begin, augmented = time.perf_counter(), ann.Augmentation()
        for batch, labels in training.loader(50, images, seed=seed + epoch, augment=augmented):
            torch.nn.functional.cross_entropy(module(batch), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        snn, seconds = sr.from_torch(module), time.perf_counter() - begin
        accuracy.append(sr.evaluate(snn, held_out, (steps,)).points[0].accuracy)
        print(f"{epoch + 1}: {accuracy[0]:.2%} -> {accuracy[-1]:.2%}, {seconds:.0f} s", flush=True)
    sr.save(snn, out)
    return accuracy


if __name__ == "__main__":
    typer.run(main)
