"""The flags and the help that are made from what methods declare of their options."""

import re
from dataclasses import replace

import pytest
import typer
from test_cli import ok, refused

from spiking_resnet.cli.commands import loaded
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.method import OF_COMMAND, MethodFlags
from spiking_resnet.conversion.methods import METHODS, RECIPES, calls, named
from spiking_resnet.conversion.methods.option import options_of

OWN = {name: list(options_of(kind)) for name, kind in METHODS.items()}


def helped(*arguments):
    """A command's help in 80 columns: its words, one space between them."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", ok(*arguments, "--help"))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


@pytest.fixture
def eighty(monkeypatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("method", METHODS)
def test_help_of_a_method_shows_its_own_options_and_defaults(eighty, method):
    text = helped("convert", "--method", method)
    for name in {name for own in OWN.values() for name in own} - set(OF_COMMAND):
        shown = f" {flag_of(name)} <" in text
        assert shown == (name in OWN[method]), name
    for name, option in options_of(METHODS[method]).items():
        if name not in OF_COMMAND:
            shown = text[text.index(f" {flag_of(name)} <") :]
            assert re.search(r"\[default: (.*?)\]", shown)[1] == option.usual, name


def flag_of(name):
    return next(
        options_of(kind)[name].flag[0] for kind in METHODS.values() if name in OWN[kind.name]
    )


def test_help_of_a_published_set_shows_its_options(eighty):
    text = helped("convert", "--method=snn-calibration-light")
    assert re.search(r"--rounds <int> .*?\[default: 1\]", text)
    assert re.search(r"--fit-weights <bool> .*?\[default: off\]", text)


def test_help_without_a_method_shows_every_option_with_the_methods_that_have_it(eighty):
    text = helped("convert")
    for name in RECIPES:
        assert name in text
    assert "[hu2021: 350; differential, dcgs: 16; calibrated: 32; qcfs: 64]" in text
    assert "[hu2021, differential, calibrated, dcgs: 99.9]" in text
    assert "off: --no-shortcut-conversion." in text
    assert helped("convert", "--method", "none-such") == text


@pytest.mark.parametrize("command", ["compare", "tune", "evaluate", "diagnose", "train"])
def test_no_help_is_cut_at_80_columns(eighty, command):
    assert f"spiking-resnet {command}" in helped(command)


def test_flags_are_each_of_one_parameter():
    command = loaded("convert")
    flags = [flag for one in command.params for flag in (*one.opts, *one.secondary_opts)]
    assert len(flags) == len(set(flags))
    assert {"--ridge", "--batches", "--compensation-images", "--steps"} <= set(flags)


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_to_be_typed_for_a_method_makes_it_again(name):
    made = named(name)
    for option, one in options_of(type(made)).items():
        if option in ("steps", "images", "levels", "batches", "rounds") and not (
            option == "levels" and getattr(made, "waits", False)
        ):
            made = replace(made, **{option: one.default + 1})
    command = typer.Typer()
    found = []

    def take(method: MethodFlags) -> None:
        found.append(method.chosen(0).method)

    command.command()(grouped(take))
    command(calls.typed(made, name, OF_COMMAND), standalone_mode=False)
    assert found == [made]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "qcfs", "--wait"), "the method qcfs has no option --wait: leave it out"),
        (("--method", "dcgs", "--keep-weights"), "the method dcgs has no option --fit-weights"),
        (("--method", "calibrated", "--compensation", "1.5"), "none, bias, potential or offsets"),
        (("--method", "calibrated", "--delay", "soon"), "--delay 'soon'.*auto or none"),
        (("--ridge", "1"), "the method hu2021 has no option --ridge"),
    ],
)  # fmt: skip
def test_options_of_other_methods_are_refused(arguments, message):
    assert re.search(message, refused("convert", "digits_resnet8", *arguments))
