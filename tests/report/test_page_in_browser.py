"""A page in Chromium: charts are drawn, numbers are those of the JSON, and nothing complains."""

import json

import browser
import pytest
from findings_example import example, renamed, written
from test_html import HOSTILE

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(browser.found() is None, reason="no Chromium is installed"),
]

DRAWN = """[...document.querySelectorAll(".plot")].filter(plot => plot.clientWidth).map(plot =>
    [...plot.querySelectorAll("svg path[d], svg rect[width]")].filter(shape => {
        const box = shape.getBBox(); return box.width + box.height > 0; }).length)"""
CHARTS = 9  # accuracy, cost, energy, methods, 2 of the diagnosis, spikes, 2 samples
TEXTS = "[...document.querySelectorAll({!r})].map(found => found.textContent)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    opened = browser.Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(written(example()))
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_all_charts_are_drawn_and_nothing_overflows(chromium, path, width, dark):
    chromium.open(path, width, dark=dark)
    drawn = chromium.run(DRAWN)
    assert len(drawn) == CHARTS
    assert min(drawn) > 0
    assert chromium.run("document.documentElement.scrollWidth") == width
    assert chromium.errors == []


def test_numbers_in_the_page_are_those_of_the_json(chromium, path):
    chromium.open(path)
    told = json.loads(chromium.run("document.getElementById('numbers').textContent"))
    assert told == json.loads(json.dumps(example().to_json()))
    last = told["snn"][-1] if "snn" in told else told["curve"]["snn"][-1]
    values = chromium.run(TEXTS.format(".verdict .value"))
    ann = told["curve"]["ann"]["accuracy"]
    assert values[:3] == [
        f"{100 * last['accuracy']:.0f} %",
        f"{100 * (ann - last['accuracy']):z.0f} points",
        f"{100 * last['agreement']:.0f} %",
    ]
    names = chromium.run(TEXTS.format("#network tbody th"))
    assert names == [*(layer["name"] for layer in told["layers"]), "all"]
    plotted = chromium.run(
        "JSON.parse(document.querySelector('#accuracy script').textContent).series[0].values"
    )
    assert plotted == [100 * point["accuracy"] for point in told["curve"]["snn"]]


def test_a_reader_chooses_views_and_colours(chromium, path):
    chromium.open(path)
    shown = "[...document.querySelectorAll('#methods .view')].map(view => !view.hidden)"
    assert chromium.run(shown) == [True, False]
    chromium.run(
        "(select => { select.selectedIndex = 1; select.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#methods select'))"
    )
    chromium.frame()
    assert chromium.run(shown) == [False, True]
    assert chromium.run(TEXTS.format("#methods [aria-live]")) == ["Shown: latency"]
    assert min(chromium.run(DRAWN)) > 0
    paper = "getComputedStyle(document.body).backgroundColor"
    before = chromium.run(paper)
    chromium.run("document.querySelector('button.colours').click()")
    assert chromium.run(paper) != before
    assert chromium.errors == []


def test_hostile_names_run_nothing(chromium, tmp_path):
    path = tmp_path / "hostile.html"
    path.write_text(written(renamed(example(), HOSTILE), HOSTILE, [(HOSTILE, HOSTILE)]))
    chromium.open(path)
    assert chromium.run("document.querySelectorAll('script').length") == chromium.run(
        "document.querySelectorAll('script[type], body > script').length"
    )
    assert len(chromium.run(DRAWN)) == CHARTS
    assert chromium.errors == []
