"""What stands behind the logits of an ONNX file: left out where no decision changes."""

import numpy as np
import pytest
import torch

import spiking_resnet as sr
from onnx_files import CLASSES, Builder, random
from spiking_resnet.capture.onnx.file import read
from spiking_resnet.capture.onnx.reference import reference_logits
from spiking_resnet.graph import interpret


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def frames(count=6):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def ending(*nodes, opset=17, batch="N", maps=False, classes=CLASSES):
    """A network whose logits are [N, K], or maps [N, K, 1, 1], and what stands behind them."""
    net = Builder((batch, 3, 8, 8), opset)
    net.conv(4, 3)
    net.add("Relu")
    net.add("GlobalAveragePool")
    if maps:
        net.add("Conv", random(classes, 4, 1, 1))
    else:
        net.add("Flatten")
        net.add("Gemm", random(4, classes), random(classes, low=-0.5))
    plain = Builder((batch, 3, 8, 8), opset)
    plain.nodes, plain.fixed, plain.last = list(net.nodes), list(net.fixed), net.last
    for kind, inputs, attributes in nodes:
        net.add(kind, *inputs, **attributes)
    return net, plain


def node(kind, *inputs, **attributes):
    return kind, inputs, attributes


LEFT_OUT = {
    "last_axis": ([node("Softmax", axis=-1)], {}),
    "second_axis": ([node("LogSoftmax", axis=1)], {}),
    "default": ([node("Softmax")], {}),
    "old_default": ([node("Softmax")], {"opset": 11}),
    "old_maps": ([node("Softmax", axis=1), node("Flatten")], {"opset": 11, "maps": True}),
    "old_default_of_maps": ([node("Softmax")], {"opset": 11, "maps": True}),
    "old_one_image": ([node("Softmax", axis=0)], {"opset": 11, "batch": 1}),
    "maps": ([node("Softmax", axis=-3), node("Reshape", np.array([0, -1]))], {"maps": True}),
    "channels_last": (
        [node("Transpose", perm=[0, 2, 3, 1]), node("Softmax", axis=-1), node("Flatten")],
        {"maps": True},
    ),
    "wrapped": ([node("Identity"), node("Softmax"), node("Cast", to=1), node("Identity")], {}),
    "twice": ([node("Softmax"), node("LogSoftmax", axis=1)], {}),
    "sigmoid": ([node("Sigmoid")], {}),
    "one_sigmoid": ([node("Sigmoid")], {"classes": 1}),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_probabilities_of_classes_are_left_out(case, path):
    nodes, options = LEFT_OUT[case]
    net, plain = ending(*nodes, **options)
    expected = reference_logits(read(plain.save(path.with_name("plain.onnx"))), frames(), "NCHW")
    graph = sr.trace_onnx(net.save(path))
    assert torch.allclose(interpret.logits(graph, frames()), expected, atol=1e-5)
    (*_, remark) = graph.notes["onnx"]["remarks"]
    assert "at the end is left out" in remark
    assert ("above 0.5" in remark) == (case == "one_sigmoid")


@pytest.mark.parametrize("nodes", [
    [node("Squeeze", np.array([1]))],
    [node("Reshape", np.array([-1])), node("Sigmoid"), node("Identity")],
    [node("Sigmoid"), node("Squeeze", np.array([1]))],
])  # fmt: skip
def test_one_logit_may_be_squeezed(nodes, path):
    net, plain = ending(*nodes, classes=1)
    expected = reference_logits(read(plain.save(path.with_name("plain.onnx"))), frames(), "NCHW")
    net.save(path)
    graph = sr.trace_onnx(path)
    assert expected.shape == (6, 1)
    assert torch.allclose(interpret.logits(graph, frames()), expected, atol=1e-5)
    sr.convert(path, frames(), sr.methods.hu2021(steps=4, readout="membrane"))


KEPT = {
    "images": ([node("Softmax", axis=0)], {}, r"axis 0 of \('N', 5\)"),
    "one_image": ([node("Softmax", axis=0)], {"batch": 1}, "axis 0"),
    "counted_from_the_end": ([node("LogSoftmax", axis=-2)], {}, "axis -2"),
    "old_images": ([node("Softmax", axis=0)], {"opset": 11}, "axes 0 to 1 together"),
    "pixels": ([node("Softmax", axis=-1), node("Flatten")], {"maps": True}, r"5, 1, 1\)"),
    "old_pixels": (
        [node("Softmax", axis=2), node("Flatten")],
        {"opset": 11, "maps": True},
        "axes 2 to 3",
    ),
    "one_class": ([node("Softmax", axis=1)], {"classes": 1}, r"\('N', 1\)"),
}


@pytest.mark.parametrize("case", KEPT)
def test_any_other_softmax_is_refused_by_its_axis(case, path):
    nodes, options, words = KEPT[case]
    ending(*nodes, **options)[0].save(path)
    with pytest.raises(sr.TraceError, match=f"Softmax.*normalises over.*{words}.*without it"):
        sr.trace_onnx(path)
