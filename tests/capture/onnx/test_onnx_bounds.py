"""Files that ask for more than a network needs: refused before anything is computed."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save
from onnx.external_data_helper import convert_model_to_external_data

import spiking_resnet as sr
from onnx_files import Builder, random
from spiking_resnet.capture.onnx import inference, load
from spiking_resnet.graph import Slice


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def adding(fill):
    """A network that adds to its image a constant, which `fill` computes as it likes."""
    net = Builder()
    fill(net)
    net.add("ReduceSum", reads=[net.last], keepdims=0)
    net.add("Add", net.last, reads=["image"])
    net.conv(4, 3)
    net.add("Relu")
    net.head(4)
    return net


def of_zeros(net, *sizes):
    return net.add("ConstantOfShape", reads=[net.constant(np.array(sizes))])


def doubled(net):
    net.add("Identity", reads=[net.constant(np.zeros(1024, "f"))])
    for _ in range(24):
        net.add("Concat", net.last, axis=0)


def doubled_shape(net):
    """The same with numbers that say a shape, which onnx's own inference writes out."""
    net.add("Identity", reads=[net.constant(np.ones(1, np.int64))])
    for _ in range(40):
        net.add("Concat", net.last, axis=0)
    net.add("Cast", to=TensorProto.FLOAT)


def many_products(net):
    of_zeros(net, 1500, 1500)
    for _ in range(2):
        net.add("MatMul", net.last)


def of_many_images(net):
    """2^30 numbers for two images, one for one."""
    net.add("Shape", reads=["image"], outputs=["shape"])
    net.add("Gather", np.array([0]), reads=["shape"])
    net.add("Pow", np.array(30))
    net.add("ConstantOfShape")


TOO_LARGE = {
    "zeros": lambda net: of_zeros(net, 25_000, 20_000),
    "zeros_of_int64": lambda net: of_zeros(net, 2**40, 2**40),
    "expanded": lambda net: net.add(
        "Expand", np.array([2**20, 2**20]), reads=[net.constant(np.float32([1]))]
    ),
    "tiled": lambda net: net.add(
        "Tile", np.array([2**35]), reads=[net.constant(np.float32([1]))]
    ),
    "counted": lambda net: (
        net.add("Range", np.array(2**40), np.array(1), reads=[net.constant(np.array(0))]),
        net.add("Cast", to=TensorProto.FLOAT),
    ),
    "padded": lambda net: net.add(
        "Pad", np.array([0, 2**40]), reads=[net.constant(np.float32([1]))]
    ),
    "gathered": lambda net: net.add(
        "Gather", of_zeros(net, 2**16, 2**16), reads=[net.constant(np.zeros(4, "f"))]
    ),
    "product": lambda net: net.add("MatMul", of_zeros(net, 1, 2**17), reads=[
        of_zeros(net, 2**17, 1)]),
    "doubled": doubled,
    "doubled_shape": doubled_shape,
    "many_products": many_products,
}  # fmt: skip


@pytest.mark.parametrize("case", TOO_LARGE)
def test_constants_that_are_too_large_are_not_computed(case, path, monkeypatch):
    most = []

    def counted(node, values, opsets):
        found = facts_computed(node, values, opsets)
        most.extend(value.nbytes for value in found.values())
        return found

    facts_computed = inference.computed
    monkeypatch.setattr(inference, "computed", counted)
    monkeypatch.setattr(inference, "_ROOM", 2**24)
    adding(TOO_LARGE[case]).save(path)
    with pytest.raises(sr.OnnxError, match=r"computing the constant '\w+' .*simplify the file"):
        sr.convert(path, frames())
    assert max(most, default=0) <= 2**24


def frames():
    return torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_what_grows_with_the_number_of_images_is_bounded_too(path):
    adding(of_many_images).save(path)
    sr.trace_onnx(path)
    with pytest.raises(sr.OnnxError, match="computing the constant"):
        sr.convert(path, frames())


