import io

import pytest
import torch
from rich.console import Console

from spiking_resnet.cli import terminal
from spiking_resnet.evaluation.inspect import inspect_graph
from spiking_resnet.graph import Affine, Fire, Flatten, Graph, Input, Output
from spiking_resnet.neurons import IntegrateAndFire
from spiking_resnet.printable import printable
from spiking_resnet.report import network as report
from spiking_resnet.report import terminal as report_terminal

EVIL = "[red]x[/red]:smile:\x1b[2J\r\n\x07\u202e\u2066\u200fß\x9b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("layer1.0.conv", "layer1.0.conv"),
        ("größe λ 层", "größe λ 层"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x7f\x9b\u2028", r"\x7f\x9b\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_line_breaks_can_be_kept():
    assert printable("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"


def spiking(name):
    one = torch.ones(())
    neuron = IntegrateAndFire(threshold=one, initial_potential=one / 2, amplitude=one)
    nodes = (
        Input(name="image", inputs=(), shape=(1, 1, 2)),
        Affine(name=f"{name}.gain", inputs=("image",), shape=(1, 1, 2), scale=one, source=EVIL),
        Fire(name=name, inputs=(f"{name}.gain",), shape=(1, 1, 2), neuron=neuron),
        Flatten(name="flat", inputs=(name,), shape=(2,)),
        Output(name="end", inputs=("flat",), shape=(2,)),
    )
    return Graph(nodes)


@pytest.mark.parametrize("console", [Console, lambda **kind: Console(**kind, **terminal._STYLE)])
def test_names_are_shown_as_they_are_in_tables(console):
    file = io.StringIO()
    found = inspect_graph(spiking(EVIL))
    blocks = (report.populations(found), report.nodes(found))
    report_terminal.show(blocks, console(file=file, width=200))
    shown = file.getvalue()
    assert shown.count(printable(EVIL)) == 3
    assert not set("\x1b\x07\r\u202e\u2066\u200f\x9b") & set(shown)


@pytest.mark.parametrize("speak", ["say", "warn", "say_error"])
def test_names_are_shown_as_they_are_in_messages(speak, monkeypatch):
    file = io.StringIO()
    console = Console(file=file, width=200, **terminal._STYLE)
    monkeypatch.setattr(terminal, "out", console)
    monkeypatch.setattr(terminal, "err", console)
    getattr(terminal, speak)(EVIL)
    assert "[red]x[/red]:smile:\\x1b[2J\\r\n\\x07\\u202e\\u2066\\u200fß\\x9b" in file.getvalue()
