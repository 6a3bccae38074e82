"""The chapters of a study: groups of methods that are read out at the same time steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from spiking_resnet import arguments
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.methods.recipes import RECIPES, recipe_named
from spiking_resnet.conversion.presets import (
    IMAGENET_CLASSES,
    IMAGENET_PERCENTILE,
    Recipe,
    chosen,
    fitting,
)

CHAPTERS = ("paper", "few", "binary", "choices")
STEPS = (8, 16, 32, 64, 128, 256, 350)
FEW = (2, 4, 8, 16, 32)  # of a method that is made for one T
PAPER_STEPS = STEPS[-1]


@dataclass(frozen=True)
class Chapter:
    """Methods that are compared at the same time steps. title: what is asked of them."""

    name: str
    title: str
    steps: tuple[int, ...]
    recipes: tuple[Recipe, ...]


def chapters(classes: int) -> dict[str, Chapter]:
    """The chapters of a study, by name, for networks of so many classes.

    The paper takes thresholds at the 99.9th percentile, for ImageNet at the 99.99th.
    """
    usual = IMAGENET_PERCENTILE if classes == IMAGENET_CLASSES else hu2021.percentile
    other = hu2021.percentile if usual == IMAGENET_PERCENTILE else IMAGENET_PERCENTILE

    def listed(names: str) -> tuple[Recipe, ...]:
        return tuple(fitting(recipe, classes) for recipe in chosen(names))

    found = (
        Chapter(
            "paper",
            "The paper's method: shortcuts converted or not, thresholds per layer or channel",
            STEPS,
            (
                _paper("hu2021", f"thresholds per layer at {usual} %", percentile=usual),
                _paper(
                    "hu2021-channel",
                    f"thresholds per channel at {IMAGENET_PERCENTILE} %",
                    percentile=IMAGENET_PERCENTILE,
                    per_channel=True,
                ),
                _paper(
                    "hu2021-unconverted",
                    "identity shortcuts with gain 1, whatever the thresholds at their ends are",
                    percentile=usual,
                    shortcut_conversion=False,
                ),
            ),
        ),
        Chapter(
            "few",
            "Few time steps: signed spikes of one size and of four",
            (2, 4, 8),
            listed("differential-1,differential-4,dcgs-1,dcgs-4"),
        ),
        Chapter(
            "binary",
            "Spikes 0 and 1, neurons fire as they go",
            (16, 32, 64),
            listed("calibrated,snn-calibration-light,snn-calibration-advanced,threshold-balancing"),
        ),
        Chapter(
            "choices",
            "What the paper leaves open: initial potential, percentile, compensation",
            STEPS,
            (
                _paper(
                    "v0-0", "membrane potentials begin at 0", percentile=usual, initial_potential=0
                ),
                _paper(f"percentile-{other:g}", f"thresholds at {other} %", percentile=other),
                _paper("maximum", "thresholds at the largest activation", percentile=100.0),
                _paper(
                    "compensated",
                    "weights times a factor that a search on training images finds",
                    percentile=usual,
                    compensation="search",
                ),
            ),
        ),
    )
    return {chapter.name: chapter for chapter in found}


def chapter(name: str, classes: int) -> Chapter:
    """The chapter of this name; of a method's name one of that method alone."""
    known = chapters(classes)
    if name in known:
        return known[name]
    recipe = fitting(recipe_named(name), classes)
    return Chapter(name, recipe.description, FEW if recipe.per_steps else STEPS, (recipe,))


def check_chapters(names: Sequence[str]) -> None:
    """Raise InputError for names that are neither chapters nor methods."""
    for name in names or ("",):
        if name not in CHAPTERS and name not in RECIPES:
            raise arguments.unknown("chapter or method", name, (*CHAPTERS, *RECIPES))


def _paper(name: str, description: str, **options: object) -> Recipe:
    """A recipe of the paper's method, converted once for all time steps."""
    return Recipe(name, description, hu2021(**options))  # type: ignore[arg-type]
