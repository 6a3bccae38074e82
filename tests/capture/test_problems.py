"""Problems are told by cause: once, with their places and their number."""

import pytest
from torch import nn

from spiking_resnet import TraceError, trace
from spiking_resnet.capture.problems import Cause, Problem, causes, refusal
from spiking_resnet.evaluation.inspect import Inspection, inspect_model
from zoo import conv, headed

MANY = [
    *(Problem(f"layer{n}.act", "net.py:3: x", "SiLU: train it with ReLU") for n in range(5)),
    Problem("gate", "", "a product of two activations"),
    Problem("a.view", "net.py:9: y", "reshaping (4, 7) to (28)"),
    Problem("b.view", "net.py:9: y", "reshaping (2, 2, 7) to (28)"),
]


def test_problems_are_grouped_where_only_names_and_sizes_differ():
    found = causes(MANY)
    assert [len(cause.places) for cause in found] == [5, 2, 1]
    assert found[0] == Cause(
        "SiLU: train it with ReLU", tuple(f"layer{n}.act" for n in range(5)), "net.py:3: x"
    )
    assert str(found[0]) == (
        "SiLU: train it with ReLU\n"
        "     5 places: 'layer0.act' (net.py:3: x), 'layer1.act', 'layer2.act' and 2 more"
    )
    assert str(found[1]).startswith("reshaping (4, 7) to (28)\n     2 places: 'a.view' (net.py")
    assert str(found[2]) == "'gate': a product of two activations"


def test_the_refusal_names_each_remedy_once():
    error = refusal(MANY)
    assert str(error).startswith("8 operation(s) cannot be converted, for 3 causes:\n  1. SiLU")
    assert str(error).count("train it with ReLU") == 1
    assert error.problems == tuple(map(str, MANY))
    assert error.causes == causes(MANY)
    assert str(refusal(MANY[5:6])) == (
        "1 operation(s) cannot be converted:\n  1. 'gate': a product of two activations"
    )


def test_an_inspection_has_the_causes_of_its_problems():
    model = headed(conv(3, 4), nn.SiLU(), conv(4, 4), nn.SiLU(), conv(4, 4), nn.GELU(), features=4)
    found = inspect_model(model, (3, 8, 8))
    assert [cause.text.split(":")[0] for cause in found.causes] == ["SiLU", "GELU"]
    assert len(found.causes[0].places) == 2
    assert len(found.problems) == 3
    assert Inspection.from_json(found.to_json()) == found
    assert "3 problem(s), of 2 causes:" in str(found)
    with pytest.raises(TraceError, match="3 operation") as refused:
        trace(model, (3, 8, 8))
    assert refused.value.causes == found.causes
