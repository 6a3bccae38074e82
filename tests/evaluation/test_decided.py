"""Decisions image by image and class by class: they add up to the curve, however they were made."""

import json
from dataclasses import replace

import pytest
import torch

from spiking_resnet import InputError, evaluate, simulate
from spiking_resnet.decided import Decisions, PerClass, StepsError, joined, per_class
from spiking_resnet.evaluation.progress_file import ResumeError
from spiking_resnet.graph import interpret
from spiking_resnet.records import Curve, margins
from spiking_resnet.shares import wilson
from teams import in_team, plain
from zoo import images, spiking

COUNT, RECORD = 23, (2, 9, 30)
BATCH = images("identity", COUNT, seed=7)
LABELS = torch.randint(5, (COUNT,), generator=torch.Generator().manual_seed(0))
BOTH = {"per_class": True, "decisions": True}


def loader(*sizes):
    return list(zip(BATCH.split(list(sizes)), LABELS.split(list(sizes)), strict=True))


@pytest.fixture(scope="module")
def graph():
    return spiking("identity")


@pytest.fixture(scope="module")
def curve(graph):
    return evaluate(graph, loader(10, 10, 3), RECORD, **BOTH)


def test_decisions_are_those_of_the_logits_image_by_image(graph, curve):
    run = simulate(graph, BATCH, 30, RECORD)
    ann = interpret.logits(graph.ann, BATCH)
    found = curve.decisions
    assert found.images == tuple(range(COUNT))
    assert found.labels == tuple(LABELS.tolist())
    assert found.ann == tuple(ann.argmax(1).tolist())
    assert [list(row) for row in found.snn] == run.logits.argmax(2).tolist()
    assert [list(row) for row in found.margins] == margins(run.logits).tolist()
    assert found.ann_margins == tuple(margins(ann).tolist())
    for steps, row in zip(RECORD, found.snn, strict=True):
        flipped = [i for i in range(COUNT) if row[i] != found.ann[i]]
        assert list(found.flipped(steps)) == flipped


@pytest.mark.parametrize("sizes", [(23,), (1, 7, 2, 13), (5, 5, 5, 5, 3)])
def test_batches_change_nothing(graph, curve, sizes):
    found = evaluate(graph, loader(*sizes), RECORD, **BOTH)
    assert found.per_class == curve.per_class
    same_decisions(found.decisions, curve.decisions)


def same_decisions(one, other):
    """The ANN's sums are of floats, which are rounded otherwise in other batches."""
    assert replace(one, ann_margins=()) == replace(other, ann_margins=())
    assert one.ann_margins == pytest.approx(other.ann_margins, abs=1e-5)


def test_a_team_decides_as_one_process_does(graph, curve):
    batches = loader(*([2] * 11), 1)
    for found in in_team(3, lambda rank: evaluate(graph, batches, RECORD, **BOTH)):
        same_decisions(found.decisions, curve.decisions)
        assert plain(found.per_class) == plain(curve.per_class)


