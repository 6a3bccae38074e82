"""Every public name has an example, in its docstring or on its page, and it is so."""

import doctest
import re
from pathlib import Path

import pytest

import spiking_resnet as sr
from docs.blocks import GIVEN

FOLDER = Path(__file__).parents[2] / "docs" / "reference" / "api"
PAGES = sorted(FOLDER.glob("*.rst"))
NAMED = re.compile(r"^\.\. auto\w+:: (\w+)$", re.MULTILINE)
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
NOT_RUN = {"trace_onnx"}  # needs an exported file


def parts(page):
    """Yield (name, the page's text on it)."""
    _, *found = NAMED.split(page.read_text())
    return dict(zip(found[::2], found[1::2], strict=True))


def thing(name):
    return getattr(sr, name) if hasattr(sr, name) else getattr(sr.methods, name)


def examples(name, text):
    """The examples of a name, as one text: the docstring's, then the page's."""
    told = "" if isinstance(thing(name), dict) else (thing(name).__doc__ or "")
    return f"{told if '>>>' in told else ''}\n{text if '>>>' in text else ''}".strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_name_has_an_example(page):
    without = [name for name, text in parts(page).items() if not examples(name, text)]
    assert [name for name in without if name in sr.__all__] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_are_so(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(GIVEN, names)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    parser, failed, report = doctest.DocTestParser(), [], []
    for name, text in parts(page).items():
        if name in NOT_RUN:
            continue
        test = parser.get_doctest(examples(name, text), names, name, str(page), 0)
        if runner.run(test, out=report.append, clear_globs=False).failed:
            failed.append(name)
    assert not failed, "".join(report)
