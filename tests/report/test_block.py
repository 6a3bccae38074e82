"""Every kind of block in every renderer: nothing is lost, and nothing in a name does anything."""

import io
import re
from dataclasses import replace
from math import nan
from typing import get_args

import pytest
from rich.console import Console

from spiking_resnet.printable import printable
from spiking_resnet.records import InputError
from spiking_resnet.report import markdown, terminal
from spiking_resnet.report.block import (
    Alternatives,
    Axis,
    Block,
    Chart,
    Choice,
    Column,
    Level,
    Picture,
    Row,
    Series,
    Table,
    Terms,
    Text,
)
from spiking_resnet.report.fitting import cut
from spiking_resnet.report.write import DOCUMENTS, FIGURES, RENDERERS, write

pytestmark = pytest.mark.whole

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)
EVIL = "a\n|b|\t[bold]x[/bold] <i>$y$</i> `z`\x1b[2J\u202e"
TEXTS = {
    kind: Text(f"a {kind}", kind)
    for kind in ("paragraph", "title", "heading", "remark", "code", "command")
}


def table(name="name", **fields):
    columns = (Column(name, align="left", folds=True), Column("loss", "%", note="of images"))
    rows = (Row((name, "1.5")), Row(("second", "-2.5"), "alarming"), Row(("all", "4"), "strong"))
    given = {"title": f"title of {name}", "footnotes": (f"below {name}",), **fields}
    return Table(columns, rows, **given)


def lines(name="name"):
    return Chart(
        "lines",
        x=Axis("Time steps", symbol="T", scale="log2"),
        y=Axis("Accuracy", "%", bounds=(0.0, 100.0)),
        series=(
            Series(name, (50.0, 75.25), (2, 8), ((40.0, 60.0), None)),
            Series("other", (nan, 25.5), (4, 8), tone=1),
        ),
        title=f"title of {name}",
        levels=(Level(90.125, "ANN"),),
        intervals="95 % interval",
    )


def bars(name="name"):
    series = (Series("one", (3.25, -1.5)), Series(name, (2.0, 1.0), starts=(3.25, 0.0), tone=None))
    return Chart(
        "bars", y=Axis("error", "%"), series=series, rows=(name, "second"),
        levels=(Level(0.0),), line=Series("left", (1.0, 2.0)), title=f"title of {name}",
    )  # fmt: skip


def cells(name="name"):
    series = (Series(name, (7.0, -1.5)), Series("second", (0.0, 3.25)))
    return Chart(
        "cells", y=Axis("images", bounds=(-4.0, 4.0)), x=Axis("decision"), side="label",
        series=series, rows=(name, "second"), title=f"title of {name}", contrast=True,
    )  # fmt: skip


def every(name="name"):
    """A block of every kind and form, with the texts that must be seen of it."""
    numbers = ("loss", "1.5", "-2.5", "second", "all", "of images")
    for kind in TEXTS:
        yield Text(f"a {kind} {name}", kind), (f"a {kind} {name}",)
    yield Terms(((name, f"what {name} is"),)), (name, f"what {name} is")
    for shape in ("small", "long", "wide"):
        yield table(name, shape=shape), (name, f"title of {name}", f"below {name}", *numbers)
    yield lines(name), (name, "other", "50.00", "75.25", "25.50", "90.1", "ANN")
    yield bars(name), (name, "one", "second", "3.25", "-1.50", "2.00", f"title of {name}")
    yield cells(name), (name, "second", "label", "decision", "7", "-1.5", "3.25", "images")
    yield (
        Picture(PNG, f"seen in {name}", f"caption of {name}"),
        (f"seen in {name}", f"caption of {name}"),
    )
    views = tuple((f"view {number} of {name}", (Text(f"text {number}"),)) for number in (1, 2))
    yield Choice(f"which {name}", views), (f"which {name}", f"view 2 of {name}", "text 1", "text 2")
    wide, narrow = table(name, room=10_000), replace(table(name), title="narrow")
    yield Alternatives(((wide,), (narrow,))), (name, *numbers)


def printed(blocks, width=200, **kind):
    console = Console(width=width, **kind)
    with console.capture() as capture:
        terminal.show(blocks, console)
    return capture.get()


def as_svg(block):
    return FIGURES[".svg"]([block]).decode()


def test_every_kind_of_block_is_tried():
    assert {type(block) for block, _ in every()} == set(get_args(Block))


@pytest.mark.parametrize("width", [40, 200])
@pytest.mark.parametrize(("block", "texts"), [*every()])
def test_terminals_show_all_of_every_block(block, texts, width):
    shown = " ".join(printed([block], width).split())
    for text in texts:
        assert text in shown


@pytest.mark.parametrize("render", list(DOCUMENTS.values()))
@pytest.mark.parametrize(("block", "texts"), [*every()])
def test_documents_show_all_of_every_block(render, block, texts):
    shown = render([block]).decode()
    for text in texts:
        assert text in shown


@pytest.mark.parametrize("block", [lines(), bars(), cells()])
def test_figures_show_the_labels_of_every_chart(block):
    shown = as_svg(block)
    seen = block.x.label if block.kind == "cells" else block.y.label
    for text in (*(each.label for each in block.series), *block.rows, block.title, seen):
        assert text in shown


