import pytest
import torch

from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.graph import Affine, Graph, Input, Linear, Output, interpret, tensors
from zoo import NAMES, ann, images, in_float64, traced

# What cannot be folded: a BatchNorm before its convolution, after a pool, or one of two readers.
LEFT = {
    "preactivation": 3,  # 2 + 2 + 1 BatchNorms, of which the inner one of each block is folded
    "two_users": 2,
    "dense": 3,
    "max_pool_of_currents": 1,
    "leaky": 8,  # the sign and the slope of four negative populations
    "arithmetic": 7,  # of its image, and of its differences; one that reads a convolution is folded
    "scaled": 1,  # the division of the block's output; the branch's factor is folded
}


@pytest.mark.parametrize("name", NAMES)
def test_folding_changes_no_logit(name):
    graph, batch = traced(name), images(name)
    with torch.inference_mode():
        expected = interpret.logits(in_float64(graph), batch.double())
        found = interpret.logits(fold_bn(graph), batch)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_only_what_cannot_be_folded_is_left(name):
    left = fold_bn(traced(name)).of(Affine)
    assert len(left) == LEFT.get(name, 0)
    assert all(t.dtype == torch.float32 for node in left for t in tensors(node).values())


def test_by_hand():
    nodes = (
        Input(name="input", inputs=(), shape=(2,)),
        Linear(
            name="fc", inputs=("input",), shape=(2,), bias=torch.tensor([1.0, -1.0]),
            weight=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        ),
        Affine(
            name="norm", inputs=("fc",), shape=(2,), scale=torch.tensor([2.0, -0.5]),
            shift=torch.tensor([0.25, 3.0]),
        ),
        Output(name="output", inputs=("norm",), shape=(2,)),
    )  # fmt: skip
    graph = fold_bn(Graph(nodes))
    assert [node.name for node in graph.nodes] == ["input", "fc", "output"]
    assert graph["fc"].weight.tolist() == [[2.0, 4.0], [-1.5, -2.0]]
    assert graph["fc"].bias.tolist() == [2.25, 3.5]


def test_folding_is_pure_and_idempotent():
    graph = traced("reordered")
    before = [t.clone() for node in graph.nodes for t in tensors(node).values()]
    once = fold_bn(graph)
    twice = fold_bn(once)
    after = [t for node in graph.nodes for t in tensors(node).values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert [node.name for node in once.nodes] == [node.name for node in twice.nodes]
    assert all(
        torch.equal(a, b)
        for one, two in zip(once.nodes, twice.nodes, strict=True)
        for a, b in zip(tensors(one).values(), tensors(two).values(), strict=True)
    )


@pytest.mark.parametrize("name", ["pool_before_relu", "max_pool_of_currents", "stem_max_pool"])
def test_pools_and_folding_go_together(name):
    batch = images(name)
    with torch.inference_mode():
        assert torch.allclose(
            interpret.logits(ann(name), batch), interpret.logits(traced(name), batch), atol=1e-5
        )
