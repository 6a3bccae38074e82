import torch

from spiking_resnet.evaluation.watching import Moment
from spiking_resnet.report import terminal
from spiking_resnet.report.watching import Watched, blocks, frame, line

NEURONS = {"stem": 100, "layer1": 300, "layer2": 100}
MOMENT = Moment(
    step=3, logits=torch.tensor([1.0, 8.0, -4.0]), decision=1, since=2, flips=1,
    now={"stem": 0.5, "layer1": 0.25, "layer2": 0.0}, mean=dict.fromkeys(NEURONS, 0.125),
    spikes=dict.fromkeys(NEURONS, 37),
)  # fmt: skip
WATCHED = Watched("net on cat", 16, NEURONS, ("cat", "dog", "fox"), torch.tensor([0, 7.0, 1]), 0)


def text(watched=WATCHED, width=60, height=20, moment=MOMENT):
    return [each.text.rstrip() for each in frame(watched, moment, width, height)]


def test_a_frame_shows_read_out_and_rates_as_bars():
    shown = text()
    assert shown[0].startswith("net on cat")
    assert shown[0].endswith("t = 3 of 16")
    assert shown[1] == "decision: dog, since t = 2; changed once; ANN: dog; label: cat"[:60]
    dog, cat, fox = shown[4:7]
    assert dog.split() == ["dog", "█" * 45, "8.00"]
    assert cat.split() == ["cat", "█" * 6, "1.00"]  # an eighth
    assert fox.split() == ["fox", "░" * 22, "-4.00"]
    stem, first, second = shown[9:12]
    assert stem.split() == ["stem", "█" * 34, "50.00", "%", "12.50", "%"]
    assert first.split() == ["layer1", "█" * 17, "25.00", "%", "12.50", "%"]
    assert second.split() == ["layer2", "0.00", "%", "12.50", "%"]


def test_a_frame_fits_and_neighbours_share_a_row():
    for width in (1, 20, 35, 80, 200):
        for height in range(1, 16):
            shown = text(width=width, height=height)
            assert len(shown) <= height
            assert max(map(len, shown)) <= width
    shared = text(width=80, height=11)[-2:]
    assert shared[0].split()[:3] == ["stem", "…", "layer1"]
    assert "31.25 %" in shared[0]  # (100 * 0.5 + 300 * 0.25) / 400


def test_the_decision_is_green_where_it_is_the_label_or_else_the_anns():
    def style(**known):
        return frame(Watched("", 16, NEURONS, **known), MOMENT, 60, 20)[1].style

    ann = torch.tensor([0.0, 7, 1])
    assert "green" in style(label=1)
    assert "green" in style(ann=ann)
    assert "green" not in style(label=0, ann=ann)
    assert "green" not in style()


def test_a_line_and_the_tables_at_the_end():
    assert line(WATCHED, MOMENT) == (
        "t =  3  dog 8.00  cat 1.00  fox -4.00  margin 7.00  rate 25.00 %"
    )
    shown = terminal.text(blocks(WATCHED, MOMENT))
    for part in ("net on cat", "T = 3", "8.000", "7.000", "since t = 2", "layer1", "12.50 %"):
        assert part in shown


def test_names_of_files_move_no_cursor_and_one_output_speaks_for_class_1():
    one = Moment(1, torch.tensor([-2.0]), 0, 1, 0, MOMENT.now, MOMENT.mean, MOMENT.spikes)
    watched = Watched("a\x1b[2Jb", 16, NEURONS, ("no\nne", "some"))
    assert "\\x1b[2J" in text(watched, moment=one)[0]
    assert text(watched, moment=one)[1].startswith(r"decision: no\nne")
    assert line(watched, one).split()[3:5] == ["some", "-2.00"]
