"""Results in a line, as tables, and as charts on axes."""

import sys

import matplotlib
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import same_color
from test_curve import CURVE
from test_diagnosis import FOUND
from test_shown_records import ACCOUNT, COMPARED, FACTS, RAN, RECORDS, STOPPED, TUNED

import spiking_resnet as sr
from spiking_resnet.costs.events import Events
from spiking_resnet.graph import Fire
from spiking_resnet.records import InputError, LayerCount, Run, Trains
from spiking_resnet.report.inks import ON_DARK
from spiking_resnet.shown import MissingMatplotlib

pytestmark = pytest.mark.whole
LONG = 400  # characters of a line


@pytest.fixture(autouse=True)
def no_figures_left(monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "backend", "agg")
    before = dict(matplotlib.rcParams)
    yield
    pyplot.close("all")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_the_repr_of_a_record_is_a_line(record):
    assert repr(record).startswith(f"<{type(record).__name__}: ")
    assert len(repr(record)) < LONG
    assert "\n" not in repr(record)


def test_no_repr_holds_the_contents_of_tensors():
    images, big = 1000, torch.rand(1000, 50)
    counts = LayerCount(50, torch.randint(0, 9, (3, images)))
    run = Run((1, 2, 4), torch.rand(3, images, 10), {f"l{i}": counts for i in range(60)}, "cpu", 1)
    events = Events(9, 4, {"a": big}, {"a": big})
    shown = [run, counts, events, Trains({"a": big}, {"a": (50,)}), sr.Calibration(big)]
    for each in shown:
        assert len(repr(each)) < LONG
        assert "tensor(" not in repr(each)
    assert "int64[3, 1000]" in repr(counts)


def test_networks_and_what_is_made_of_them_have_short_reprs():
    torch.manual_seed(0)
    body = torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten()
    model = torch.nn.Sequential(*body, torch.nn.Linear(288, 3))
    model[-1].bias.data += 1
    graph = sr.convert(model, torch.rand(4, 1, 8, 8))
    fire = graph.of(Fire)[0]
    stream = sr.Stream(graph)
    step = stream.push(torch.rand(1, 1, 8, 8))
    made = [graph, fire, fire.neuron, *graph.nodes, sr.as_module(graph, 4), stream, step]
    made += [sr.to_integers(graph), *sr.RECIPES.values(), sr.methods.calibrated(), sr.Limits()]
    for each in made:
        assert len(repr(each)) < LONG, each
        assert "tensor(" not in repr(each)
    assert "integers of 8 bits" in repr(sr.to_integers(graph))
    assert repr(sr.methods.hu2021(percentile=99.5)) == "hu2021(percentile=99.5)"


def test_no_repr_moves_the_cursor():
    made = sr.convert(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), torch.rand(2, 1, 2, 2)
    )
    named = made.with_notes({"recipe": "\x1b[2J\u202eburst\n"})
    assert all(repr(each).isprintable() for each in (named, sr.summary(named)))
    assert "\\x1b[2J" in repr(named)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_has_its_tables_alone(record):
    shown = record.table()
    assert repr(shown) == str(shown)
    kept = [line for line in shown.splitlines() if line.strip()]
    assert kept
    assert set(map(str.strip, kept)) <= set(map(str.strip, str(record).splitlines()))


def test_what_has_no_table_says_what_has():
    with pytest.raises(InputError, match="Comparison, Curve"):
        FACTS.table()


def test_a_curve_is_drawn_on_axes():
    axes = CURVE.plot()
    drawn = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
    assert list(drawn[0].get_xdata()) == [point.steps for point in CURVE.points]
    assert list(drawn[0].get_ydata()) == [100 * point.accuracy for point in CURVE.points]
    assert axes.get_figure() in map(pyplot.figure, pyplot.get_fignums())


def test_axes_that_are_given_are_drawn_on():
    _, (first, second) = pyplot.subplots(1, 2)
    assert CURVE.plot(ax=first) is first
    assert not second.get_lines()
    assert FOUND.plot(ax=(first, second)) == (first, second)
    assert len(pyplot.get_fignums()) == 1
    with pytest.raises(InputError, match="give 2 matplotlib axes, or None"):
        FOUND.plot(ax=first)
    with pytest.raises(InputError, match="give one matplotlib axes"):
        CURVE.plot(ax="here")


def test_bars_are_those_of_the_record():
    errors, agreement = FOUND.plot()
    names = [layer.name for layer in FOUND.layers]
    assert [text.get_text() for text in errors.get_yticklabels()] == names
    drawn = list(agreement.get_lines()[-1].get_xdata())
    assert drawn == [100 * layer.agreement for layer in FOUND.layers]
    assert len(ACCOUNT.plot().patches) == sum(len(bars) for bars in ACCOUNT.plot().containers)


def test_a_run_is_drawn_as_the_rates_of_its_layers():
    assert [bar.get_width() for bar in RAN.plot().patches] == [25.0]


def test_tables_are_text_in_notebooks_too(monkeypatch):
    plain = CURVE.table()
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert CURVE.table() == plain
    assert str(CURVE).startswith(plain)


def test_dark_and_transparent_pages():
    axes, _ = COMPARED.plot(dark=True)
    assert same_color(axes.get_facecolor(), ON_DARK.paper)
    assert same_color(axes.get_figure().get_facecolor(), ON_DARK.paper)
    assert same_color(axes.xaxis.label.get_color(), ON_DARK.text)
    clear = CURVE.plot(transparent=True)
    assert clear.get_facecolor()[3] == clear.get_figure().get_facecolor()[3] == 0


def test_what_has_no_chart_says_what_has(monkeypatch):
    with pytest.raises(InputError, match=r"no chart of a Tuning: take table\(\), or one of Acc"):
        TUNED.plot()
    with pytest.raises(InputError, match="no chart of a Stopped"):
        STOPPED.plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingMatplotlib, match="pip install matplotlib"):
        CURVE.plot()


def test_tables_of_pandas_are_frames():
    pandas = pytest.importorskip("pandas")
    for record in RECORDS:
        frame = record.to_pandas()
        assert isinstance(frame, pandas.DataFrame)
        assert len(frame)
    assert list(CURVE.to_pandas()["accuracy"]) == [0.5, 0.8, 0.91, 0.9]


def test_a_line_tells_shares_in_the_digits_that_the_images_have():
    assert "ANN 90 %" in repr(CURVE)  # of 100 images
    assert "agreement 85.0 %, accuracy 80.0 %, ANN 90.0 %" in repr(FOUND)  # of 200
