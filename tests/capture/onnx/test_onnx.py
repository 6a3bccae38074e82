import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, load, save
from onnx.external_data_helper import convert_model_to_external_data

import spiking_resnet as sr
from onnx_files import CLASSES, IMAGE, Builder, keras_like, random
from spiking_resnet.capture import aten
from spiking_resnet.capture.onnx.file import read
from spiking_resnet.capture.onnx.reference import reference_logits
from spiking_resnet.capture.onnx.translate import graph_of, layout_of
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import Affine, Flatten, MaxPool, Pad, ReLU, Select, Slice, interpret
from zoo import NAMES, images, network


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def frames(shape, count=3):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def same_logits(path, shape=None, tolerance=1e-4):
    """The graph of a file, after its logits were found to be the reference evaluator's."""
    file = read(path, shape)
    graph = graph_of(file)
    batch = frames(graph.input.shape)
    expected = reference_logits(file, batch, layout_of(graph))
    found = interpret.logits(graph, batch)
    assert found.shape == expected.shape
    assert float(expected.std()) > 1e-4, "the network says the same whatever it sees"
    assert torch.allclose(found, expected, atol=tolerance, rtol=tolerance)
    return graph


def built(fill, shape=IMAGE, opset=17, features=4):
    """A network of a stem with ReLU, what `fill` adds to it, and a head over so many channels."""

    def make(path):
        net = Builder(shape, opset)
        net.conv(4, 3)
        net.add("Relu")
        fill(net)
        if features:
            net.head(features)
        return net.save(path)

    return make


def two_paths(net):
    before = net.last
    after = net.conv(4, 4)
    net.add("Add", after, reads=[before])
    net.add("Relu")


def three_paths(net):
    before, one = net.last, net.conv(4, 4)
    net.add("Sum", one, before, random(1, 4, 1, 1), reads=[net.conv(4, 4)])


def joined(net):
    before = net.last
    net.add("Concat", before, reads=[net.conv(2, 4)], axis=-3)


def joined_last(net):
    """Channels joined while they stand last."""
    before = net.add("Transpose", perm=[0, 2, 3, 1])
    net.add("Relu")
    net.add("Concat", before, axis=3)
    net.add("Transpose", perm=[0, 3, 1, 2])


def dense_of_every_pixel(net):
    net.add("Transpose", perm=[0, 2, 3, 1])
    net.add("MatMul", random(4, 4))
    net.add("Add", random(4))
    net.add("Pad", np.array([0, 1, 0, 0, 0, 0, 2, 0]))
    net.add("Transpose", perm=[0, 3, 1, 2])


def halves(net):
    net.add("Split", outputs=["left", "right"], axis=1)
    net.add("Add", "right", reads=["left"])


def uneven_parts(net):
    net.add("Split", np.array([1, 3]), outputs=["left", "right"], axis=1)
    net.add("Concat", "left", reads=["right"], axis=1)


def computed_shape(net):
    """Flattening with a shape that the file computes, as exporters write it."""
    net.add("Shape", outputs=["shape"])
    net.add("Gather", np.array(0), reads=["shape"], outputs=["batch"])
    net.add("Unsqueeze", np.array([0]), reads=["batch"], outputs=["one"])
    net.add("Concat", np.array([-1]), reads=["one"], outputs=["target"], axis=0)
    net.add("Reshape", "target", reads=["value1"])
    net.add("MatMul", random(256, CLASSES))


def computed_weight(net):
    net.constant(random(3, 3, 4, 4), "raw")
    net.add("Transpose", reads=["raw"], outputs=["weight"], perm=[3, 2, 0, 1])
    net.add("Conv", "weight", reads=["value1"], pads=[1, 1, 1, 1])


def norm(net, **more):
    parts = [random(4, low=0.5), random(4), random(4), random(4, low=0.5)]
    net.add("BatchNormalization", *parts, **more)


def hidden(net):
    """A linear layer with its own norm and slopes, over a map flattened with channels last."""
    net.add("Transpose", perm=[0, 2, 3, 1])
    net.add("Flatten")
    norm_of = [random(256, low=0.5), random(256), random(256), random(256, low=0.5)]
    net.add("BatchNormalization", *norm_of)
    net.add("Mul", random(256, low=0.5))
    net.add("Relu")
    net.add("Gemm", random(256, CLASSES), alpha=0.5)


