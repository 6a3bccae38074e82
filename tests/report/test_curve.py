from dataclasses import replace

from rich.console import Console

from spiking_resnet.records import Curve, Point
from spiking_resnet.report import curve, markdown, terminal
from spiking_resnet.report.numbers import count
from spiking_resnet.shares import wilson

POINTS = tuple(
    Point(
        steps=steps,
        accuracy=correct / 100,
        interval=wilson(correct, 100),
        agreement=correct / 100,
        spikes_per_image=steps * 1000.0,
        firing_rate=0.1,
        layers={},
    )
    for steps, correct in ((8, 50), (16, 80), (350, 91))
)
CURVE = Curve(
    images=100,
    points=POINTS,
    ann_accuracy=0.9,
    ann_interval=wilson(90, 100),
    engine="interpreter",
    seconds=1.5,
    exact=True,
)
WITHOUT_ANN = Curve(
    images=100,
    points=(Point(8, 0.5, wilson(50, 100), None, 3.0, 0.1, {}),),
    ann_accuracy=None,
    ann_interval=None,
    engine="interpreter",
    seconds=1.5,
    exact=False,
)


def printed(found):
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as capture:
        terminal.show(curve.blocks(found, "a title"), console)
    return capture.get()


def as_markdown(found):
    return markdown.text(curve.blocks(found))


def bars(found, width=40):
    return terminal.bars(curve.chart({"": found}), width)


def test_rows_hold_every_measure():
    assert curve.rows(CURVE)[0] == [
        "8", "50 %", "40 - 60", "+40", "50 %", "8.00 k", "10.00 %"
    ]  # fmt: skip
    assert curve.rows(CURVE)[-1][3] == "-1"  # better than the ANN is a negative loss


def test_shares_have_the_decimals_that_so_many_images_tell_apart():
    for images, told in ((100, "50 %"), (1000, "50.0 %"), (10_000, "50.00 %")):
        assert curve.rows(replace(CURVE, images=images))[0][1] == told


def test_terminal_table_fits_80_columns_and_states_its_conditions():
    text = printed(CURVE)
    assert max(len(line) for line in text.splitlines()) <= 80
    for expected in ("a title", "ANN", "90 %", "350 k", "n = 100", "interpreter (exact)"):
        assert expected in text


def test_without_an_ann_there_is_a_dash_and_no_ann_row():
    assert curve.rows(WITHOUT_ANN)[0][3:5] == ["-", "-"]
    assert "ANN  " not in printed(WITHOUT_ANN)
    assert "not exact" in printed(WITHOUT_ANN)


def test_markdown_has_a_line_for_each_row():
    lines = as_markdown(CURVE).splitlines()
    assert lines[0].startswith("| T | accuracy |")
    assert lines[2].startswith("| 8 | 50 % |")
    assert lines[5].startswith("| ANN | 90 % |")
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert "n = 100" in lines[7]


def test_bars_grow_with_accuracy_and_mark_the_ann():
    lines = bars(CURVE, width=10).splitlines()
    assert [line.count("█") for line in lines] == [5, 8, 9, 0]
    assert all(line.count("┃") == 1 for line in lines)
    assert len(bars(WITHOUT_ANN).splitlines()) == 1


def test_counts_have_three_digits():
    numbers = (3, 999, 999.6, 8150, 174337, 999_600, 7_187_486, 2.5e9)
    assert [count(number) for number in numbers] == [
        "3.00", "999", "1.00 k", "8.15 k", "174 k", "1.00 M", "7.19 M", "2.50 G"
    ]  # fmt: skip


TOP5 = replace(
    CURVE,
    points=tuple(replace(point, accuracy=1.0, interval=wilson(100, 100), agreement=1.0, top5=1.0,
                         firing_rate=0.999) for point in POINTS),
    ann_top5=1.0,
)  # fmt: skip


def test_top5_has_a_column_and_the_widest_table_still_fits():
    text = printed(TOP5)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for expected in ("top-1 %", "top-5 %", " 100 ", "99.90"):
        assert expected in text
    assert len(curve.rows(TOP5)[0]) == len(curve.table(TOP5).columns) == 8
    assert "| ANN | 90 |" in as_markdown(TOP5)
    assert "top-5" not in printed(CURVE)


def test_the_standard_error_is_stated():
    one = replace(CURVE, points=(replace(POINTS[0], accuracy=0.5),))
    assert "standard errors up to 5.0 points" in as_markdown(one)  # sqrt(0.25 / 100)


def test_no_accuracy_of_few_images_is_certain():
    one = replace(CURVE, images=1, ann_accuracy=1.0, points=(replace(POINTS[0], accuracy=1.0),))
    assert "standard errors up to 50.0 points" in as_markdown(one)  # 1 / (n + 1)