@pytest.mark.parametrize("suffix", RENDERERS)
def test_every_suffix_is_written(suffix, tmp_path):
    path = tmp_path / f"report{suffix.upper()}"
    write([TEXTS["title"], table(), lines()], path)
    assert path.stat().st_size > 100
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("block", "texts"), [*every(EVIL)])
def test_names_do_nothing_in_terminals(block, texts):
    shown = printed([block])
    assert not set("\x1b\t\r\u202e") & set(shown)
    assert "[bold]x[/bold]" in shown
    coded = isinstance(block, Text)  # its line breaks are meant
    for text in texts:
        assert printable(text, keep="\n" if coded else "") in shown


@pytest.mark.parametrize(("block", "_"), [*every(EVIL)])
def test_names_do_nothing_in_markdown(block, _):
    shown = markdown.text([block])
    assert not set("\x1b\t\r\u202e") & set(shown)
    if isinstance(block, Text) and block.kind == "code":
        return
    assert not re.search(r"(?<!\\)<", re.sub(r"`[^`]*`", "", shown))
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1


@pytest.mark.parametrize("block", [lines(EVIL), bars(EVIL), lines("_hidden"), bars("_hidden")])
def test_names_do_nothing_in_figures(block):
    shown = as_svg(block)
    assert not set("\x1b\t\u202e") & set(shown)
    assert "[bold]x[/bold]" in shown or "_hidden" in shown


def test_what_was_made_for_a_wide_terminal_is_not_shown_on_a_narrow_one():
    both = Alternatives(((table("wide", room=100),), (table("narrow"),)))
    assert "narrow" not in printed([both], 100)
    assert "wide" not in printed([both], 99)
    assert "wide" in markdown.text([both])


def test_wide_tables_are_cut_between_columns():
    names = [f"column{number}" for number in range(9)]
    columns = tuple(map(Column, ("name", *names)))
    whole = Table(columns, (Row(("row", *names)),), "title", ("below",), shape="wide")
    shown = printed([whole], 40)
    assert max(map(len, shown.splitlines())) <= 40
    assert " ".join(shown.split()).count("title (continued)") == 2
    assert shown.count("below") == 1
    assert all(name in shown for name in names)


def test_parts_of_a_table_name_their_rows_and_share_the_columns():
    steps = [f"T = {step}" for step in range(7)]
    columns = (*(Column(name, align="left") for name in ("network", "method")), *map(Column, steps))
    rows = tuple(Row(("net", method, *map(str, range(7)))) for method in ("one", "two"))
    parts = cut(Table(columns, rows, shape="wide"), 40)
    assert [len(part.columns) for part in parts] == [6, 5]
    assert all(part.rows[1].cells[:2] == ("net", "two") for part in parts)
    all_left = tuple(replace(column, align="left") for column in columns)
    parts = cut(Table(all_left, rows, shape="wide"), 40)
    assert [len(part.columns) for part in parts] == [5, 5]
    assert [column.name for column in parts[0].columns[:2]] == ["network", "method"]
    assert [column.name for column in parts[1].columns[:2]] == ["network", "T = 3"]


def test_remarks_are_warnings_beside_the_results():
    out, err = Console(), Console()
    with out.capture() as results, err.capture() as warnings:
        terminal.show([TEXTS["paragraph"], TEXTS["remark"]], out, err)
    assert results.get() == "a paragraph\n"
    assert warnings.get() == "warning: a remark\n"


def test_remarks_are_one_list_of_a_document():
    remarks = [Text("first", "remark"), Text("second", "remark")]
    assert markdown.text([TEXTS["heading"], *remarks]) == "## a heading\n\n- first\n- second"


def test_rows_have_a_cell_for_each_column():
    with pytest.raises(InputError, match="1 cells for 2 columns"):
        Table((Column("one"), Column("two")), (Row(("alone",)),))


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"report.txt.*\.md"):
        write([table()], tmp_path / "report.txt")
    with pytest.raises(InputError, match="no chart"):
        write([table()], tmp_path / "report.png")
    with pytest.raises(InputError, match="one by one"):
        write([lines(), bars()], tmp_path / "report.png")
    assert list(tmp_path.iterdir()) == []
    write([table()], tmp_path / "report.txt", usual=".md")
    assert "| name |" in (tmp_path / "report.txt").read_text()


def test_cells_are_shaded_by_their_numbers():
    chart = cells()
    assert [chart.shades(0), chart.shades(1)] == [(-1.0, 0.0), (-0.375, -0.8125)]
    assert replace(chart, contrast=False).shades(0) == (1.0, 0.0)


def test_terminals_break_sentences_between_words_and_commands_not_at_all():
    sentence, command = (
        "every word stays whole " * 9,
        f"go on with: spiking-resnet {'--option ' * 9}",
    )
    console = Console(file=io.StringIO(), width=50, force_terminal=True, color_system=None)
    terminal.say(console, f"{sentence}\n{command}\n  1. {sentence}")
    told = console.file.getvalue()
    before, after = told.split(f"{command}\n")
    for prose, indent in ((before, ""), (after, " " * 5)):
        first, *rest = prose.splitlines()
        assert max(map(len, (first, *rest))) <= 50
        assert all(line[: len(indent)] == indent and line[len(indent)] != " " for line in rest)
    assert " ".join(before.split()) == sentence.strip()
    assert " ".join(after.split()) == f"1. {sentence.strip()}"


def test_files_get_sentences_in_one_line():
    console = Console(file=io.StringIO(), width=50)
    terminal.say(console, "word " * 30)
    assert console.file.getvalue() == "word " * 30 + "\n"
