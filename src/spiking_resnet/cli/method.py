"""The command-line flags of conversion methods, made from the options that they declare."""

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, Self

import typer
from rich.markup import escape
from typer.core import TyperCommand

from spiking_resnet.cli.groups import Group, keyword
from spiking_resnet.conversion.methods import METHODS, Recipe
from spiking_resnet.conversion.methods.option import Option, by_text, options_of
from spiking_resnet.conversion.methods.recipes import ALSO, RECIPES, recipe_named
from spiking_resnet.records import InputError

PANEL = "Method"
OF_COMMAND = ("seed",)  # options of methods that a flag of the command's own stands for
_PREFIX = "method_"  # of parameters: an option may have the name of another flag's parameter
_NAMED = "spiking_resnet.method"


def declared() -> dict[str, dict[str, Option]]:
    """The options that have flags of their own: by name, then by method."""
    found: dict[str, dict[str, Option]] = {}
    for method, kind in METHODS.items():
        for name, option in options_of(kind).items():
            if name not in OF_COMMAND:
                found.setdefault(name, {})[method] = option
    return found


@dataclass(frozen=True)
class MethodFlags(Group):
    """A method's name, and its options as they were typed (numbers, switches and texts)."""

    name: str
    given: Mapping[str, Any]

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """--method, and a flag for every option that any method has."""
        which = typer.Option("--method", help=_methods(), rich_help_panel=PANEL)
        flags = [keyword("method", Annotated[str, which], "hu2021")]
        for name, options in declared().items():
            flag = next(iter(options.values())).flag
            shown = typer.Option("/".join(flag), rich_help_panel=PANEL, show_default=False)
            kind: Any = _typed_as(options.values()) | None
            flags.append(keyword(_PREFIX + name, Annotated[kind, shown], None))
        return flags

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The flags that were typed."""
        options = {name.removeprefix(_PREFIX): value for name, value in given.items()}
        name = options.pop("method")
        return cls(name, {key: value for key, value in options.items() if value is not None})

    def chosen(self, seed: int) -> Recipe:
        """The method, by its name, with these options.

        InputError for a name or an option there is not, or an impossible value.
        """
        recipe = recipe_named(self.name)
        own = options_of(type(recipe.method))
        for option in sorted(self.given.keys() - own.keys()):
            flag = next(iter(declared()[option].values())).flag[0]
            raise InputError(f"the method {self.name} has no option {flag}: leave it out")
        values = {
            name: own[name].parse(value) if isinstance(value, str) else value
            for name, value in self.given.items()
        }
        drawn = {"seed": seed} if "seed" in own else {}
        return recipe.having(**{**drawn, **values})


class MethodCommand(TyperCommand):
    """A command whose help shows the options of the method that --method names.

    Without it, those of all methods, with the methods that have them and their defaults.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The remaining arguments; the method's name is kept for the help."""
        ctx.meta[_NAMED] = _method_in(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        shown = copy(self)
        described = (_described(one, ctx.meta.get(_NAMED)) for one in self.params)
        shown.params = [one for one in described if one is not None]
        super(MethodCommand, shown).format_help(ctx, formatter)


def _methods() -> str:
    """The help of --method."""
    return f"One of {', '.join(RECIPES)}. With --help: what it is, and its own options."


def _method_in(args: list[str]) -> str | None:
    """The name that follows --method, as far as there is a method of it."""
    found = None
    for at, argument in enumerate(args):
        flag, equals, value = argument.partition("=")
        if flag == "--method":
            found = value if equals else next(iter(args[at + 1 :]), None)
    return found if found in (*RECIPES, *ALSO) else None


def _described(parameter: Any, method: str | None) -> Any:
    """A parameter with its help, or None for an option that the method does not have."""
    name = (parameter.name or "").removeprefix(_PREFIX)
    if parameter.name == "method" and method is not None:
        shown, recipe = copy(parameter), recipe_named(method)
        shown.help = escape(f"{recipe.name}: {recipe.description}.")
        return shown
    options = declared().get(name)
    if options is None or name == parameter.name:
        return parameter
    shown = copy(parameter)
    if method is None:
        text = by_text({each: option.help for each, option in options.items()})
        default = by_text({each: option.usual for each, option in options.items()}, always=True)
    else:
        recipe = recipe_named(method)
        own = options_of(type(recipe.method))
        if name not in own:
            return None
        option = own[name]
        text = option.help
        value = getattr(recipe.method, name)
        default = f"default: {option.usual if value == option.default else option.shown(value)}"
    if parameter.secondary_opts:
        text = f"{text}; off: {', '.join(parameter.secondary_opts)}"
        shown.secondary_opts = []  # a column of their own leaves no room for the text
    named_first = text.startswith(tuple(METHODS))
    text = text if named_first else text[0].upper() + text[1:]
    shown.help = escape(f"{text}. [{default}]")
    return shown


def _typed_as(options: Iterable[Option]) -> type[Any]:
    """What the command line takes for an option: int, float or bool, else a text."""
    kinds = {one.kinds for one in options}
    single = next(iter(kinds))
    plain = len(kinds) == 1 and single in ((int,), (float,), (bool,))
    return single[0] if plain else str
