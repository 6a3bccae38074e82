"""The colours and the style of figures, and text as matplotlib draws it."""

from dataclasses import dataclass
from typing import Any

from spiking_resnet.printable import printable

# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class Inks:
    """The colours of a page.

    last: the series after those that have COLOURS. frame: axes and bars' lines. strong, faint:
    greys of what has no colour of its own.
    """

    paper: str
    text: str
    frame: str
    strong: str
    faint: str
    grid: str
    last: str

    def tone(self, tone: int | None, grey: str) -> str:
        """The colour of a series or level; `grey` where it has none."""
        return grey if tone is None else (*COLOURS, self.last)[tone % (len(COLOURS) + 1)]


ON_LIGHT = Inks("#FFFFFF", "#000000", "#333333", "#444444", "#BBBBBB", "#DDDDDD", "#000000")
ON_DARK = Inks("#131416", "#E6E6E6", "#B0B0B0", "#C8C8C8", "#6A6A6A", "#3A3A3A", "#FFFFFF")
STYLE: Any = {  # matplotlib's own type lists its 300 names
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "spiking-resnet",
    "pdf.fonttype": 42,
}


def safe(text: str) -> str:
    """Text as matplotlib draws it: no formulas, no control characters, and in legends too."""
    plain = printable(text).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain
