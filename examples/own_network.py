"""Your own residual network, with functional calls: trained, converted and measured in seconds."""

import torch
from torch import nn
from torch.nn import functional

import spiking_resnet as sr
from spiking_resnet import ann


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.classifier = nn.Linear(256, 10)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.branch(x))
        return self.classifier(functional.avg_pool2d(x, 2).flatten(1))


def main():
    torch.manual_seed(0)
    network, training = Tiny(), ann.load_dataset("digits", "train").loader(100)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(15):
        for images, labels in training:
            functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    snn = sr.convert(network, training, method=sr.methods.hu2021(percentile=99.9))
    curve = sr.evaluate(snn, ann.load_dataset("digits", "test").loader(64), steps=(64,))
    print(f"ANN {curve.ann_accuracy:.1%}, SNN after 64 steps {curve.points[0].accuracy:.1%}")
    return curve


if __name__ == "__main__":
    main()
