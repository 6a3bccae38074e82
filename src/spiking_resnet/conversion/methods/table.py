"""Generator of the tables in docs/methods.md: the names of methods, and all their options.

`python -m spiking_resnet.conversion.methods.table docs/methods.md` writes them anew.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from spiking_resnet.conversion.methods import METHODS
from spiking_resnet.conversion.methods.option import by_text, options_of
from spiking_resnet.conversion.methods.recipes import ALSO, CLASSES, RECIPES, Recipe

_MADE = "Made by `python -m spiking_resnet.conversion.methods.table docs/methods.md`"


def renewed(text: str) -> str:
    """Return a text with these tables in the places of those it has."""
    for what, table in TABLES.items():
        first, last = marks(what)
        before, found, rest = text.partition(first)
        _, ended, after = rest.partition(last)
        if not (found and ended):
            raise ValueError(f"the text has no place for the {what}: lines {first!r} and {last!r}")
        text = "\n".join([f"{before}{first}", "", *table(), "", f"{last}{after}"])
    return text


def marks(what: str) -> tuple[str, str]:
    """Return the lines before and after a table."""
    return f"<!-- {_MADE}: {what}. -->", f"<!-- The end of the {what}. -->"


def _names() -> Iterator[str]:
    """Yield a row for every name, class by class."""
    yield "| name | what it is | a neuron's spikes | made for | options of its class |"
    yield "|---|---|---|---|---|"
    for group in CLASSES:
        for recipe in RECIPES.values():
            if recipe.group == group:
                yield (
                    f"| {_called(recipe)} | {recipe.description} | {group} | "
                    f"{'one T' if recipe.per_steps else 'any T'} | {_options_of(recipe)} |"
                )


def _called(recipe: Recipe) -> str:
    others = (f"`{other}`" for other, name in ALSO.items() if name == recipe.name)
    return ", ".join([f"`{recipe.name}`", *others])


def _options_of(recipe: Recipe) -> str:
    """Return a recipe as its class in Python, with the options that are not its defaults."""
    usual = Recipe("", "", type(recipe.method)())
    changed = usual.differing(recipe.method)
    own = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return f"`{recipe.method.name}({own})`"


def _options() -> Iterator[str]:
    """Yield a row for every option, in the order of the classes."""
    yield f"| option | flag | {' | '.join(METHODS)} | |"
    yield "|---" * (len(METHODS) + 3) + "|"
    owned = {method: options_of(kind) for method, kind in METHODS.items()}
    for name in dict.fromkeys(name for options in owned.values() for name in options):
        own = {method: options[name] for method, options in owned.items() if name in options}
        defaults = [own[method].usual if method in own else "" for method in METHODS]
        flag = ", ".join(next(iter(own.values())).flag)
        said = by_text({method: option.help for method, option in own.items()})
        yield f"| `{name}` | `{flag}` | {' | '.join(defaults)} | {said} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {"names": _names, "options": _options}


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
