"""What methods declare of their options, and what is made from it, for every method there is."""

import math
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from spiking_resnet.conversion.methods import METHODS, RECIPES, Method, described
from spiking_resnet.conversion.methods.option import Bounds, documented, option, options_of
from spiking_resnet.conversion.methods.table import renewed
from spiking_resnet.records import InputError

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
EVERY = [(method, name) for method, kind in METHODS.items() for name in options_of(kind)]


@documented
@dataclass(frozen=True, kw_only=True)
class toy(Method):
    """A method of no use."""

    name: ClassVar[str] = "toy"

    share: float = option(0.5, "share of what is shared", above=0, most=1)
    count: int | Literal["all"] | None = option(None, "how many", least=2, unset="some")
    loud: bool = option(False, "loudness", flags=("--loud", "--quiet"))

    def apply(self, traced, calibration):
        return traced


@pytest.mark.parametrize(("method", "name"), EVERY)
def test_every_option_is_declared_and_its_default_is_one_of_its_values(method, name):
    kind = METHODS[method]
    one = options_of(kind)[name]
    assert one.text
    assert "\n" not in one.text
    assert not one.text.endswith(".")
    assert one.check(one.default) == one.default
    assert f"    {name}: " in kind.__doc__
    assert one.unset or one.default is not None


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_frozen_and_known_by_its_name(method):
    made = METHODS[method]()
    assert made.name == method
    assert described(made.describe()) == made
    assert list(made.describe()["options"]) == list(options_of(METHODS[method]))
    with pytest.raises(FrozenInstanceError):
        made.steps = 3


def test_every_class_has_a_name():
    assert {recipe.method.name for recipe in RECIPES.values()} == set(METHODS)


@pytest.mark.parametrize(("method", "name"), EVERY)
def test_values_outside_an_options_bounds_are_refused_by_its_name(method, name):
    one = options_of(METHODS[method])[name]
    tried = {one.bounds.least: -1, one.bounds.most: 1, one.bounds.above: 0, one.bounds.below: 0}
    for end, beyond in tried.items():
        if end is not None:
            with pytest.raises(InputError, match=f"^{name} is "):
                one.check(end + beyond)
            with pytest.raises(InputError, match=f"^--{name.replace('_', '-')} '"):
                one.parse(str(end + beyond))
    with pytest.raises(InputError, match=f"^{name} is "):
        one.check("neither a number nor a word")


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "text"),
    [
        (Bounds(), (-9.5, math.inf), (), ""),
        (Bounds(least=1), (1, 7), (0, math.nan), "from 1 on"),
        (Bounds(above=0), (0.1, 7), (0, -1, math.nan), "above 0"),
        (Bounds(least=0, most=1), (0, 0.5, 1), (-0.1, 1.1), "in 0..1"),
        (Bounds(above=0, most=100), (0.1, 100), (0, 100.1, math.nan), "in (0, 100]"),
        (Bounds(least=0, below=1), (0, 0.9), (-0.1, 1), "in [0, 1)"),
        (Bounds(above=0, below=math.inf), (1e30,), (0, math.inf), "in (0, inf)"),
    ],
)
def test_bounds(bounds, inside, outside, text):
    assert all(bounds.hold(value) for value in inside)
    assert not any(bounds.hold(value) for value in outside)
    assert str(bounds) == text


def test_one_declaration_makes_check_docstring_text_and_flag():
    share, count, loud = options_of(toy).values()
    assert toy.__doc__.splitlines() == [
        "A method of no use.",
        "",
        "    share: share of what is shared (a number in (0, 1]; default: 0.5).",
        "    count: how many (a whole number from 2 on, all or none; default: some).",
        "    loud: loudness (on or off; default: off).",
    ]
    assert (share.flag, loud.flag) == (("--share",), ("--loud", "--quiet"))
    assert [count.parse(text) for text in ("7", "all", "none")] == [7, "all", None]
    assert [toy(count=each).count for each in (7.0, "all", None)] == [7, "all", None]
    assert count.typed(None) == ["--count", "none"]
    assert loud.typed(False) == ["--quiet"]
    for text in ("1", "some", "2.5", ""):
        with pytest.raises(InputError, match=r"--count '.*give a whole number from 2 on, all or"):
            count.parse(text)
    for value in (1, "some", 2.5):
        with pytest.raises(InputError, match="count is"):
            toy(count=value)
    assert [one.name for one in fields(toy)] == ["share", "count", "loud"]


def test_the_table_in_the_docs_is_what_the_methods_declare():
    page = PAGE.read_text(encoding="utf-8")
    remedy = "python -m spiking_resnet.conversion.methods.table docs/methods.md"
    assert renewed(page) == page, f"write it anew: {remedy}"
    with pytest.raises(ValueError, match="no place"):
        renewed("# Methods\n")
