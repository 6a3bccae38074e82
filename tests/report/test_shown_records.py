import json
import sys
from dataclasses import replace
from html import escape
from types import SimpleNamespace

import pytest
import torch
from test_curve import CURVE
from test_diagnosis import FOUND

from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.costs.energy import Account, Priced, Twin
from spiking_resnet.costs.sizes import Size
from spiking_resnet.costs.work import Work
from spiking_resnet.decided import Decisions, per_class
from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.compare import Comparison, Entry
from spiking_resnet.evaluation.compare import Row as Compared
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.evaluation.inspect import Inspection, NodeFacts
from spiking_resnet.evaluation.summary import LayerSummary, Summary
from spiking_resnet.evaluation.trials import Trial, Tuning
from spiking_resnet.export.nir.verification import Reading as Reader
from spiking_resnet.export.nir.verification import Verification
from spiking_resnet.records import InputError, LayerCount, Point, Run, Stop, Stopped
from spiking_resnet.report import classes, comparison, figure, flips, markdown, terminal
from spiking_resnet.report.curve import chart
from spiking_resnet.report.numbers import told, told_ends
from spiking_resnet.report.records import BLOCKS, blocks
from spiking_resnet.report.rows import ROWS
from spiking_resnet.report.rows import rows as rows_of

pytestmark = pytest.mark.whole

FACTS = Facts(
    levels=2, signed=True, waits=False, pre_steps=0, calibration_images=8, trained=False
)  # fmt: skip


def reading(steps):
    return Reading(
        steps=steps, accuracy=0.875, interval=(0.8, 0.95), standard_error=0.01, loss=2.5,
        loss_error=0.25, agreement=0.9, lost=30, gained=5, operations=3e6, spikes_per_image=1.0,
        firing_rate=0.125, engine="cpu", exact=True,
    )  # fmt: skip


ENTRY = Entry({"method": "hu2021"}, FACTS, 1.5, 1000, (reading(2), reading(4)))
COMPARED = Comparison(
    1000, (2, 4), 0.9, (0.85, 0.95), 4_000_000,
    (Compared("plain", "the plain one", False, (ENTRY,)),
     Compared("odd", "an odd one", True, (), "it ran away")),
)  # fmt: skip
TRIAL = Trial("plain", 4, hu2021(), FACTS, reading(4), "uncertain", (0.5, 4.0))
TUNED = Tuning(3.0, "steps", 1000, 0.9, (TRIAL,), {"odd": "it ran away"})
INSPECTED = Inspection((NodeFacts("stem", "ReLU", ("image",), (1, 2, 2), Size(0, 4, 0, 0)),))
STOPPED = Stopped(
    Stop(0.99, (2, 4), (0.5,), images=8, notes={"dataset": "digits", "split": "train"}), 1000,
    (750, 250), 0.875, (0.85, 0.9), 0.9, 0.96, 20, 10, 3e5, 2e6, {"stem": 3e5},
    Point(4, 0.885, (0.86, 0.91), 0.95, 4e5, 0.125, {"stem": 0.125}), 4e6,
)  # fmt: skip
RAN = Run(
    (2, 4), torch.zeros(2, 3, 10),
    {"stem": LayerCount(8, torch.tensor([[1, 2, 3], [4, 8, 12]]))}, "cpu", 0.25,
)  # fmt: skip
TWINS = (
    Twin("fp32", 32, 4e-6, {"macs": 4e-6}, 0.25, 2.0), Twin("int8", 8, None, {}, None, None),
    Twin("quantised", 3, 1e-7, {"macs": 1e-7}, 0.0, 0.0),
)  # fmt: skip
PRICED = Priced(
    "small_chip", "A small chip", 2e-6, 5e-7, 1.5e-6, 3e-6, 4e-6, {"accumulations": 2e-6},
    {"stem": 2e-6}, ("moved",), TWINS,
)  # fmt: skip
WORK = (Work("stem", "Conv2d", accumulations=1000.0, repeated=2000.0, moved=3.0, values=8),)
ACCOUNT = Account(100, 4, 0.125, 0.5, 2000, WORK, (PRICED,), False, {})
READERS = (
    Reader("executor", 0, same=20, right=18),
    Reader("norse", 412, "norse 1.1.0", step=3, layer="stem", why="resets to zero",
           explained=True, same=11, right=9),
    Reader("sinabs", None, problem="unknown field"),
    Reader("other", 5, step=2, layer="stem", explained=False, same=20, right=18),
)  # fmt: skip
VERIFIED = Verification(
    "snn.nir", "plain", 20, 64, 8, 5000, READERS, 18, ("neurons reset to zero",)
)
DECIDED = Decisions(
    (4, 8), 3, (3, 5, 8, 9, 12, 17), (0, 0, 0, 1, 1, 2), (0, 0, 1, 1, 2, 2),
    ((1, 0, 1, 2, 2, 1), (1, 0, 0, 1, 2, 0)), ((1.0,) * 6, (2.0,) * 6), (0.126,) * 6,
    ("ant", "bee", "cow"),
)  # fmt: skip
BY_CLASS = per_class(DECIDED)
SUMMARY = Summary(
    "hu2021", (LayerSummary("stem", ("Conv2d",), (4, 8, 8), Size(112, 256, 9, 6000), (0.5, 2.0),
               0.125),), 16, 100,
)  # fmt: skip
RECORDS = (
    ACCOUNT,
    CURVE,
    STOPPED,
    FOUND,
    COMPARED,
    TUNED,
    INSPECTED,
    RAN,
    VERIFIED,
    DECIDED,
    BY_CLASS,
    SUMMARY,
)
SEEN = {
    "Summary": (
        "stem",
        "4x8x8",
        "6,000",
        "0.5 .. 2",
        "12.50 %",
        "rates: spikes per neuron and step",
    ),
    "Account": ("small_chip", "25 %, never", "3-bit", "takes 20 times less", "spread evenly"),
    "Curve": ("80 %", "ANN", "n = 100"),
    "Stopped": ("0.99", "2.50", "87.50", "+1.00", "96.00", "50.00", "train of digits", "full"),
    "Diagnosis": ("stem", "block <", "points of agreement are lost", "--per-channel"),
    "Comparison": ("87.5", "±2", "2.5 ± 0.2", "3.00 M", "warning: odd failed: it ran away"),
    "Tuning": ("not certain", "left out: odd", "nothing is certain to lose at most 3 points"),
    "Run": ("read out at 2, 4", "stem", "8.00", "25.00 %"),
    "Decisions": ("4 (67 %) flip", "3 at T = 4", "ant", "bee at every T", "0.13", "cow", "SNN"),
    "PerClass": ("ant", "67", "21 - 94", "Accuracy of the classes", "T = 4", "bee", "+1"),
    "Verification": ("5,000 spikes", "exact", "412 differ", "resets to zero", "unknown field"),
    "Inspection": ("stem", "ReLU", "1x2x2", "It can be converted"),
}


