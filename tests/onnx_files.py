"""ONNX files for the tests: made by hand, as exporters write them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

CLASSES = 5
IMAGE = ("N", 3, 8, 8)


def random(*shape, seed=0, low=None):
    """Float32 numbers, standard normal or, with `low`, uniform from there to low + 1."""
    generator = np.random.default_rng((seed, *shape))
    found = generator.standard_normal(shape) if low is None else low + generator.random(shape)
    return (found * (1 if low is not None else (2 / max(1, np.prod(shape[1:]))) ** 0.5)).astype("f")


class Builder:
    """Writes nodes one after the other; each reads the value before it unless told otherwise."""

    def __init__(self, shape=IMAGE, opset=17):
        self.shape, self.opset = shape, opset
        self.nodes, self.fixed = [], []
        self.last = "image"

    def constant(self, array, name=None):
        name = name or f"constant{len(self.fixed)}"
        self.fixed.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, kind, *inputs, reads=None, outputs=None, name=None, **attributes):
        """A node of this kind; inputs: further ones, names or arrays (None: left out)."""
        first = [self.last] if reads is None else list(reads)
        more = [
            entry if isinstance(entry, str) else "" if entry is None else self.constant(entry)
            for entry in inputs
        ]
        outputs = outputs or [f"value{len(self.nodes)}"]
        name = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, first + more, outputs, name=name, **attributes))
        self.last = outputs[0]
        return self.last

    def conv(self, outputs, inputs, kernel=3, **attributes):
        weight = random(outputs, inputs // attributes.get("group", 1), kernel, kernel)
        attributes = {"pads": [kernel // 2] * 4, **attributes}
        if "auto_pad" in attributes:
            del attributes["pads"]
        return self.add("Conv", weight, random(outputs, low=-0.3), **attributes)

    def head(self, features, flatten=True):
        """The mean over height and width, and a classifier."""
        self.add("GlobalAveragePool")
        if flatten:
            self.add("Flatten")
        return self.add("Gemm", random(features, CLASSES), random(CLASSES, low=-0.5))

    def model(self, output=None):
        kind = TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes, "network",
            [helper.make_tensor_value_info("image", kind, self.shape)],
            [helper.make_tensor_value_info(output or self.last, kind, ("A", "B"))],
            self.fixed,
        )  # fmt: skip
        opset = helper.make_opsetid("", self.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)

    def save(self, path, output=None):
        save(self.model(output), str(path))
        return path


def keras_like(size=8, channels=3, one_channel_reshape=False):
    """A residual network as tf2onnx writes Keras': [N, H, W, C] at both ends of the network.

    The image is normalised by Sub and Mul, the padding is SAME, ReLU6 is Relu and Min, BatchNorm is
    Mul and Add, and the map is flattened after a transpose back.
    """
    net = Builder(("N", size, size, channels))
    net.add("Sub", random(channels, low=0.4))
    net.add("Mul", np.float32(2.0))
    if one_channel_reshape:
        net.add("Reshape", np.array([-1, 1, size, size]))
    else:
        net.add("Transpose", perm=[0, 3, 1, 2], name="model/conv1/Conv2D__6")
    net.conv(6, channels, auto_pad="SAME_UPPER", strides=[2, 2])
    net.add("Relu", name="model/relu/Relu")
    start = net.add("Min", np.float32(6.0))
    net.conv(6, 6, auto_pad="SAME_UPPER")
    net.add("Mul", random(1, 6, 1, 1, low=0.5))
    net.add("Add", random(1, 6, 1, 1, low=-0.3))
    net.add("Relu")
    net.conv(6, 6, auto_pad="SAME_LOWER")
    net.add("Add", start)
    net.add("Relu")
    net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    net.add("Transpose", perm=[0, 2, 3, 1])
    side = -(-size // 4)
    net.add("Reshape", np.array([-1, side * side * 6]))
    net.add("MatMul", random(CLASSES, side * side * 6).T.copy())
    net.add("Add", random(CLASSES, low=-0.5))
    net.add("Softmax", axis=-1, name="model/predictions/Softmax")
    return net
