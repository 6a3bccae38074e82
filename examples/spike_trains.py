"""The spikes themselves: a raster of one layer, and rates that approach the ANN's activations.

Run: python examples/spike_trains.py      (a few seconds; nothing is downloaded)
"""

import torch

import spiking_resnet as sr
from spiking_resnet import ann


def main(steps=64, layer="relu"):
    network = ann.pretrained("digits_resnet8").model
    training = ann.load_dataset("digits", "train").loader(100, limit=500)
    images, _ = next(iter(ann.load_dataset("digits", "test").loader(1)))
    snn = sr.convert(network, training)
    run = sr.simulate(snn, images, steps, trains=[layer])
    spikes = run.trains[layer].flatten(1).float()  # [T, neurons] of the one image

    stem = torch.relu(network.bn1(network.conv1(images)))  # what the layer `relu` stands for
    activations = stem.detach().flatten()  # [neurons]
    busiest = activations.argsort(descending=True)[20:420:40]
    for neuron in busiest.tolist():
        raster = "".join("|" if spike else "." for spike in spikes[:, neuron])
        rate = spikes[:, neuron].mean()
        print(f"{raster} activation {activations[neuron]:.2f}, rate {rate:.2f}")
    correlation = float(torch.corrcoef(torch.stack([activations, spikes.mean(0)]))[0, 1])
    print(f"correlation of rates and activations, {len(activations)} neurons: {correlation:.4f}")
    return correlation


if __name__ == "__main__":
    main()
