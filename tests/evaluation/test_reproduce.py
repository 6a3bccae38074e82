import json
import sys

import pytest

import spiking_resnet
from spiking_resnet.evaluation import reproduce
from spiking_resnet.files import slug
from spiking_resnet.records import Curve, InputError, Point
from spiking_resnet.report import markdown, studies


def result(label, accuracy=0.5):
    point = Point(8, accuracy, (0.4, 0.6), 0.75, 12.0, 0.1, {"a": 0.1})
    curve = Curve(4, (point,), 0.9, (0.8, 0.95), "cpu", 1.5, True)
    return {
        "network": "resnet20",
        "label": label,
        "options": {},
        "images": 4,
        "curve": curve.to_json(),
    }


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no study 'nothing'.*shortcuts"):
        next(reproduce.run("nothing", tmp_path, tmp_path))
    with pytest.raises(InputError, match=r"no network 'vgg'.*resnet20"):
        next(reproduce.run("grid", tmp_path, tmp_path, ["vgg"]))


def test_a_case_that_is_there_is_not_run_again(tmp_path):
    """There is no data at all: only results that are in the folder can come back."""
    for number, case in enumerate(reproduce.STUDIES["grid"]):
        path = tmp_path / f"grid_resnet20_4_{slug(case.label)}.json"
        path.write_text(json.dumps(result(case.label, number / 10)))
    told = []
    found = list(reproduce.run("grid", tmp_path, tmp_path, ["resnet20"], 4, tell=told.append))
    assert [r["label"] for r in found] == [case.label for case in reproduce.STUDIES["grid"]]
    assert [r["curve"]["snn"][0]["accuracy"] for r in found] == [n / 10 for n in range(len(found))]
    assert told == []


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["auto", "interpreter"])
def test_a_case_goes_on_with_what_it_counted(tmp_path, monkeypatch, engine):
    monkeypatch.setitem(
        reproduce.STUDIES, "short", (reproduce.Case("one", {"sum_bits": 16}, (2, 4)),)
    )

    class Stopped(BaseException):
        pass

    def case(folder, engine, tell=lambda text: None):
        return list(reproduce.run("short", ".", folder, ["digits_resnet8"], 120, tell, engine))

    (whole,) = case(tmp_path / "whole", engine)
    seen = []

    def counting(graph, images, *rest):
        seen.append(len(images))
        if seen == [50, 50, 20]:
            raise Stopped
        return simulate(graph, images, *rest)

    simulate = spiking_resnet.simulate
    monkeypatch.setattr(sys.modules["spiking_resnet.evaluation.evaluate"], "simulate", counting)
    with pytest.raises(Stopped):
        case(tmp_path / "killed", "auto")
    (again,) = case(tmp_path / "killed", engine)
    assert seen[3:] == ([20] if engine == "auto" else [50, 50, 20])
    assert again["curve"]["snn"] == whole["curve"]["snn"]
    assert [path.suffix for path in (tmp_path / "killed").iterdir()] == [".json"]


def test_a_damaged_result_is_named(tmp_path):
    label = slug(reproduce.STUDIES["grid"][0].label)
    (tmp_path / f"grid_resnet20_4_{label}.json").write_text("{")
    with pytest.raises(InputError, match=r"grid_resnet20.*is damaged.*delete it"):
        next(reproduce.run("grid", tmp_path, tmp_path, ["resnet20"], 4))


def test_labels_make_different_files():
    for cases in reproduce.STUDIES.values():
        assert len({slug(case.label) for case in cases}) == len(cases)


def test_the_table_has_a_row_for_every_case():
    lines = markdown.text(studies.blocks([result("one"), result("two", 0.25)])).splitlines()
    assert lines[0] == "| network | case | images | ANN | T = 8 |"
    assert lines[2:] == [
        "| resnet20 | one | 4 | 90.00 | 50.00 (75.0) |",
        "| resnet20 | two | 4 | 90.00 | 25.00 (75.0) |",
    ]


def test_the_figure_leaves_out_searched_compensation():
    results = [result(case.label) for case in reproduce.STUDIES["shortcuts"]]
    drawn = reproduce.curves("shortcuts", results)
    assert list(drawn) == [
        *("converted, v0 = θ/2", "converted, v0 = 0"),
        *("unconverted, v0 = θ/2", "unconverted, v0 = 0"),
    ]
    assert all(curve.points[0].accuracy == 0.5 for curve in drawn.values())


@pytest.mark.sweep
def test_the_networks_of_the_package_are_studied_with_their_own_normalisation(tmp_path):
    assert reproduce.usual_networks("grid") == ("resnet20", "resnet56")
    assert "digits_resnet8" in reproduce.usual_networks("depths")
    (found,) = reproduce.run(
        "depths", tmp_path, tmp_path, ["digits_resnet8"], 50, lambda text: None
    )
    assert (found["network"], found["images"]) == ("digits_resnet8", 50)
    last = found["curve"]["snn"][-1]
    assert last["steps"] == 350
    assert last["accuracy"] >= 0.96
    assert last["agreement"] >= 0.96
