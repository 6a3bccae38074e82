"""The blocks that a report consists of, as plain data: texts, tables and charts in reading order.

A report is a sequence of blocks. Whoever has a record makes its blocks (`curve`, `comparison`, …);
whoever has a kind of output renders any blocks (`terminal`, `markdown`, `figure`). Blocks hold text
as it came out of files: a renderer escapes what its output would take for more than text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from spiking_resnet.records import InputError
from spiking_resnet.report.numbers import count, prefixed


@dataclass(frozen=True)
class Text:
    """A paragraph, a title or heading, a remark (what a reader should beware of), or code.

    code: lines as they are typed. command: one such line. apart: after a blank line of a terminal.
    """

    text: str
    kind: Literal["paragraph", "title", "heading", "remark", "code", "command"] = "paragraph"
    apart: bool = False


@dataclass(frozen=True)
class Terms:
    """A list of (name, what it is)."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    note: what it holds, where its name does not say. folds: its cells may go over several lines.
    rank: where a terminal's line has no room, columns of the highest rank are left out first; those
    of rank 0 never.
    """

    name: str
    unit: str = ""
    align: Literal["left", "right"] = "right"
    note: str = ""
    folds: bool = False
    rank: int = 0

    @property
    def heading(self) -> str:
        """The name and the unit."""
        return f"{self.name} {self.unit}".rstrip()


def columns(keys: int, names: Iterable[str]) -> tuple[Column, ...]:
    """Columns of these names, of which the first ones name the rows."""
    return tuple(
        Column(name, align="left" if place < keys else "right") for place, name in enumerate(names)
    )


@dataclass(frozen=True)
class Row:
    """A row of a table: a cell for each column. ruled: below a line.

    bars: by column, how long a bar is that stands for the cell's number, 0..1, where a renderer
    draws bars.
    """

    cells: tuple[str, ...]
    style: Literal["plain", "strong", "alarming", "faint"] = "plain"
    ruled: bool = False
    bars: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Columns, rows of cells, and what they mean. Raises InputError for rows of other lengths.

    shape: small (a few rows of numbers), long (a row for each part of a network), or wide (a column
    for each of any number of things: may be cut between columns). room: the characters of a
    terminal's line that it asks for; None: what its cells take. apart: as of a Text. links: pairs
    of rows, the upper first, that are joined by a line where a renderer draws lines; then each row
    is joined with the next one too. Their cells say it as well. folded: whether its title alone is
    shown at first, where a reader can unfold it.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str = ""
    footnotes: tuple[str, ...] = ()
    shape: Literal["small", "long", "wide"] = "small"
    room: int | None = None
    apart: bool = False
    links: tuple[tuple[int, int], ...] = ()
    folded: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise InputError(
                    f"table {self.title!r}: a row has {len(row.cells)} cells for "
                    f"{len(self.columns)} columns: give each column one"
                )

    @property
    def explanations(self) -> tuple[str, ...]:
        """The footnotes, and one more of all columns' notes."""
        noted = " ".join(f"{each.name}: {each.note}." for each in self.columns if each.note)
        return (*self.footnotes, noted) if noted else self.footnotes


@dataclass(frozen=True)
class Axis:
    """What an axis shows.

    symbol: how a place on it is called in a line of text ("T"). bounds: between which its values
    lie by their nature. counts: whether they are numbers of operations and the like, which are
    written in three digits ("174 k", with a unit "1.74 mJ"). decimals: of its values in percent.
    """

    label: str
    unit: str = ""
    symbol: str = ""
    scale: Literal["linear", "log2"] = "linear"
    bounds: tuple[float, float] | None = None
    counts: bool = False
    decimals: int = 2

    @property
    def heading(self) -> str:
        """The label and the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def place(self, value: float) -> str:
        """A place on it, as it stands below the axis."""
        return self._short(value) if self.counts else f"{value:.6g}"

    def text(self, value: float) -> str:
        """A value with its unit."""
        if self.counts:
            return self._short(value)
        if self.unit.startswith("%"):
            return f"{value:.{self.decimals}f} %"
        return f"{value:.4g}"

    def _short(self, value: float) -> str:
        return prefixed(value, self.unit) if self.unit else count(value)


@dataclass(frozen=True)
class Series:
    """Numbers of one kind; NaN where there is none.

    at: their places on the x axis (lines). intervals: the ends of each number's error bar, or None.
    starts: where each bar begins; 0 where nothing is said. tone: which colour of a palette it has;
    None: grey.
    """

    label: str
    values: tuple[float, ...]
    at: tuple[float, ...] = ()
    intervals: tuple[tuple[float, float] | None, ...] = ()
    starts: tuple[float, ...] = ()
    tone: int | None = 0


@dataclass(frozen=True)
class Level:
    """A line at one value across a chart, without a label where it is plain what it is."""

    value: float
    label: str = ""
    tone: int | None = None


@dataclass(frozen=True)
class Chart:
    """Lines over the x axis, horizontal bars in rows, or cells in rows and columns.

    Values are along the axis y; of cells they are shades, the deepest at the ends of its bounds,
    and every series is a column. x: None for bars; of cells what the columns are, and side what the
    rows are; contrast: whether cells on the diagonal have the colour of negative ones. intervals:
    what the series' intervals are. rows: the names of the bars' rows; every series has a number for
    each. line: one more series, drawn as a line through the rows; of lines, as steps behind them.
    moments: levels of the x axis, where something happens. low: whether it is drawn less high.
    width: in comparison with the charts beside it.
    """

    kind: Literal["lines", "bars", "cells"]
    y: Axis
    series: tuple[Series, ...]
    x: Axis | None = None
    title: str = ""
    levels: tuple[Level, ...] = ()
    moments: tuple[Level, ...] = ()
    low: bool = False
    intervals: str = ""
    rows: tuple[str, ...] = ()
    line: Series | None = None
    width: float = 1.0
    side: str = ""
    contrast: bool = False

    def shades(self, place: int) -> tuple[float, ...]:
        """How deep the colours of a row of cells are, -1..1; negative ones are another colour."""
        most = max(map(abs, self.y.bounds or (1.0,))) or 1.0
        row = [max(-1.0, min(1.0, each.values[place] / most)) for each in self.series]
        signs = [-1 if self.contrast and column == place else 1 for column in range(len(row))]
        return tuple(sign * shade for sign, shade in zip(signs, row, strict=True))

    @property
    def named_series(self) -> tuple[list[tuple[int, Series]], list[Series]]:
        """The series that a legend names, with their places, and those it sums up as others.

        Grey lines beside coloured ones are the others.
        """
        toned = [(place, each) for place, each in enumerate(self.series) if each.tone is not None]
        if self.kind == "bars" or not toned:
            return list(enumerate(self.series)), []
        return toned, [each for each in self.series if each.tone is None]


@dataclass(frozen=True)
class Picture:
    """An image in the format PNG. text: what is seen in it, for those who do not see it.

    caption: what stands below it. exact: every pixel is a number, so that none is smoothed.
    """

    png: bytes
    text: str
    caption: str = ""
    exact: bool = False


@dataclass(frozen=True)
class Choice:
    """Several views of the same, of which a reader chooses one by its name; all where none can.

    label: what is chosen ("Cost model").
    """

    label: str
    views: tuple[tuple[str, tuple["Block", ...]], ...]


@dataclass(frozen=True)
class Alternatives:
    """The same in several widths, the widest first: a terminal shows the first one that fits, or
    the last; what knows no width shows the first.
    """

    choices: tuple[tuple["Block", ...], ...]


Block = Text | Terms | Table | Chart | Picture | Choice | Alternatives
Report = Sequence[Block]
