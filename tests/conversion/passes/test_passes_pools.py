from dataclasses import replace

import pytest
import torch

from spiking_resnet import simulate
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.pools import cumulative_pools, relu_first
from spiking_resnet.graph import Fire, Graph, MaxPool, ReLU, interpret
from zoo import NAMES, ann, images, logits, spiking, traced


@pytest.mark.parametrize("name", NAMES)
def test_exchanging_relu_and_pool_changes_nothing(name):
    folded = fold_bn(traced(name))
    with torch.inference_mode():
        before = interpret.logits(folded, images(name))
        after = interpret.logits(relu_first(folded), images(name))
    assert torch.equal(before, after)


def test_the_pool_then_reads_the_relu():
    graph = ann("pool_before_relu")
    (pool,) = graph.of(MaxPool)
    assert isinstance(graph[pool.inputs[0]], ReLU)
    assert graph[pool.inputs[0]].shape == (4, 8, 8)


def test_a_pool_with_another_reader_stays():
    graph = traced("pool_before_relu")
    relu = next(n for n in graph.of(ReLU) if isinstance(graph[n.inputs[0]], MaxPool))
    twin = replace(relu, name="twin", ceiling=1.0)
    position = graph.nodes.index(relu) + 1
    with_twin = Graph((*graph.nodes[:position], twin, *graph.nodes[position:]))
    assert [n.name for n in relu_first(with_twin).nodes] == [n.name for n in with_twin.nodes]


def test_every_pool_becomes_cumulative():
    graph = cumulative_pools(ann("inner_max_pool"))
    assert {pool.rule for pool in graph.of(MaxPool)} == {"cumulative"}
    assert {pool.rule for pool in ann("inner_max_pool").of(MaxPool)} == {"instant"}


@pytest.mark.parametrize("name", ["pool_before_relu", "inner_max_pool", "stem_max_pool"])
def test_the_spiking_pool_counts_like_its_busiest_input(name):
    graph = spiking(name)
    (pool,) = graph.of(MaxPool)
    assert isinstance(graph[pool.inputs[0]], Fire)
    memory, total, pooled = {}, 0, 0
    with torch.inference_mode():
        for time in range(40):
            for node, value in interpret.walk(graph.nodes, images(name, 3), memory, time):
                if node.name == pool.inputs[0]:
                    total = total + value
                elif node is pool:
                    assert set(value.unique().tolist()) <= {0.0, 1.0}
                    pooled = pooled + value
                    assert torch.equal(pooled, pool.value(total))


@pytest.mark.parametrize("name", ["pool_before_relu", "stem_max_pool"])
def test_the_instant_rule_does_not_approach_the_network(name):
    errors = {}
    for rule in ("cumulative", "instant"):
        options = {"max_pooling": rule, "readout": "membrane", "percentile": 100.0, "steps": 512}
        run = simulate(spiking(name, **options), images(name), 512, record=(32, 512))
        expected = logits(name)
        errors[rule] = [float((found - expected).norm() / expected.norm()) for found in run.logits]
    assert errors["cumulative"][1] < 0.02
    assert errors["instant"][1] > 0.2
