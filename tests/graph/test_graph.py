from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from spiking_resnet.graph import (
    Add,
    Affine,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    GraphError,
    Input,
    Linear,
    Output,
    Pad,
    ReLU,
    Select,
    rename_inputs,
    tensors,
    with_tensors,
)
from spiking_resnet.neurons import IntegrateAndFire
from zoo import NAMES, spiking

IMAGE = Input(name="input", inputs=(), shape=(2, 4, 4))
CONV = Conv2d(
    name="conv", inputs=("input",), shape=(3, 4, 4), padding=(1, 1), bias=torch.zeros(3),
    weight=torch.ones(3, 2, 3, 3),
)  # fmt: skip
RELU = ReLU(name="relu", inputs=("conv",), shape=(3, 4, 4))
FLAT = Flatten(name="flat", inputs=("relu",), shape=(48,))
LINEAR = Linear(name="fc", inputs=("flat",), shape=(5,), weight=torch.ones(5, 48), bias=None)
OUTPUT = Output(name="output", inputs=("fc",), shape=(5,))
NODES = (IMAGE, CONV, RELU, FLAT, LINEAR, OUTPUT)


def test_a_sound_graph_knows_itself():
    graph = Graph(NODES)
    assert graph.input is IMAGE
    assert graph.output is OUTPUT
    assert graph["fc"] is LINEAR
    assert graph.of(ReLU) == (RELU,)
    assert graph.consumers["conv"] == (RELU,)
    assert graph.consumers["output"] == ()


def test_a_graph_is_shown_in_one_line():
    assert repr(Graph(NODES)) == "<Graph: artificial, (2, 4, 4) -> (5,), 6 nodes, 0 spiking>"
    shown = repr(spiking(NAMES[0]))
    assert "5 spiking>" in shown
    assert len(shown) < 100


def test_a_node_read_twice_has_two_consumers():
    double = Add(name="double", inputs=("relu", "relu"), shape=(3, 4, 4))
    flat = replace(FLAT, inputs=("double",))
    graph = Graph((IMAGE, CONV, RELU, double, flat, LINEAR, OUTPUT))
    assert graph.consumers["relu"] == (double, double)


NOT_FINITE = replace(CONV, weight=torch.full((3, 2, 3, 3), float("nan")))
ILL_FORMED = {
    "twice": ((IMAGE, CONV, replace(RELU, name="conv")), "'conv'.*unique"),
    "unknown": ((IMAGE, replace(CONV, inputs=("nobody",))), "'conv' reads 'nobody'"),
    "later": ((CONV, IMAGE), "'conv' reads 'input'"),
    "no_output": (NODES[:-1], "one Output node, this one has 0"),
    "no_input": ((), "one Input node, this one has 0"),
    "two_outputs": ((*NODES, replace(OUTPUT, name="more")), "one Output node, this one has 2"),
    "conv_shape": ((IMAGE, replace(CONV, shape=(3, 5, 5))), r"'conv'.*\(3, 4, 4\)"),
    "conv_stride": ((IMAGE, replace(CONV, stride=(2, 2))), r"'conv'.*\(3, 2, 2\)"),
    "conv_dilation": ((IMAGE, replace(CONV, dilation=(2, 2))), r"'conv'.*\(3, 2, 2\)"),
    "conv_channels": ((IMAGE, replace(CONV, weight=torch.ones(3, 4, 3, 3))), "'conv'.*2 channels"),
    "conv_groups": ((IMAGE, replace(CONV, groups=2)), "'conv'.*2 group"),
    "relu_shape": ((IMAGE, CONV, replace(RELU, shape=(3, 4, 5))), "'relu'"),
    "flat_shape": ((IMAGE, CONV, RELU, replace(FLAT, shape=(47,))), "'flat'.*48"),
    "linear": ((*NODES[:4], replace(LINEAR, weight=torch.ones(5, 47))), "'fc'"),
    "linear_shape": ((*NODES[:4], replace(LINEAR, shape=(4,))), "'fc'"),
    "two_inputs": ((IMAGE, CONV, replace(RELU, inputs=("conv", "conv"))), "'relu'.*2 inputs"),
    "no_inputs": ((IMAGE, replace(RELU, inputs=())), "'relu'.*0 inputs"),
    "input_reads": ((IMAGE, replace(IMAGE, name="again", inputs=("input",))), "'again'"),
    "empty_sum": ((IMAGE, Add(name="sum", inputs=(), shape=(2, 4, 4))), "'sum'.*0 inputs"),
    "uneven_sum": (
        (IMAGE, CONV, Add(name="sum", inputs=("input", "conv"), shape=(2, 4, 4))),
        "'sum': cannot add",
    ),
    "concat": (
        (IMAGE, CONV, Concat(name="both", inputs=("input", "conv"), shape=(4, 4, 4))),
        r"'both'.*\(5, 4, 4\)",
    ),
    "pad": (
        (IMAGE, Pad(name="pad", inputs=("input",), shape=(2, 4, 4), padding=((1, 1),) * 3)),
        r"'pad'.*\(4, 6, 6\)",
    ),
    "select_axis": (
        (IMAGE, Select(name="pick", inputs=("input",), shape=(2, 4, 4), axis=3, index=(0,))),
        "'pick': there is no axis 3",
    ),
    "select_entry": (
        (IMAGE, Select(name="pick", inputs=("input",), shape=(2, 4, 4), axis=0, index=(0, 2))),
        "'pick': selects entries outside axis 0",
    ),
    "select_shape": (
        (IMAGE, Select(name="pick", inputs=("input",), shape=(2, 4, 4), axis=1, index=(0,))),
        r"'pick'.*\(2, 1, 4\)",
    ),
    "nan": ((IMAGE, NOT_FINITE), "'conv': weight has NaN"),
    "infinite": (
        (IMAGE, replace(CONV, bias=torch.tensor([0.0, float("inf"), 0.0]))),
        "'conv': bias has NaN or infinite",
    ),
}


