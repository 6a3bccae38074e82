"""The page of a spiking network: its numbers are those of the record, and names do nothing."""

import json
import re
from dataclasses import replace

import pytest
from findings_example import example, renamed, written
from test_block import PNG
from test_html import HOSTILE, Tags
from test_shown_records import COMPARED

from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.compare import Entry, Row
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.evaluation.findings import Findings
from spiking_resnet.report.accuracy import over_time
from spiking_resnet.report.block import Chart
from spiking_resnet.report.comparison import chart, leaders
from spiking_resnet.report.findings import costs, lead, page, verdict
from spiking_resnet.report.html import legend
from spiking_resnet.report.layers import blocks as layer_blocks
from spiking_resnet.report.provenance import made
from spiking_resnet.report.rows import LONG, long

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def found():
    return example()


def titles(found):
    return [each.title for each in page(found, "net", "data", [], lambda _: PNG, {}).sections]


def test_findings_are_json_and_back(found):
    content = json.loads(json.dumps(found.to_json()))
    assert Findings.from_json(content).to_json() == found.to_json()


def test_the_page_holds_the_numbers_of_the_record(found):
    shown = written(found)
    numbers = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', shown)
    assert json.loads(numbers[1]) == json.loads(json.dumps(found.to_json()))
    for point in found.curve.points:
        assert f"{100 * point.accuracy:.2f} %" in shown
    assert f"{100 * found.curve.ann_accuracy:.2f} %" in shown
    for layer in found.layers:
        assert f">{layer.name}<" in shown


def test_the_verdict_is_that_of_the_last_step(found):
    point = found.curve.points[-1]
    accuracy, loss, agreement, operations = verdict(found)
    assert (accuracy.label, accuracy.value) == (
        "Accuracy at T = 8",
        f"{100 * point.accuracy:.0f} %",  # of so few images
    )
    assert loss.value == f"{100 * (found.curve.ann_accuracy - point.accuracy):z.0f} points"
    assert agreement.value == f"{100 * point.agreement:.0f} %"
    assert "multiply-adds" in operations.detail
    assert f"{100 * point.accuracy:.0f} %" in lead(found)


def test_few_images_have_shares_without_decimals(found):
    """Of 8 images, one is 12.5 points: the verdict and the ANN's line tell whole percents."""
    accuracy, loss, agreement, _ = verdict(found)
    (level,) = over_time(found.curve)[0].levels
    numbers = (accuracy, loss, agreement)
    told = [text for each in numbers for text in (each.value, each.detail.replace("95 %", ""))]
    told.append(level.label)
    assert all(told)
    assert not [each for each in told if re.search(r"\d\.\d", each)]


def test_agreement_is_drawn_only_where_decisions_are_lost(found):
    drawn = "Agreement that is left"
    lost, *others = found.diagnosis.layers
    kept = replace(found.diagnosis, layers=tuple(replace(each, agreement=1.0)
                                                 for each in (lost, *others)))  # fmt: skip
    assert drawn not in written(replace(found, diagnosis=kept))
    some = replace(kept, layers=(replace(lost, agreement=0.5), *kept.layers[1:]))
    assert drawn in written(replace(found, diagnosis=some))


def test_full_agreement_is_told_without_decimals(found):
    last = replace(found.curve.points[-1], agreement=1.0)
    curve = replace(found.curve, points=(*found.curve.points[:-1], last), images=500)
    assert lead(replace(found, curve=curve)).endswith("makes the same decision on 100 %.")


def test_a_section_answers_each_question(found):
    assert titles(found) == [
        "Accuracy over time", "Cost", "Energy", "Methods", "Layer by layer", "Lost decisions",
        "Spikes", "Decisions over time", "Make it again",
    ]  # fmt: skip


def test_what_is_not_known_is_said_or_left_out(found):
    bare = replace(
        found, diagnosis=None, undiagnosed="no rates", observation=None, comparison=None,
        energy=None,
    )  # fmt: skip
    assert titles(bare) == [
        "Accuracy over time", "Cost", "Layer by layer", "Lost decisions", "Make it again",
    ]  # fmt: skip
    assert "Not diagnosed: no rates" in written(bare)
    alone = replace(
        bare, curve=replace(found.curve, ann_accuracy=None, ann_interval=None), ann_macs=None
    )
    assert "is not in its file" in written(alone)