def test_computed_weights_may_be_as_large_as_the_files_own(path, monkeypatch):
    monkeypatch.setattr(inference, "_ROOM", 0)
    net = Builder()
    net.constant(random(3, 3, 3, 4), "raw")
    net.add("Transpose", reads=["raw"], outputs=["turned"], perm=[3, 2, 0, 1])
    net.add("Conv", "turned", reads=["image"])
    net.add("Relu")
    net.head(4)
    sr.trace_onnx(net.save(path))


BIG = 2**40
HUGE_MAPS = {
    "pads": ({"pads": [BIG] * 4}, "pads|more than"),
    "pads_of_one_side": ({"pads": [0, 0, 0, 2**26]}, "67108864 per image"),
    "dilations": ({"dilations": [BIG, 1]}, "shape cannot be told.*would be"),
    "strides": ({"strides": [BIG, BIG], "pads": [BIG, BIG, BIG, BIG]}, "numbers allowed"),
    "no_strides": ({"strides": [0, 1]}, "strides must only contain positive"),
}


@pytest.mark.parametrize("case", HUGE_MAPS)
def test_maps_that_are_too_large_are_refused_by_their_node(case, path):
    attributes, words = HUGE_MAPS[case]
    net = Builder()
    net.add("Conv", random(4, 3, 3, 3), name="wide", **attributes)
    net.add("Relu")
    net.head(4)
    with pytest.raises((sr.OnnxError, sr.TraceError), match=f"(?s)wide.*({words})"):
        sr.trace_onnx(net.save(path))


def test_a_step_that_is_larger_than_the_map_is_that_of_one_entry(path):
    net = Builder()
    net.conv(4, 3)
    net.add("Relu")
    net.add("Slice", np.array([2]), np.array([2**63 - 1]), np.array([2]), np.array([2**62]))
    net.head(4)
    (cut,) = sr.trace_onnx(net.save(path)).of(Slice)
    assert (cut.start, cut.stop, cut.step) == (2, 3, 1)


def test_a_batch_that_no_memory_holds_is_refused(path):
    net = Builder((2**40, 3, 8, 8))
    net.conv(4, 3)
    net.add("Relu")
    net.head(4)
    with pytest.raises(sr.OnnxError, match="free batch size"):
        sr.trace_onnx(net.save(path))


def test_a_wide_pool_and_a_wide_border_are_refused(path):
    for kind, options in (
        ("MaxPool", {"kernel_shape": [BIG, 1]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [BIG] * 4, "count_include_pad": 1}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [BIG, BIG]}),
    ):
        net = Builder()
        net.conv(4, 3)
        net.add("Relu")
        net.add(kind, name="wide", **options)
        net.head(4)
        with pytest.raises((sr.OnnxError, sr.TraceError), match="wide"):
            sr.trace_onnx(net.save(path))


# Many nodes


def with_functions(depth, calls):
    """A network with a tower of functions, each of which calls the next so many times."""
    domain = "own"
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    functions = []
    for level in range(depth):
        last = level == depth - 1
        values = ["x", *(f"v{i}" for i in range(calls - 1)), "y"]
        kind = {"op_type": "Relu"} if last else {"op_type": f"f{level + 1}", "domain": domain}
        body = [
            helper.make_node(inputs=[before], outputs=[after], **kind)
            for before, after in pairwise(values)
        ]
        functions.append(helper.make_function(domain, f"f{level}", ["x"], ["y"], body, opsets))
    net = Builder()
    net.conv(4, 3)
    net.nodes.append(helper.make_node("f0", [net.last], ["called"], domain=domain))
    net.last = "called"
    net.head(4)
    model = net.model()
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    model.functions.extend(functions)
    return model


def test_functions_are_counted_before_they_are_written_out(path):
    save(with_functions(4, 2), str(path))
    assert sr.trace_onnx(path).input.shape == (3, 8, 8)
    save(with_functions(40, 2), str(path))
    with pytest.raises(sr.OnnxError, match=rf"\d+ nodes.*{load.MOST_NODES}"):
        sr.trace_onnx(path)


def test_functions_that_call_themselves_are_refused(path):
    model = with_functions(2, 1)
    model.functions[1].node[0].op_type = "f0"
    model.functions[1].node[0].domain = "own"
    save(model, str(path))
    with pytest.raises(sr.OnnxError, match=r"own\.f\d calls itself"):
        sr.trace_onnx(path)


