"""Results that show themselves: as text, in a notebook, and as a table of pandas."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pandas  # type: ignore[import-not-found, import-untyped, unused-ignore]


class MissingPandas(ImportError):
    """A table of pandas was asked for, which is not installed."""


@dataclass(frozen=True)
class Views:
    """How results are shown; what draws them is loaded when it is asked for.

    text: what a terminal shows. html: what a notebook shows; None where nothing is shown of that
    kind. rows: its numbers, a dictionary for each row of a table.
    """

    text: Callable[[Any], str]
    html: Callable[[Any], str | None]
    rows: Callable[[Any], Sequence[Mapping[str, Any]]]


class Shown:
    """A result that shows itself. views: how; the package says it for all of them."""

    views: ClassVar[Views | None] = None

    def __str__(self) -> str:
        """What a terminal shows of it, without colours; its `repr` where nothing is shown."""
        return repr(self) if self.views is None else self.views.text(self)

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the same tables and charts."""
        return None if self.views is None else self.views.html(self)

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
        return pandas.DataFrame([] if self.views is None else list(self.views.rows(self)))