def test_names_do_nothing_in_the_page(found):
    hostile = renamed(found, HOSTILE)
    shown = written(hostile, HOSTILE, [(HOSTILE, HOSTILE), ("report command", HOSTILE)])
    tags = Tags(shown).tags
    harmless = Tags(written(found, "net", [("fact", "one"), ("report command", "two")])).tags
    assert {tag for tag, _ in tags} == {tag for tag, _ in harmless}
    assert [tag for tag, _ in tags].count("script") == [tag for tag, _ in harmless].count("script")
    assert {name for _, given in tags for name in given} == {
        name for _, given in harmless for name in given
    }
    assert not set("\u2028\u2029\u202e") & set(shown)


def test_csv_has_the_same_numbers(found):
    rows = [dict(zip(LONG, row, strict=True)) for row in long(found)]
    value = {
        (row["part"], row["name"], row["steps"], row["quantity"]): row["value"] for row in rows
    }
    assert len(value) == len(rows)
    for point, spent in zip(found.curve.points, found.operations, strict=True):
        assert value["curve", "SNN", point.steps, "accuracy"] == point.accuracy
        assert value["curve", "SNN", point.steps, "operations"] == spent
    for model, joules in found.energy.joules.items():
        assert value["energy", f"{model} over time", 8, "joules"] == joules[-1]
        assert value["energy", f"{model} SNN", None, "joules"] == joules[-1]
    for layer in found.diagnosis.layers:
        assert value["diagnosis", layer.name, None, "rms"] == layer.rms
    for sample in found.observation.samples:
        assert value["samples", f"image {sample.image}", None, "settled"] == sample.settled


def test_every_cost_model_is_a_view_with_its_numbers(found):
    (choice,) = costs(found)
    account = found.energy.account
    assert [name for name, _ in choice.views] == [
        "Synaptic operations", *(priced.title for priced in account.priced)
    ]  # fmt: skip
    for priced, (_, view) in zip(account.priced, choice.views[1:], strict=True):
        curve, parts = (block for block in view if isinstance(block, Chart))
        assert curve.series[0].at[-1] == priced.joules
        assert sum(each.values[0] for each in parts.series) == pytest.approx(priced.joules)
        assert len(parts.series) <= 7
        for series in parts.series:
            assert all(start >= 0 for start in series.starts)


def test_all_that_made_it_is_told():
    told = dict(made({"command": "a", "seed": 0, "limit": None}, "a machine", {"command": "b"}))
    assert told == {
        "report command": "a", "conversion command": "b", "seed": "0", "hardware": "a machine",
    }  # fmt: skip


def comparison_of(accuracies):
    """A comparison of recipes whose accuracies at T = 4 and 8 are given, by name."""
    facts = Facts(1, False, False, 0, 10, False)

    def reading(steps, accuracy):
        ends = (accuracy, accuracy)
        return Reading(
            steps, accuracy, ends, 0.0, 0.0, 0.0, accuracy, 0, 0, 1e6, 1e3, 0.1, "cpu", True
        )

    rows = tuple(
        Row(
            name,
            "",
            False,
            (Entry({}, facts, 1.0, 1, tuple(map(reading, (4, 8), found))),),
        )
        for name, found in accuracies.items()
    )
    return replace(COMPARED, steps=(4, 8), rows=rows)


def test_of_many_methods_those_that_no_other_beats_are_in_colour():
    accuracies = {"hu2021": (0.1, 0.2)} | {f"m{i}": (i / 20, 1 - i / 20) for i in range(1, 12)}
    found = comparison_of(accuracies)
    tones = leaders(found)
    assert set(tones) == {"m11", "m1"}  # the best at 4, and at 8
    assert sorted(tones.values()) == [0, 1]
    drawn = chart(found)
    named, others = drawn.named_series
    assert {each.label for _, each in named} == set(tones)
    assert len(others) == 10
    assert "10 others" in legend(drawn)
    few = comparison_of({name: accuracies[name] for name in ("hu2021", "m1", "m2")})
    assert chart(few).named_series[1] == []


def test_errors_that_nobody_measured_have_no_column(found):
    (whole,) = layer_blocks(found)
    bare = replace(found, layers=tuple(replace(each, error=None) for each in found.layers))
    (table,) = layer_blocks(bare)
    assert [column.name for column in whole.columns if column.name != "error"] == [
        column.name for column in table.columns
    ]
    assert "error" in [column.name for column in whole.columns]
