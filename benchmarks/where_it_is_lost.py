"""Where a converted network loses accuracy: clipping, quantisation, or uneven arrival, by layer.

    python benchmarks/where_it_is_lost.py --data DIR --network resnet56 --images 500 --steps 350

Result, hardware and versions: docs/results.md, "Where ResNet-56 loses it".

Three networks are compared on the same test images, with the same thresholds: the
ANN with its activations clipped at the thresholds; the same with activations rounded to T
levels, which is what a spiking network would compute if every spike arrived evenly; and the spiking
network itself. Then each layer is clipped alone. Thresholds come from training images.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from spiking_resnet import convert, methods, simulate
from spiking_resnet.environment import hardware
from spiking_resnet.evaluation.reproduce import NETWORKS, materials
from spiking_resnet.graph import ReLU, interpret


def clipped(graph, thresholds, names):
    """The ANN with the named ReLUs cut off at their thresholds."""
    return graph.with_nodes(
        replace(node, ceiling=float(thresholds[node.name]))
        if isinstance(node, ReLU) and node.name in names
        else node
        for node in graph.nodes
    )


def decisions(graph, batches):
    with torch.inference_mode():
        return torch.cat([interpret.logits(graph, images).argmax(1) for images in batches])


def quantised(graph, thresholds, steps, images):
    """Decisions with activations clipped, and rounded to `steps` levels as even spikes would."""
    values = {graph.input.name: images}
    for node in graph.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node, ReLU):
            level = float(thresholds[node.name]) / steps
            values[node.name] = torch.floor(inputs[0] / level + 0.5).clamp(0, steps) * level
        elif node is not graph.output:
            values[node.name] = node.value(*inputs)
    return values[graph.output.inputs[0]].argmax(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", default="resnet56", choices=sorted(NETWORKS))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--percentile", type=float, default=99.9)
    options = parser.parse_args()
    network, data = NETWORKS[options.network], Path(options.data)
    model, calibration, loader = materials(network, data, options.images)
    method = methods.hu2021(percentile=options.percentile, steps=options.steps, sum_bits=24)
    snn = convert(model, calibration, method)
    thresholds = snn.notes["thresholds"]
    batches, labels = [b for b, _ in loader], torch.cat([y for _, y in loader])
    names = [node.name for node in snn.ann.of(ReLU)]
    reference = decisions(snn.ann, batches)

    def row(label, chosen):
        right = 100 * float((chosen == labels).double().mean())
        same = 100 * float((chosen == reference).double().mean())
        print(f"{label:<44} accuracy {right:6.2f} %   agreement {same:6.2f} %", flush=True)

    print(f"{options.network}, {len(labels)} test images, {hardware()}")
    row("ANN", reference)
    row("clipped at the thresholds", decisions(clipped(snn.ann, thresholds, names), batches))
    with torch.inference_mode():
        even = [quantised(snn.ann, thresholds, options.steps, images) for images in batches]
    row(f"clipped, rounded to {options.steps} levels", torch.cat(even))
    chosen = [simulate(snn, images, options.steps).logits[-1].argmax(1) for images in batches]
    row(f"spiking, T = {options.steps}", torch.cat(chosen))
    alone = {
        name: (decisions(clipped(snn.ann, thresholds, [name]), batches) == reference)
        for name in names
    }
    print("\nclipping one layer alone, the ten that change most decisions:")
    for name, same in sorted(alone.items(), key=lambda item: float(item[1].double().mean()))[:10]:
        print(f"  {name:<20} agreement {100 * float(same.double().mean()):6.2f} %")


if __name__ == "__main__":
    main()