def through_one_pixel(net):
    net.add("GlobalAveragePool")
    net.add("Transpose", perm=[0, 2, 3, 1])
    net.add("Squeeze", np.array([1, 2]))
    net.add("Reshape", np.array([-1, 1, 1, 4]))
    net.add("Transpose", perm=[0, 3, 1, 2])
    net.conv(CLASSES, 4, 1)
    net.add("Squeeze", np.array([2, 3]))


def gemm(net, weight, *bias, **attributes):
    net.add("GlobalAveragePool")
    net.add("Flatten", axis=-3)
    net.add("Gemm", weight, *bias, **attributes)


def one(kind, *inputs, **attributes):
    return lambda net: net.add(kind, *inputs, **attributes)


def conv(*channels, **attributes):
    return lambda net: (net.conv(*channels, **attributes), net.add("Relu"))


CASES = {
    "conv_strided": built(conv(4, 4, strides=[2, 1])),
    "conv_pads": built(conv(4, 4, pads=[0, 1, 2, 3])),
    "conv_same_upper": built(conv(4, 4, strides=[2, 2], auto_pad="SAME_UPPER")),
    "conv_same_lower": built(conv(4, 4, strides=[2, 2], auto_pad="SAME_LOWER")),
    "conv_valid": built(conv(4, 4, auto_pad="VALID")),
    "conv_even_kernel": built(conv(4, 4, 2, auto_pad="SAME_UPPER")),
    "conv_groups": built(conv(8, 4, group=4), features=8),
    "conv_dilated": built(conv(4, 4, dilations=[2, 1], pads=[2, 1, 2, 1])),
    "conv_computed_weight": built(computed_weight),
    "fixed_batch": built(conv(4, 4), shape=(2, 3, 8, 8)),
    "batch_of_one": built(conv(4, 4), shape=(1, 3, 8, 8)),
    "batch_norm": built(norm),
    "batch_norm_eps": built(lambda net: norm(net, epsilon=0.1)),
    "average_pool_wide_border": built(
        one("AveragePool", kernel_shape=[3, 3], pads=[2, 2, 2, 2], count_include_pad=1)
    ),
    "batch_norm_old": built(norm, opset=9),
    "relu6": built(one("Clip", np.float32(0), np.float32(6))),
    "relu6_attributes": built(one("Clip", min=0.0, max=0.5), opset=9),
    "clip_below": built(lambda net: (net.conv(4, 4), net.add("Clip", np.float32(0)))),
    "clip_relu": built(one("Clip", None, np.float32(0.5))),
    "clip_signed": built(one("Clip", np.float32(-1), np.float32(0.5))),
    "maximum": built(lambda net: (net.conv(4, 4), net.add("Max", np.float32([0])))),
    "minimum": built(one("Min", np.float32(0.5))),
    "residual": built(two_paths),
    "sum_of_three": built(three_paths),
    "concat": built(joined, features=6),
    "concat_channels_last": built(joined_last, features=8),
    "add_constant": built(one("Add", random(4, 1, 1))),
    "sub_constant": built(one("Sub", random(1, 4, 1, 1))),
    "sub_from_constant": built(
        lambda net: net.add("Sub", "value1", reads=[net.constant(random(4, 1, 1))])
    ),
    "mul_constant": built(one("Mul", random(4, 1, 1))),
    "mul_full_size": built(one("Mul", np.broadcast_to(random(4, 1, 1), (1, 4, 8, 8)).copy())),
    "div_constant": built(one("Div", random(4, 1, 1, low=0.5))),
    "negative": built(one("Neg")),
    "max_pool": built(one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
    "max_pool_ceil": built(one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    "max_pool_same": built(
        one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    ),
    "max_pool_lower": built(one("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_LOWER")),
    "max_pool_dilated": built(one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2])),
    "max_pool_far": built(one("MaxPool", kernel_shape=[3, 3], pads=[0, 0, 2, 2])),
    "average_pool": built(one("AveragePool", kernel_shape=[2, 2], strides=[2, 2])),
    "average_pool_counting": built(
        one("AveragePool", kernel_shape=[3, 3], pads=[1, 0, 0, 1], count_include_pad=1)
    ),
    "average_pool_exact_ceil": built(
        one("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), opset=19
    ),
    "global_max_pool": built(one("GlobalMaxPool")),
    "reduce_mean": built(
        lambda net: (net.add("ReduceMean", axes=[-1, -2], keepdims=0), gemm_only(net)), features=0
    ),
    "reduce_mean_18": built(
        lambda net: (
            net.add("ReduceMean", np.array([2, 3]), keepdims=1),
            net.add("Flatten"),
            gemm_only(net),
        ),
        features=0,
        opset=18,
    ),
    "gemm_transposed": built(
        lambda net: gemm(net, random(CLASSES, 4), random(1, CLASSES), transB=1), features=0
    ),
    "gemm_scaled": built(
        lambda net: gemm(net, random(4, CLASSES), random(CLASSES), alpha=0.5, beta=3.0), features=0
    ),
    "gemm_one_bias": built(lambda net: gemm(net, random(4, CLASSES), np.float32(0.5)), features=0),
    "gemm_no_bias": built(lambda net: gemm(net, random(4, CLASSES)), features=0),
    "hidden": built(hidden, features=0),
    "through_one_pixel": built(through_one_pixel, features=0),
    "dense_of_every_pixel": built(dense_of_every_pixel),
    "pad": built(one("Pad", np.array([0, 1, 0, 2, 0, 1, 3, 0])), features=6),
    "pad_attributes": built(one("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1]), opset=9),
    "pad_axes": built(one("Pad", np.array([1, 2]), np.float32(0), np.array([3])), opset=18),
    "slice": built(
        one("Slice", np.array([1, 0]), np.array([2**31, -1]), np.array([1, 3]), np.array([2, 3])),
        features=2,
    ),
    "slice_attributes": built(one("Slice", starts=[1], ends=[3], axes=[1]), opset=9, features=2),
    "split": built(halves, features=2),
    "split_uneven": built(uneven_parts),
    "dropout": built(lambda net: (net.add("Dropout", np.float32(0.5)), net.add("Identity"))),
    "cast": built(one("Cast", to=TensorProto.FLOAT)),
    "computed_shape": built(computed_shape, features=0),
    "keras": lambda path: keras_like().save(path),
    "keras_grey": lambda path: keras_like(7, 1, one_channel_reshape=True).save(path),
}


def gemm_only(net):
    net.add("Gemm", random(4, CLASSES), random(CLASSES))


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_reference_evaluators(case, path):
    same_logits(CASES[case](path))


# Padding, strides and windows


@st.composite
def geometries(draw):
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    found = {"kernel": draw(pair), "strides": list(draw(pair)), "size": draw(st.tuples(
        st.integers(5, 9), st.integers(5, 9)))}  # fmt: skip
    how = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if how == "NOTSET":
        reach = [size - 1 for size in found["kernel"]]
        found["pads"] = [draw(st.integers(0, limit)) for limit in (*reach, *reach)]
    else:
        found["auto_pad"] = how
    return found


def windowed(kind, path, kernel, size, relu=True, opset=19, **attributes):
    net = Builder((2, 3, *size), opset)
    net.conv(4, 3)
    if relu:
        net.add("Relu")
    if kind == "Conv":
        net.add("Conv", random(4, 2, *kernel), group=2, **attributes)
    else:
        net.add(kind, kernel_shape=kernel, **attributes)
    net.add("Flatten")
    shape = helper_shape(net)
    net.add("Gemm", random(shape, CLASSES))
    return net.save(path)


def helper_shape(net):
    from onnx.shape_inference import infer_shapes

    graph = infer_shapes(net.model()).graph
    return graph.output[0].type.tensor_type.shape.dim[1].dim_value


def refusal(path, words):
    """Whether the network is refused, in these words."""
    try:
        sr.trace_onnx(path)
    except sr.TraceError as error:
        return words in str(error)
    return False


@settings(deadline=None, max_examples=40)
@given(geometry=geometries(), dilation=st.integers(1, 2))
def test_any_convolution(tmp_path_factory, geometry, dilation):
    path = tmp_path_factory.mktemp("conv") / "model.onnx"
    same_logits(windowed("Conv", path, **geometry, dilations=[dilation, 1]))


@settings(deadline=None, max_examples=40)
@given(geometry=geometries(), relu=st.booleans())
def test_any_max_pool(tmp_path_factory, geometry, relu):
    path = tmp_path_factory.mktemp("pool") / "model.onnx"
    windowed("MaxPool", path, **geometry, relu=relu)
    if not refusal(path, "may be negative"):
        same_logits(path)
    else:
        assert not relu


@settings(deadline=None, max_examples=40)
@given(geometry=geometries(), counting=st.booleans())
def test_any_average_pool(tmp_path_factory, geometry, counting):
    path = tmp_path_factory.mktemp("pool") / "model.onnx"
    windowed("AveragePool", path, **geometry, count_include_pad=int(counting))
    if not refusal(path, "border"):
        same_logits(path)
    else:
        assert not counting


def test_uneven_max_pools_pad_with_zeros_only_where_zero_is_no_more_than_the_rest(path):
    far = {"kernel_shape": [3, 3], "pads": [0, 0, 2, 2]}
    assert same_logits(built(one("MaxPool", **far))(path)).of(Pad)
    assert not same_logits(CASES["max_pool_same"](path)).of(Pad)
    built(lambda net: (net.conv(4, 4), net.add("MaxPool", **far)))(path)
    graph = same_logits(path)  # copies of the border do not exceed it either
    assert graph.of(Select)
    assert not graph.of(Pad)
    dilated = {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [0, 0, 2, 2]}
    built(lambda net: (net.conv(4, 4), net.add("MaxPool", **dilated)))(path)
    with pytest.raises(sr.TraceError, match="may be negative"):
        sr.trace_onnx(path)


# Layouts


def test_channels_last_leaves_no_transpose_and_says_so(path):
    graph = same_logits(keras_like().save(path))
    assert graph.input.shape == (3, 8, 8)
    notes = graph.notes["onnx"]
    assert notes["layout"] == "NHWC"
    assert any("N, H, W, C" in remark for remark in notes["remarks"])
    assert any("Softmax" in remark for remark in notes["remarks"])
    assert {node.ceiling for node in graph.of(ReLU)} == {None, 6.0}
    assert len(graph.of(ReLU)) == 3  # Relu and Min are one


def test_names_say_where_they_come_from(path):
    graph = same_logits(keras_like().save(path))
    assert "model.relu.Relu" not in [node.name for node in graph.nodes]  # Min took its place
    for node in graph.of(Affine):
        assert node.source.startswith("model.onnx: ")
    assert all("/" not in node.name for node in graph.nodes)


def test_a_flattened_image_is_told_by_its_three_channels(path):
    for shape, layout in ((("N", 3, 8, 8), "NCHW"), (("N", 8, 8, 3), "NHWC")):
        net = Builder(shape)
        net.add("Flatten")
        net.add("Gemm", random(192, 6))
        net.add("Relu")
        net.add("Gemm", random(6, CLASSES))
        graph = same_logits(net.save(path))
        assert layout_of(graph) == layout
        assert graph.input.shape == (3, 8, 8)


def test_open_sizes_are_those_of_the_images(path):
    built(conv(4, 4), shape=("N", 3, "height", "width"))(path)
    graph = same_logits(path, shape=(3, 6, 9))
    assert graph.input.shape == (3, 6, 9)
    with pytest.raises(sr.OnnxError, match=r"open.*height.*shape="):
        sr.trace_onnx(path)
    with pytest.raises(sr.OnnxError, match=r"\(1, 6, 9\)"):
        sr.trace_onnx(path, (1, 6, 9))


def test_softmax_at_the_end_is_left_out_and_elsewhere_refused(path):
    net = Builder()
    net.conv(4, 3)
    net.add("Relu")
    net.head(4)
    logits = Builder.save(net, path)
    plain = sr.trace_onnx(logits)
    net.add("Softmax", axis=1)
    net.add("Identity")
    net.save(path)
    graph = same_logits(path)
    assert torch.equal(*(interpret.logits(g, frames((3, 8, 8))) for g in (plain, graph)))
    net.add("Gemm", random(CLASSES, CLASSES))
    net.save(path)
    with pytest.raises(sr.TraceError, match=r"Softmax.*at the end"):
        sr.trace_onnx(path)


def test_values_that_nothing_reads_are_left_out(path):
    net = Builder()
    net.conv(4, 3)
    stem = net.add("Relu")
    net.add("Sigmoid")
    net.last = stem
    net.head(4)
    assert len(same_logits(net.save(path)).of(Flatten)) == 1


# Exported networks


def exported(model, shape, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.zeros(2, *shape),), str(path), verbose=False, **options)
    return path


# What modules may do and files may not (yet), or what torch's exporter refuses.
NOT_FROM_FILES = {
    *("shuffle", "arithmetic", "space_to_depth", "uneven_pools"),
}


@pytest.mark.parametrize("name", sorted(NOT_FROM_FILES - {"uneven_pools"}))
def test_moves_of_values_are_refused_in_files(name, path):
    exported(network(name), images(name, 1).shape[1:], path, dynamo=False)
    with pytest.raises(sr.TraceError, match="cannot be converted"):
        sr.trace_onnx(path)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_FROM_FILES])
