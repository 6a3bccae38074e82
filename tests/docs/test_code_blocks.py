"""The code that the README and the documentation show runs, and names what there is."""

import ast
import inspect

import pytest
import typer
from typer.testing import CliRunner

import spiking_resnet as sr
from docs.blocks import GIVEN, PAGES, PYTHON, ROOT, SHELL, blocks, commands, says
from spiking_resnet.cli import COMMANDS, app
from spiking_resnet.cli.commands import loaded

(UsageError,) = (kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
WITH_CODE = [page for page in PAGES if any(b.language == PYTHON for b in blocks(page))]
WITH_COMMANDS = [page for page in PAGES if any(b.language in SHELL for b in blocks(page))]


def named(page):
    return str(page.relative_to(ROOT))


def marked(page):
    return pytest.param(
        page, id=named(page), marks=pytest.mark.sweep if says(page, "sweep") else ()
    )


@pytest.mark.whole
@pytest.mark.parametrize("page", [marked(page) for page in WITH_CODE])
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {"__name__": "__main__"}
    if says(page, "given"):
        exec(GIVEN, names)
    for block in blocks(page):
        if block.language == PYTHON and not block.mark.startswith("not run"):
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, named(page), "exec"), names)
        elif block.language in SHELL and block.mark == "run":
            for words in commands(block):
                result = CliRunner().invoke(app, words)
                assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}"


@pytest.mark.whole
@pytest.mark.parametrize("page", WITH_CODE, ids=named)
def test_code_names_what_there_is(page):
    for block in blocks(page):
        if block.language == PYTHON:
            tree = ast.parse(block.code, f"{named(page)}, line {block.line}")
            problems = [problem for node in ast.walk(tree) for problem in unknown(node)]
            assert not problems, (named(page), block.line, problems)


def unknown(node):
    """Yield what of a call or an attribute of this package there is not."""
    if isinstance(node, ast.Attribute) and found(node.value) is not None:
        if not hasattr(found(node.value), node.attr):
            yield f"{ast.unparse(node)} is not there"
    elif isinstance(node, ast.Call) and found(node.func) is not None:
        known = inspect.signature(found(node.func)).parameters
        if not any(each.kind == each.VAR_KEYWORD for each in known.values()):
            given = (keyword.arg for keyword in node.keywords)
            yield from (f"{ast.unparse(node.func)} takes no {name}" for name in given
                        if name is not None and name not in known)  # fmt: skip


def found(node):
    """Return what an expression such as sr.methods.hu2021 is; None for others."""
    if isinstance(node, ast.Name):
        return sr if node.id == "sr" else None
    holder = found(node.value) if isinstance(node, ast.Attribute) else None
    return None if holder is None else getattr(holder, node.attr, None)


@pytest.mark.whole
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=named)
def test_commands_have_the_options_that_are_shown(page):
    for block in blocks(page):
        if block.language in SHELL:
            for words in commands(block):
                parsed(words, f"{named(page)}, line {block.line}")


def parsed(words, where):
    """Fail for a command, an option or an argument there is not."""
    name, *rest = words or [""]
    if name.startswith("--"):
        return
    assert name in COMMANDS, f"{where}: there is no command {name!r}"
    if {"--help", "--version"} & set(rest):
        return
    command = loaded(name)
    parser = command.make_parser(command.context_class(command, info_name=name))
    try:
        _, left, _ = parser.parse_args(list(rest))
    except UsageError as error:
        pytest.fail(f"{where}: {name}: {error.format_message()}")
    assert not left, f"{where}: {name} takes no {left}"


def test_what_is_not_there_is_found():
    problems = [p for node in ast.walk(ast.parse("sr.conver(1); sr.simulate(a, b, step=3)"))
                for p in unknown(node)]  # fmt: skip
    assert problems == ["sr.simulate takes no step", "sr.conver is not there"]
    for words in (["evaluat", "x"], ["evaluate", "x", "--stops", "3"], ["evaluate", "x", "y"]):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            parsed(words, "here")
