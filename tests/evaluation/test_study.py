"""The study of the paper: chapters of comparisons on many networks, resumed and reported."""

import json

import pytest
import torch
from torch import nn

from short_study import four_levels_fail, shorten
from spiking_resnet import ann, trace
from spiking_resnet.conversion.methods import calibrated, hu2021
from spiking_resnet.conversion.presets import RECIPES, fitting
from spiking_resnet.evaluation import chapters, study
from spiking_resnet.graph.structure import layers_deep
from spiking_resnet.records import InputError
from spiking_resnet.report import markdown, terminal
from spiking_resnet.report import study as report
from spiking_resnet.report.numbers import count
from teams import in_team, plain


def studied(name="digits_resnet8", images=12, called="digits_resnet8"):
    """A shipped network with some of the digits."""
    found = ann.pretrained(name)
    training, test = (
        ann.load_dataset("digits", split).subset(count)
        for split, count in (("train", 60), ("test", images))
    )
    loaders = training.loader(50), test.loader(50)
    traced = trace(found.model, (1, 8, 8))
    return study.Studied(called, "mnist", traced, *loaders, 60, images, {"images": images})


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


def test_unknown_chapters_and_engines_are_refused_before_any_work(tmp_path, short):
    with pytest.raises(InputError, match=r"no chapter or method 'last'.*paper, few"):
        next(study.run([studied()], tmp_path, ("last",)))
    with pytest.raises(InputError, match=r"no engine 'cpuu': use auto or one of cpu"):
        next(study.run([studied()], tmp_path, ("few",), "cpuu"))
    assert not list(tmp_path.iterdir())


def test_what_failed_is_tried_again(short, tmp_path, monkeypatch):
    with four_levels_fail(monkeypatch):
        found = next(study.run([studied()], tmp_path, ("few",)))
    assert found.failed == ["differential-4"]
    told = []
    again = next(
        study.run([studied()], tmp_path, ("few",), progress=lambda what, *_: told.append(what))
    )
    assert again.failed == []
    made = [what for what in told if "converting" in what]
    assert made == ["digits_resnet8, few: differential-4, T = 2: converting"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_a_network_whose_images_do_not_serve_is_named(short, tmp_path):
    odd = studied()
    odd = study.Studied(**{**vars(odd), "loader": odd.calibration})
    with pytest.raises(InputError, match=r"digits_resnet8: .* are calibration images too"):
        next(study.run([odd], tmp_path, ("few",)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the results of one short chapter, as text."""
    with pytest.MonkeyPatch.context() as patched:
        shorten(patched)
        next(study.run([studied()], folder := tmp_path_factory.mktemp("kept"), ("few",)))
    (path,) = folder.iterdir()
    return path, path.read_text()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda found: found.pop("network"), "network is missing"),
        (lambda found: found["comparison"].update(rows=[]), "methods or steps are missing"),
        (lambda found: found["comparison"]["rows"].pop(), "methods or steps are missing"),
        (lambda found: first(found).update(readings=[]), "methods or steps are missing"),
        (lambda found: reading(found).update(accuracy=7.5), r"accuracy is 7\.5.*number in 0\.\.1"),
        (lambda found: reading(found).update(loss=float("nan")), "loss is nan"),
        (lambda found: reading(found).update(lost=-1), "lost is -1"),
        (lambda found: found["comparison"]["ann"].update(accuracy=-0.1), "ann_accuracy is -0.1"),
        (lambda found: found["comparison"].update(images=0), "images is 0"),
        (lambda found: found.update(layers=-8), "layers is -8"),
    ],
)
def test_damaged_results_are_named(short, kept, damage, told):
    path, whole = kept
    found = json.loads(whole)
    damage(found)
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match=rf"json is damaged \(.*{told}.*delete it"):
        next(study.run([studied()], path.parent, ("few",)))


def first(found):
    return found["comparison"]["rows"][0]["entries"][0]


def reading(found):
    return first(found)["readings"][0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, r"is damaged.*delete it"),
        ("[]", r"is damaged.*delete it"),
        ("", r"is damaged.*delete it"),
        ('{"network": "digits_resnet8"}', r"format version 1, and this one reads 2: name another"),
        ('{"version": 3}', r"format version 3, and this one reads 2"),
    ],
)
def test_files_that_hold_no_results_are_named(short, kept, text, told):
    path, _ = kept
    path.write_text(text)
    with pytest.raises(InputError, match=rf"json.*{told}"):
        next(study.run([studied()], path.parent, ("few",)))


def test_results_of_something_else_are_refused(short, kept, monkeypatch):
    path, whole = kept
    path.write_text(whole)

    def refused(one):
        with pytest.raises(InputError, match=r"results of something else.*name") as error:
            next(study.run([one], path.parent, ("few",)))
        return str(error.value)

    own = studied()
    changed = trace(Twice(ann.pretrained("digits_resnet8").model), (1, 8, 8))
    assert "not the same network." in refused(study.Studied(**{**vars(own), "traced": changed}))
    more = {"facts": {"images": 13, "judged images": "f" * 32}}
    told = refused(study.Studied(**{**vars(own), **more}))
    assert "else: images was 12, now 13; not the same judged images." in told
    other = chapters.Chapter("few", "", (2,), fewer("dcgs-1"))
    monkeypatch.setattr(study, "chapter", lambda *_: other)
    assert "not the same methods" in refused(own)
    other = chapters.Chapter("few", "", (4,), chapters.chapter("few", 10).recipes)
    assert "steps was [2], now [4]" in refused(own)


class Twice(nn.Module):
    """Other code with the same weights."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(2 * x)


def fewer(*names):
    return tuple(RECIPES[name] for name in names)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("",), "called ''"),
        (("/\n",), "letters or digits"),
        (("a" * 250,), "80 at most"),
        (("a/b", "a b"), "two networks are called 'a/b' and 'a b'"),
        (("Ab", "aB"), "two networks are called"),
    ],
)
def test_names_that_files_cannot_have_are_refused(names, told):
    with pytest.raises(InputError, match=told):
        study.check_names(names)


