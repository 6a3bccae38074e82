"""Fit tables into lines of so many characters: columns are left out, or tables are cut."""

from dataclasses import replace
from itertools import pairwise

from spiking_resnet.report.block import Table

FOLDED = 16  # characters of a column that goes over several lines


def widths(table: Table) -> tuple[int, ...]:
    """The characters of every column."""
    lines = [[column.heading for column in table.columns], *(row.cells for row in table.rows)]
    return tuple(max(map(len, column)) for column in zip(*lines, strict=True))


def fits(table: Table, width: int, gap: int = 1) -> bool:
    """Whether a table fits into so many characters, with a gap after each column."""
    if table.room is not None:
        return table.room <= width
    return sum(widths(table)) + gap * len(table.columns) <= width


def keyed(table: Table, width: int) -> Table:
    """A table without the columns, those of the highest rank first, that find no room.

    A footnote says which are left out.
    """
    made, ranks = table, sorted({each.rank for each in table.columns if each.rank}, reverse=True)
    for most in ranks:
        if _framed(made) <= width:
            break
        kept = [place for place, each in enumerate(table.columns) if each.rank < most]
        left = ", ".join(each.name for each in table.columns if each.rank >= most)
        made = _of_columns(table, kept, f"No room here for: {left}.")
    return made


def _of_columns(table: Table, kept: list[int], told: str) -> Table:
    return replace(
        table,
        columns=tuple(table.columns[place] for place in kept),
        rows=tuple(
            replace(
                row,
                cells=tuple(row.cells[place] for place in kept),
                bars={at: row.bars[place] for at, place in enumerate(kept) if place in row.bars},
            )
            for row in table.rows
        ),
        footnotes=(*table.footnotes, told),
        room=None,
    )


def _framed(table: Table) -> int:
    """The characters that a table takes, with its frame."""
    if table.room is not None:
        return table.room
    gap, ends = {"wide": (1, 0), "long": (2, 2), "small": (3, 1)}[table.shape]
    columns = zip(table.columns, widths(table), strict=True)
    taken = sum(min(width, FOLDED) if column.folds else width for column, width in columns)
    return taken + gap * len(table.columns) + ends


def cut(table: Table, width: int) -> list[Table]:
    """Tables that fit, each with the columns that name the rows and some of the others.

    The former are those on the left that are aligned there, or the first alone where these leave no
    room for the others.
    """
    if fits(table, width):
        return [table]
    own = [taken + 1 for taken in widths(table)]
    right = (place for place, column in enumerate(table.columns) if column.align == "right")
    keys = max(1, next(right, 1))
    if sum(own[:keys]) + max(own[keys:], default=0) > width:
        keys = 1
    names = list(range(keys))
    parts = [[*names, *part] for part in _parted(own, keys, width - sum(own[:keys]))]
    return [
        replace(
            table,
            title=table.title if number == 0 else f"{table.title} (continued)",
            columns=tuple(replace(table.columns[column], note="") for column in part),
            rows=tuple(
                replace(row, cells=tuple(row.cells[column] for column in part))
                for row in table.rows
            ),
            footnotes=table.explanations if number == len(parts) - 1 else (),
        )
        for number, part in enumerate(parts)
    ]


def _parted(own: list[int], first: int, room: int) -> list[list[int]]:
    """The columns from the first on in parts that find room, about as many in each."""
    parts: list[list[int]] = []
    for column in range(first, len(own)):
        if not parts or sum(own[known] for known in parts[-1]) + own[column] > room:
            parts.append([])
        parts[-1].append(column)
    least, more = divmod(len(own) - first, max(1, len(parts)))
    ends = [first + number * least + min(number, more) for number in range(len(parts) + 1)]
    even = [list(range(*ends_of)) for ends_of in pairwise(ends)]
    fit = all(sum(own[column] for column in part) <= room for part in even)
    return even if fit else parts
