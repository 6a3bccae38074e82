"""Clipped ReLUs that are written with other operations, found by the function that they compute.

u - relu(u - relu(x)), (|x| - |x - u| + u) / 2, u / 6 * relu6(6 / u * x) and min(relu(x), u) are all
one ReLU with ceiling u, one population instead of up to four. Every value that is a piecewise
linear function of one other value, the same for all its entries, is followed as such.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isclose

from spiking_resnet.graph import Add, Affine, Node, ReLU

TOLERANCE = 1e-6  # of what float32 constants leave of slopes and corners
MOST_WAYS = 16  # values that a value is followed back to


@dataclass(frozen=True)
class Piece:
    """slope * x + shift from `start` on."""

    start: float
    slope: float
    shift: float

    def at(self, x: float) -> float:
        """The value at x."""
        return self.slope * x + self.shift if self.slope else self.shift


Curve = tuple[Piece, ...]  # by ascending starts, the first of which is -inf

IDENTITY: Curve = (Piece(-inf, 1.0, 0.0),)


def _ends(curve: Curve) -> Iterable[tuple[Piece, float]]:
    """Every piece with the number where it ends."""
    return zip(curve, [*(piece.start for piece in curve[1:]), inf], strict=True)


def scaled(curve: Curve, slope: float, shift: float) -> Curve:
    """slope * curve + shift."""
    return tuple(Piece(p.start, slope * p.slope, slope * p.shift + shift) for p in curve)


def added(one: Curve, other: Curve) -> Curve:
    """The sum of two curves."""
    starts = sorted({piece.start for piece in (*one, *other)})

    def last(curve: Curve, start: float) -> Piece:
        return [piece for piece in curve if piece.start <= start][-1]

    pairs = [(start, last(one, start), last(other, start)) for start in starts]
    return tuple(Piece(s, a.slope + b.slope, a.shift + b.shift) for s, a, b in pairs)


def clipped(curve: Curve, ceiling: float) -> Curve:
    """The curve between 0 and `ceiling`."""
    made: list[Piece] = []
    for piece, end in _ends(curve):
        corners = []
        if piece.slope:
            levels = [level for level in (0.0, ceiling) if level < inf]
            corners = [(level - piece.shift) / piece.slope for level in levels]
        starts = [piece.start, *sorted(c for c in corners if piece.start < c < end)]
        for start, stop in pairwise([*starts, end]):
            middle = piece.at(_between(start, stop))
            level = 0.0 if middle <= 0 else ceiling if middle >= ceiling else None
            own = Piece(start, piece.slope, piece.shift)
            made.append(own if level is None else Piece(start, 0.0, level))
    return tuple(made)


def _between(start: float, stop: float) -> float:
    """A number between two, of which one or both may be infinite."""
    if start == -inf:
        return 0.0 if stop == inf else stop - 1
    return start + 1 if stop == inf else (start + stop) / 2


def ceiling_of(curve: Curve) -> float | None:
    """u where the curve is min(max(x, 0), u) (inf without end); None where it is something else."""
    joined: list[Piece] = []
    for piece in curve:
        last = joined[-1] if joined else None
        if last is None or not _alike((last.slope, last.shift), (piece.slope, piece.shift)):
            joined.append(piece)
    lines = [(piece.slope, piece.shift) for piece in joined]
    if len(lines) not in (2, 3) or not (_alike(lines[0], (0, 0)) and _alike(lines[1], (1, 0))):
        return None
    if len(lines) == 2:
        return inf
    slope, level = lines[2]
    return level if _near(slope, 0.0) and level > 0 else None


def _alike(line: tuple[float, float], other: tuple[float, float]) -> bool:
    return _near(line[0], other[0]) and _near(line[1], other[1])


def _near(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def recognised(nodes: Iterable[Node]) -> list[Node]:
    """The nodes with every value that is a clipped ReLU of an earlier one as one ReLU node."""
    nodes = list(nodes)
    found: dict[str, Mapping[str, Curve]] = {}  # for each value: its curve over earlier ones
    made: list[Node] = []
    for node in nodes:
        curves = _curves(node, found)
        source = next(
            (name for name, curve in curves.items() if _is_spelt_out(node, name, curve)), None
        )
        found[node.name] = {**dict([*curves.items()][-MOST_WAYS:]), node.name: IDENTITY}
        if source is None or any(_is_itself(curve) for curve in curves.values()):
            made.append(node)
            continue
        ceiling = ceiling_of(curves[source])
        plain = ReLU(
            name=node.name,
            inputs=(source,),
            shape=node.shape,
            source=node.source,
            ceiling=None if ceiling == inf else ceiling,
        )
        made.append(plain)
    return made


def _is_spelt_out(node: Node, source: str, curve: Curve) -> bool:
    """Whether a node is a clipped ReLU of `source`, but not that node itself."""
    plain = isinstance(node, ReLU) and node.inputs[0] == source
    return not plain and ceiling_of(curve) is not None


def _is_itself(curve: Curve) -> bool:
    """Whether a curve changes nothing."""
    return all(_alike((piece.slope, piece.shift), (1.0, 0.0)) for piece in curve)


def _curves(node: Node, found: Mapping[str, Mapping[str, Curve]]) -> dict[str, Curve]:
    """What a node is of each earlier value that it is a function of, entry by entry."""
    before = [found[name] for name in node.inputs]
    if isinstance(node, ReLU) and node.levels is None:
        ceiling = inf if node.ceiling is None else node.ceiling
        return {name: clipped(curve, ceiling) for name, curve in before[0].items()}
    if isinstance(node, Affine):
        shifts = [0.0] if node.shift is None else node.shift.double().unique().tolist()
        slopes = node.scale.double().unique().tolist()
        if len(shifts) == len(slopes) == 1:
            line = (slopes[0], shifts[0])
            return {name: scaled(curve, *line) for name, curve in before[0].items()}
    if isinstance(node, Add):
        common = [name for name in before[0] if all(name in each for each in before[1:])]
        sums: dict[str, Curve] = {}
        for name in common:
            total = before[0][name]
            for each in before[1:]:
                total = added(total, each[name])
            sums[name] = total
        return sums
    return {}
