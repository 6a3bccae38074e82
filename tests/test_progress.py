"""Progress: who shows what where, and what it never changes."""

import io
import os
import re
import sys
import threading
import time
from contextlib import redirect_stderr
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

import spiking_resnet as sr
from spiking_resnet.images import expected, paired
from spiking_resnet.progress import Work, board, duration, shown, times
from spiking_resnet.progress.displays import Bars

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"  # the cursor

pytestmark = pytest.mark.whole


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


@pytest.fixture
def quick(monkeypatch):
    """Bars appear at once, lines soon."""
    for name, seconds in {
        "TICK": 0.01,
        "PATIENCE": 0.02,
        "SILENCE": 0.05,
        "PAUSE": 0.1,
        "LONG": 0.1,
    }.items():
        monkeypatch.setattr(times, name, seconds)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("RANK", raising=False)


@pytest.fixture(autouse=True, scope="module")
def _loaded():
    """What draws is loaded: that takes longer than the works here."""
    Bars(lambda: Console(file=io.StringIO()), None, None).close()


def watched(monkeypatch, stream, asked=None, **options):
    """What is shown of a work that is done in halves."""
    monkeypatch.setattr(sys, "stderr", stream)
    with shown(asked, "working", 100, **options) as work:
        for done, right in ((0, 0), (50, 40), (100, 90)):
            work.images(done, right)
            time.sleep(0.15)
    return stream.getvalue()


def test_a_terminal_has_a_bar_that_is_gone_afterwards(monkeypatch, quick):
    said = watched(monkeypatch, Screen(), plan="2 x 50 images")
    assert "50 of 100 images" in said
    assert "accuracy 80.0 %" in said
    assert re.search(r"about \d+ s: 2 x 50 images", said)
    assert said.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))  # the line is empty, the cursor back


def test_elsewhere_there_are_lines_without_codes(monkeypatch, quick):
    said = watched(monkeypatch, io.StringIO())
    lines = said.splitlines()
    assert "\x1b" not in said
    assert "\r" not in said
    assert all(line.startswith("working: ") for line in lines)
    assert 2 <= len(lines) <= 6
    assert "100 of 100 images, accuracy 90.0 %" in lines[-1]


def test_a_notebook_has_a_line_that_changes(monkeypatch, quick):
    told = []
    handle = SimpleNamespace(update=lambda data, raw: told.append(data["text/plain"]))
    display = SimpleNamespace(display=lambda *_, **__: handle)
    shell = SimpleNamespace(kernel=object())
    fake = SimpleNamespace(get_ipython=lambda: shell, display=display)
    monkeypatch.setitem(sys.modules, "IPython", fake)
    assert watched(monkeypatch, io.StringIO()) == ""
    assert any("█████░" in line and "50 of 100 images" in line for line in told)
    assert told[-1] == ""


@pytest.mark.parametrize("asked", [False, lambda *_: None], ids=["no", "a function"])
def test_nothing_is_shown_where_nothing_is_asked_for(monkeypatch, quick, asked):
    assert watched(monkeypatch, Screen(), asked) == ""


def test_short_work_shows_nothing(monkeypatch):
    stream = Screen()
    monkeypatch.setattr(sys, "stderr", stream)
    with shown(None, "working", 1):
        time.sleep(0.05)
    assert stream.getvalue() == ""


def test_only_the_first_process_speaks(monkeypatch, quick):
    monkeypatch.setenv("RANK", "1")
    assert watched(monkeypatch, io.StringIO()) == ""


def test_what_a_work_calls_shows_nothing_of_its_own(monkeypatch, quick):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with shown(None, "outer", 2), shown(None, "inner", 2) as inner:
        inner.images(1)
        time.sleep(0.2)
    assert "outer" in stream.getvalue()
    assert "inner" not in stream.getvalue()


