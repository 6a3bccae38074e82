"""`watch`, on a terminal (a pseudo-terminal) and elsewhere."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import convert_digits, ok, refused

import spiking_resnet as sr
from spiking_resnet import ann
from spiking_resnet.cli import app
from spiking_resnet.conversion.methods import hu2021

OPENED, CLOSED = b"\x1b[?1049h", b"\x1b[?1049l"
HIDDEN, SHOWN = b"\x1b[?25l", b"\x1b[?25h"


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("snn") / "snn.safetensors"
    convert_digits(path)
    return path


def on_terminal(*arguments, until=b"", typed=b"", kind="xterm"):
    """(exit code, all that a terminal got); typed: what is typed once `until` was shown."""
    child, terminal = pty.fork()
    if child == 0:
        code = 70
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
            os.environ.update(TERM=kind, COLUMNS="", LINES="")
            sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
            app([str(each) for each in arguments], prog_name="spiking-resnet")
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    got, over = b"", time.monotonic() + 120
    while time.monotonic() < over:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            more = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not more:
            break
        got += more
        if typed and until in got:
            os.write(terminal, typed)
            typed = b""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), got


def test_a_terminal_sees_frames_and_is_left_as_it_was(snn):
    code, got = on_terminal("watch", snn, "--index", 3, "--steps", 4, "--delay", 0)
    assert code == 0
    before, _, rest = got.partition(OPENED)
    frames, _, after = rest.partition(CLOSED)
    assert b"normalisation" in before
    for step in range(1, 5):
        assert f"t = {step} of 4".encode() in frames
    assert b"read-out" in frames
    assert b"spikes per neuron and step" in frames
    assert "█".encode() in frames
    assert b"decision:" in after
    assert got.count(OPENED) == got.count(CLOSED) == 1
    assert got.rindex(SHOWN) > got.rindex(HIDDEN)


@pytest.mark.parametrize("until", [OPENED, HIDDEN, b"t = 1 of", b"t = 3 of"])
def test_ctrl_c_leaves_nothing_behind(snn, until):
    arguments = ("--index", 3, "--steps", 5000, "--delay", 0.01)
    code, got = on_terminal("watch", snn, *arguments, until=until, typed=b"\x03")
    assert code == 130
    after = got.partition(CLOSED)[2]
    assert b"stopped" in after
    assert b"error" not in after
    assert HIDDEN not in after
    assert got.count(OPENED) == got.count(CLOSED) == 1
    assert got.rindex(SHOWN) > got.rindex(HIDDEN)


def test_a_terminal_without_a_cursor_gets_lines(snn):
    code, got = on_terminal("watch", snn, "--index", 3, "--steps", 4, kind="dumb")
    assert code == 0
    assert b"\x1b[?" not in got
    assert got.count(b"t = ") >= 4


def test_elsewhere_each_moment_is_a_line(snn):
    lines = ok("watch", snn, "--index", 3, "--steps", 10, "--every", 4).splitlines()
    label = int(ann.load_dataset("digits", "test").labels[3])
    moments = [line[:6] for line in lines if " margin " in line]
    assert moments == ["t =  4", "t =  8", "t = 10"]
    assert any(f"label: class {label}" in line for line in lines)


@pytest.fixture
def photo(tmp_path):
    """A digit of the test set as a picture of four times its size."""
    pixels = ann.load_dataset("digits", "test").pixels(torch.tensor([3]))[0, 0].numpy()
    path = tmp_path / "digit.png"
    Image.fromarray(np.kron(pixels, np.ones((4, 4), np.uint8))).save(path)
    return path


def test_a_picture_is_framed_and_normalised_as_the_images_were(snn, photo):
    shown = ok("watch", snn, photo, "--crop", "8/8/box", "--steps", 4)
    same = ok("watch", snn, "--index", 3, "--steps", 4)
    assert "shortest side to 8 pixels, the central 8 x 8; normalisation: digits" in shown
    lines = [[line for line in text.splitlines() if " margin " in line] for text in (shown, same)]
    assert lines[0] == lines[1]
    assert "digit.png" in ok("watch", snn, photo, "--steps", 1)


def test_what_cannot_be_watched_is_refused(tmp_path, snn, photo):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no picture")
    silent = tmp_path / "silent.safetensors"
    images = torch.rand(4, 1, 8, 8)
    sr.save(sr.convert(ann.pretrained("digits_resnet8").model, images, hu2021()), silent)
    for told, *arguments in (
        ("name one image", snn),
        ("name one image", snn, photo, "--index", 1),
        ("images 0 to 496", snn, "--index", 497),
        ("images 0 to 496", snn, "--index", -1),
        ("--steps is 0", snn, photo, "--steps", 0),
        ("--every is 0", snn, photo, "--every", 0),
        ("--delay is -1", snn, photo, "--delay", -1),
        ("nowhere.png: no such file", snn, tmp_path / "nowhere.png"),
        ("--dataset", snn, tmp_path),
        ("damaged.png", snn, damaged),
        ("takes 8", snn, photo, "--crop", "9/9"),
        ("--normalisation", silent, photo),
    ):
        message = " ".join(refused("watch", *arguments).split())
        assert told in message, (told, message)
