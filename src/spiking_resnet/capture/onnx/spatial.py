"""Operations over windows of a map: convolution, pooling, padding, means."""

from collections.abc import Callable
from math import prod

from spiking_resnet.capture import aten
from spiking_resnet.capture.calls import Unsupported
from spiking_resnet.capture.onnx.inference import MOST_NUMBERS
from spiking_resnet.capture.onnx.operation import Activation, Step
from spiking_resnet.capture.onnx.padding import bordered
from spiking_resnet.graph import Concat, Flatten, MaxPool, Pad, Pair, ReLU, Slice

_NEGATIVE_FREE = (Pad, MaxPool, Slice, Concat)  # what keeps values that are not negative so


def _padding(step: Step, kernel: Pair, x: Activation) -> tuple[Pair, Pair]:
    """Zeros before and after the rows, and before and after the columns."""
    automatic = step.option("auto_pad", "NOTSET")
    if automatic == "VALID":
        return (0, 0), (0, 0)
    if automatic == "NOTSET":
        top, left, bottom, right = step.option("pads", [0, 0, 0, 0])
        if min(top, left, bottom, right) < 0:
            raise Unsupported("padding by a negative size; slice instead")
        around = (x.shape[0], x.shape[1] + top + bottom, x.shape[2] + left + right)
        if prod(around) > MOST_NUMBERS:
            raise Unsupported(f"padding to {around}, more than the {MOST_NUMBERS} numbers allowed")
        return (top, bottom), (left, right)
    pairs = []
    sizes = zip(x.shape[1:], kernel, _pair(step, "strides"), _pair(step, "dilations"), strict=True)
    for size, width, stride, dilation in sizes:
        reach = (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1
        total = max(reach - size, 0)
        less, more = total // 2, total - total // 2
        pairs.append((less, more) if automatic == "SAME_UPPER" else (more, less))
    return pairs[0], pairs[1]


def _pair(step: Step, name: str) -> Pair:
    """Strides or dilations; one where the file names none."""
    first, second = step.option(name, [1, 1])
    if not 1 <= min(first, second) <= max(first, second) < 2**31:
        raise Unsupported(f"{name} of {(first, second)}; they are at least 1, and below 2^31")
    return int(first), int(second)


def _kernel(step: Step) -> Pair:
    sizes = step.option("kernel_shape", [])
    if len(sizes) != 2:
        raise Unsupported(f"windows of {len(sizes)} axes; only those of maps [H, W] can be")
    return int(sizes[0]), int(sizes[1])


def _padded(step: Step, x: Activation, rows: Pair, columns: Pair) -> Activation:
    """`x` with zeros around it."""
    if rows == columns == (0, 0):
        return x
    _, height, width = x.shape
    shape = (x.shape[0], height + sum(rows), width + sum(columns))
    call = step.call(shape, "pad")
    return step.place(Pad(**call.base(x.value), padding=((0, 0), rows, columns)))


def convolution(step: Step) -> Activation:
    """Conv: uneven padding becomes a Pad node of its own."""
    x, weight = step.image(), step.weight(1)
    if weight.ndim != 4:
        raise Unsupported(f"a weight of shape {tuple(weight.shape)}; only 2-D convolutions can be")
    rows, columns = _padding(step, (weight.shape[2], weight.shape[3]), x)
    border = (rows[0], columns[0])
    if rows[0] != rows[1] or columns[0] != columns[1]:
        x, border = _padded(step, x, rows, columns), (0, 0)
    bias = None if step.constant(2) is None else step.vector(2, len(weight))
    made = aten.BUILDERS["conv2d"](
        step.call(step.sizes[1:]), x.value, weight, bias, _pair(step, "strides"),
        border, _pair(step, "dilations"), int(step.option("group", 1)),
    )  # fmt: skip
    return step.place(made)


def average_pool(step: Step) -> Activation:
    """AveragePool: uneven padding that counts becomes a Pad node of its own."""
    x, kernel, strides = step.image(), _kernel(step), _pair(step, "strides")
    if _pair(step, "dilations") != (1, 1):
        raise Unsupported("average pooling with dilation; use a depthwise convolution")
    rows, columns = _padding(step, kernel, x)
    counts = bool(step.option("count_include_pad", 0))
    if rows == columns == (0, 0):
        counts = True  # there is nothing to count
    border = (rows[0], columns[0])
    even = rows[0] == rows[1] and columns[0] == columns[1]
    narrow = all(pad <= width // 2 for pad, width in zip(border, kernel, strict=True))
    if counts and not (even and narrow):
        x, (rows, columns), border = _padded(step, x, rows, columns), ((0, 0), (0, 0)), (0, 0)
    elif not (even and narrow):
        raise Unsupported(
            "average pooling whose divisor differs at the border; "
            "use even padding, or count_include_pad=1"
        )
    beyond = step.sizes[2:] != _counts(x, kernel, strides, (rows, columns))
    made = aten.BUILDERS["avg_pool2d"](
        step.call(step.sizes[1:]), x.value, kernel, strides, border, beyond, counts
    )
    return step.place(made)


def _counts(
    x: Activation, kernel: Pair, strides: Pair, padding: tuple[Pair, Pair]
) -> tuple[int, int]:
    """How many windows without dilation lie inside the padded map."""
    rows, columns = (
        (size + sum(pair) - width) // stride + 1
        for size, width, stride, pair in zip(x.shape[1:], kernel, strides, padding, strict=True)
    )
    return rows, columns


def max_pool(step: Step) -> Activation:
    """MaxPool: windows that reach further at one end are cut out of those of even padding."""
    x, kernel = step.image(), _kernel(step)
    strides, dilations = _pair(step, "strides"), _pair(step, "dilations")
    rows, columns = _padding(step, kernel, x)
    if len(step.operation.outputs) > 1 and step.operation.outputs[1]:
        raise Unsupported("its indices are asked for; only the maxima can be converted")
    found = _even(step, x, kernel, strides, dilations, (rows[0], columns[0]))
    if found is not None:
        return found
    around = (rows, columns)
    near = all(max(pair) < width for pair, width in zip(around, kernel, strict=True))
    if _free_of_negatives(step, x.name):  # a zero never exceeds what else is in the window
        x = _padded(step, x, rows, columns)
    elif near and dilations == (1, 1):  # nor does a copy of the entry at the border, which is in it
        x = bordered(step, x, [(0, 0), rows, columns])
    else:
        raise Unsupported(
            f"max pooling with dilation {dilations} and padding {rows}, {columns} of values that "
            "may be negative; put it behind the ReLU, or pad evenly"
        )
    found = _even(step, x, kernel, strides, dilations, (0, 0))
    if found is None:
        raise Unsupported(f"max pooling of {x.sizes} to {step.sizes[1:]}; pad explicitly")
    return found


def _even(
    step: Step, x: Activation, kernel: Pair, strides: Pair, dilations: Pair, border: Pair
) -> Activation | None:
    """The pool with the same padding at both ends, cut to the windows that the file has.

    None where its windows end before the file's do. The windows begin at the same places.
    """
    wanted = step.sizes[2:]
    if any(pad > width // 2 for pad, width in zip(border, kernel, strict=True)):
        return None
    for beyond in (False, True):
        counts = (
            _windows(size, width, stride, pad, dilation, beyond)
            for size, width, stride, pad, dilation in zip(
                x.shape[1:], kernel, strides, border, dilations, strict=True
            )
        )
        shape = (x.shape[0], *counts)
        if all(have >= want for have, want in zip(shape[1:], wanted, strict=True)):
            pooled = aten.BUILDERS["max_pool2d"](
                step.call(shape), x.value, kernel, strides, border, dilations, beyond
            )
            return cut(step, step.place(pooled), {1: (0, wanted[0], 1), 2: (0, wanted[1], 1)})
    return None


def _windows(size: int, width: int, stride: int, pad: int, dilation: int, beyond: bool) -> int:
    """How many windows PyTorch's pool has along an axis; beyond: its ceil_mode."""
    room = size + 2 * pad - dilation * (width - 1) - 1
    count = room // stride + 1
    more = beyond and room % stride > 0 and count * stride < size + pad
    return count + 1 if more else count


def _free_of_negatives(step: Step, name: str) -> bool:
    """Whether a value cannot be negative: a ReLU is behind it, and nothing but moves after that."""
    waiting, seen = [name], {name}
    while waiting:
        node = step.nodes[waiting.pop()]
        if not isinstance(node, (ReLU, *_NEGATIVE_FREE)):
            return False
        if not isinstance(node, ReLU):
            waiting += [before for before in node.inputs if before not in seen]
            seen.update(node.inputs)
    return True


def cut(step: Step, x: Activation, ranges: dict[int, tuple[int, int, int]]) -> Activation:
    """(start, stop, step) of some of the node's axes (0: channels), one Slice for each."""
    for axis, (start, stop, stride) in ranges.items():
        size = len(range(start, stop, stride))
        if size == x.shape[axis]:
            continue
        if size == 0:
            raise Unsupported(f"it leaves nothing of axis {axis} of {x.sizes}")
        stride = stride if size > 1 else 1
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        call, stop = step.call(shape, "slice"), start + (size - 1) * stride + 1
        node = Slice(**call.base(x.value), axis=axis, start=start, stop=stop, step=stride)
        x = Activation(step.put(node), shape, x.axes)
    return x


def global_average_pool(step: Step) -> Activation:
    """GlobalAveragePool."""
    return _whole_mean(step, step.image())


def global_max_pool(step: Step) -> Activation:
    """GlobalMaxPool: one window over the whole map."""
    return _whole_maximum(step, step.image())


def _whole_maximum(step: Step, x: Activation) -> Activation:
    call, kernel = step.call((x.shape[0], 1, 1)), (x.shape[1], x.shape[2])
    return step.place(aten.BUILDERS["max_pool2d"](call, x.value, kernel))


def mean(step: Step) -> Activation:
    """ReduceMean over height and width, wherever they stand."""
    return _reduced(step, "mean", _whole_mean)


def maximum(step: Step) -> Activation:
    """ReduceMax over height and width, wherever they stand."""
    return _reduced(step, "maximum", _whole_maximum)


def _whole_mean(step: Step, x: Activation) -> Activation:
    call = step.call((x.shape[0], 1, 1))
    return step.place(aten.BUILDERS["adaptive_avg_pool2d"](call, x.value, (1, 1)))


def _reduced(step: Step, what: str, over: Callable[[Step, Activation], Activation]) -> Activation:
    """One entry for each channel, kept as a map of one pixel or not."""
    x = step.activation()
    rank, keep = len(x.axes), bool(step.option("keepdims", 1))
    axes = sorted(x.axes[axis % rank] for axis in step.option("axes", list(range(rank)), 1))
    if axes != [2, 3]:
        raise Unsupported(f"the {what} over axes {axes}; only that over height and width can be")
    pooled = over(step, x)
    if keep:
        return Activation(pooled.name, pooled.shape, x.axes)
    return step.place(Flatten(**step.call((x.shape[0],), "flatten").base(pooled.value)))
