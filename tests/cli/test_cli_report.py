import csv
import json

import pytest
from test_cli import convert_digits, ok, refused, run

import spiking_resnet as sr
from spiking_resnet.cli.report import _table
from spiking_resnet.report.rows import LONG


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("snn") / "snn.safetensors"
    convert_digits(path)
    return path


QUICK = ("--limit", 20, "--steps", "4,8", "--samples", 2, "--diagnosis", 20)


def test_a_report_is_one_page_and_its_numbers_as_json_and_csv(snn, tmp_path):
    compared = tmp_path / "compare.json"
    ok("compare", "digits_resnet8", "--methods", "hu2021", "--steps", "4,8", "--limit", 20,
       "--calibration-images", 20, "--json", compared)  # fmt: skip
    out, numbers, table = (tmp_path / f"report.{form}" for form in ("html", "json", "csv"))
    text = ok(
        "report", snn, *QUICK, "--comparison", compared, "--out", out, "--json", numbers, "--csv",
        table, "--rasters", "output.fire", "--models", "horowitz-fp32,loihi1",
    )  # fmt: skip
    assert all(f"wrote {path}" in text for path in (out, numbers, table))
    told, page = json.loads(numbers.read_text()), out.read_text()
    assert page.startswith("<!doctype html>")
    assert len(page) < 2_000_000
    assert told["dataset"] == "digits"
    assert len(told["file"]["sha256"]) == 64
    assert told["command"].startswith("spiking-resnet report ")
    assert [raster["population"] for raster in told["observation"]["rasters"]] == ["output.fire"]
    assert list(told["energy"]["joules"]) == ["horowitz-fp32", "loihi1"]
    assert told["comparison"]["rows"][0]["recipe"] == "hu2021"
    assert told["comparison_file"]["file"] == "compare.json"
    inside = page.split('id="numbers">')[1].split("</script>")[0]
    assert json.loads(inside) == told
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == LONG
    found = {float(row["value"]) for row in rows if row["quantity"] == "accuracy"}
    assert {point["accuracy"] for point in told["curve"]["snn"]} <= found


def test_what_cannot_be_diagnosed_is_said(tmp_path, monkeypatch):
    def refused(*_):
        raise sr.InputError("max pools of differential steps")

    monkeypatch.setattr(sr, "diagnose", refused)
    path, out, numbers = (tmp_path / name for name in ("snn.safetensors", "r.html", "r.json"))
    convert_digits(path, "--method", "differential", "--steps", 4)
    text = ok(
        "report",
        path,
        "--limit",
        10,
        "--samples",
        0,
        "--energy",
        0,
        "--out",
        out,
        "--json",
        numbers,
    )
    assert "warning: where decisions are lost cannot be said" in text
    told = json.loads(numbers.read_text())
    assert told["diagnosis"] is None
    assert "max pools" in told["undiagnosed"]
    assert told["observation"]["samples"] == []


def test_what_a_report_cannot_use_is_refused(snn, tmp_path):
    out = tmp_path / "report.html"
    other = tmp_path / "other.json"
    other.write_text('{"images": 3}')
    assert "compare --json" in refused("report", snn, *QUICK, "--comparison", other, "--out", out)
    other.write_text("[]")
    assert "compare --json" in refused("report", snn, *QUICK, "--comparison", other, "--out", out)
    said = refused("report", snn, *QUICK, "--rasters", "nothing", "--out", out)
    assert "'nothing'" in said
    assert "time steps" not in said  # before anything is measured
    assert "name two files" in refused("report", snn, *QUICK, "--json", out, "--out", out)
    assert "ends in .html" in refused("report", snn, *QUICK, "--out", tmp_path / "report.md")
    assert run("report", snn, "--samples", -1).exit_code == 2
    assert not out.exists()


def test_names_in_a_csv_are_neither_formulas_nor_escape_sequences():
    row = ("layers", '=1+1,"q"', 4, "rate\x1b[31m", -0.5)
    read = list(csv.reader(_table([row]).decode().splitlines()))
    assert read == [list(LONG), ["layers", '\'=1+1,"q"', "4", "rate\\x1b[31m", "-0.5"]]
