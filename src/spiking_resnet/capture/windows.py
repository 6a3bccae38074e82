"""Pools whose windows differ in size, as pools whose windows do not.

The mean over a window does not change when each of its entries is taken equally often. So rows and
columns are repeated until every window has the same number of entries: spikes stay spikes, their
sums whole numbers, and one divisor serves all. Exact for any sizes; nothing is added to a graph but
the Select that repeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import lcm


@dataclass(frozen=True)
class Regular:
    """Equal windows along one axis: of `kernel` entries, one every `stride`, over the entries
    `index` of that axis.
    """

    index: tuple[int, ...]
    kernel: int
    stride: int


def sliding(size: int, count: int, kernel: int, stride: int, padding: int) -> list[range]:
    """The entries in each of `count` windows along an axis of `size`, without those outside it."""
    starts = [number * stride - padding for number in range(count)]
    return [range(max(start, 0), min(start + kernel, size)) for start in starts]


def adaptive(size: int, count: int) -> list[range]:
    """The entries in each of the `count` windows that adaptive pooling cuts an axis into."""
    return [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def regular(windows: Sequence[range], size: int) -> Regular:
    """Equal windows with the same means."""
    lengths, steps = _lengths_and_steps(windows)
    if len(lengths) == 1 and len(steps) <= 1 and 0 not in steps and windows[0].start == 0:
        kernel = lengths.pop()
        stride = steps.pop() if steps else size
        more = (size - kernel) // stride + 1 > len(windows)
        return Regular(tuple(range(windows[-1].stop if more else size)), kernel, stride)
    return _overlapping(windows, size) or _apart(windows)


def _lengths_and_steps(windows: Sequence[range]) -> tuple[set[int], set[int]]:
    """The sizes of windows, and the distances between neighbours."""
    steps = {after.start - before.start for before, after in pairwise(windows)}
    return {len(window) for window in windows}, steps


def _apart(windows: Sequence[range]) -> Regular:
    """Windows that share nothing: every one written out, its entries repeated."""
    kernel = lcm(*(len(window) for window in windows))
    index = [entry for window in windows for entry in window for _ in range(kernel // len(window))]
    return Regular(tuple(index), kernel, kernel)


def _overlapping(windows: Sequence[range], size: int) -> Regular | None:
    """Windows that overlap as they did, of which only the first and the last may be cut short.

    Every entry is repeated m times, so that a full window has m * kernel entries; what the short
    ones lack goes before the first entry and after the last. None where that is not the case.
    """
    first, *inner, last = windows if len(windows) > 1 else (windows[0], windows[0])
    lengths, steps = _lengths_and_steps(inner)
    if len(lengths) != 1 or len(steps) != 1 or 0 in steps:
        return None
    kernel, stride = lengths.pop(), steps.pop()
    before = stride - inner[0].start  # entries of the first window that are missing
    after = inner[-1].start + stride + kernel - size
    fits = len(first) == kernel - before and len(last) == kernel - max(after, 0)
    if before < 0 or not fits or first.start != 0 or last.start != inner[-1].start + stride:
        return None
    total = lcm(kernel, len(first), len(last))
    times = total // kernel
    index = [entry for entry in first for _ in range(total // len(first) - times)]
    index += [entry for entry in range(size) for _ in range(times)]
    index += [entry for entry in last for _ in range(total // len(last) - times)]
    more = (len(index) - total) // (times * stride) + 1 > len(windows)
    return None if more else Regular(tuple(index), total, times * stride)