@pytest.mark.parametrize("name", ["a/b", "../esc", "a\nb", "网络🦊"])
def test_names_lead_out_of_no_folder(short, tmp_path, name):
    (found,) = study.run([studied(called=name)], tmp_path / "out", ("few",))
    assert found.network == name
    (path,) = (tmp_path / "out").iterdir()
    assert path.name.isprintable()
    (chart,) = report.charts([found])
    assert "/" not in chart


def test_the_tables_and_charts_hold_what_was_found(short, tmp_path):
    found = list(study.run([studied()], tmp_path, ("paper", "few")))
    text = markdown.text(report.document(found, "spiking-resnet reproduce study"))
    (last,) = (row.readings[350] for row in found[0].comparison.rows if row.recipe == "hu2021")
    assert f"{last.loss:.2f} ± {last.told_error(12):.2f}" in text
    assert f"| mnist | digits_resnet8 | 8 | 12 | {of_the_ann(found[0])} |" in text
    assert "**Accuracy, % (agreement with the ANN, %), 12 images**" in text
    assert "Standard errors of accuracy: up to " in text
    assert "**Loss, points below the ANN, 12 images**" in text
    assert f"{100 * last.accuracy:.2f} ({100 * last.agreement:.2f})" in text
    assert set(report.charts(found)) == {"mnist_digits_resnet8_paper", "mnist_digits_resnet8_few"}
    deeper = study.Finding(**{**vars(found[0]), "network": "other", "layers": 20})
    depths = report.charts([*found, deeper])["mnist_depths"]
    assert depths.series[0].at == (8, 20)
    assert depths.series[0].values == (last.loss, last.loss)


def of_the_ann(found):
    """Its accuracy with its interval."""
    low, high = (100 * end for end in found.comparison.ann_interval)
    return f"{100 * found.comparison.ann_accuracy:.2f} ({low:.1f} - {high:.1f})"


def test_every_column_of_the_ann_is_of_its_tables_own_kind(short, tmp_path):
    found = list(study.run([studied()], tmp_path, ("few",)))
    text = markdown.text(report.document(found, ""))
    tables = {part.partition("**")[0]: part for part in text.split("\n\n**")}
    row = "| digits_resnet8 | differential-1 |"
    macs = count(found[0].comparison.ann_macs)
    assert f"{row} {macs} |" in tables["Synaptic operations of an image"]
    assert "| network | method | T = 2 |" in tables["Spikes of an image"]
    (loss,) = (table for name, table in tables.items() if name.startswith("Loss"))
    assert "| network | method | T = 2 |" in loss


def test_no_loss_of_few_images_is_certain(short, tmp_path):
    (found,) = study.run([studied(images=4)], tmp_path, ("few",))
    readings = [each for row in found.comparison.rows for each in row.readings.values()]
    assert any(each.lost == each.gained == 0 for each in readings)
    text = markdown.text(report.document([found], ""))
    assert "0.00 ± 20.00" in text  # 1 / (n + 1)
    assert "± 0.00" not in text


def test_a_terminal_names_every_row_and_the_images(short, tmp_path):
    found = list(study.run([studied()], tmp_path, ("paper", "few")))
    shown = terminal.text(report.summary(found), 60)
    assert "12 images" in shown
    assert of_the_ann(found[0]) in shown
    rows = [line for line in shown.splitlines() if line.startswith("digits_resnet8")]
    assert len(rows) > 6
    assert all("hu2021" in row or "differential" in row or "dcgs" in row for row in rows)


@pytest.mark.parametrize("classes", [10, 1000])
def test_every_chapter_is_of_different_recipes_of_one_percentile(classes):
    found = chapters.chapters(classes)
    assert tuple(found) == chapters.CHAPTERS
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
    monkeypatch.setattr(chapters, "FEW", (2, 4))
    (found,) = study.run([studied()], tmp_path, ("differential-4",))
    assert [row.recipe for row in found.comparison.rows] == ["differential-4"]
    assert found.comparison.steps == (2, 4)
    assert "sizes of spikes" in markdown.text(report.blocks([found]))