def test_works_of_two_threads_are_shown_side_by_side(monkeypatch, quick):
    stream = Screen()
    monkeypatch.setattr(sys, "stderr", stream)

    def work(name):
        with shown(None, name, 10) as own:
            for done in range(10):
                own.images(done)
                time.sleep(0.02)

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in (1, 2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert "thread 1" in stream.getvalue()
    assert "thread 2" in stream.getvalue()
    assert board.board.works == []
    assert board.board.display is None


def test_a_stream_that_is_redirected_meanwhile_stays_clean(monkeypatch, quick):
    stream, other = Screen(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with shown(None, "working", 10), redirect_stderr(other):
        time.sleep(0.15)
    assert "working" in stream.getvalue()
    assert other.getvalue() == ""
    assert sys.stderr is stream


def test_a_closed_stream_ends_nothing(monkeypatch, quick):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with shown(None, "working", 10):
        time.sleep(0.1)


def interrupted(**options):
    with shown(False, "working", **options) as work:
        work.images(320)
        raise KeyboardInterrupt


def test_a_stream_of_somebody_elses_that_fails_ends_nothing(monkeypatch, quick):
    class Failing(Screen):
        def write(self, _):
            raise RuntimeError("no more")

    seen = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    watched(monkeypatch, Failing())
    assert not seen


def test_the_cursor_is_back_when_the_process_ends_before_the_work(monkeypatch, quick):
    stream = Screen()
    monkeypatch.setattr(sys, "stderr", stream)
    with shown(None, "working", 100):
        time.sleep(0.15)
        assert stream.getvalue().count(HIDDEN) == 1
        board.board.end()
        assert stream.getvalue().count(SHOWN) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_process_that_is_forked_while_a_bar_is_drawn_works(quick):
    with board.board.lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if board.board.lock.acquire(timeout=5) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_an_interruption_is_told_how_far_it_was():
    for options, told in (
        ({"total": 1000}, "stopped at 320 of 1,000 images"),
        ({}, "stopped at 320 images"),
        ({"total": 1000, "unit": ""}, "stopped after 32 % of the work"),
    ):
        with pytest.raises(KeyboardInterrupt) as stop:
            interrupted(**options)
        assert stop.value.__notes__ == [told]


def test_what_was_done_before_took_no_time(monkeypatch):
    work = Work("working", 100)
    monkeypatch.setattr(time, "monotonic", lambda: work.began + 30)
    assert not work.known
    work.images(50)
    assert work.left == 30
    assert work.known
    work.skip(40)
    assert work.left == 150
    assert work.line == "working: 50 of 100 images, 30 s, about 2 min left"
    assert Work("searching", 8, unit="", plan="2 x 4", most=True).estimate.startswith("at most")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4.2, "4 s"),
        (44, "40 s"),
        (100, "2 min"),
        (3000, "50 min"),
        (9000, "2.5 h"),
        (90_000, "25 h"),
    ],
)
def test_estimates_have_few_digits(seconds, words):
    assert duration(seconds) == words


IMAGES = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def network():
    torch.manual_seed(0)
    body = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()
    model = torch.nn.Sequential(*body, torch.nn.Linear(144, 5))
    model[-1].bias.data += 1
    return model


def test_verbs_give_the_same_with_and_without_a_bar(monkeypatch, quick):
    labels = torch.arange(30) % 5
    half, rest = (IMAGES[:10], labels[:10]), (IMAGES[10:], labels[10:])
    recipes = [sr.RECIPES[name] for name in ("hu2021", "signed")]
    found = []
    for asked in (None, False):
        stream = Screen()
        monkeypatch.setattr(sys, "stderr", stream)
        graph = sr.convert(network(), half, progress=asked)
        curve = sr.evaluate(graph, rest, (2, 8), progress=asked)
        compared = sr.compare(network(), half, rest, recipes, (2, 4), progress=asked)
        tuned = sr.tune(network(), half, rest, 50, 4, methods=recipes, progress=asked)
        rules = sr.calibrate_stop(graph, half, 8, progress=asked)
        events = sr.count_events(graph, rest, 4, progress=asked)
        diagnosis = sr.diagnose(graph, rest, 8, progress=asked)
        logits = sr.simulate(graph, IMAGES, 8, progress=asked).logits
        rows = [[reading for _, reading in sorted(row.readings.items())] for row in compared.rows]
        fired = [map_.tolist() for map_ in events.fired.values()]
        trials = [trial.reading for trial in tuned.trials]
        found.append((curve.points, rows, trials, rules, fired, diagnosis, logits.tolist()))
        assert asked is None or stream.getvalue() == ""
    assert found[0] == found[1]


