"""Operators of ONNX files, old and new, against onnx's reference evaluator."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import spiking_resnet as sr
from onnx_files import CLASSES, Builder, random
from spiking_resnet.capture.onnx.file import read
from spiking_resnet.capture.onnx.reference import reference_logits
from spiking_resnet.capture.onnx.translate import graph_of
from spiking_resnet.graph import Pad, Select, Slice, interpret

FLOAT_LOWEST = np.float32(np.finfo("f").min)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def built(path, fill, opset=17, features=4, relu=True):
    """A stem, what `fill` adds to it, and a head, written in that version of ONNX."""
    net = Builder(opset=opset)
    net.conv(4, 3)
    if relu:
        net.add("Relu")
    fill(net)
    old = {"broadcast": 1} if opset < 7 else {}
    net.add("GlobalAveragePool")
    net.add("Flatten")
    net.add("Gemm", random(features, CLASSES), random(CLASSES, low=-0.5), **old)
    return net.save(path)


def same(path, trusted=True):
    """The graph of a file, whose logits are the file's. trusted: onnx's own operators run it."""
    file = read(path)
    graph = graph_of(file)
    batch = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = reference_logits(file, batch, "NCHW")
    assert float(expected.std()) > 1e-4
    assert torch.allclose(interpret.logits(graph, batch), expected, atol=1e-4)
    if trusted:
        (own,) = ReferenceEvaluator(str(path)).run(None, {"image": batch.numpy()})
        assert torch.allclose(expected, torch.from_numpy(own), atol=1e-4)
    return graph


BORDER = np.array([0, 0, 1, 2, 0, 0, 2, 1])


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
def test_borders_of_copies(mode, path):
    built(path, lambda net: net.add("Pad", BORDER, None, mode=mode), opset=19)
    assert same(path).of(Select)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_a_border_of_nothing_is_none(mode, path):
    zeros = np.zeros(8, np.int64)
    built(path, lambda net: net.add("Pad", zeros, np.float32(7), mode=mode))
    graph = same(path)
    assert not graph.of(Pad)
    assert not graph.of(Select)


def test_a_negative_border_cuts(path):
    built(path, lambda net: net.add("Pad", np.array([0, 0, -1, 2, 0, 0, 0, -3])))
    assert same(path, trusted=False).of(Slice)


@pytest.mark.parametrize("lowest", [np.float32(-np.inf), FLOAT_LOWEST])
@pytest.mark.parametrize("relu", [True, False])
def test_infinity_before_a_max_pool_is_its_own_padding(lowest, relu, path):
    def fill(net):
        net.add("Pad", np.array([0, 0, 0, 1, 0, 0, 1, 1]), lowest)
        net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2])

    built(path, fill, relu=relu)
    same(path)


def test_infinity_before_anything_else_is_refused(path):
    def fill(net):
        padded = net.add("Pad", BORDER, np.float32(-np.inf))
        net.add("MaxPool", kernel_shape=[3, 3])
        net.conv(4, 4)
        net.add("Add", net.add("MaxPool", reads=[padded], kernel_shape=[2, 2], dilations=[2, 2]))

    built(path, fill)
    with pytest.raises(sr.TraceError, match=r"padding with -inf.*before a MaxPool"):
        sr.trace_onnx(path)


def test_uneven_max_pools_of_negative_values(path):
    def fill(net):
        net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 2, 1])

    built(path, fill, relu=False)
    same(path, trusted=False)


def test_a_file_that_resizes_the_batch_to_one_is_found_out(path):
    sizes = np.array([1, 4, 16, 16])
    built(path, lambda net: net.add("Resize", None, None, sizes, mode="nearest"), opset=19)
    with pytest.raises(sr.OnnxError, match="free batch size"):
        sr.convert(path, torch.randn(4, 3, 8, 8))


# Nearest resizing

TWICE = np.float32([1, 1, 2, 3])
RULES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sizes", [(16, 24), (5, 11), (1, 8)])
def test_nearest_resizing_by_every_rule(rule, rounding, sizes, path):
    def fill(net):
        net.add(
            "Resize", None, None, np.array(sizes), mode="nearest", axes=[2, 3],
            coordinate_transformation_mode=rule, nearest_mode=rounding,
        )  # fmt: skip

    net = Builder(("N", 4, 8, 8), 19)
    fill(net)
    net.nodes[-1].input[0] = "image"
    model = net.model()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    image = np.arange(256, dtype="f").reshape(1, 4, 8, 8)
    (expected,) = ReferenceEvaluator(model).run(None, {"image": image})
    built(path, fill, opset=19)
    graph = same(path, trusted=False)
    found = image[0]
    for node in (node for node in graph.nodes if isinstance(node, Select | Slice)):
        chosen = node.index if isinstance(node, Select) else range(node.start, node.stop, node.step)
        found = found.take(chosen, node.axis)
    assert np.array_equal(found, expected[0])


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes"),
    [
        (7, (), {"scales": [1.0, 1.0, 2.0, 3.0]}),
        (9, (TWICE,), {}),
        (10, (TWICE,), {}),
        (11, (np.float32([]), TWICE), {"coordinate_transformation_mode": "asymmetric"}),
        (19, (None, np.float32([3, 2])), {"axes": [3, 2]}),
    ],
)
def test_resizing_in_every_version(opset, inputs, attributes, path):
    kind = "Upsample" if opset < 10 else "Resize"
    built(path, lambda net: net.add(kind, *inputs, mode="nearest", **attributes), opset=opset)
    graph = same(path, trusted=False)
    assert graph.of(Select)[-1].shape == (4, 16, 24)


REFUSED = {
    "linear": (lambda net: net.add("Resize", None, TWICE, mode="linear"), "mode 'linear'"),
    "crop": (
        lambda net: net.add("Resize", np.float32([0] * 4 + [1] * 4), TWICE, mode="nearest",
                            coordinate_transformation_mode="tf_crop_and_resize"),
        "tf_crop_and_resize",
    ),
    "normalised": (lambda net: net.add("LRN", size=3), r"LRN.*BatchNorm in its place"),
    "transposed": (
        lambda net: net.add("ConvTranspose", random(4, 4, 2, 2)),
        "ConvTranspose.*nearest upsampling",
    ),
    "mask": (
        lambda net: (
            net.add("Dropout", outputs=["kept", "mask"]),
            net.add("Cast", reads=["mask"], to=TensorProto.FLOAT),
            net.add("Mul", "kept"),
        ),
        "'mask' is read",
    ),
    "chosen": (
        lambda net: net.add("Where", "value1", np.float32(0), reads=[
            net.constant(np.arange(8) > 3)]),
        "number by number",
    ),
    "constant": (
        lambda net: net.add("Add", net.add("Constant", reads=[], sparse_value=(
            helper.make_sparse_tensor(
                helper.make_tensor("v", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [0]), [4]
            ))), reads=["value1"]),
        "sparse",
    ),
    "training": (
        lambda net: net.add("Dropout", np.float32(0.5), np.array(True)), "training mode"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_counterpart_is_refused_with_advice(case, path):
    fill, words = REFUSED[case]
    built(path, fill)
    with pytest.raises(sr.TraceError, match=words):
        sr.trace_onnx(path)


# Old files


def broadcast(kind, constant, **attributes):
    return lambda net: net.add(kind, constant, broadcast=1, **attributes)


OLD = {
    "add_channels": (6, broadcast("Add", random(4), axis=1)),
    "sub_channels": (6, broadcast("Sub", random(4), axis=1)),
    "mul_channels": (6, broadcast("Mul", random(4, low=0.5), axis=-3)),
    "div_channels": (6, broadcast("Div", random(4, low=0.5), axis=1)),
    "add_square": (6, broadcast("Add", random(4, 1, 1))),
    "dropout": (6, lambda net: net.add("Dropout", is_test=1, ratio=0.5)),
    "norm": (
        6,
        lambda net: net.add(
            "BatchNormalization", random(4, low=0.5), random(4), random(4), random(4, low=0.5),
            is_test=1, spatial=1,
        ),
    ),
    "clip": (6, lambda net: net.add("Clip", min=0.0, max=0.4)),
    "pad": (6, lambda net: net.add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="edge")),
    "norm_of_five": (
        9,
        lambda net: net.add(
            "BatchNormalization", random(4, low=0.5), random(4), random(4), random(4, low=0.5),
            outputs=["normed", "mean", "variance", "saved_mean", "saved_variance"],
        ),
    ),
    "dropout_with_mask": (9, lambda net: net.add("Dropout", outputs=["kept", "mask"])),
}  # fmt: skip


@pytest.mark.parametrize("case", OLD)
def test_old_files(case, path):
    opset, fill = OLD[case]
    built(path, fill, opset=opset)
    same(path, trusted=False)


def test_eight_channels_are_not_taken_for_eight_columns(path):
    """Before opset 7 the attribute axis says what a constant of as many numbers belongs to."""

    def fill(net):
        net.conv(8, 4)
        net.add("Mul", random(8, low=0.5), broadcast=1, axis=1)

    built(path, fill, opset=6, features=8)
    same(path, trusted=False)


NEW = {
    "maximum_of_maps": lambda net: net.add("ReduceMax", axes=[2, 3], keepdims=1),
    "where_true": lambda net: net.add(
        "Where", net.last, np.float32(9), reads=[net.constant(np.array(True))]
    ),
    "where_false": lambda net: net.add(
        "Where", np.float32(9), "value1", reads=[net.constant(np.zeros((4, 1, 1), bool))]
    ),
    "clip_by_vector": lambda net: net.add("Min", np.full((1, 4, 1, 1), 0.5, "f")),
    "of_constants": lambda net: net.add(
        "Add", net.add("Constant", reads=[], value_floats=[0.5]), reads=["value1"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NEW)
def test_new_operators(case, path):
    built(path, NEW[case])
    same(path)


# Networks of the package onnx, of IR version 3, whose weights are computed

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LOCAL = "(?s)BatchNorm in its place.*LRN"
QUICK = {"squeezenet": None, "inception_v1": LOCAL, "shufflenet": "only flattening"}
ALL = {
    **{"bvlc_alexnet": LOCAL, "zfnet512": LOCAL, "vgg19": None, "resnet50": None},
    **{"densenet121": None, "inception_v2": None},
}


def as_expected(name, refusal):
    path = LIGHT / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip("this version of onnx brings no networks")
    if refusal is None:
        assert sr.trace_onnx(path).output.shape == (1000,)
    else:
        with pytest.raises(sr.TraceError, match=refusal):
            sr.trace_onnx(path)


@pytest.mark.parametrize("name", QUICK)
def test_light_networks(name):
    as_expected(name, QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_large_light_networks(name):
    as_expected(name, ALL[name])
