from dataclasses import replace

import pytest
from rich.console import Console

from spiking_resnet.evaluation.diagnosis import CONTRIBUTIONS, Diagnosis, LayerError, Part
from spiking_resnet.records import InputError
from spiking_resnet.report import terminal
from spiking_resnet.report.diagnosis import advice, charts, summary, table
from spiking_resnet.report.write import write


def layer(name, agreement, **lost):
    parts = {
        by: Part(mean=0.01, rms=0.1 + lost.get(by, 0.0), share=0.2, lost=lost.get(by, 0.0))
        for by in CONTRIBUTIONS
    }
    return LayerError(name, 100, 1.0, 0.05, 0.3, agreement, parts)


LAYERS = (
    layer("stem", 0.99, clipping=0.01),
    layer("block", 0.89, unevenness=0.12, clipping=-0.02),
    layer("output.fire", 0.85, unevenness=0.04),
)
FOUND = Diagnosis(200, 32, 0.85, 0.8, 0.9, LAYERS, "cpu", True, {"options": {"percentile": 99.9}})


def given(**options):
    return replace(FOUND, notes={"options": options})


def only(by):
    """A diagnosis in which one cause takes everything."""
    return replace(FOUND, layers=(layer("stem", 0.85, **{by: 0.15}),))


def printed(found, width=100):
    console = Console(width=width)
    with console.capture() as capture:
        terminal.show([table(found, "a title")], console)
    return capture.get()


def test_the_table_marks_what_costs_most():
    lines = printed(FOUND).splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.startswith((" s", " b", " o"))}
    assert rows.keys() >= {"stem", "block", "output.fire"}
    assert rows["block"][1] == "<"
    assert rows["block"][-3:] == ["89.0", "10.0", "-"]
    unhurt = replace(FOUND, layers=(layer("calm", 1.0),))
    assert "<" not in printed(unhurt)


def test_the_summary_adds_up():
    text = summary(FOUND)
    for expected in ("T = 32", "200 images", "15.0 points", "arrival of spikes 16.0", "-1.0"):
        assert expected in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (FOUND, "arrival of spikes (16.0 points, of which others give some back: 15.0 in all)"),
        (FOUND, "T = 64"),
        (FOUND, "--per-channel"),
        (replace(only("clipping"), notes=FOUND.notes), "--percentile 99.99"),
        (replace(only("clipping"), notes=given(percentile=100.0).notes), "--per-channel"),
        (replace(only("weights"), notes=given(shortcut_conversion=False).notes),
         "--shortcut-conversion"),
        (replace(only("weights"), notes=given(compensation=1.02).notes), "--compensation 1"),
        (replace(only("weights"), notes=given().notes), "--sum-bits 24"),
        (given(initial_potential=0.0), "--initial-potential 0.5"),
        (given(reset="zero"), "--reset subtract"),
        (replace(FOUND, agreement=0.985), "3 of 200 decisions differ, too few"),
    ],
)  # fmt: skip
def test_the_advice_names_place_cause_and_what_helps(found, expected):
    assert expected in advice(found)


def test_what_is_done_already_is_not_advised():
    assert "--per-channel" not in advice(given(per_channel=True))
    assert "--percentile" not in advice(given(percentile=100.0))


def test_the_figure_names_populations_and_causes(tmp_path):
    path = tmp_path / "where.svg"
    write(charts(FOUND, "a title"), path)
    text = path.read_text()
    for expected in ("stem", "block", "output.fire", *CONTRIBUTIONS, "a title", "agreement"):
        assert f"{expected}" in text
    assert [entry.name for entry in tmp_path.iterdir()] == ["where.svg"]
    with pytest.raises(InputError, match=r"where.txt"):
        write(charts(FOUND), tmp_path / "where.txt")


@pytest.mark.parametrize(("refitted", "told"), [(True, "more images"), (False, "a finer grid")])
def test_weights_that_were_refitted_on_purpose_want_no_finer_grid(refitted, told):
    options = {"weights": refitted, "steps": 32}
    found = replace(only("weights"), notes={"options": options}, remade=True)
    assert told in advice(found)
    assert ("finer grid" in advice(found)) is not refitted
