"""Images brighter than any of the calibration, and black ones: engines stay exact, or say so."""

from dataclasses import replace

import pytest
import torch

from spiking_resnet import InputError, convert, simulate
from spiking_resnet.conversion.methods import dcgs, hu2021
from spiking_resnet.conversion.passes.snap import INPUT_GRID
from spiking_resnet.engines.cpu import library
from spiking_resnet.graph import Conv2d, Fire, Flatten, Graph, Input, Linear, Output, Round
from spiking_resnet.graph.exactness import bounds_of, largest
from spiking_resnet.neurons import Differential
from zoo import images, network

compiled = pytest.mark.skipif(library.library() is None, reason="the kernels are not compiled")


@compiled
@pytest.mark.parametrize("window", [1, 2, None])
def test_a_silent_window_reaches_a_stream_of_numbers(window):
    graph = convert(network("scaled"), images("scaled", 8), hu2021(steps=9))
    black = torch.zeros(2, *graph.input.shape)
    expected = simulate(graph, black, 4, engine="interpreter")
    assert torch.equal(simulate(graph, black, 4, window=window).logits, expected.logits)


@compiled
@pytest.mark.parametrize(("name", "steps"), [("signed_stream", 2), ("dense", 5)])
def test_streams_beyond_16_bits_are_refused_and_run_elsewhere(name, steps):
    graph = convert(network(name), images(name, 8), dcgs(steps=steps))
    for brightness, fits in ((2, True), (30, False), (1e6, False)):
        batch = brightness * images(name, 3, seed=0)
        expected = simulate(graph, batch, engine="interpreter")
        found = simulate(graph, batch)
        assert (found.engine == "cpu") == fits
        if expected.exact:
            assert found.exact
            assert torch.equal(found.logits, expected.logits)
        if not fits:
            with pytest.raises(InputError, match="do not hold"):
                simulate(graph, batch, engine="cpu")


def summing(bias, weight, heights, grid=8):
    """One neuron whose spikes, and a bias, move a read-out in units of its grid."""
    one = torch.ones(())
    neuron = Differential(
        threshold=one, initial_potential=torch.zeros(()), amplitude=one,
        heights=torch.tensor(heights), levels=2,
    )  # fmt: skip
    image = {"shape": (1, 1, 1)}
    ones = torch.ones(1, 1, 1, 1).double()
    weight, bias = (torch.tensor([units]) * 2.0**-grid for units in (weight, bias))
    nodes = [
        Input(name="image", inputs=(), **image, grid=INPUT_GRID, limit=3.0, encoding="once"),
        Conv2d(name="c", inputs=("image",), **image, weight=ones, bias=None),
        Round(name="r", inputs=("c",), **image, bits=grid),
        Fire(name="f", inputs=("r",), **image, neuron=neuron, grid=grid),
        Flatten(name="flat", inputs=("f",), shape=(1,)),
        Linear(name="l", inputs=("flat",), shape=(1,), weight=weight[None], bias=bias, grid=grid),
        Output(name="output", inputs=("l",), shape=(1,), readout="mean", scale=1.0, grid=grid),
    ]
    graph = Graph(tuple(nodes))
    bounds = bounds_of(graph)
    return graph.with_nodes(
        replace(node, step_bound=largest(bounds[node.inputs[0]]))
        if isinstance(node, Fire | Output)
        else node
        for node in graph.nodes
    )


@pytest.mark.parametrize("engine", ["interpreter", "layerwise", "auto"])
@pytest.mark.parametrize("window", [None, 1, 2])
def test_a_sum_that_comes_back_within_a_window_was_out_of_the_exact_range(engine, window):
    """After a spike of 4 at the second step it is beyond 2^24 units, after one of -2 it is not."""
    graph = summing(2**23 + 1, 2**21 + 1, (16.0, 4.0, 1.0))
    image = torch.full((1, 1, 1, 1), 2.5)
    found = simulate(graph, image, 3, engine=engine, window=window, trains=["f"])
    assert found.trains["f"].flatten().tolist() == [0, 1, -2]
    assert not found.exact
    assert "'output'" in found.remark
