"""Spikes that are moved about, or pooled over a whole map, without being unpacked."""

from dataclasses import replace

import torch.nn.functional as F

from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.bit_code import joined
from spiking_resnet.engines.cpu.library import Planes
from spiking_resnet.engines.cpu.memory import Memory
from spiking_resnet.graph import AvgPool, Concat, Flatten, Node, Pad, Select, Slice


def moved(node: Node, inputs: list[Planes], memory: Memory) -> Planes | None:
    """Others' planes, moved to memory of their own, or None where bits must be moved within words.

    What a node takes of its inputs' channels may be a view of their memory, which is used again.
    """
    code = replace(joined(planes.code for planes in inputs), units=inputs[0].code.units)
    words = [planes.coded(code).words for planes in inputs]
    if isinstance(node, Concat):
        taken = words
    elif isinstance(node, Slice) and node.axis == 0:
        taken = [words[0][..., node.start : node.stop : node.step]]
    elif isinstance(node, Select) and node.axis == 0:
        taken = [words[0][..., list(node.index)]]
    elif isinstance(node, Pad) and not any(sum(pair) for pair in node.padding[1:]):
        taken = [F.pad(words[0], node.padding[0])]
    elif isinstance(node, Flatten) and library.positions(inputs[0].shape) == 1:
        taken = words
    else:
        return None
    return Planes.joined(taken, node.shape, code, memory)


def takes_all(node: AvgPool, spikes: Planes) -> bool:
    """Whether the pool has one window, of the whole map."""
    return node.kernel == spikes.shape[1:] and node.padding == (0, 0)
