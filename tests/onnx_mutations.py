"""Small ONNX files with one fault each, and what becomes of them.

Run as a program it converts so many of them, each line saying what happened:
`python onnx_mutations.py FOLDER SEED COUNT`. Memory is limited to 2 GiB above what starting takes.
"""

import random as randomness
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from onnx import AttributeProto, TensorProto, numpy_helper

import spiking_resnet as sr
from onnx_files import CLASSES, Builder, keras_like, random

ROOM = 2**31
NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 64, 2**31, 2**40, 2**62, 2**63 - 1)
REALS = (float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e30, -1e-30)
KINDS = (
    *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant"),
    *("ConstantOfShape", "Conv", "ConvTranspose", "Div", "Dropout", "Expand", "Flatten", "Gather"),
    *("Gemm", "GlobalAveragePool", "GlobalMaxPool", "Identity", "If", "LRN", "LSTM", "Loop"),
    *("MatMul", "Max", "MaxPool", "Mul", "NoSuchThing", "NonZero", "Pad", "PRelu", "QLinearConv"),
    *("Range", "ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Softmax"),
    *("Split", "Squeeze", "Sub", "Sum", "Tile", "TopK", "Transpose", "Unsqueeze", "Upsample"),
)


def pools():
    net = Builder()
    net.conv(4, 3)
    net.add("Relu")
    net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    before = net.last
    after = net.conv(4, 4)
    net.add("Add", after, reads=[before])
    net.add("Clip", np.float32(0), np.float32(6))
    net.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    net.add("Pad", np.array([0, 0, 1, 0, 0, 0, 0, 1]), np.float32(0))
    net.add("Slice", np.array([0]), np.array([2]), np.array([2]), np.array([1]))
    net.add("Concat", net.last, axis=1)
    net.add("ReduceMean", axes=[2, 3], keepdims=0)
    net.add("Gemm", random(8, CLASSES), random(CLASSES), alpha=0.5)
    net.add("Softmax", axis=1)
    return net


def computed():
    """Shapes and weights that the file computes, in an old version."""
    net = Builder(opset=11)
    net.constant(random(36, 3), "raw")
    net.add("Reshape", np.array([4, 3, 3, 3]), reads=["raw"], outputs=["weight"])
    net.add("Conv", "weight", reads=["image"])
    parts = [random(4, low=0.5), random(4), random(4), random(4, low=0.5)]
    net.add("BatchNormalization", *parts)
    net.add("Relu", outputs=["maps"])
    net.add("Dropout", outputs=["kept", "mask"])
    net.add("Shape", reads=["maps"])
    net.add("Slice", np.array([0]), np.array([1]))
    net.add("Concat", np.array([-1]), axis=0, outputs=["target"])
    net.add("ConstantOfShape", reads=[net.constant(np.array([144, CLASSES]))], outputs=["ones"],
            value=numpy_helper.from_array(np.float32([0.1])))  # fmt: skip
    net.add("Reshape", "target", reads=["kept"])
    net.add("MatMul", "ones")
    net.add("Add", random(CLASSES))
    return net


BASES = (pools, computed, keras_like)


def mutated(draw):
    """(what was done, the bytes of the file)."""
    base = draw.choice(BASES)
    model = base().model()
    kind = draw.choice(list(MUTATIONS))
    if kind == "bytes":
        content = bytearray(model.SerializeToString())
        for _ in range(draw.choice((1, 1, 3, 20))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        if draw.random() < 0.2:
            del content[draw.randrange(len(content)) :]
        return f"{base.__name__}: bytes", bytes(content)
    said = MUTATIONS[kind](draw, model)
    return f"{base.__name__}: {kind} {said}", model.SerializeToString()


def attribute(draw, model):
    nodes = [node for node in model.graph.node if node.attribute]
    node = draw.choice(nodes)
    entry = draw.choice(list(node.attribute))
    if draw.random() < 0.15:
        node.attribute.remove(entry)
        return f"{node.op_type} loses one"
    number = draw.choice(NUMBERS)
    if entry.type == AttributeProto.INTS:
        how = draw.choice(("one", "more", "none"))
        if how == "one" and entry.ints:
            entry.ints[draw.randrange(len(entry.ints))] = number
        elif how == "more":
            entry.ints.append(number)
        else:
            del entry.ints[:]
    elif entry.type == AttributeProto.INT:
        entry.i = number
    elif entry.type == AttributeProto.FLOAT:
        entry.f = draw.choice(REALS)
    elif entry.type == AttributeProto.STRING:
        entry.s = draw.choice((b"", b"\xff\xfe", b"SAME_UPPER", b"SAME_LOWER", b"nonsense"))
    else:
        entry.type = AttributeProto.INT
    return f"{node.op_type}.{entry.name} = {number}"


def wrong_type(draw, model):
    node = draw.choice([node for node in model.graph.node if node.attribute])
    entry = draw.choice(list(node.attribute))
    entry.type = draw.choice([t for t in range(15) if t != entry.type])
    return f"{node.op_type}.{entry.name}: {entry.type}"


def dims(draw, model):
    tensor = draw.choice(list(model.graph.initializer))
    if tensor.dims and draw.random() < 0.7:
        tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(NUMBERS)
    else:
        tensor.dims.append(draw.choice(NUMBERS))
    return f"{tensor.name}: {list(tensor.dims)}"


def reshaped(draw, model):
    """Dimensions that fit the numbers, but not the network."""
    tensor = draw.choice(list(model.graph.initializer))
    sizes = list(tensor.dims)
    draw.shuffle(sizes)
    sizes = draw.choice((sizes, [int(np.prod(sizes))], [1, *sizes], [*sizes, 1]))
    del tensor.dims[:]
    tensor.dims.extend(sizes)
    return f"{tensor.name}: {sizes}"


def numbers(draw, model):
    tensor = draw.choice(list(model.graph.initializer))
    array = numpy_helper.to_array(tensor).copy()
    if array.size:
        pool = NUMBERS if array.dtype.kind == "i" else REALS
        array.reshape(-1)[draw.randrange(array.size)] = draw.choice(pool)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return tensor.name


def whole_numbers(draw, model):
    """Shapes, axes, pads."""
    whole = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64]
    for tensor in whole:
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[draw.randrange(array.size)] = draw.choice(NUMBERS)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"{len(whole)}"


