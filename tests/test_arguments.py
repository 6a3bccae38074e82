"""Arguments of public functions: what is plausibly wrong is named, what is meant is taken."""

import re
import types

import numpy as np
import pytest
import torch
from torch import nn

import spiking_resnet as sr
from spiking_resnet.conversion.presets import RECIPES, taken
from zoo import images, network, spiking

IMAGES = images("identity")[:4]
LABELS = torch.zeros(4, dtype=torch.long)
LOADER = [(IMAGES, LABELS)]
MODEL = network("identity")
NOT_A_SIZE = ["8", 8.5, True, None, [8], float("nan"), torch.ones(2)]


def snn():
    return spiking("identity")


def simulated(**options):
    return sr.simulate(**{"graph": snn(), "images": IMAGES, "steps": 4, **options})


def evaluated(**options):
    return sr.evaluate(**{"graph": snn(), "loader": LOADER, "steps": (4,), **options})


def diagnosed(**options):
    return sr.diagnose(**{"graph": snn(), "loader": LOADER, "steps": 4, **options})


def converted(**options):
    return sr.convert(**{"model": MODEL, "calibration": IMAGES, **options})


def compared(**options):
    usual = {"model": MODEL, "calibration": IMAGES, "loader": LOADER, "steps": (4,)}
    return sr.compare(**{**usual, "methods": ("hu2021",), **options})


def tuned(**options):
    return sr.tune(**{"model": MODEL, "fitting": IMAGES, "validation": LOADER, **options})


def module(**options):
    return sr.as_module(**{"graph": snn(), **options})


WRONG = [
    *((simulated, "graph", value) for value in (None, MODEL, "snn.safetensors", 4)),
    *((simulated, "images", value) for value in (None, IMAGES.numpy(), (IMAGES, LABELS), "x.png")),
    *((simulated, "steps", value) for value in NOT_A_SIZE if value is not None),
    (simulated, "record", "8"),
    (simulated, "record", (1, "2")),
    (simulated, "record", 2.5),
    (simulated, "record", {2: 2}),
    (simulated, "engine", 3),
    (simulated, "engine", ["cpu"]),
    (simulated, "trains", 3),
    (simulated, "trains", [3]),
    (simulated, "neurons", snn),
    (simulated, "window", "8"),
    (simulated, "window", -1),
    (evaluated, "graph", MODEL),
    *((evaluated, "loader", value) for value in (None, 3, "images", MODEL, {"x": IMAGES})),
    *((evaluated, "steps", value) for value in ("8", (8, "x"), 2.5, object())),
    (evaluated, "engine", cpu := torch.device("cpu")),
    (evaluated, "progress", "yes"),
    (evaluated, "device", "gpu"),
    (evaluated, "device", 3.5),
    (evaluated, "facts", ["a"]),
    (diagnosed, "graph", None),
    (diagnosed, "loader", 4),
    (diagnosed, "steps", "8"),
    (diagnosed, "progress", 1),
    (module, "graph", MODEL),
    (module, "steps", "8"),
    *((converted, "calibration", value) for value in (None, 3, "train", MODEL, {"x": IMAGES})),
    *((converted, "method", value) for value in (123, None, ["hu2021"], sr.methods.hu2021, cpu)),
    (compared, "methods", ("hu2021", 3)),
    (compared, "methods", 3),
    (compared, "methods", ()),
    (compared, "steps", "4"),
    (compared, "loader", None),
    (compared, "calibration", None),
    (compared, "progress", 4),
    (compared, "options", 4),
    (tuned, "methods", None),
    (tuned, "target_loss", "0.5"),
    (tuned, "target_loss", None),
    (tuned, "max_steps", "8"),
    (tuned, "measure", "spikes"),
    (tuned, "limits", {"binary": True}),
    (tuned, "tell", "me"),
    (tuned, "fitting", None),
    (tuned, "validation", 3),
]


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [pytest.param(*row, id=f"{row[0].__name__}-{row[1]}-{i}") for i, row in enumerate(WRONG)],
)
def test_an_argument_of_another_type_is_named(function, name, value):
    with pytest.raises(sr.InputError) as refused:
        function(**{name: value})
    message = str(refused.value)
    assert re.search(rf"\b{name}\b", message)
    assert len(message) < 400


