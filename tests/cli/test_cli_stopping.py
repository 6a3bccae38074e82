import json

import pytest
from test_cli import convert_digits, ok, refused

import spiking_resnet as sr
from spiking_resnet import ann
from spiking_resnet.records import curve_from_json


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("snn") / "snn.safetensors"
    convert_digits(path)
    return path


def test_images_stop_by_rules_of_other_training_images(tmp_path, snn):
    results, figure = tmp_path / "r.json", tmp_path / "f.svg"
    text = ok(
        "evaluate", snn, "--limit", 40, "--steps", "4,8", "--confidence", "1,0.9",
        "--stop-images", 50, "--json", results, "--plot", figure,
    )  # fmt: skip
    assert "Rules found on 50 other images (train of digits)" in " ".join(text.split())
    found = json.loads(results.read_text())
    fields = set(sr.Curve.__dataclass_fields__) | {"ann", "snn"}
    curve = curve_from_json({name: value for name, value in found.items() if name in fields})
    training = ann.load_dataset("digits", "train").parted(60, 50, 0)[1]
    expected = sr.calibrate_stop(sr.load(snn), training.loader(64), 8, (0.9, 1.0))
    for stopped, rule in zip(curve.stopped, expected, strict=True):
        assert stopped.rule.thresholds == rule.thresholds
        assert stopped.rule.confidence == rule.confidence
        assert stopped.rule.notes["after"] == 60
        assert sum(stopped.ended) == 40
        assert stopped.full == curve.points[-1]
    assert "stopping early" in figure.read_text()


def test_an_evaluation_that_stops_early_goes_on(tmp_path, snn):
    common = ("evaluate", snn, "--limit", 20, "--steps", 4, "--stop-images", 20, "--resume",
              tmp_path / "progress.json")  # fmt: skip
    ok(*common, "--confidence", 0.9)
    ok(*common, "--confidence", 0.9)
    assert "not the same stop" in refused(*common, "--confidence", 0.8)


def test_rules_come_from_where_the_user_says(tmp_path, snn):
    common = ("evaluate", snn, "--limit", 10, "--steps", 4, "--confidence", 0.9, "--json",
              tmp_path / "r.json")  # fmt: skip
    ok(*common, "--stop-images", 2000)  # more than there are: all
    found = json.loads((tmp_path / "r.json").read_text())["stopped"][0]["rule"]
    assert found["images"] == found["notes"]["images"] == 1240
    ok(*common, "--stop-dataset", "digits", "--stop-images", 10, "--stop-every", 2)
    found = json.loads((tmp_path / "r.json").read_text())["stopped"][0]["rule"]
    assert "after" not in found["notes"]
    assert found["steps"] == [2, 4]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--confidence", "high"), "like 0.95,0.99"),
        (("--confidence", "99"), "at most 1"),
        (("--confidence", 0.9, "--stop-images", 0), "--stop-images is 0"),
        (("--confidence", 0.9, "--stop-every", 0), "--stop-every is 0"),
        (("--confidence", 0.9, "--split", "train"), "--stop-dataset"),
        (("--confidence", 0.9, "--stop-dataset", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_stop_is_refused(snn, arguments, told):
    assert told in " ".join(refused("evaluate", snn, "--steps", 4, *arguments).split())
