import csv
import json
import sys

import numpy as np
import pytest
from test_cli import convert_digits, ok, refused, run

import spiking_resnet as sr
from spiking_resnet import ann
from spiking_resnet.decided import Decisions, PerClass
from spiking_resnet.graph import interpret


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("snn") / "snn.safetensors"
    convert_digits(path)
    return path


def expected(snn):
    """(indices, labels, ANN's decisions, SNN's decisions at T = 2 and 4) of 30 chosen images."""
    graph, data = sr.load(snn), ann.load_dataset("digits", "test")
    (images, labels), *_ = data.subset(30, 0).loader(30)
    ran = sr.simulate(graph, images, 4, (2, 4))
    own = interpret.logits(graph.ann, images).argmax(1)
    indices = data.chosen(30, 0)
    assert data.labels[indices].tolist() == labels.tolist()
    return [each.tolist() for each in (indices, labels, own, *ran.logits.argmax(2))]


def test_decisions_are_written_image_by_image_with_the_data_sets_indices(tmp_path, snn):
    index, labels, own, early, late = expected(snn)
    test = ("evaluate", snn, "--limit", 30, "--steps", "2,4", "--batch-size", 7)
    ok(*test, "--save-decisions", tmp_path / "d.csv")
    rows = list(csv.DictReader((tmp_path / "d.csv").open()))
    for name, column in (("image", index), ("label", labels), ("ann", own), ("snn_2", early),
                         ("snn_4", late)):  # fmt: skip
        assert [int(row[name]) for row in rows] == column
    assert all(float(row["margin_4"]) >= 0 for row in rows)
    text = ok(*test, "--save-decisions", tmp_path / "d.npz", "--json", tmp_path / "r.json")
    found = np.load(tmp_path / "d.npz")
    assert (found["image"].tolist(), found["steps"].tolist()) == (index, [2, 4])
    assert found["snn"].tolist() == [early, late]
    assert json.loads((tmp_path / "r.json").read_text())["decisions"] is None
    flips = sum(a != b for a, b in zip(own, early, strict=True))
    assert f"{flips} at T = 2" in " ".join(text.split())


def test_what_an_interrupted_evaluation_decided_is_kept(tmp_path, monkeypatch, snn):
    whole, calls = sr.simulate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(sys.modules["spiking_resnet.evaluation.evaluate"], "simulate", interrupted)
    test = ("evaluate", snn, "--limit", 30, "--steps", "2,4", "--batch-size", 8, "--resume",
            tmp_path / "p.json", "--save-decisions", tmp_path / "d.json")  # fmt: skip
    assert run(*test).exit_code != 0
    ok(*test)
    index, labels, own, early, late = map(tuple, expected(snn))
    found = Decisions.from_json(json.loads((tmp_path / "d.json").read_text()))
    assert (found.images, found.labels, found.ann, found.snn) == (index, labels, own, (early, late))


def test_classes_and_their_confusions_are_shown_and_drawn(tmp_path, snn):
    results, figure = tmp_path / "r.json", tmp_path / "c.svg"
    test = ("evaluate", snn, "--limit", 30, "--steps", "2,4", "--json", results)
    text = " ".join(ok(*test, "--confusion", figure).split())
    for words in ("By class, T = 4", "Accuracy of the classes, %", "more often than by the ANN"):
        assert words in text
    found = json.loads(results.read_text())
    classes = PerClass.from_json(found["per_class"])
    assert sum(classes.right(4)) == round(found["snn"][1]["accuracy"] * 30)
    assert "SNN, T = 4" in figure.read_text()
    ok(*test)
    assert json.loads(results.read_text())["per_class"] is None


def test_files_of_other_kinds_are_refused_before_the_work(tmp_path, snn):
    assert "one of .csv, .npz, .json" in refused(
        "evaluate", snn, "--save-decisions", tmp_path / "d.txt"
    )
    assert ".png" in refused("evaluate", snn, "--confusion", tmp_path / "c.txt")
    same = tmp_path / "x.json"
    text = refused("evaluate", snn, "--save-decisions", same, "--json", same)
    assert "--json and --save-decisions are both" in text
