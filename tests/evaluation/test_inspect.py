import json

import pytest
import torch
from torch import nn

from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.evaluation.inspect import (
    FOLDED,
    OWN_NEURONS,
    SIGNED,
    inspect_graph,
    inspect_model,
)
from spiking_resnet.graph import Affine, Fire
from spiking_resnet.graph.exactness import exact_steps
from spiking_resnet.report.network import verdict
from zoo import NAMES, REFUSED, SHAPE, Branch, network, sequence, spiking, traced


def remarks(name):
    return {node.name: node.remark for node in inspect_model(network(name), SHAPE[name]).nodes}


@pytest.mark.parametrize("name", NAMES)
def test_an_inspection_shows_the_traced_graph(name):
    found, graph = inspect_model(network(name), SHAPE[name]), traced(name)
    assert found.problems == ()
    assert [node.name for node in found.nodes] == [node.name for node in graph.nodes]
    folded = {node.name for node in found.nodes if node.remark == FOLDED}
    gone = {node.name for node in graph.of(Affine)} - fold_bn(graph).by_name.keys()
    assert folded == gone
    assert all(node.size.macs == 0 for node in found.nodes if node.remark == FOLDED)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(("name", "factory", "shape", "word"), REFUSED)
def test_a_refused_network_shows_problems_and_what_was_traced(name, factory, shape, word):
    found = inspect_model(factory(), shape)
    assert any(word in problem for problem in found.problems)
    assert sum(node.kind == "Input" for node in found.nodes) == 1
    assert {"Input", "Conv2d"} <= {node.kind for node in found.nodes}
    assert not found.to_json()["converts"]


def test_what_cannot_be_captured_is_a_problem_too():
    found = inspect_model(sequence(Branch(), features=4), SHAPE["identity"])
    assert found.nodes == ()
    assert "no branch on values" in found.problems[0]


class Probabilities(nn.Module):
    """A network that ends in a softmax over its classes."""

    def __init__(self):
        super().__init__()
        self.inner = network("identity")

    def forward(self, x):
        return torch.softmax(self.inner(x), 1)


def test_what_conversion_leaves_out_is_said():
    found = inspect_model(Probabilities(), SHAPE["identity"])
    assert found.problems == ()
    assert "softmax at the end" in found.remarks[0]
    assert verdict(found).splitlines()[1:] == list(found.remarks)
    assert found.to_json()["remarks"] == found.remarks


class ClassToken(nn.Module):
    """Positions of a map as tokens, with a constant one before them, as transformers have."""

    def __init__(self):
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, 4, 4, 4), nn.Parameter(torch.ones(1, 1, 4))
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        joined = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.fc(nn.functional.layer_norm(joined, (4,))[:, 0])


def test_what_stands_in_the_way_of_a_transformer_is_listed():
    found = inspect_model(ClassToken(), (3, 8, 8))
    assert any("layer_norm" in problem for problem in found.problems)
    assert any("transpose" in problem for problem in found.problems)
    assert found.total.parameters > 0


def test_remarks_say_what_is_not_plain():
    signed = [name for name, text in remarks("signed_stream").items() if text == SIGNED]
    assert signed == ["body.0.expand2.0", "body.0.last"]  # the first reads the image
    assert SIGNED not in remarks("three_blocks").values()
    assert SIGNED not in remarks("max_pool_of_image").values()
    assert list(remarks("average_of_4").values()).count(OWN_NEURONS) == 3
    currents = remarks("average_of_currents")
    assert [name for name, text in currents.items() if text == OWN_NEURONS] == ["mean"]


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_network_shows_its_populations(name):
    graph = spiking(name, per_channel=True)
    found = inspect_graph(graph)
    assert [one.name for one in found.populations] == [node.name for node in graph.of(Fire)]
    assert found.exact_steps == exact_steps(graph) > 0
    for one in found.populations:
        assert one.exact_steps >= found.exact_steps
        assert one.threshold[0] > 0
    json.dumps(found.to_json(), allow_nan=False)


def test_a_populations_synapses_are_those_that_reach_it():
    found = {one.name: one.synapses for one in inspect_graph(spiking("identity")).populations}
    values, taps = 4 * 8 * 8, 4 * 22 * 22  # 22: kernel rows inside an image of 8, summed
    assert found["body.0.2"] == 3 * taps
    assert found["body.1.relu"] == 4 * taps
    assert found["body.1.relu_2"] == 4 * taps + values  # and the identity's gains
    assert found["mean.fire"] == values
    assert found["output.fire"] == 4 * 5
