"""Sizes of nodes, against counts by brute force over every product of a convolution."""

from itertools import product

import pytest
import torch
from torch import nn

from spiking_resnet.capture.module import trace
from spiking_resnet.costs.sizes import sizes
from spiking_resnet.graph import Affine, AvgPool, Conv2d, Fire, Linear, Pad, ReLU
from zoo import NAMES, ann, conv, random_weights, spiking, traced

GEOMETRIES = [
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 3, "padding": 2, "dilation": 2},
    {"kernel_size": (1, 3), "padding": (0, 2), "stride": (2, 1)},
    {"kernel_size": 5, "padding": 4, "groups": 2},
    {"kernel_size": 3, "padding": 1, "groups": 4},
    {"kernel_size": 1, "stride": 2},
]


def by_hand(layer, shape, inside):
    """(dense products, products with an input that exists) of a convolution, one by one."""
    _, height, width = shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        layer.kernel_size, layer.stride, layer.padding, layer.dilation
    )  # fmt: skip
    out = layer(torch.zeros(1, *shape)).shape
    dense = real = 0
    for _, y, x in product(range(out[1]), range(out[2]), range(out[3])):
        for _, i, j in product(range(layer.in_channels // layer.groups), range(kh), range(kw)):
            row, column = y * sh - ph + i * dh, x * sw - pw + j * dw
            dense += 1
            real += 0 <= row < height and 0 <= column < width and inside(row, column)
    return dense, real


@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
@pytest.mark.parametrize("border", [0, 1])
def test_a_convolutions_products_one_by_one(options, border):
    """border: zeros that the network pads by itself; they are no inputs either."""
    layer = nn.Conv2d(4, 8, **options)
    model = nn.Sequential(
        conv(1, 4), nn.ReLU(), nn.ZeroPad2d(border), layer, nn.Flatten(), nn.LazyLinear(3)
    )
    model(torch.zeros(1, 1, 6, 7))
    found = sizes(trace(random_weights(model), (1, 6, 7)).nodes)["3"]
    shape = (4, 6 + 2 * border, 7 + 2 * border)
    dense, real = by_hand(
        layer, shape, lambda y, x: border <= y < 6 + border and border <= x < 7 + border
    )
    assert (found.macs, found.synapses) == (dense, real)
    assert found.parameters == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_what_weights_of_one_make_of_inputs_of_one(name):
    """Synapses are what arrives where everything that exists is 1 and every weight is 1."""
    for graph in (ann(name), spiking(name)):
        found = sizes(graph.nodes)
        for node in graph.nodes:
            size = found[node.name]
            if isinstance(node, Linear):
                assert size.macs == size.synapses == node.weight.numel()
            elif isinstance(node, Conv2d):
                assert 0 < size.synapses <= size.macs
                padded = any(node.padding) or any(isinstance(graph[n], Pad) for n in node.inputs)
                assert padded or size.synapses == size.macs
            elif isinstance(node, ReLU | Fire):
                assert size.neurons == torch.Size(node.shape).numel()
            elif isinstance(node, AvgPool) and node.padding == (0, 0):
                entries = node.kernel[0] * node.kernel[1] * torch.Size(node.shape).numel()
                padded = any(isinstance(graph[n], Pad) for n in node.inputs)
                assert 0 < size.synapses <= entries
                assert padded or size.synapses == entries
            elif not isinstance(node, Affine | AvgPool):
                assert (size.macs, size.synapses, size.neurons, size.parameters) == (0, 0, 0, 0)


def test_neurons_are_those_of_the_graph():
    for name in ("wide", "average_of_4"):
        graph = spiking(name)
        found = {n: size.neurons for n, size in sizes(graph.nodes).items() if size.neurons}
        assert found == graph.neurons


def test_parameters_are_the_modules_own():
    found = sum(size.parameters for size in sizes(traced("grouped").nodes).values())
    # stem 108 + BatchNorm 2 x 4, a convolution of two groups 6 x 2 x 9 + 6, classifier 6 x 5 + 5
    assert found == 108 + 8 + 114 + 35
