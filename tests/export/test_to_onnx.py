"""A network as an ONNX file: onnxruntime gives the interpreter's spikes."""

import json

import numpy as np
import pytest

import spiking_resnet as sr
from spiking_resnet import ann, convert, simulate
from spiking_resnet.conversion.methods import calibrated, differential, hu2021
from spiking_resnet.conversion.presets import RECIPES
from spiking_resnet.export.format import ExportError
from spiking_resnet.graph import interpret
from zoo import NAMES, images, network, quantised, spiking

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def session(path):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def close(found, expected):
    """Equal, but for the rounding of a softmax."""
    return np.allclose(found, expected.numpy(), rtol=1e-6, atol=1e-6)


def the_same_step_by_step(graph, batch, steps, path):
    """After every step the same potentials, sums and memories, so the same spikes."""
    sr.to_onnx(graph, path)
    run = session(path)
    outputs = [each.name for each in run.get_outputs()]
    first = sr.to_torch(graph).initial_state(len(batch))
    state = {f"state.{name}": np.zeros_like(tensor.numpy()) for name, tensor in first.items()}
    expected = interpret.State()
    for _ in range(steps):
        _, expected = interpret.step(graph, batch, expected)
        found = dict(zip(outputs, run.run(None, {"images": batch.numpy(), **state}), strict=True))
        for name, kept in expected.memory.items():
            assert np.array_equal(found[f"next.{name}"], kept.numpy())
        assert close(found["logits"], interpret.readout(graph, expected))
        state = {name: found[name.replace("state.", "next.", 1)] for name in state}
    assert int(state["state.time"]) == steps


def the_same_at_once(graph, batch, steps, path):
    sr.to_onnx(graph, path, steps)
    (found,) = session(path).run(None, {"images": batch.numpy()})
    assert close(found, simulate(graph, batch, steps, engine="interpreter").logits[-1])


@pytest.mark.parametrize("of", NAMES)
def test_every_network_steps_the_same(of, tmp_path):
    the_same_step_by_step(spiking(of), images(of, 3), 64, tmp_path / "snn.onnx")


@pytest.mark.parametrize("of", NAMES)
def test_every_network_is_the_same_at_once(of, tmp_path):
    the_same_at_once(spiking(of, readout="membrane"), images(of, 3), 6, tmp_path / "snn.onnx")


@pytest.mark.parametrize("name", RECIPES)
def test_every_method_is_the_same(name, tmp_path):
    method, of, model = RECIPES[name].make(4), "stem_max_pool", None
    if method.name == "qcfs":
        of, model = "identity", quantised()
    graph = convert(model or network(of), images(of, 20), method)
    the_same_at_once(graph, images(of, 3), graph.made_for or 4, tmp_path / "snn.onnx")
    if not sr.to_torch(graph).timed:
        the_same_step_by_step(graph, images(of, 3), 8, tmp_path / "snn.onnx")


def test_the_file_says_what_it_means(tmp_path):
    graph = spiking("one_relu")
    sr.to_onnx(graph.with_notes({"classes": list("abcde")}), tmp_path / "snn.onnx", 4)
    found = onnx.load(tmp_path / "snn.onnx")
    (told,) = (json.loads(each.value) for each in found.metadata_props)
    assert (told["steps"], told["image"]["encoding"]) == (4, "constant")
    assert told["readout"]["classes"] == list("abcde")
    assert told["neurons"].keys() == graph.neurons.keys()
    assert {each["reset"] for each in told["neurons"].values()} == {"by subtraction"}
    shape = found.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param == "batch"


def test_a_long_unrolled_network_holds_its_weights_once(tmp_path):
    graph = spiking("one_relu")
    sizes = []
    for steps in (2, 32):
        sr.to_onnx(graph, tmp_path / "snn.onnx", steps)
        found = onnx.load(tmp_path / "snn.onnx")
        sizes.append(len(found.graph.initializer))
    assert sizes[0] == sizes[1]


def test_what_cannot_be_written_is_refused(tmp_path):
    batch = images("one_relu", 20)
    for method, steps, what in (
        (hu2021(input_coding="poisson"), 2, "draws random spikes"),
        (differential(steps=4, images=4), None, "say how many steps"),
        (calibrated(steps=4, compensation="none", delay=1), None, "leaves out the first"),
    ):
        graph = convert(network("one_relu"), batch, method)
        with pytest.raises(ExportError, match=what):
            sr.to_onnx(graph, tmp_path / "snn.onnx", steps)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_resnet20_on_real_images(real_data, tmp_path):
    training = ann.load_dataset("cifar10", "train", real_data)
    batch, _ = next(iter(ann.load_dataset("cifar10", "test", real_data).loader(4)))
    model = ann.pretrained("cifar10_resnet20").model
    graph = convert(model, training.loader(50, limit=100))
    the_same_step_by_step(graph, batch, 64, tmp_path / "snn.onnx")
    the_same_at_once(graph, batch, 16, tmp_path / "snn.onnx")
