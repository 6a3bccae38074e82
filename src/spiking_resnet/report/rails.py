"""Lines beside the rows of a table: one through all rows, and one for each link between two."""

from collections.abc import Sequence

LANES = 4  # lines side by side; links beyond them are not drawn
_STEP = 11  # from line to line


class Rails:
    """The drawing beside each of `rows` rows. links: pairs of rows, the upper one first."""

    def __init__(self, rows: int, links: Sequence[tuple[int, int]]) -> None:
        self.rows, self.lanes = rows, lanes(links)
        self.width = 12 + _STEP * (1 + max(self.lanes.values(), default=-1))

    def drawn(self, row: int) -> str:
        """The piece beside one row, as SVG that is stretched to its height."""
        top, bottom = 50 if row == 0 else 0, 50 if row == self.rows - 1 else 100
        main = f'<path class="main" d="M6 {top}V{bottom}"/>'
        beside = "".join(
            f'<path d="{path}"/>'
            for link, lane in self.lanes.items()
            if (path := _path(row, link, lane))
        )
        return (
            f'<span class="rail" style="width:{self.width}px" aria-hidden="true">'
            f'<svg viewBox="0 0 {self.width} 100" preserveAspectRatio="none">{main}{beside}</svg>'
            "<i></i></span>"
        )


def _path(row: int, link: tuple[int, int], lane: int) -> str:
    """The piece of a link beside a row; nothing where it is elsewhere."""
    x, (first, last) = 6 + _STEP * (lane + 1), link
    if row == first:
        return f"M6 50C6 80 {x} 70 {x} 100"
    if row == last:
        return f"M{x} 0C{x} 30 6 20 6 50"
    return f"M{x} 0V100" if first < row < last else ""


def lanes(links: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """The lane of every link, so that links side by side have different ones; at most LANES."""
    ends: list[int] = []  # the row at which each lane is free again
    found: dict[tuple[int, int], int] = {}
    for first, last in sorted(set(links)):
        free = next((lane for lane, end in enumerate(ends) if end <= first), len(ends))
        if free == LANES:
            continue
        ends[free : free + 1] = [last]
        found[first, last] = free
    return found