def test_exported_networks_have_the_modules_logits(name, path):
    model, batch = network(name), images(name, 3)
    exported(model, batch.shape[1:], path, dynamo=False, input_names=["x"],
             dynamic_axes={"x": {0: "N"}})  # fmt: skip
    graph = sr.trace_onnx(path)
    with torch.no_grad():
        assert torch.allclose(interpret.logits(graph, batch), model(batch), atol=1e-4)
    assert len(graph.of(ReLU)) == len(sr.trace(model, batch.shape[1:]).of(ReLU))


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["option_a", "inner_max_pool"])
def test_torchs_new_exporter(name, path):
    pytest.importorskip("onnxscript")
    model, batch = network(name), images(name, 3)
    exported(model, batch.shape[1:], path, dynamo=True,
             dynamic_shapes=({0: torch.export.Dim("N")},))  # fmt: skip
    graph = same_logits(path)
    with torch.no_grad():
        assert torch.allclose(interpret.logits(graph, batch), model(batch), atol=1e-4)


# Conversion


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ["keras", "max_pool_far", "hidden"])
def test_converted_networks_run_on_every_engine(case, engine, path):
    CASES[case](path)
    calibration = frames((3, 8, 8), 20)
    snn = sr.convert(path, calibration, sr.methods.hu2021(steps=64, readout="membrane"))
    run = sr.simulate(snn, calibration[:4], 32, engine=engine)
    expected = sr.simulate(snn, calibration[:4], 32, engine="interpreter")
    assert torch.equal(run.logits, expected.logits)
    long = sr.simulate(snn, calibration[:8], 64).logits[-1]
    wanted = interpret.logits(snn.ann, calibration[:8])
    assert float((long - wanted).abs().mean()) < 0.35 * float(wanted.abs().mean())