def raw(draw, model):
    tensor = draw.choice(list(model.graph.initializer))
    content = tensor.raw_data
    tensor.raw_data = draw.choice((b"", content[:-1], content * 2, content + b"123"))
    return tensor.name


def data_type(draw, model):
    tensor = draw.choice(list(model.graph.initializer))
    tensor.data_type = draw.randrange(26)
    return f"{tensor.name}: {tensor.data_type}"


def kind(draw, model):
    node = draw.choice(list(model.graph.node))
    before, node.op_type = node.op_type, draw.choice(KINDS)
    if draw.random() < 0.5:
        del node.attribute[:]
    return f"{before} -> {node.op_type}"


def domain(draw, model):
    node = draw.choice(list(model.graph.node))
    node.domain = draw.choice(("com.microsoft", "ai.onnx", "ai.onnx.ml", "\0", "x" * 300))
    return node.op_type


def order(draw, model):
    nodes = list(model.graph.node)
    first, second = draw.sample(range(len(nodes)), 2)
    nodes[first], nodes[second] = nodes[second], nodes[first]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return f"{first} <-> {second}"


def gone(draw, model):
    nodes = model.graph.node
    node = draw.choice(list(nodes))
    if draw.random() < 0.5:
        nodes.remove(node)
        return node.op_type
    draw.choice((node.input, node.output)).pop()
    return f"an end of {node.op_type}"


def names(draw, model):
    nodes = list(model.graph.node)
    known = ["", "image", "nothing", *(name for node in nodes for name in node.output)]
    known += [tensor.name for tensor in model.graph.initializer]
    node = draw.choice(nodes)
    ends = draw.choice((node.input, node.input, node.output))
    place = draw.randrange(len(ends))
    before, ends[place] = ends[place], draw.choice(known)
    if draw.random() < 0.3:
        node.name = draw.choice(("", "\0\x1b[31m", "x" * 5000, nodes[0].name, "output", "input"))
    return f"{node.op_type}: {before} -> {ends[place]}"


def versions(draw, model):
    model.opset_import[0].version = draw.choice((-1, 0, 1, 2, 5, 6, 7, 9, 10, 13, 18, 21, 24, 99))
    if draw.random() < 0.3:
        model.ir_version = draw.choice((-1, 0, 1, 2, 3, 4, 7, 10, 99))
    return f"{model.opset_import[0].version}, {model.ir_version}"


def ends(draw, model):
    end = draw.choice((model.graph.input[0], model.graph.output[0]))
    shape = end.type.tensor_type.shape
    how = draw.choice(("size", "rank", "type", "name", "none"))
    if how == "size":
        shape.dim[draw.randrange(len(shape.dim))].dim_value = draw.choice(NUMBERS)
    elif how == "rank":
        shape.dim.add().dim_value = draw.choice(NUMBERS)
    elif how == "type":
        end.type.tensor_type.elem_type = draw.randrange(30)
    elif how == "name":
        end.name = draw.choice(("", "nothing", model.graph.node[0].output[0]))
    else:
        end.ClearField("type")
    return how


MUTATIONS = {
    **{f.__name__: f for f in (attribute, wrong_type, dims, reshaped, numbers, whole_numbers, raw)},
    **{f.__name__: f for f in (data_type, kind, domain, order, gone, names, versions, ends)},
    "bytes": None,
}


def main(folder, seed, count):
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    method = sr.methods.hu2021(steps=8)
    path = Path(folder) / "model.onnx"
    keras_like().save(path)
    sr.convert(path, images, method)  # whatever is imported late
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    for number in range(seed, seed + count):
        said, content = mutated(randomness.Random(number))
        path.write_bytes(content)
        print(f"{number}\t{said!a}", end="\t", flush=True)
        start = time.monotonic()
        try:
            sr.convert(path, images, method)
            found = "converted"
        except Exception as error:  # the parent says which are allowed
            found = f"{type(error).__name__}\t{str(error)!a}"
        print(f"{time.monotonic() - start:.1f}\t{found}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
