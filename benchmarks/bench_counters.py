"""The operations of one run as SpikingJelly, NeuroBench and this package count them.

    pip install spiking-resnet[bench]
    python benchmarks/bench_counters.py --data DIR --steps 32 --images 4

A converted ResNet-20 is rebuilt of torch's own modules (Conv2d, Linear, and a neuron that is a
module), with the same weights, thresholds and spikes; the others' counters watch these run. Spikes
of both are compared first. docs/energy.md says where the differences come from.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from spiking_resnet import convert, count_events, energy, methods
from spiking_resnet.costs.events import arrivals
from spiking_resnet.evaluation.reproduce import NETWORKS, materials
from spiking_resnet.graph import Affine, Conv2d, Fire, Linear
from spiking_resnet.report.numbers import count


class Neurons(nn.Module):
    """Integrate-and-fire neurons that reset by subtraction."""

    def __init__(self, node):
        super().__init__()
        self.node, self.state, self.fired = node, None, 0

    def forward(self, current):
        """The spikes of this step."""
        if self.state is None:
            self.state = self.node.neuron.initial_state(current)
        spikes, self.state = self.node.neuron.step(self.state, current)
        self.fired += int(spikes.count_nonzero())
        return spikes


class Gain(nn.Module):
    """A factor for each channel: the gain of a shortcut."""

    def __init__(self, node):
        super().__init__()
        self.node = node

    def forward(self, x):
        """The values times their factors."""
        return self.node.value(x)


def module_of(node):
    """A torch module that computes a node, or None where plain arithmetic does."""
    if isinstance(node, Conv2d):
        outputs, inputs, *kernel = node.weight.shape
        options = {"bias": node.bias is not None, "groups": node.groups, "dilation": node.dilation}
        made = nn.Conv2d(
            inputs * node.groups, outputs, tuple(kernel), node.stride, node.padding, **options
        )
    elif isinstance(node, Linear):
        made = nn.Linear(*reversed(node.weight.shape), bias=node.bias is not None)
    else:
        return {Fire: Neurons, Affine: Gain}.get(type(node), lambda _: None)(node)
    made.weight.data = node.weight.double()
    if node.bias is not None:
        made.bias.data = node.bias.double()
    return made


class Network(nn.Module):
    """A spiking network's graph as modules; a call is one image batch over all steps."""

    def __init__(self, graph, steps):
        super().__init__()
        self.graph, self.steps = graph, steps
        made = {node.name.replace(".", "_"): module_of(node) for node in graph.nodes}
        self.parts = nn.ModuleDict({name: each for name, each in made.items() if each is not None})

    def forward(self, images):
        """What the read-out sums up."""
        for part in self.parts.values():
            part.state = None
        return sum(self.step(images) for _ in range(self.steps))

    def step(self, images):
        """What reaches the read-out in one step."""
        values = {self.graph.input.name: self.graph.input.present(images, 0).double()}
        for node in self.graph.nodes[1:-1]:
            inputs = [values[name] for name in node.inputs]
            part = self.parts[name] if (name := node.name.replace(".", "_")) in self.parts else None
            value = node.value(*inputs) if part is None else part(*inputs)
            values[node.name] = value.double()
        return values[self.graph.output.inputs[0]]


def differences(graph, events):
    """Parts of the accumulations of one image that others leave out."""
    arriving = arrivals(graph, events.fired)
    kinds = {"shortcut gains": Affine, "classifier": Linear}
    found = {
        name: sum(arriving.get((node.name, 0), 0.0) for node in graph.of(kind)) / events.images
        for name, kind in kinds.items()
    }
    silent = (
        replace(node, weight=(node.weight == 0).double(), bias=None, grid=None).value(
            events.fired[node.inputs[0]][None]
        )
        for node in graph.of(Conv2d)
        if node.inputs[0] in events.fired
    )
    return {
        **found,
        "weights that are 0": sum(float(each.sum()) for each in silent) / events.images,
    }


def spikingjelly(network, images):
    """SpikingJelly's counts, for one image: SynOps, accumulations, multiply-adds."""
    from spikingjelly.activation_based import op_counter

    counters = [op_counter.SynOpCounter(), op_counter.ACCounter(), op_counter.MACCounter()]
    with torch.no_grad(), op_counter.DispatchCounterMode(counters):
        network(images)
    names = ("SynOpCounter", "ACCounter", "MACCounter")
    totals = (counter.get_total() / len(images) for counter in counters)
    return dict(zip(names, totals, strict=True))


def neurobench(network, images):
    """NeuroBench's counts, for one image."""
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    model, metric = TorchModel(network), SynapticOperations()
    model.register_hooks()
    with torch.no_grad():
        predicted = model(images)
        found = metric(model, predicted, (images, torch.zeros(len(images))))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", default="resnet20", choices=sorted(NETWORKS))
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--images", type=int, default=4)
    options = parser.parse_args()
    network, calibration, judged = materials(
        NETWORKS[options.network], options.data, options.images, options.images
    )
    graph = convert(network, calibration, methods.hu2021(steps=options.steps))
    ((images, _),) = list(judged)
    events = count_events(graph, images, options.steps)
    own = energy(graph, events, []).totals
    peer = Network(graph, options.steps)
    with torch.no_grad():
        peer(images)
    fired = sum(part.fired for part in peer.parts.values() if isinstance(part, Neurons))
    same = fired == sum(float(each.sum()) for each in events.fired.values())
    parts = differences(graph, events)
    print(f"{options.network}, T = {options.steps}, {len(images)} images; spikes "
          f"{'equal' if same else 'DIFFER'}: {count(fired / len(images))} an image")  # fmt: skip
    rows = [("spiking-resnet", {kind: number for kind, number in own.items() if number})]
    rows.append(("of these accumulations", parts))
    rows += [("SpikingJelly", spikingjelly(peer, images)), ("NeuroBench", neurobench(peer, images))]
    for name, found in rows:
        print(f"\n{name}")
        for kind, number in found.items():
            print(f"  {kind:<18} {float(number):>16,.0f}")


if __name__ == "__main__":
    main()
