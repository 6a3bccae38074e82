"""The help of every command: examples that can be copied from a terminal of 80 characters."""

import re
from itertools import pairwise

import pytest
from test_cli import ok

from spiking_resnet.cli import COMMANDS, EPILOG
from spiking_resnet.cli.commands import loaded

COMMAND = re.compile(r"  (spiking-resnet|torchrun) ")
WIDEST = 76
FEWEST = {"reproduce": 6, "": 3}  # examples that are certainly there


def epilog(name):
    return loaded(name).epilog if name else EPILOG


def examples(name):
    """The paragraphs below the help that hold a command to copy, as lists of lines."""
    paragraphs = epilog(name).split("\n\n")
    return [each.strip("\n").split("\n") for each in paragraphs if COMMAND.match(each.strip("\n"))]


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_an_example_is_copied_as_it_stands(name):
    found = examples(name)
    assert len(found) >= FEWEST.get(name, 1)
    for lines in found:
        assert all(len(line) <= WIDEST for line in lines), lines
        for line, following in pairwise(lines):
            assert line.endswith(" \\") or following.startswith("  ("), lines
        assert not lines[-1].endswith("\\"), lines


@pytest.mark.parametrize("name", ["export", "reproduce"])
def test_examples_keep_their_lines_on_a_terminal_of_80_characters(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = [line.strip() for line in ok(name, "--help").splitlines()]
    for lines in examples(name):
        assert all(line.strip() in shown for line in lines), lines


def test_prose_below_the_help_is_not_cut_by_hand():
    for name in COMMANDS:
        for paragraph in epilog(name).split("\n\n"):
            assert paragraph.startswith(" ") or "\n" not in paragraph.strip("\n"), paragraph