def test_a_stopped_evaluation_keeps_what_was_decided(graph, curve, tmp_path):
    path = tmp_path / "progress.json"

    def stopping():
        yield from loader(5, 5, 5, 5, 3)[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(graph, stopping(), RECORD, resume=path, **BOTH)
    found = evaluate(graph, loader(5, 5, 5, 5, 3), RECORD, resume=path, **BOTH)
    same_decisions(found.decisions, curve.decisions)
    assert found.per_class == curve.per_class
    only = evaluate(graph, loader(5, 5, 5, 5, 3), RECORD, resume=path, per_class=True)
    assert (only.decisions, only.per_class) == (None, curve.per_class)


def test_files_without_decisions_go_on_as_before(graph, curve, tmp_path):
    path = tmp_path / "progress.json"
    evaluate(graph, loader(10, 10, 3), RECORD, resume=path)
    old = json.loads(path.read_text())
    assert "decisions" not in old["facts"]
    del old["tally"]["decided"]
    path.write_text(json.dumps(old))
    found = evaluate(graph, loader(10, 10, 3), RECORD, resume=path)
    assert (found.points, found.per_class, found.decisions) == (curve.points, None, None)
    with pytest.raises(ResumeError, match="decisions was null, now true"):
        evaluate(graph, loader(10, 10, 3), RECORD, resume=path, **BOTH)


def test_counts_by_class_add_up_to_those_of_the_curve(graph, curve):
    found = curve.per_class
    assert sum(found.images) == COUNT
    assert list(found.images) == LABELS.bincount(minlength=5).tolist()
    for index, point in enumerate(curve.points):
        matrix = found.confusion(point.steps)
        assert int(matrix.trace()) == sum(found.right(point.steps)) == point.accuracy * COUNT
        assert matrix.sum(1).tolist() == list(found.images)
        assert sum(found.agreed[index]) == round(point.agreement * COUNT)
    assert int(found.confusion("ann").trace()) == curve.ann_accuracy * COUNT
    assert torch.equal(found.confusion(), found.confusion(30))
    grown = found.confusion() - found.confusion("ann")
    grown.fill_diagonal_(0)
    assert sum(more for *_, more in found.gained()) == int(grown.clamp(min=0).sum())
    assert found.interval(3, 1) == wilson(3, found.images[1])


def test_pairs_that_gained_are_counted_by_hand():
    found = per_class(
        Decisions(
            (4,), 3, tuple(range(6)), (0, 0, 0, 1, 1, 2), (0, 0, 1, 1, 2, 2),
            ((1, 0, 1, 2, 2, 0),), ((1.0,) * 6,), (1.0,) * 6,
        )
    )  # fmt: skip
    assert found.confusion("ann").tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert found.confusion(4).tolist() == [[1, 2, 0], [0, 0, 2], [1, 0, 0]]
    assert found.gained() == ((0, 1, 1), (1, 2, 1), (2, 0, 1))
    assert (found.agreed, found.lost) == (((2, 1, 0),), ((1, 1, 1),))
    assert (found.images, found.right("ann"), found.right()) == ((3, 2, 1), (2, 1, 1), (1, 0, 0))


def test_blocks_are_joined_in_the_order_of_images(curve):
    found = curve.decisions
    parts = [
        replace(
            found, images=found.images[a:b], labels=found.labels[a:b], ann=found.ann[a:b],
            snn=tuple(row[a:b] for row in found.snn), ann_margins=found.ann_margins[a:b],
            margins=tuple(row[a:b] for row in found.margins),
        )
        for a, b in ((9, 23), (0, 2), (2, 9))
    ]  # fmt: skip
    assert joined(parts) == found


def test_without_an_ann_there_is_nothing_to_flip(graph):
    found = evaluate(replace(graph, ann=None), loader(23), RECORD, **BOTH)
    assert (found.decisions.ann, found.decisions.flipped()) == (None, ())
    assert (found.per_class.ann, found.per_class.agreed) == (None, None)
    with pytest.raises(StepsError, match="without an ANN"):
        found.per_class.confusion("ann")


def test_records_are_json(curve):
    again = Curve.from_json(json.loads(json.dumps(curve.to_json())))
    assert again == curve
    assert isinstance(again.per_class, PerClass)


def test_what_cannot_be_is_refused(graph, curve):
    with pytest.raises(InputError, match="per_class and decisions go by decisions"):
        evaluate(graph, [(BATCH, BATCH.flatten(1)[:, :5])], RECORD, metric="mse", per_class=True)
    with pytest.raises(InputError, match=r"per_class is 1 .int.: give True or False"):
        evaluate(graph, loader(23), RECORD, per_class=1)
    with pytest.raises(StepsError, match="T = 3 was not read out: it was at 2, 9, 30"):
        curve.decisions.flipped(3)


def of_two_images(ann, snn):
    known = None if ann is None else (1.0, 1.0)
    return per_class(Decisions((2,), 2, (0, 1), (0, 1), ann, (snn,), ((1.0, 1.0),), known))


def test_of_no_confusions_there_is_no_table():
    same = of_two_images((0, 1), (0, 1))
    assert "No class is confused more often than by the ANN, T = 2." in str(same)
    assert "taken for" not in str(same)
    assert "No class is confused, T = 2." in str(of_two_images(None, (0, 1)))
    some = " ".join(str(of_two_images(None, (1, 1))).split())
    assert "What is confused most often, T = 2" in some