def test_every_record_that_is_shown_is_tried():
    assert {type(record) for record in RECORDS} == set(BLOCKS) == set(ROWS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_print_as_a_terminal_shows_them(record):
    shown = str(record)
    assert shown == terminal.text(blocks(record))
    assert len(shown.splitlines()) > 3
    for text in SEEN[type(record).__name__]:
        assert text in shown


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_html_in_notebooks(record):
    shown = record._repr_html_()
    assert "<script" not in shown
    assert "<table>" in shown
    for text in SEEN[type(record).__name__]:
        assert escape(text.removeprefix("warning: ")) in shown


def test_charts_are_images_in_notebooks():
    drawn = [
        record._repr_html_().count("data:image/svg+xml") for record in (CURVE, FOUND, COMPARED)
    ]
    assert drawn == [1, 2, 2]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_tables_of_pandas(record, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    rows = record.to_pandas()
    assert rows
    assert all(
        value is None or isinstance(value, str | bool | int | float | tuple | list)
        for row in rows for value in row.values()
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        record.to_pandas()


def test_numbers_of_tables_are_not_rounded(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    assert [row["accuracy"] for row in CURVE.to_pandas()] == [0.5, 0.8, 0.91, 0.9]
    assert [row["rate"] for row in RAN.to_pandas()] == [2 / 16, 8 / 32]
    assert [row["lost"] for row in FOUND.to_pandas()] == [one.lost for one in FOUND.layers]


def test_records_are_dictionaries():
    assert CURVE.to_dict() == CURVE.to_json()
    found = RAN.to_dict()
    assert (found["images"], found["record"]) == (3, [2, 4])
    assert found["layers"]["stem"] == {
        "neurons": 8, "spikes_per_image": [2.0, 8.0], "rate": [0.125, 0.25],
    }  # fmt: skip
    json.dumps(found)


def test_what_is_not_shown_is_left_to_the_notebook():
    assert FACTS._repr_html_() is None
    with pytest.raises(InputError, match=r"Facts.*Comparison, Curve"):
        rows_of(FACTS)


def test_other_records_print_as_they_are_written():
    assert str(FACTS) == repr(FACTS)
    with pytest.raises(InputError, match=r"Facts.*Comparison, Curve"):
        blocks(FACTS)


def test_a_comparison_is_written_with_its_command_and_its_recipes():
    text = markdown.text(comparison.document(COMPARED, "a command"))
    assert text.startswith("`a command`\n\n**Ranking, each method at its best T")
    assert "**Accuracy, %**\n\n| recipe | T=2 | T=4 | levels |" in text
    assert "| plain | 87.5 | 87.5 | ±2 | no | 0 | 8 | once | 1.5 | no | 12.5 |" in text
    assert text.endswith("- `odd`: an odd one\n\n- odd failed: it ran away")


@pytest.mark.parametrize(("width", "seen"), [(120, "2.5 ± 0.2"), (30, "2.5")])
def test_narrow_terminals_get_fewer_columns_side_by_side(width, seen):
    shown = terminal.text(blocks(COMPARED), width)
    assert seen in shown
    assert ("Conditions" in shown) is (width == 30)


def test_images_that_stop_early_are_shown_beside_the_curve():
    idle = replace(
        STOPPED, rule=replace(STOPPED.rule, confidence=1.0, thresholds=(None,)), ended=(0, 1000)
    )
    both = replace(CURVE, stopped=(STOPPED, idle))
    lines = str(both).splitlines()
    assert [line.split()[0] for line in lines if "87.50 " in line] == ["0.99", "1"]
    assert "with P = 1 no image stops before T = 4" in str(both)
    assert str(CURVE).splitlines()[:4] == lines[:4]
    early = chart({"net": both}).series[1]
    assert (early.label, early.at) == ("net, stopping early", (2.5, 4.0))
    assert "| 2.5 |" in markdown.text((chart({"net": both}),))
    assert b"stopping early" in figure.render((chart({"net": both}),), "svg")


def test_flips_are_told_by_the_steps_from_which_they_are():
    assert [flips.course(DECIDED, place) for place in DECIDED.ever_flipped()] == [
        "bee at every T", "ant from T = 8 on", "cow at T = 4", "bee at T = 4, ant from T = 8 on",
    ]  # fmt: skip


def test_of_many_classes_the_worst_and_the_best_are_shown():
    many = 40
    labels = tuple(range(many)) * 3
    ann = tuple(range(many)) * 3
    snn = tuple((label + 1) % many if label < 12 else label for label in range(many)) * 3
    found = per_class(
        Decisions((4,), many, tuple(range(3 * many)), labels, ann, (snn,), ((1.0,) * 120,),
                  (1.0,) * 120)
    )  # fmt: skip
    assert classes.chosen(found) == (*range(10), *range(35, 40))
    shown = " ".join(str(found).split())
    assert "40 classes: the 10 that lose most and the 5 best are shown" in shown
    assert "36 images more in 12 confusions; 2 of these are not shown" in shown
    assert {len(chart.rows) for chart in classes.charts(found)} == {20}


def test_without_an_ann_classes_have_their_own_numbers():
    alone = per_class(replace(DECIDED, ann=None, ann_margins=None))
    assert "ANN" not in str(alone)
    assert "What is confused most often" in str(alone)
    assert len(classes.charts(alone)) == 1
    assert "without an ANN" in str(replace(DECIDED, ann=None, ann_margins=None))


def test_shares_have_the_digits_that_their_images_can_tell():
    assert [told(1 / 3, images) for images in (3, 300, 30_000)] == ["33", "33.3", "33.33"]
    assert (told(None, 3), told_ends(None, 3)) == ("-", "-")
    assert told_ends((0.25, 0.5), 40) == "25 - 50"


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_no_table_is_wider_than_the_terminal_or_has_cells_cut_off(record, width):
    shown = terminal.text(tuple(tables(blocks(record))), width)
    assert max(map(len, shown.splitlines())) <= width
    cells = "".join(shown.split()).replace("+0.50…+4.00", "").replace("+0.5…+4.0", "")
    assert "…" not in cells  # but for a tuning's bounds


def tables(found):
    """The tables among blocks."""
    for block in found:
        if hasattr(block, "views"):
            for _, view in block.views:
                yield from tables(view)
        elif hasattr(block, "choices") or hasattr(block, "columns"):
            yield block
