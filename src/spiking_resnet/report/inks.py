"""The colours and the style of figures, and text as matplotlib draws it."""

from dataclasses import dataclass
from typing import Any

from spiking_resnet.printable import printable

# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LIGHTER = ("#56B4E9", "#F08A3C", "#33C299", "#E0A3C8", "#F0C33C", "#8CA6E8")  # for dark pages


@dataclass(frozen=True)
class Inks:
    """The colours of a page.

    colours: of series; last: of the one after these. frame: axes and bars' lines. strong, faint:
    greys of what has no colour of its own.
    """

    paper: str
    text: str
    frame: str
    strong: str
    faint: str
    grid: str
    last: str
    colours: tuple[str, ...] = COLOURS

    def tone(self, tone: int | None, grey: str) -> str:
        """The colour of a series or level; `grey` where it has none."""
        known = (*self.colours, self.last)
        return grey if tone is None else known[tone % len(known)]


ON_LIGHT = Inks("#FFFFFF", "#000000", "#333333", "#444444", "#BBBBBB", "#DDDDDD", "#000000")
ON_DARK = Inks(
    "#131416", "#E6E6E6", "#B0B0B0", "#C8C8C8", "#6A6A6A", "#3A3A3A", "#FFFFFF", LIGHTER
)  # fmt: skip
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
