"""A reader of network files that knows nothing of this package: docs/file_format.md in numpy.

Run: python examples/reader/reader.py snn.safetensors images.npy 64
"""

import json
import sys

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors import safe_open


def read(path, part="snn"):
    """Return (the description's nodes and notes, tensors by "node/field") of a network's file."""
    with safe_open(path, framework="np") as file:
        description = json.loads(file.metadata()["spiking_resnet"])
        names = [name for name in file.keys() if name.startswith(f"{part}/")]  # noqa: SIM118
        tensors = {name.removeprefix(f"{part}/"): file.get_tensor(name) for name in names}
    if not 1 <= description["version"] <= 5:
        raise ValueError(f"format version {description['version']} is not known")
    return description[part], {name: value.astype(np.float64) for name, value in tensors.items()}


def simulate(network, tensors, images, steps):
    """Return (logits [N, K], spikes [T, N, ...] by population) after so many time steps.

    images: [N, C, H, W], normalised.
    """
    memory, fired = {}, {n["name"]: [] for n in network["nodes"] if n["kind"] == "Fire"}
    once = network["nodes"][0].get("encoding") == "once"
    for time in range(steps):
        values = {}
        for node in network["nodes"]:
            own = Tensors(node["name"], tensors, constants=not (once and time > 0))
            inputs = [values[name] for name in node["inputs"]] or [images.astype(np.float64)]
            values[node["name"]] = KINDS[node["kind"]](node, own, inputs, memory, time)
            if node["kind"] == "Fire":
                fired[node["name"]].append(values[node["name"]])
    logits = read_out(network["nodes"][-1], memory, steps)
    return logits, {name: np.stack(spikes) for name, spikes in fired.items()}


class Tensors:
    """The tensors of one node. constants: whether biases enter at this step."""

    def __init__(self, node, tensors, constants):
        self.node, self.tensors, self.constants = node, tensors, constants

    def get(self, field):
        """Return a tensor, or None."""
        return self.tensors.get(f"{self.node}/{field}")

    def constant(self, field):
        """Return what is added at this step, or None."""
        return self.get(field) if self.constants else None


def per_channel(values, like):
    """Return [], [C] or [C, H, W] so that it broadcasts against [N, C, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 2)) if values.ndim == 1 else values


def on_grid(values, bits):
    """Return values rounded to multiples of 2^-bits, of two the even one."""
    return np.rint(values * 2.0**bits) * 2.0**-bits


def image(node, own, inputs, memory, time):
    if node["encoding"] == "poisson":
        raise ValueError("random input spikes are drawn by torch's generator")
    pixels = inputs[0] if node["grid"] is None else on_grid(inputs[0], node["grid"])
    return 0 * pixels if node["encoding"] == "once" and time > 0 else pixels


def convolution(node, own, inputs, memory, time):
    weight, bias, groups = own.get("weight"), own.constant("bias"), node["groups"]
    found = windows(inputs[0], weight.shape[2:], node, 0.0)  # [N, C, rows, columns, kh, kw]
    parts = zip(np.split(found, groups, 1), np.split(weight, groups, 0), strict=True)
    sums = [np.einsum("ncijhw,ochw->noij", x, w) for x, w in parts]
    total = np.concatenate(sums, 1)
    return total if bias is None else total + per_channel(bias, total)


def windows(x, kernel, node, filling):
    (bottom, right) = (padding(node, axis, kernel, x.shape) for axis in (0, 1))
    x = np.pad(x, ((0, 0), (0, 0), bottom, right), constant_values=filling)
    dilation, stride = node.get("dilation", [1, 1]), node["stride"]
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    found = sliding_window_view(x, spans, (2, 3))
    found = found[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return found[:, :, : node["shape"][1], : node["shape"][2]]


def padding(node, axis, kernel, shape):
    """Return (before, after): as much more after the map as the last window needs."""
    around, stride = node["padding"][axis], node["stride"][axis]
    reach = (node["shape"][axis + 1] - 1) * stride
    reach += node.get("dilation", [1, 1])[axis] * (kernel[axis] - 1) + 1
    return around, max(around, reach - around - shape[axis + 2])


def linear(node, own, inputs, memory, time):
    total, bias = inputs[0] @ own.get("weight").T, own.constant("bias")
    return total if bias is None else total + bias


def affine(node, own, inputs, memory, time):
    made, shift = per_channel(own.get("scale"), inputs[0]) * inputs[0], own.constant("shift")
    return made if shift is None else made + per_channel(shift, made)


def relu(node, own, inputs, memory, time):
    ceiling, levels = node.get("ceiling"), node.get("levels")
    if levels is not None:
        width = ceiling / levels
        return np.clip(np.floor(inputs[0] / width + 0.5), 0, levels) * width
    return np.clip(inputs[0], 0, ceiling)


def average(node, own, inputs, memory, time):
    return windows(inputs[0], node["kernel"], node, 0.0).sum((4, 5)) / node["divisor"]


def maximum(node, own, inputs, memory, time):
    def most(x):
        return windows(x, node["kernel"], node, -np.inf).max((4, 5))

    if node["rule"] == "instant":
        return most(inputs[0])
    before = memory.get(node["name"], np.zeros_like(inputs[0]))
    memory[node["name"]] = before + inputs[0]
    return most(memory[node["name"]]) - most(before)


def cut(node, own, inputs, memory, time):
    index = [slice(None)] * inputs[0].ndim
    index[node["axis"] + 1] = slice(node["start"], node["stop"], node["step"])
    return inputs[0][tuple(index)]


def output(node, own, inputs, memory, time):
    name = node["name"]
    memory[name] = memory.get(name, 0.0) + inputs[0]
    if time + 1 == node.get("delay", 0):
        memory[f"{name}, left out"] = memory[name]
    memory["membrane"] = memory.get(node["inputs"][0])
    return inputs[0]


def read_out(node, memory, steps):
    """Return the logits [N, K] after so many steps."""
    total, delay = memory[node["name"]], node.get("delay", 0)
    if node["readout"] == "spikes+membrane":
        powers = np.exp(memory["membrane"] - memory["membrane"].max(1, keepdims=True))
        total = total + powers / powers.sum(1, keepdims=True)
    if node["readout"] == "mean" and 0 < delay < steps:
        total, steps = total - memory[f"{node['name']}, left out"], steps - delay
    return total * (node["scale"] / (1 if node["readout"] == "sum" else steps))


def fire(node, own, inputs, memory, time):
    name, current, neuron = node["name"], inputs[0], node["neuron"]
    if name not in memory:
        start = per_channel(own.get("neuron.initial_potential"), current)
        memory[name] = np.broadcast_to(start, current.shape).copy()
        memory[f"{name}, beside"] = np.zeros_like(current)
    potential, beside = memory[name], memory[f"{name}, beside"]
    threshold = per_channel(own.get("neuron.threshold"), current)
    amplitude = per_channel(own.get("neuron.amplitude"), current)
    kind = neuron.get("kind", "IntegrateAndFire")
    if kind in ("Differential", "Dcgs"):
        sent = differential(kind, neuron, own, (potential + current) / threshold, beside, time)
        memory[name], memory[f"{name}, beside"] = (
            potential + current - threshold * sent,
            beside + sent,
        )
        return amplitude * sent
    if kind == "Gated" and time == neuron["pre_steps"]:
        start = per_channel(own.get("neuron.initial_potential"), current)
        negative, many = potential < 0, potential >= threshold
        beside = 1.0 * negative
        shift = threshold * (1.0 * many - negative) if neuron["gate"] == "cos" else 0.0
        potential = start + shift + 0 * potential
    potential = potential + current
    spikes = integrate_and_fire(kind, neuron, potential, threshold, beside, time)
    zero = neuron["reset"] == "zero"
    potential = potential * (1 - spikes) if zero else potential - threshold * spikes
    if kind == "Saturating":
        potential = np.clip(potential, -neuron["limit"], neuron["limit"])
    memory[name] = potential
    memory[f"{name}, beside"] = beside + spikes if neuron.get("signed") else beside
    return amplitude * spikes


def integrate_and_fire(kind, neuron, potential, threshold, beside, time):
    """Return how many spikes each neuron fires; beside: its spikes so far, or 1 where silent."""
    levels = neuron.get("levels", 1)
    lowest = -np.minimum(beside, levels) if neuron.get("signed") else 0.0
    spikes = np.maximum(np.minimum(np.floor(potential / threshold), levels), lowest)
    if kind == "Serial" and not neuron["start"] <= time < neuron["start"] + neuron["window"]:
        return 0 * spikes
    if kind == "Gated" and neuron["gate"] == "srp" and time >= neuron["pre_steps"]:
        return spikes * (1 - beside)
    return spikes


def differential(kind, neuron, own, ahead, sent, time):
    """Return the signed value of each spike, in thresholds; ahead, sent: in thresholds too."""
    height, ceiling = own.get("neuron.heights")[time], own.get("neuron.ceiling")
    if ceiling is not None:
        ahead = np.minimum(ahead, per_channel(ceiling, ahead) - sent)
    want = np.maximum(ahead, -sent) if kind == "Differential" else ahead
    size, below = np.zeros_like(want), 0
    for level in range(neuron["levels"]):
        if kind == "Differential":
            edge, allowed = below + neuron["caution"] * (2**level - below), True
        else:
            edge = neuron["caution"] * 2**level
            allowed = (want > 0) | (sent >= 2**level * height)
        edge = np.float64(np.float32(height * edge))
        size = np.where((np.abs(want) >= edge) & allowed, 2.0**level, size)
        below = 2**level
    return height * size * np.sign(want)


KINDS = {
    "Input": image,
    "Conv2d": convolution,
    "Linear": linear,
    "Affine": affine,
    "Round": lambda node, own, inputs, memory, time: on_grid(inputs[0], node["bits"]),
    "ReLU": relu,
    "Fire": fire,
    "Add": lambda node, own, inputs, memory, time: sum(inputs),
    "Concat": lambda node, own, inputs, memory, time: np.concatenate(inputs, 1),
    "Pad": lambda node, own, inputs, memory, time: np.pad(inputs[0], [(0, 0), *node["padding"]]),
    "Slice": cut,
    "Select": lambda node, own, inputs, memory, time: np.take(
        inputs[0], node["index"], node["axis"] + 1
    ),
    "AvgPool": average,
    "MaxPool": maximum,
    "Flatten": lambda node, own, inputs, memory, time: inputs[0].reshape(len(inputs[0]), -1),
    "Output": output,
}


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(
            "usage: python reader.py snn.safetensors images.npy STEPS\n\n"
            "images.npy: float [N, C, H, W], normalised as the network's notes say"
        )
    network, tensors = read(sys.argv[1])
    logits, spikes = simulate(network, tensors, np.load(sys.argv[2]), int(sys.argv[3]))
    for name, fired in spikes.items():
        print(f"{name}: {(fired != 0).sum():,} spikes")
    print("decisions:", logits.argmax(1).tolist())