def test_a_file_converts_as_the_module_does(path):
    model, calibration = network("projection"), images("projection", 40)
    exported(model, (3, 8, 8), path, dynamo=False, input_names=["x"],
             dynamic_axes={"x": {0: "N"}})  # fmt: skip
    from_file = sr.convert(str(path), calibration)
    from_module = sr.convert(model, calibration)
    run, expected = (sr.simulate(g, calibration[:8], 64) for g in (from_file, from_module))
    assert torch.allclose(run.logits, expected.logits, atol=1e-2)
    totals = [sum(int(c.spikes.sum()) for c in r.spikes.values()) for r in (run, expected)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-2)
    sr.save(from_file, path.with_suffix(".safetensors"))
    again = sr.load(path.with_suffix(".safetensors"))
    assert again.notes["onnx"]["file"] == "model.onnx"
    assert torch.equal(sr.simulate(again, calibration[:8], 64).logits, run.logits)


def test_a_network_that_computes_with_its_batch_size_is_found_out(path):
    def fill(net):
        net.add("Shape", outputs=["shape"])
        net.add("Gather", np.array([0]), reads=["shape"], outputs=["batch"])
        net.add("Cast", reads=["batch"], outputs=["number"], to=TensorProto.FLOAT)
        net.add("Mul", "number", reads=["value1"])

    built(fill)(path)
    with pytest.raises(sr.TraceError, match="batch size"):
        sr.convert(path, frames((3, 8, 8), 4))


