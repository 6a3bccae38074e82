"""A trained network becomes a spiking one: accuracy after 8 to 128 time steps.

Run: python examples/convert_and_evaluate.py      (a few seconds; nothing is downloaded)
"""

import spiking_resnet as sr
from spiking_resnet import ann


def main():
    network = ann.pretrained("digits_resnet8").model
    training = ann.load_dataset("digits", "train")
    held_out = ann.load_dataset("digits", "test")

    snn = sr.convert(network, training.loader(100, limit=500), method="hu2021")
    curve = sr.evaluate(snn, held_out.loader(64, limit=200), steps=(8, 16, 32, 64, 128))

    print(f"ANN: {curve.ann_accuracy:.1%} of {curve.images} held-out digits")
    for point in curve.points:
        print(
            f"spiking, T = {point.steps:3}: {point.accuracy:.1%}, agreement {point.agreement:.1%}, "
            f"{point.spikes_per_image:,.0f} spikes per image"
        )
    return curve


if __name__ == "__main__":
    main()
