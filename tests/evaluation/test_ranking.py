"""The ranking of a comparison: the front, the winner, real latency, and what makes the winner."""

import json
import random
import re
import shlex
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import spiking_resnet as sr
from spiking_resnet.cli import app
from spiking_resnet.conversion.methods.recipes import BINARY, GRADED
from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.comparison import Entry, Place, Row, choice, front
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.report import comparison, ranking
from spiking_resnet.report.block import Column, Table
from spiking_resnet.report.block import Row as Cells
from spiking_resnet.report.fitting import widths
from spiking_resnet.report.terminal import text
from zoo import images, network

FACTS = Facts(1, False, False, 2, 8, False)


def ok(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def place(accuracy, operations, latency, loss=0.0, name="one"):
    found = Reading(
        steps=4, accuracy=accuracy, interval=(0.8, 0.95), standard_error=0.01, loss=loss,
        loss_error=0.25, agreement=0.9, lost=30, gained=5, operations=operations,
        spikes_per_image=1.0, firing_rate=0.125, engine="cpu", exact=True, latency=latency,
    )  # fmt: skip
    entry = Entry({}, FACTS, 1.0, 1, (found,))
    return Place(Row(name, "", False, (entry,)), entry, found)


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_trying_all_pairs_gives(seed):
    draw = random.Random(seed)
    drawn = [[draw.randint(0, 4) for _ in range(3)] for _ in range(40)]
    places = [place(accuracy / 4, *others) for accuracy, *others in drawn]

    def beaten(one):
        mine = (one.reading.accuracy, one.reading.operations, one.latency)
        return any(
            other.reading.accuracy >= mine[0]
            and other.reading.operations <= mine[1]
            and other.latency <= mine[2]
            and (other.reading.accuracy, other.reading.operations, other.latency) != mine
            for other in places
        )

    found = front(places)
    assert {id(each) for each in found} == {id(each) for each in places if not beaten(each)}
    operations = [each.reading.operations for each in found]
    assert operations == sorted(operations)


def test_the_choice_is_the_cheapest_within_the_standard_error_of_the_smallest_loss():
    dear, near, far = (
        place(0.9, cost, 4, loss, name)
        for name, cost, loss in (("dear", 9.0, 0.0), ("near", 5.0, 0.35), ("far", 1.0, 0.36))
    )
    assert choice([dear, near, far]) is near  # each loss has the standard error 0.25
    lucky = place(0.95, 9.0, 4, -5.0, "lucky")  # above the ANN: no better than no loss
    assert choice([lucky, near, far]) is near
    assert choice([dear]) is dear
    assert choice([]) is None


def judged(count=12):
    frames = images("identity", count, seed=7)
    with torch.inference_mode():
        return [(frames, network("identity").eval()(frames).argmax(1))]


@pytest.fixture(scope="module")
def found():
    names = ("hu2021", "layer-serial", "differential-4", "burst")
    return sr.compare(network("identity"), images("identity", 16), judged(), names, (2, 4))


def test_latency_is_real(found):
    frames = images("identity", 16)
    for row in found.rows:
        for each in row.places:
            steps = each.reading.steps
            if row.recipe == "layer-serial":
                steps = sr.convert(network("identity"), frames, row.recipe, steps=steps).latency
                assert steps > each.reading.steps
            assert each.latency == steps


def test_rows_are_ranked_class_by_class(found):
    assert [row.group for row in found.ranked] == [BINARY, BINARY, GRADED, GRADED]
    for one, other in zip(found.ranked, found.ranked[1:], strict=False):
        best = [min(each.loss for each in row.readings.values()) for row in (one, other)]
        assert one.group != other.group or best[0] <= best[1]
    table = ranking.table(found)
    named = [row.cells[0] for row in table.rows]
    assert [name for name in named if name in (BINARY, GRADED)] == [BINARY, GRADED]
    for row in table.rows:
        assert (row.style == "faint") == (row.cells[0] in found.beaten)
    for chart in comparison.charts(found):
        grey = {each.label for each in chart.series if each.tone is None}
        assert grey == found.beaten
        assert not any(each.intervals for each in chart.series)


def test_the_line_of_python_makes_the_network_that_was_judged(found):
    for each in found.places:
        names = {"sr": sr, "model": network("identity"), "calibration": images("identity", 16)}
        exec(ranking.line(each), names)
        (point,) = sr.evaluate(names["snn"], judged(), (round(each.latency),)).points
        assert point.accuracy == each.reading.accuracy
        assert point.spikes_per_image == each.reading.spikes_per_image
    assert ranking.line(found.winner) in str(found)


def test_the_commands_of_a_comparison_make_its_winner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ("--steps", "2,4", "--limit", 40, "--calibration-images", 20, "--seed", 3)
    names = "differential-1,layer-serial"
    text = ok("compare", "digits_resnet8", "--methods", names, *few, "--json", "found.json")
    told = json.loads((tmp_path / "found.json").read_text())
    convert, evaluate = told["convert"].splitlines()
    assert convert in text
    assert evaluate in text
    ok(*shlex.split(convert)[1:])
    ok(*shlex.split(evaluate)[1:], "--json", "judged.json")
    (point,) = json.loads((tmp_path / "judged.json").read_text())["snn"]
    winner = re.search(r"winner: (\S+) at T = (\d+)", text)
    (row,) = (row for row in told["rows"] if row["recipe"] == winner[1])
    (reading,) = (
        each for entry in row["entries"] for each in entry["readings"]
        if each["steps"] == int(winner[2])
    )  # fmt: skip
    assert point["accuracy"] == reading["accuracy"]
    assert point["steps"] == reading["latency"]
    assert sr.Comparison.from_json(
        {key: told[key] for key in ("images", "steps", "ann", "rows", "hardware", "convert")}
    ).command == told["convert"]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_table_of_a_comparison_is_wider_than_the_terminal(found, width):
    names = ["snn-calibration-advanced", *"abc"]
    rows = tuple(replace(row, recipe=name) for row, name in zip(found.rows, names, strict=True))
    tables = [each for each in comparison.blocks(replace(found, rows=rows)) if _tabled(each)]
    lines = text(tables, width).splitlines()
    assert max(map(len, lines)) <= width
    assert ("No room here for:" in " ".join(lines)) == (width < 80)
    assert "…" not in "".join(lines)


def _tabled(block):
    return isinstance(block, Table) or hasattr(block, "choices")


def test_columns_of_the_highest_rank_are_left_out_first_and_named():
    columns = (Column("key"), Column("some", rank=1), Column("other", rank=2), Column("more"))
    table = Table(columns, (Cells(("1" * 9, "2" * 9, "3" * 9, "4" * 9), bars={3: 0.5}),))
    assert sum(widths(table)) == 36
    for width, left in ((60, ()), (45, ("other",)), (30, ("other", "some"))):
        shown = " ".join(text([table], width).split())
        assert all(f"No room here for: {', '.join(left[::-1])}" in shown for _ in left[:1])
        for name in ("key", "more"):
            assert name in shown


def test_a_comparison_of_an_older_file_has_latencies_where_they_are_certain():
    old = place(0.9, 5.0, None)
    assert old.latency == 2 + 4  # 2 pre-steps
    assert ranking.line(old) == ""  # how it was made is not known
    waiting = replace(old.entry, facts=replace(FACTS, waits=True))
    assert ranking.latency(Place(old.row, waiting, old.reading)) == "-"
