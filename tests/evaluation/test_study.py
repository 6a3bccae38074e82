"""The study of the paper: chapters of comparisons on many networks, resumed and reported."""

import json

import pytest
import torch
from torch import nn

from short_study import shorten
from spiking_resnet import ann, trace
from spiking_resnet.conversion.methods import calibrated, hu2021
from spiking_resnet.conversion.presets import RECIPES, fitting
from spiking_resnet.evaluation import study
from spiking_resnet.graph.structure import layers_deep
from spiking_resnet.records import InputError
from spiking_resnet.report import markdown
from spiking_resnet.report import study as report
from teams import in_team, plain


def studied(name="digits_resnet8", images=12):
    """A shipped network with some of the digits."""
    found = ann.pretrained(name)
    training, test = (
        ann.load_dataset("digits", split).subset(count)
        for split, count in (("train", 60), ("test", images))
    )
    loaders = training.loader(50), test.loader(50)
    return study.Studied(name, "mnist", found.model, *loaders, 60, images, 10)


@pytest.fixture
def short(monkeypatch):
    shorten(monkeypatch)


def test_a_study_is_resumed_from_its_files(short, tmp_path, monkeypatch):
    names = ("paper", "few")
    found = list(study.run([studied()], tmp_path, names))
    assert [each.chapter for each in found] == ["paper", "few"]
    assert all(path.suffix == ".json" for path in tmp_path.iterdir())
    monkeypatch.setattr(study, "compared", None)  # nothing is made again
    again = list(study.run([studied()], tmp_path, names))
    assert [each.to_json() for each in again] == [each.to_json() for each in found]


@pytest.mark.slow
def test_a_team_studies_as_one_process_does(short, tmp_path, monkeypatch):
    prepared = study.Studied.subject.func
    # Python 3.11 makes cached properties under one lock; processes have one each, threads not
    monkeypatch.setattr(study.Studied, "subject", property(prepared))
    whole = next(study.run([studied()], tmp_path / "whole", ("few",)))
    for found in in_team(
        2, lambda rank: list(study.run([studied()], tmp_path / "team", ("few", "few")))
    ):
        assert [plain(each) for each in found] == [plain(whole)] * 2
    assert len(list((tmp_path / "team").iterdir())) == 1


def test_a_stopped_chapter_goes_on(short, tmp_path, monkeypatch):
    whole = next(study.run([studied()], tmp_path / "whole", ("paper",)))

    class Stopped(BaseException):
        pass

    made = []

    def stopping(what, done, total):
        made.append(what)
        if "hu2021-channel: simulating" in what:
            raise Stopped

    with pytest.raises(Stopped):
        next(study.run([studied()], tmp_path / "parts", ("paper",), progress=stopping))
    (kept,) = (tmp_path / "parts").iterdir()
    assert kept.suffix == ".progress"
    told = []
    again = next(
        study.run(
            [studied()], tmp_path / "parts", ("paper",), progress=lambda *a: told.append(a[0])
        )
    )
    assert not [what for what in told if ": hu2021: converting" in what]
    assert readings(again) == readings(whole)
    assert [path.suffix for path in (tmp_path / "parts").iterdir()] == [".json"]


def readings(finding):
    """What does not depend on the clock."""
    return [
        (row.recipe, each.steps, each.accuracy, each.agreement, each.operations)
        for row in finding.comparison.rows
        for each in row.readings.values()
    ]


def test_other_images_have_files_of_their_own(short, tmp_path):
    for images in (8, 12):
        next(study.run([studied(images=images)], tmp_path, ("few",)))
    assert len(list(tmp_path.iterdir())) == 2


def test_damaged_results_and_unknown_chapters_are_named(tmp_path, short):
    with pytest.raises(InputError, match=r"no chapter or method 'last'.*paper, few"):
        next(study.run([studied()], tmp_path, ("last",)))
    next(study.run([studied()], tmp_path, ("few",)))
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps({"network": 1}))
    with pytest.raises(InputError, match=r"is damaged.*delete it"):
        next(study.run([studied()], tmp_path, ("few",)))


def test_the_tables_and_charts_hold_what_was_found(short, tmp_path):
    found = list(study.run([studied()], tmp_path, ("paper", "few")))
    text = markdown.text(report.document(found, "spiking-resnet reproduce study"))
    (last,) = (row.readings[350] for row in found[0].comparison.rows if row.recipe == "hu2021")
    assert f"{last.loss:.2f} ± {last.loss_error:.2f}" in text
    assert (
        f"| mnist | digits_resnet8 | 8 | 12 | {100 * found[0].comparison.ann_accuracy:.2f} |"
        in (text)
    )
    assert f"{100 * last.accuracy:.2f} ({100 * last.agreement:.2f})" in text
    assert set(report.charts(found)) == {"mnist_digits_resnet8_paper", "mnist_digits_resnet8_few"}
    deeper = study.Finding(**{**vars(found[0]), "network": "other", "layers": 20})
    depths = report.charts([*found, deeper])["mnist_depths"]
    assert depths.series[0].at == (8, 20)
    assert depths.series[0].values == (last.loss, last.loss)


@pytest.mark.parametrize("classes", [10, 1000])
def test_every_chapter_is_of_different_recipes_of_one_percentile(classes):
    found = study.chapters(classes)
    assert tuple(found) == study.CHAPTERS
    for chapter in found.values():
        assert len({recipe.name for recipe in chapter.recipes}) == len(chapter.recipes)
    usual = 99.99 if classes == 1000 else 99.9
    assert found["paper"].recipes[0].make(350) == hu2021(percentile=usual, steps=350)
    for recipe in found["binary"].recipes:
        assert recipe.make(32).percentile == usual


def test_a_percentile_of_a_recipe_stays_for_imagenet():
    burst, plain = (fitting(RECIPES[name], 1000).make(32) for name in ("burst", "calibrated"))
    assert burst.percentile == 95
    assert plain == calibrated(percentile=99.99, steps=32)
    assert fitting(RECIPES["calibrated"], 10).make(32).percentile == 99.9


class Projected(nn.Module):
    """A block whose shortcut is a convolution."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.shortcut, self.end = nn.Conv2d(3, 4, 1, 2), nn.Linear(4, 2)

    def forward(self, x):
        y = torch.relu(self.two(torch.relu(self.one(x))) + self.shortcut(x))
        return self.end(y.mean((2, 3)))


def test_depth_is_the_longest_path_of_layers():
    assert layers_deep(trace(Projected(), (3, 8, 8))) == 3
    assert layers_deep(trace(ann.build("resnet20"), (3, 32, 32))) == 20


def test_a_method_is_a_chapter_of_its_own(short, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "FEW", (2, 4))
    (found,) = study.run([studied()], tmp_path, ("differential-4",))
    assert [row.recipe for row in found.comparison.rows] == ["differential-4"]
    assert found.comparison.steps == (2, 4)
    assert "sizes of spikes" in markdown.text(report.blocks([found]))