def test_a_pair_of_tensors_is_a_loader(monkeypatch):
    graph = sr.convert(network(), IMAGES)
    labels = torch.arange(30) % 5
    batches = [(IMAGES[:20], labels[:20]), (IMAGES[20:], labels[20:])]
    whole = sr.evaluate(graph, (IMAGES, labels), 8)
    assert whole.points == sr.evaluate(graph, batches, 8).points
    assert sr.evaluate(graph, (IMAGES, labels.numpy()), 8).points == whole.points
    assert sr.evaluate(graph, [IMAGES, labels[:, None]], 8).points == whole.points
    with pytest.raises(sr.InputError, match="30 images and 20 labels"):
        sr.evaluate(graph, (IMAGES, labels[:20]), 8)


def test_two_batches_of_images_are_no_pair():
    for first, second in ((IMAGES, IMAGES), (IMAGES[:, 0, 0], IMAGES[:, 0, 0])):
        given = (first, second)
        assert paired(given) is given
    large = torch.zeros(20, 3, 100, 100)
    assert [len(images) for images, _ in paired((large, torch.zeros(20)))] == [8, 8, 4]


def test_loaders_say_how_many_images_they_have():
    labels = torch.arange(30)
    data = torch.utils.data.TensorDataset(IMAGES, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=7)
    batches = [(IMAGES[:20], labels[:20]), {"image": IMAGES[20:], "label": labels[20:]}]
    assert [expected(each) for each in (IMAGES, loader, batches)] == [30, 30, 30]
    assert expected(iter(loader)) is None


def stopping_after(monkeypatch, calls):
    """From now on Ctrl-C comes after so many simulations of an evaluation."""
    module = import_module("spiking_resnet.evaluation.evaluate")
    whole, left = module.simulate, [calls]

    def simulate(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(module, "simulate", simulate)


def test_an_interrupted_evaluation_has_what_it_counted(monkeypatch):
    graph, labels = sr.convert(network(), IMAGES), torch.arange(30) % 5
    batches = [(IMAGES[start : start + 10], labels[start : start + 10]) for start in (0, 10, 20)]
    stopping_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt) as stop:
        sr.evaluate(graph, batches, 8, progress=False)
    monkeypatch.undo()
    assert stop.value.__notes__ == ["stopped at 20 of 30 images"]
    assert stop.value.partial.points == sr.evaluate(graph, batches[:2], 8).points


def test_an_interrupted_comparison_has_the_rows_that_were_done(monkeypatch):
    pair = IMAGES[10:], torch.arange(20) % 5
    methods = ("hu2021", "signed")
    whole = sr.compare(network(), IMAGES[:10], pair, methods, (2, 4), progress=False)
    stopping_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt) as stop:
        sr.compare(network(), IMAGES[:10], pair, methods, (2, 4), progress=False)
    assert stop.value.__notes__ == ["stopped after 50 % of the work"]
    found = stop.value.partial.rows
    assert [row.readings for row in found] == [whole.rows[0].readings]
    stopping_after(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt) as stop:
        sr.compare(network(), IMAGES[:10], pair, methods, (2, 4), progress=False)
    assert stop.value.partial is None