@pytest.mark.parametrize("case", ILL_FORMED)
def test_an_ill_formed_graph_is_refused_by_name(case):
    nodes, message = ILL_FORMED[case]
    with pytest.raises(GraphError, match=message):
        Graph(nodes)


def test_graphs_and_nodes_are_frozen():
    graph = Graph(NODES)
    with pytest.raises(FrozenInstanceError):
        graph.nodes = ()
    with pytest.raises(FrozenInstanceError):
        graph["conv"].weight = None


def test_notes_are_added_to_a_copy():
    graph = Graph(NODES, {"method": "hu2021"})
    noted = graph.with_notes({"steps": 3})
    assert noted.notes == {"method": "hu2021", "steps": 3}
    assert graph.notes == {"method": "hu2021"}


def test_changing_nodes_keeps_notes_and_ann():
    ann = Graph(NODES)
    graph = Graph(NODES, {"a": 1}, ann).with_nodes(NODES)
    assert graph.notes == {"a": 1}
    assert graph.ann is ann


def test_tensors_of_a_population_are_named_by_path():
    neuron = IntegrateAndFire(
        threshold=torch.ones(3), initial_potential=torch.zeros(()), amplitude=torch.ones(())
    )
    node = Fire(name="fire", inputs=("conv",), shape=(3, 4, 4), neuron=neuron)
    assert set(tensors(node)) == {
        "neuron.threshold",
        "neuron.initial_potential",
        "neuron.amplitude",
    }
    changed = with_tensors(node, {"neuron.threshold": torch.full((3,), 2.0)})
    assert changed.neuron.threshold.tolist() == [2, 2, 2]
    assert node.neuron.threshold.tolist() == [1, 1, 1]
    assert changed.neuron.initial_potential is neuron.initial_potential


def test_missing_tensors_are_left_out():
    affine = Affine(name="a", inputs=("conv",), shape=(3, 4, 4), scale=torch.ones(3))
    assert set(tensors(affine)) == {"scale"}
    assert set(tensors(LINEAR)) == {"weight"}


@pytest.mark.parametrize("name", NAMES)
def test_tensors_and_with_tensors_are_inverse(name):
    for node in spiking(name).nodes:
        copy = with_tensors(node, tensors(node))
        assert tensors(copy).keys() == tensors(node).keys()
        assert all(copied is tensors(node)[key] for key, copied in tensors(copy).items())


def test_inputs_are_renamed_where_they_occur():
    node = Add(name="sum", inputs=("a", "b", "a"), shape=(1,))
    assert rename_inputs(node, {"a": "c"}).inputs == ("c", "b", "c")


def test_moving_to_the_same_device_is_free():
    graph = Graph(NODES)
    assert graph.to("cpu") is graph


def test_neurons_are_counted_per_image():
    graph = spiking("identity")
    assert graph.neurons["body.0.2"] == 4 * 8 * 8
    assert set(graph.neurons) == {node.name for node in graph.of(Fire)}
    assert graph.integrators == (*graph.of(Fire), graph.output)