@pytest.mark.parametrize("graph", [None, MODEL, "snn.safetensors"])
def test_only_graphs_are_saved(tmp_path, graph):
    with pytest.raises(sr.InputError, match="graph is"):
        sr.save(graph, tmp_path / "snn.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, 3, b"x", ["snn.safetensors"], ""])
def test_files_are_named_by_paths(path):
    for function in (lambda: sr.save(snn(), path), lambda: sr.load(path)):
        with pytest.raises(sr.InputError, match="path is"):
            function()


@pytest.mark.parametrize("path", [None, 3, MODEL])
def test_onnx_files_are_named_by_paths(path):
    with pytest.raises(sr.InputError, match="path is"):
        sr.trace_onnx(path)


@pytest.mark.parametrize("four", [4, 4.0, np.int64(4), np.float32(4), torch.tensor(4)])
def test_whole_numbers_of_any_kind_are_taken(four):
    plain = simulated(record=(2, 4))
    found = simulated(steps=four, record=[np.int32(2), four], window=four)
    assert found.record == (2, 4)
    assert all(type(step) is int for step in found.record)
    assert torch.equal(found.logits, plain.logits)
    assert [point.steps for point in evaluated(steps=four).points] == [4]
    assert [point.steps for point in evaluated(steps=torch.tensor([2, 4])).points] == [2, 4]


def test_one_name_is_one_name():
    layer = next(iter(snn().neurons))
    found = simulated(trains=layer, neurons=layer, record=2)
    assert (list(found.trains), list(found.neuron_spikes)) == ([layer], [layer])
    assert found.record == (2, 4)


def test_recipes_go_by_name():
    assert taken("methods", "hu2021") == taken("methods", RECIPES["hu2021"]) == (RECIPES["hu2021"],)
    assert taken("methods", ("hu2021",)) == taken("methods", [RECIPES["hu2021"]])
    assert len(taken("methods", "all")) == len(RECIPES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("percentile", "99"),
        ("percentile", None),
        ("per_channel", "no"),
        ("per_channel", 1),
        ("steps", 3.5),
        ("steps", "8"),
        ("grid", "14"),
        ("levels", None),
        ("compensation", None),
        ("compensation", "best"),
        ("reset", 0),
        ("readout", "spikes"),
        ("seed", [1]),
    ],
)
def test_a_methods_options_are_checked_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} is"):
        sr.methods.hu2021(**{name: value})


def test_options_of_numpy_and_torch_become_plain():
    made = sr.methods.hu2021(steps=np.int64(8), percentile=np.float64(99.5), grid=None)
    assert (type(made.steps), type(made.percentile), made.grid) == (int, float, None)
    assert sr.methods.calibrated(delay="auto", steps=torch.tensor(4)).steps == 4


def test_a_method_of_ones_own_is_taken():
    own = types.SimpleNamespace(apply=lambda traced, calibration: traced)
    assert converted(method=own).output.shape == (5,)


def test_a_decorated_function_keeps_its_signature():
    assert list(sr.simulate.__wrapped__.__annotations__)[:3] == ["graph", "images", "steps"]
    assert sr.simulate.__doc__.startswith("The run of a spiking network")
    with pytest.raises(TypeError):
        sr.simulate(snn(), IMAGES, stpes=4)
    assert isinstance(module(), nn.Module)


def test_a_missing_or_unknown_argument_is_said_with_the_functions_name():
    graph = spiking("identity")
    with pytest.raises(TypeError, match=r"simulate\(\) missing .*'images'"):
        sr.simulate(graph)
    with pytest.raises(TypeError, match=r"evaluate\(\) .*'stepz'"):
        sr.evaluate(graph, [], stepz=3)


def test_arrays_in_the_place_of_tensors_are_told_what_makes_them_one():
    batches = [images("identity", 4).numpy()]
    with pytest.raises(sr.InputError, match=r"a batch is a ndarray.*torch.from_numpy"):
        sr.convert(network("identity"), batches)
    with pytest.raises(sr.InputError, match=r"keep_state is 'yes' .str.: give True or False"):
        sr.simulate(spiking("identity"), images("identity", 4), keep_state="yes")
