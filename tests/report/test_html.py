"""HTML: names do nothing, tables and charts are read without sight, and pages load nothing."""

import json
import re
from html.parser import HTMLParser

import pytest
from test_block import bars, every, lines, table

from spiking_resnet.report.block import Choice, Row, Table, Text
from spiking_resnet.report.html import fragment, script_json
from spiking_resnet.report.page import Number, Page, Section, document, render
from spiking_resnet.report.rails import LANES, Rails, lanes

pytestmark = pytest.mark.whole

HOSTILE = (
    "</script><script>alert(1)</script><!-- \" onload='x()' & \u2028 \u2029 "
    "\x1b[2J\u202e]]> <b>{{x}}"
)
VOID = {"img", "meta", "br", "link", "input", "path", "circle", "rect"}


class Tags(HTMLParser):
    """All tags with their attributes, and whether they are nested as they should."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def known(text):
    """The kinds of tags, and of attributes."""
    tags = Tags(text).tags
    return {tag for tag, _ in tags}, {name for _, attributes in tags for name in attributes}


@pytest.mark.parametrize(("hostile", "harmless"), [*zip(every(HOSTILE), every(), strict=True)])
def test_names_add_no_tags_and_no_attributes(hostile, harmless):
    shown = fragment([hostile[0]])
    assert known(shown) == known(fragment([harmless[0]]))
    assert not set("\x1b\u2028\u2029\u202e") & set(shown)
    assert shown.count("<script") == shown.count("</script")


def test_json_neither_ends_its_element_nor_is_changed():
    shown = script_json({HOSTILE: [HOSTILE, 1.5, None]})
    assert not set("<>&\u2028\u2029") & set(shown)
    assert json.loads(shown) == {HOSTILE: [HOSTILE, 1.5, None]}


def test_a_hostile_page_has_its_own_scripts_alone():
    sections = Section("one", HOSTILE, [lines(HOSTILE)]), Section("two", "two", [bars(HOSTILE)])
    page = Page(
        HOSTILE, sections, HOSTILE, HOSTILE, (Number(HOSTILE, HOSTILE),), {HOSTILE: HOSTILE}
    )
    shown = render(page).decode()
    scripts = [attributes.get("type") for tag, attributes in Tags(shown).tags if tag == "script"]
    assert scripts == ["application/json"] * 3 + [None] * 3
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', shown)
    assert json.loads(found[1]) == {HOSTILE: HOSTILE}


def test_pages_load_nothing():
    shown = document([table(), lines(), bars()]).decode()
    tags = Tags(shown).tags
    for _, attributes in tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    (policy,) = [a["content"] for tag, a in tags if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert len(shown) < 700_000


def test_tables_have_captions_and_headings_with_a_scope():
    tags = Tags(fragment([table()])).tags
    scopes = [attributes["scope"] for tag, attributes in tags if tag == "th"]
    assert scopes == ["col"] * 2 + ["row"] * 3
    assert [tag for tag, _ in tags].count("caption") == 1


@pytest.mark.parametrize("chart", [lines(), bars()])
def test_charts_have_their_numbers_as_a_table(chart):
    shown = fragment([chart])
    tags = [tag for tag, _ in Tags(shown).tags]
    assert tags[0] == "figure"
    assert {"figcaption", "details", "table"} <= set(tags)
    found = json.loads(re.search(r"<script.*?>(.*?)</script>", shown)[1])
    assert [each["label"] for each in found["series"]] == [each.label for each in chart.series]


def test_ids_are_unique_and_links_lead_somewhere():
    page = Page("title", (Section("one", "One", [table()]), Section("two", "Two", [lines()])))
    tags = Tags(render(page).decode()).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    links = [attributes["href"][1:] for _, attributes in tags if "href" in attributes]
    assert len(set(ids)) == len(ids)
    assert links == ["content", "one", "two"]
    assert set(links) <= set(ids)


def test_views_are_all_there_without_a_script():
    shown = fragment([Choice("model", (("one", (Text("first"),)), ("two", (Text("second"),))))])
    assert shown.index("first") < shown.index("second")
    assert "view" in shown
    assert [a.get("hidden", "-") for tag, a in Tags(shown).tags if tag == "label"] == [None]


def test_links_side_by_side_have_lanes_of_their_own():
    assert lanes([(0, 2), (2, 4), (4, 6)]) == {(0, 2): 0, (2, 4): 0, (4, 6): 0}
    assert lanes([(0, 4), (1, 3), (2, 3)]) == {(0, 4): 0, (1, 3): 1, (2, 3): 2}
    assert len(lanes([(row, 50) for row in range(20)])) == LANES


def test_a_link_is_drawn_beside_every_row_from_end_to_end():
    rails = Rails(5, [(1, 3)])
    assert [rails.drawn(row).count("<path") for row in range(5)] == [1, 2, 2, 2, 1]


def test_a_folded_table_shows_its_title_first():
    shown = fragment([table(folded=True)])
    assert [tag for tag, _ in Tags(shown).tags][:3] == ["details", "summary", "div"]
    assert shown.count("title of name") == 1


def test_bars_stand_beside_their_numbers():
    columns = table().columns
    shown = fragment([Table(columns, (Row(("row", "3"), bars={1: 0.25}),))])
    assert 'style="width:25.0%"' in shown
    assert shown.index("width:25") < shown.index(">3<")