def test_the_work_grows_with_the_number_of_nodes_alone(path, monkeypatch):
    """Shapes are inferred, and constants computed, node by node: once each."""
    visits = []
    inferred = inference.inferred
    monkeypatch.setattr(
        inference, "inferred", lambda node, *rest: visits.append(node) or inferred(node, *rest)
    )
    net = Builder()
    net.conv(4, 3)
    for _ in range(200):
        net.add("Relu")
    net.head(4)
    sr.trace_onnx(net.save(path))
    assert len(visits) == len(net.nodes)


def test_a_tower_of_joins_is_read_in_time(path):
    """A value that is joined with itself again and again has paths without number behind it."""
    net = Builder()
    net.conv(1, 3)
    net.add("Relu")
    for _ in range(12):
        for _ in range(3):
            net.add("Concat", net.last, axis=1)
            net.add("Slice", np.array([0]), np.array([1]), np.array([1]))
    net.add("MaxPool", kernel_shape=[3, 3], pads=[0, 0, 2, 2])
    net.head(1)
    sr.trace_onnx(net.save(path))


# Files that lie


def small():
    net = Builder()
    net.conv(4, 3)
    net.add("Relu")
    net.head(4)
    return net.model()


def damaged_dims(model):
    model.graph.initializer[0].dims[0] = 2**40


def negative_dims(model):
    model.graph.initializer[0].dims[0] = -1


def doubled_weight(model):
    model.graph.initializer.append(model.graph.initializer[0])


def doubled_value(model):
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def circle(model):
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def no_outputs(model):
    del model.graph.output[:]


def two_images(model):
    model.graph.input.append(helper.make_tensor_value_info("second", 1, ["N", 3, 8, 8]))


def sparse(model):
    values = numpy_helper.from_array(np.float32([1]), "sparse")
    index = numpy_helper.from_array(np.array([0]), "index")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [10**9]))


def sequence(model):
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1]))
    model.graph.input[0].type.CopyFrom(kind)


def negative_image(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -8


def huge_image(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**40


LIES = {
    "damaged_dims": (damaged_dims, "damaged|cannot be read"),
    "negative_dims": (negative_dims, "damaged|cannot be read"),
    "doubled_weight": (doubled_weight, "constant0.*not unique|two weights called 'constant0'"),
    "doubled_value": (doubled_value, "cannot be read"),
    "circle": (circle, "cannot be read"),
    "no_outputs": (no_outputs, r"0 output\(s\)"),
    "two_images": (two_images, r"2 input\(s\) \(image, second\)"),
    "sparse": (sparse, "sparse"),
    "sequence": (sequence, "export"),
    "negative_image": (negative_image, "sizes are at least 1"),
    "huge_image": (huge_image, "more than the"),
}


@pytest.mark.parametrize("case", LIES)
def test_files_that_lie_are_refused(case, path):
    spoil, words = LIES[case]
    model = small()
    spoil(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(sr.OnnxError, match=words):
        sr.trace_onnx(path)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "gone.bin", ""])
def test_external_data_is_read_from_the_folder_of_the_file_alone(location, path, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    model = small()
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        next(e for e in tensor.external_data if e.key == "location").value = location
    path = inner / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(sr.OnnxError, match=r"model\.onnx"):
        sr.trace_onnx(path)


def branch(net):
    graphs = [
        helper.make_graph(
            [helper.make_node(kind, ["value0"], [f"{kind}.out"])], kind, [],
            [helper.make_tensor_value_info(f"{kind}.out", 1, None)],
        )
        for kind in ("Relu", "Neg")
    ]  # fmt: skip
    net.add(
        "If", reads=[net.constant(np.array(True))], then_branch=graphs[0], else_branch=graphs[1]
    )


def test_branches_are_refused_by_name(path):
    net = Builder()
    net.conv(4, 3)
    branch(net)
    net.head(4)
    with pytest.raises(sr.TraceError, match=r"'if1' \(If\).*without branches"):
        sr.trace_onnx(net.save(path))
