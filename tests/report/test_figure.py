import subprocess
import sys
from dataclasses import replace

import pytest

from spiking_resnet.records import Curve, InputError, Point
from spiking_resnet.report.curve import plot
from spiking_resnet.report.figure import _apart
from spiking_resnet.shares import wilson

STEPS, RIGHT = (8, 16, 32, 64, 128, 350), (40, 65, 82, 86, 90, 91)
CURVE = Curve(
    images=100,
    points=tuple(
        Point(steps, right / 100, wilson(right, 100), 0.9, 1000.0, 0.1, {})
        for steps, right in zip(STEPS, RIGHT, strict=True)
    ),
    ann_accuracy=0.92,
    ann_interval=wilson(92, 100),
    engine="interpreter",
    seconds=1.0,
    exact=True,
)


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")]
)
def test_the_suffix_chooses_the_format(tmp_path, suffix, start):
    path = tmp_path / f"curve{suffix}"
    plot({"SNN": CURVE}, path, "a title")
    assert path.read_bytes().startswith(start)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_figure_names_steps_curves_and_networks(tmp_path):
    path = tmp_path / "curve.svg"
    other = replace(CURVE, ann_accuracy=0.8, points=CURVE.points[2:])
    plot({"first": CURVE, "second": other}, path, "a title")
    text = path.read_text()
    for expected in (*(f">{step}<" for step in STEPS), "a title", "first", "second",
                     "ANN of first (92 %)", "ANN of second (80 %)", "95 % interval",
                     "Time steps T", "Accuracy (%)"):  # fmt: skip
        assert expected in text


def test_curves_of_one_network_share_its_line(tmp_path):
    path = tmp_path / "curve.svg"
    plot({"first": CURVE, "second": CURVE}, path)
    assert path.read_text().count("ANN (92 %)") == 1


@pytest.mark.parametrize("fewer", [{"points": CURVE.points[:1]}, {"ann_accuracy": None}])
def test_one_point_or_no_ann_are_enough(tmp_path, fewer):
    plot({"SNN": replace(CURVE, **fewer)}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_an_only_point_has_its_interval():
    first = CURVE.points[0]
    axes = replace(CURVE, points=(first,)).plot()
    (bar,) = axes.collections
    (ends,) = bar.get_segments()
    assert ends.tolist() == [[8, pytest.approx(100 * end)] for end in first.interval]
    assert "95 % interval" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_bad_requests_name_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"curve.txt.*\.png, \.svg, \.pdf"):
        plot({"SNN": CURVE}, tmp_path / "curve.txt")
    with pytest.raises(InputError, match="no curves"):
        plot({}, tmp_path / "curve.png")


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def full(self, drawn, **_):
        drawn.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="No space"):
        plot({"SNN": CURVE}, tmp_path / "curve.png")
    assert list(tmp_path.iterdir()) == []


def test_labels_keep_their_distance():
    assert _apart(list(STEPS)) == list(STEPS)
    assert _apart([1, 2, 4, 300, 340, 350]) == [1, 2, 4, 350]


@pytest.mark.sweep
def test_importing_the_package_loads_no_plotting():
    code = (
        "import sys, spiking_resnet, spiking_resnet.report.write, spiking_resnet.report.curve;"
        "print([n for n in ('matplotlib', 'rich', 'typer') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_curve_is_the_same_bytes(tmp_path, suffix):
    one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
    plot({"SNN": CURVE}, one)
    plot({"SNN": CURVE}, other)
    assert one.read_bytes() == other.read_bytes()


def test_a_legend_lies_on_no_point():
    from matplotlib import pyplot

    falling = tuple(replace(each, accuracy=1 - each.accuracy) for each in CURVE.points)
    axes = replace(CURVE, points=falling, ann_accuracy=None).plot()
    axes.figure.canvas.draw()
    box = axes.get_legend().get_window_extent()
    drawn = [
        tuple(point)
        for line in axes.lines
        for point in line.get_transform().transform(line.get_xydata())
    ]
    pyplot.close(axes.figure)
    assert len(drawn) == len(STEPS)
    assert not [point for point in drawn if box.contains(*point)]


@pytest.mark.parametrize(("images", "told"), [(96, "92 %"), (2000, "92.0 %"), (10_000, "92.00 %")])
def test_levels_are_told_in_the_digits_that_the_images_tell_apart(images, told, tmp_path):
    path = tmp_path / "curve.svg"
    plot({"SNN": replace(CURVE, images=images)}, path)
    assert f"ANN ({told})" in path.read_text()


def test_names_without_glyphs_are_drawn_without_warnings(tmp_path, recwarn):
    plot({"网络🦊": CURVE}, tmp_path / "curve.png", "网络🦊")
    assert not [each for each in recwarn if "Glyph" in str(each.message)]
