"""Rules of the windows that convolutions and pools slide over a map [C, H, W]."""

from typing import Any

from spiking_resnet.graph.nodes.base import GraphError, Node, Pair, Shape
from spiking_resnet.rules import pair, whole

MOST_PADDING = 2**10  # a few bytes of a file must not ask for gigabytes of zeros
RULES = {"stride": pair(whole(1)), "padding": pair(whole(0, MOST_PADDING))}


def is_map(node: Node, shape: Shape) -> None:
    """Raise GraphError for any shape other than [C, H, W]."""
    if len(shape) != 3:
        raise GraphError(f"{node.name!r}: windows need [channels, height, width], not {shape}")


def has_narrow_padding(node: Node, padding: Pair, kernel: Pair) -> None:
    """Raise GraphError where a window could lie in the padding alone."""
    if any(2 * around > size for around, size in zip(padding, kernel, strict=True)):
        raise GraphError(
            f"{node.name!r}: padding {padding} is more than half of the kernel {kernel}"
        )


def windows(
    node: Node,
    shape: Shape,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> Shape:
    """Return the number of windows along height and width; GraphError where none fits."""

    def count(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
        room = size + 2 * padding - dilation * (kernel - 1) - 1
        if room < 0:
            raise GraphError(
                f"{node.name!r}: a window of {dilation * (kernel - 1) + 1} does not fit {size} "
                f"with {padding} of padding on both sides"
            )
        found = room // stride + 1
        # With ceil_mode there is one more where it begins within the image or the padding before.
        more = ceil_mode and room % stride and found * stride < size + padding
        return found + bool(more)

    along: Any = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
    return tuple(count(*numbers) for numbers in along)
