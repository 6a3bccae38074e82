"""Results that show themselves: in a line, as text, in a notebook, as tables and charts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pandas  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from matplotlib.axes import Axes

_LONGEST = 300  # characters of a line
_FEW = 6  # entries that are written out


class MissingPandas(ImportError):
    """A table of pandas was asked for, which is not installed."""


class MissingMatplotlib(ImportError):
    """A chart was asked for without matplotlib, which draws it."""


class Printed(str):
    """Text of several lines that a console shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Short:
    """A dataclass whose `repr` is a line of its fields: of tensors their shapes, no numbers."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Give a subclass the short `repr`, which `dataclass` would else replace by its own."""
        super().__init_subclass__(**options)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = cls._line  # type: ignore[assignment, method-assign]

    def _line(self) -> str:
        return in_a_line(self)


@dataclass(frozen=True)
class Views:
    """How results are shown; what draws them is loaded when it is asked for.

    line: its `repr`; None for a kind without a line of its own. text: what a terminal shows. html:
    what a notebook shows; None where nothing is shown of that kind. table: its tables as text.
    rows: its numbers, a dictionary for each row of a table. plot: its charts, onto axes (or None),
    dark, transparent.
    """

    line: Callable[[Any], str | None]
    text: Callable[[Any], str]
    html: Callable[[Any], str | None]
    table: Callable[[Any], str]
    rows: Callable[[Any], Sequence[Mapping[str, Any]]]
    plot: Callable[[Any, Any, bool, bool], Any]


class Shown(Short):
    """A result that shows itself. views: gives how; the package says it for all of them."""

    views: ClassVar[Callable[[], Views] | None] = None

    def _line(self) -> str:
        own = None if Shown.views is None else Shown.views().line(self)
        return in_a_line(self) if own is None else own

    def __str__(self) -> str:
        """What a terminal shows of it, without colours; its `repr` where nothing is shown."""
        return repr(self) if Shown.views is None else Shown.views().text(self)

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the same tables and charts."""
        return None if Shown.views is None else Shown.views().html(self)

    def table(self) -> Printed:
        """The tables of it as text, which a console shows as it is.

        Raises InputError for a kind of result that has none.
        """
        return Printed("" if Shown.views is None else Shown.views().table(self))

    def plot(
        self, ax: "Axes | Sequence[Axes] | None" = None, dark: bool = False,
        transparent: bool = False,
    ) -> Any:  # fmt: skip
        """Draw its chart and return the matplotlib axes: one, or a tuple where it has several.

        ax: the axes to draw on, as many as the chart has; None for a new figure of pyplot's, which
        `show()` and notebooks show. dark: for a dark page. transparent: without a background.
        Raises MissingMatplotlib, and InputError for a kind of result that has no chart.
        """
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise MissingMatplotlib(
                "matplotlib is not installed: pip install matplotlib"
            ) from error
        return None if Shown.views is None else Shown.views().plot(self, ax, dark, transparent)

    def to_pandas(self) -> "pandas.DataFrame":
        """The numbers as a DataFrame: a row for each T, layer or recipe, numbers unrounded.

        Raises MissingPandas where pandas is not installed, InputError for a kind of result that has
        no such table.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingPandas(
                "pandas is not installed: pip install pandas, or take to_dict()"
            ) from error
        rows = [] if Shown.views is None else list(Shown.views().rows(self))
        return pandas.DataFrame(rows)


def in_a_line(record: Any) -> str:
    """A dataclass in a line: its fields, without those that have their default."""
    told = (
        f"{each.name}={_short(getattr(record, each.name))}"
        for each in fields(record)
        if not _usual(each, getattr(record, each.name))
    )
    text = f"{type(record).__name__}({', '.join(told)})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}, ...)"


def _usual(field: "Field[Any]", value: Any) -> bool:
    """Whether a field has its default, as far as that is plain."""
    if field.default_factory is not MISSING:
        return isinstance(value, Mapping | tuple | list) and not value
    plain = isinstance(value, str | int | float | bool | None)
    return plain and field.default is not MISSING and bool(value == field.default)


def _short(value: Any) -> str:
    """A value in a few characters: of tensors and records what they are, not what they hold."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return f"{{{len(value)} entries}}" if value else "{}"
    if isinstance(value, tuple | list):
        plain = all(isinstance(each, str | int | float | None) for each in value)
        if plain and len(value) <= _FEW:
            return f"({', '.join(map(_short, value))}{',' * (len(value) == 1)})"
        return f"({len(value)} entries)"
    if is_dataclass(value) or callable(value):
        kind = value if isinstance(value, type) else type(value)
        return f"{kind.__name__}(...)"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
