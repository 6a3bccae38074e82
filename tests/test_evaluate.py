import json
from dataclasses import replace

import pytest
import torch

from spiking_resnet import InputError, as_module, evaluate, interpret, simulate
from spiking_resnet.evaluate import STEPS
from spiking_resnet.simulate import ENGINES
from zoo import images, logits, network, spiking, traced

COUNT, RECORD = 23, (2, 9, 30)
BATCH = images("identity", COUNT, seed=7)
LABELS = torch.randint(5, (COUNT,), generator=torch.Generator().manual_seed(0))


def loader(size=10):
    return list(zip(BATCH.split(size), LABELS.split(size), strict=True))


@pytest.fixture(scope="module")
def graph():
    return spiking("identity")


def test_accuracies_are_hand_counts(graph):
    curve = evaluate(graph, loader(), RECORD)
    run = simulate(graph, BATCH, 30, RECORD)
    decisions = run.logits.argmax(2)
    reference = interpret.logits(graph.ann, BATCH).argmax(1)
    assert curve.images == COUNT
    assert [point.steps for point in curve.points] == list(RECORD)
    for index, point in enumerate(curve.points):
        assert point.accuracy == int((decisions[index] == LABELS).sum()) / COUNT
        assert point.agreement == int((decisions[index] == reference).sum()) / COUNT
        assert point.interval[0] <= point.accuracy <= point.interval[1]
    assert curve.ann_accuracy == int((reference == LABELS).sum()) / COUNT


def test_rates_are_hand_counts(graph):
    curve = evaluate(graph, loader(), RECORD)
    run = simulate(graph, BATCH, 30, RECORD)
    for index, point in enumerate(curve.points):
        totals = {n: float(c.spikes[index].sum()) / COUNT for n, c in run.spikes.items()}
        neurons = sum(graph.neurons.values())
        assert point.spikes_per_image == pytest.approx(sum(totals.values()))
        assert point.firing_rate == pytest.approx(sum(totals.values()) / neurons / point.steps)
        for layer, share in point.layers.items():
            expected = totals[layer] / graph.neurons[layer] / point.steps
            assert share == pytest.approx(expected)


@pytest.mark.parametrize("size", [1, 7, 23])
def test_the_batch_size_changes_nothing(graph, size):
    assert evaluate(graph, loader(size), RECORD).points == evaluate(graph, loader(), RECORD).points


def test_one_simulation_serves_all_steps(graph):
    curve = evaluate(graph, loader(), RECORD)
    for point in curve.points:
        (alone,) = evaluate(graph, loader(), (point.steps,)).points
        assert alone == point


def test_steps_are_sorted_and_taken_once(graph):
    curve = evaluate(graph, loader(), (9, 2, 9, 30))
    assert [point.steps for point in curve.points] == [2, 9, 30]
    assert STEPS[-1] == 350


def test_dictionaries_are_batches_too(graph):
    batches = [{"image": x, "label": y} for x, y in loader()]
    assert evaluate(graph, batches, RECORD).points == evaluate(graph, loader(), RECORD).points


def test_another_network_can_be_the_reference(graph):
    model = network("identity").train()
    curve = evaluate(graph, loader(), (4,), ann=model)
    assert model.training
    assert curve.ann_accuracy == evaluate(graph, loader(), (4,)).ann_accuracy
    same = evaluate(graph, loader(), (4,), ann=traced("identity"))
    assert same.points == curve.points


def test_without_a_reference_there_is_no_agreement():
    curve = evaluate(replace(spiking("identity"), ann=None), loader(), (4,))
    assert curve.ann_accuracy is None
    assert curve.ann_interval is None
    assert curve.points[0].agreement is None


def test_a_network_agrees_with_itself_after_long():
    graph = spiking("identity", percentile=100.0, readout="membrane", steps=512)
    batch = images("identity", 12)
    labels = logits("identity").argmax(1)
    (point,) = evaluate(graph, [(batch, labels)], (512,)).points
    assert point.agreement == point.accuracy == 1


def test_progress_is_told(graph):
    told = []
    curve = evaluate(graph, loader(), (5,), progress=lambda *done: told.append(done))
    assert [images for images, _ in told] == [10, 20, 23]
    assert told[-1][1] == round(curve.points[-1].accuracy * COUNT)


def test_the_curve_is_json(graph):
    curve = evaluate(graph, loader(), RECORD)
    found = json.loads(json.dumps(curve.to_json()))
    assert [point["steps"] for point in found["snn"]] == list(RECORD)
    assert found["images"] == COUNT
    assert found["ann"]["accuracy"] == curve.ann_accuracy
    assert found["notes"]["method"] == "hu2021"
    assert found["exact"] is True
    assert found["engine"] in ENGINES
    assert str(torch.__version__) in found["hardware"]


def test_inexact_runs_are_told():
    curve = evaluate(spiking("identity", grid=None), loader(), (5,))
    assert not curve.exact
    assert "grid" in curve.remark


BAD = {
    "empty": ([], RECORD, "no images"),
    "no_labels": ([BATCH], RECORD, "labels"),
    "images_only": ([(BATCH,)], RECORD, "labels"),
    "few_labels": ([(BATCH, LABELS[:3])], RECORD, "labels"),
    "one_hot": ([(BATCH, torch.zeros(COUNT, 5))], RECORD, "labels"),
    "unlabelled": ([{"image": BATCH}], RECORD, "labels"),
    "size": ([(torch.zeros(2, 3, 9, 9), LABELS[:2])], RECORD, r"\(3, 9, 9\)"),
    "nan": ([(BATCH * float("nan"), LABELS)], RECORD, "NaN"),
    "no_steps": (loader(), (), "steps is empty"),
    "steps_0": (loader(), (0, 5), r"0"),
    "only_0": (loader(), (0,), "at least 1"),
    "negative": (loader(), (-4, 5), "-4"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_evaluated_is_refused(case, graph):
    batches, steps, message = BAD[case]
    with pytest.raises(InputError, match=message):
        evaluate(graph, batches, steps)


@pytest.mark.parametrize("engine", ["auto", "layerwise", "interpreter"])
def test_as_a_module_it_is_a_simulation(graph, engine):
    module = as_module(graph, 12, engine)
    expected = simulate(graph, BATCH, 12).logits[-1]
    assert torch.equal(module(BATCH), expected)
    assert torch.equal(module(BATCH), expected)  # nothing is kept
    assert list(module.parameters()) == []