# What is refused


def test_all_problems_are_listed_with_name_operator_and_remedy(path):
    net = Builder()
    net.conv(4, 3)
    net.add("Sigmoid", name="block/act")
    net.conv(4, 4)
    net.add("HardSwish")
    net.add("Mul", "value1")
    net.head(4)
    net.save(path)
    with pytest.raises(sr.TraceError) as caught:
        sr.trace_onnx(path)
    text = str(caught.value)
    assert text.startswith("3 operation(s)")
    for expected in ("'block.act' (Sigmoid)", "'hardswish3' (HardSwish)", "Train it with ReLU",
                     "'mul4' (Mul): a product of two activations"):  # fmt: skip
        assert expected in text


def quantised(net):
    net.add("QuantizeLinear", np.float32(0.1), np.uint8(0))
    net.add("DequantizeLinear", np.float32(0.1), np.uint8(0))


REFUSED = {
    "quantised": (built(quantised), "QuantizeLinear.*before it is quantised"),
    "padded_by_one": (
        built(one("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(1))),
        "only zeros",
    ),
    "padded_batch": (built(one("Pad", np.array([1, 0, 0, 0, 0, 0, 0, 0])), features=4), "batch"),
    "mean_image": (built(one("Sub", random(4, 8, 8))), "pixel to pixel"),
    "enlarged": (built(one("Add", random(2, 1, 4, 8, 8)), features=0), "does not fit"),
    "gate": (built(lambda net: net.add("Mul", net.conv(4, 4), reads=["value1"])), "gate"),
    "over": (built(one("Div", "value1")), "without gates"),
    "from_activation": (
        built(lambda net: net.add("Div", "value1", reads=[net.constant(np.float32(1))])),
        "gates",
    ),
    "by_zero": (built(one("Div", np.float32(0))), "zero"),
    "compared": (built(lambda net: net.add("Max", net.conv(4, 4), reads=["value1"])), "compares"),
    "joined_rows": (built(one("Concat", "value1", axis=2)), "only channels"),
    "turned": (
        built(lambda net: (net.add("Transpose", perm=[0, 1, 3, 2]), net.conv(4, 4))),
        "channels first",
    ),
    "turned_batch": (
        built(one("Transpose", perm=[1, 0, 2, 3]), shape=(4, 3, 8, 8), features=0),
        "batch",
    ),
    "backwards": (
        built(one("Slice", np.array([7]), np.array([-9]), np.array([2]), np.array([-1]))),
        "backwards",
    ),
    "first_image": (built(one("Slice", np.array([0]), np.array([1]), np.array([0]))), "batch"),
    "reshaped": (built(one("Reshape", np.array([-1, 8, 4, 8])), features=8), "only flattening"),
    "mixed_images": (
        built(one("Reshape", np.array([4, 2, 8, 8])), shape=(2, 3, 8, 8), features=2),
        "batch.*channels last: export with plain",
    ),
    "mean_of_rows": (built(one("ReduceMean", axes=[2], keepdims=1)), "height and width"),
    "dropout": (built(one("Dropout", np.float32(0.5), np.array(True))), "training mode"),
    "batch_statistics": (
        built(
            lambda net: net.add(
                "BatchNormalization",
                *(random(4, low=0.5) for _ in range(4)),
                outputs=["y", "mean", "variance"],
                training_mode=1,
            )
        ),
        "statistics of each batch",
    ),
    "half": (
        built(
            lambda net: (
                net.add("Cast", to=TensorProto.FLOAT16),
                net.add("Cast", to=TensorProto.FLOAT),
            )
        ),
        "float32",
    ),
    "transposed_conv": (
        built(one("ConvTranspose", random(4, 4, 2, 2))),
        "ConvTranspose.*nearest upsampling",
    ),
    "indices": (
        built(lambda net: (net.add("MaxPool", kernel_shape=[2, 2], outputs=["y", "indices"]),)),
        "indices",
    ),
    "normed": (built(one("LayerNormalization", random(8))), "Use BatchNorm"),
    "random": (
        built(
            lambda net: net.add(
                "Add", net.add("RandomNormal", reads=[], shape=[1, 4, 8, 8]), reads=["value1"]
            )
        ),
        "RandomNormal",
    ),
    "map": (built(conv(4, 4), features=0), "not logits"),
    "constant": (
        built(lambda net: net.add("Identity", reads=[net.constant(random(2, 5))]), features=0),
        "depend on the image",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused(case, path):
    make, expected = REFUSED[case]
    make(path)
    with pytest.raises(sr.TraceError, match=f"(?s){expected}"):
        sr.trace_onnx(path)


def test_a_file_that_cannot_be_compared_says_so(path):
    built(conv(4, 4), opset=6)(path)  # onnx's evaluator has no working Gemm of that age
    sr.trace_onnx(path)
    with pytest.raises(sr.OnnxError, match="opset 13 or later"):
        sr.convert(path, frames((3, 8, 8), 4))


@pytest.mark.parametrize("slope", [0.1, random(4, 1, 1, low=0.1)])
def test_leaky_relus(slope, path):
    node = one("LeakyRelu", alpha=slope) if isinstance(slope, float) else one("PRelu", slope)
    built(lambda net: (net.conv(4, 4), node(net)))(path)
    if "leaky_relu" in aten.BUILDERS:
        same_logits(path)
    else:
        with pytest.raises(sr.TraceError, match="Train it with ReLU"):
            sr.trace_onnx(path)


def small(path):
    return built(conv(4, 4))(path)


def test_files_that_are_none(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx: no such file"):
        sr.trace_onnx(tmp_path / "missing.onnx")
    whole = small(path).read_bytes()
    for content in (b"", b"no network", whole[: len(whole) // 2], whole[:-20], whole[40:]):
        path.write_bytes(content)
        with pytest.raises(sr.OnnxError, match=r"model\.onnx.*(cut off|export it again)"):
            sr.trace_onnx(path)


def test_external_data(path):
    model = load(str(small(path)))
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    save(model, str(path))
    same_logits(path)
    data = path.with_name("weights.bin")
    content = data.read_bytes()
    data.write_bytes(content[:100])
    with pytest.raises(sr.OnnxError, match=r"model\.onnx"):
        sr.trace_onnx(path)
    data.unlink()
    with pytest.raises(sr.OnnxError, match="external data"):
        sr.trace_onnx(path)


def test_external_data_elsewhere_is_not_read(path, tmp_path):
    model = load(str(small(path)))
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    folder = tmp_path / "inner"
    folder.mkdir()
    save(model, str(folder / "model.onnx"))
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    moved = load(str(folder / "model.onnx"), load_external_data=False)
    for tensor in moved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    (folder / "model.onnx").write_bytes(moved.SerializeToString())
    with pytest.raises(sr.OnnxError):
        sr.trace_onnx(folder / "model.onnx")


def test_ends_that_do_not_fit(path):
    model = load(str(small(path)))
    model.graph.output.append(helper.make_tensor_value_info("value1", TensorProto.FLOAT, IMAGE))
    save(model, str(path))
    with pytest.raises(sr.OnnxError, match=r"2 output\(s\)"):
        sr.trace_onnx(path)
    for shape, words in ((("N", 192), "four axes"), (("N", 3, 8, 8, 1), "four axes")):
        net = Builder(shape)
        net.add("Flatten")
        net.add("Gemm", random(192, CLASSES))
        with pytest.raises(sr.OnnxError, match=words):
            sr.trace_onnx(net.save(path))
    model = load(str(small(path)))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node.insert(
        0, helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)
    )
    model.graph.node[1].input[0] = "pixels"
    save(model, str(path))
    with pytest.raises(sr.OnnxError, match="uint8"):
        sr.trace_onnx(path)


def test_weights_that_are_not_finite(path):
    model = load(str(small(path)))
    raw = np.frombuffer(model.graph.initializer[0].raw_data, "f").copy()
    raw[0] = np.nan
    model.graph.initializer[0].raw_data = raw.tobytes()
    save(model, str(path))
    with pytest.raises(sr.GraphError, match="NaN"):
        sr.trace_onnx(path)


def test_without_onnx_the_remedy_is_named(path, monkeypatch):
    small(path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(sr.InputError, match=r"pip install 'spiking-resnet\[onnx\]'"):
        sr.trace_onnx(path)


def test_slices_are_only_where_something_is_cut(path):
    assert not same_logits(CASES["max_pool"](path)).of(Slice)
    assert len(same_logits(CASES["max_pool_same"](path)).of(MaxPool)) == 1
