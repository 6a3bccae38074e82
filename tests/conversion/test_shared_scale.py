"""One threshold for each residual stage: identity shortcuts then need no gain."""

from dataclasses import replace

import pytest
import torch

import zoo
from spiking_resnet import simulate
from spiking_resnet.conversion.passes.thresholds import shared_over_stages
from spiking_resnet.graph import Add, Affine, Fire, ReLU


@pytest.mark.parametrize("per_channel", [False, True])
def test_identity_shortcuts_are_read_without_a_gain(per_channel):
    graph = zoo.spiking("three_blocks", shared_scale="stage", per_channel=per_channel)
    assert not graph.of(Affine)
    assert zoo.spiking("three_blocks", per_channel=per_channel).of(Affine)
    for node in graph.of(Add):
        assert any(isinstance(graph[name], Fire) for name in node.inputs)


def test_a_stage_has_the_largest_of_its_thresholds():
    ann = zoo.ann("three_blocks")
    own = {node.name: torch.tensor(float(i + 1)) for i, node in enumerate(ann.of(ReLU))}
    found = shared_over_stages(ann, own)
    summed = {
        node.name
        for node in ann.of(ReLU)
        if isinstance(ann[node.inputs[0]], Add)
        or any(isinstance(reader, Add) for reader in ann.consumers[node.name])
    }
    largest = max(float(own[name]) for name in summed)
    assert {float(found[name]) for name in summed} == {largest}
    assert all(found[name] == own[name] for name in own if name not in summed)


def test_projections_end_a_stage_and_ceilings_are_kept():
    ann = zoo.ann("projection")
    own = {node.name: torch.tensor(float(i + 1)) for i, node in enumerate(ann.of(ReLU))}
    assert shared_over_stages(ann, own) == own
    ann = zoo.ann("identity")
    last = ann.of(ReLU)[-1]
    capped = ann.with_nodes(replace(n, ceiling=0.5) if n is last else n for n in ann.nodes)
    own = {node.name: torch.tensor(0.5 if node.name == last.name else 2.0) for node in ann.of(ReLU)}
    assert shared_over_stages(capped, own)[last.name] == 0.5


def test_logits_still_tend_to_the_anns():
    graph = zoo.spiking("three_blocks", shared_scale="stage", readout="membrane", percentile=100.0)
    frames = zoo.images("three_blocks")
    found = simulate(graph, frames, 600).logits[-1]
    wanted = zoo.logits("three_blocks")
    assert float((found - wanted).abs().max()) < 0.05 * float(wanted.abs().max())
