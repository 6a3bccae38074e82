import json
import os
import random
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spiking_resnet import InputError, as_module, convert, evaluate, simulate
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.convert import ConversionWarning
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.evaluation.counts import among_first
from spiking_resnet.evaluation.evaluate import STEPS
from spiking_resnet.evaluation.progress_file import VERSION, ResumeError, differing
from spiking_resnet.files import BusyError, held
from spiking_resnet.graph import interpret
from spiking_resnet.records import curve_from_json
from zoo import images, logits, network, random_weights, spiking, stem, traced

COUNT, RECORD = 23, (2, 9, 30)
BATCH = images("identity", COUNT, seed=7)
LABELS = torch.randint(5, (COUNT,), generator=torch.Generator().manual_seed(0))


def loader(size=10):
    return list(zip(BATCH.split(size), LABELS.split(size), strict=True))


SEVEN = images("identity", 40, seed=9)
PICKED = torch.arange(40) % 7


@cache
def spiking_of_seven():
    """A spiking network of seven classes."""
    model = nn.Sequential(stem(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))
    traced_seven = trace(random_weights(model), (3, 8, 8))
    return hu2021(steps=32).apply(traced_seven, Calibration(SEVEN))


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


@pytest.mark.parametrize(
    "change",
    [
        *(lambda labels, kind=kind: labels.to(getattr(torch, kind))
          for kind in ("uint8", "int8", "int16", "int32", "uint16")),
        lambda labels: labels[:, None],
        lambda labels: labels.numpy().astype(">i2"),
        lambda labels: labels.tolist(),
    ],
)  # fmt: skip
def test_labels_of_any_kind_are_the_same_labels(graph, change):
    expected = evaluate(graph, [(BATCH, LABELS)], RECORD)
    for batch in ((BATCH, change(LABELS)), {"image": BATCH, "target": change(LABELS)}):
        found = evaluate(graph, [batch], RECORD)
        assert found.points == expected.points
        assert found.ann_accuracy == expected.ann_accuracy


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


def test_lost_and_gained_images_make_the_loss(graph):
    curve = evaluate(graph, loader(), RECORD)
    run = simulate(graph, BATCH, 30, RECORD)
    known = interpret.logits(graph.ann, BATCH).argmax(1) == LABELS
    for right, point in zip(run.logits.argmax(2) == LABELS, curve.points, strict=True):
        assert point.lost == int((known & ~right).sum())
        assert point.gained == int((~known & right).sum())
        loss = curve.ann_accuracy - point.accuracy
        assert loss == pytest.approx((point.lost - point.gained) / COUNT)


def with_outputs(count, shift=0.0):
    """A spiking network of so many outputs, their mean shifted, and its ANN."""
    model = nn.Sequential(stem(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, count))
    model = random_weights(model).eval()
    with torch.no_grad():
        model[-1].bias += shift - model(SEVEN).mean(0)
    options = {"steps": 256, "percentile": 100.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        return convert(model, SEVEN, hu2021(**options)), model


def test_one_output_decides_by_its_sign():
    graph, model = with_outputs(1)
    with torch.inference_mode():
        labels = (model(BATCH)[:, 0] > 0).long()
    curve = evaluate(graph, [(BATCH, labels)], (4, 256))
    assert 0 < labels.sum() < COUNT
    assert curve.metric == "binary"
    assert curve.ann_accuracy == 1
    run = simulate(graph, BATCH, 256, (4,))
    for logits_, point in zip(run.logits, curve.points, strict=True):
        same = int(((logits_[:, 0] > 0).long() == labels).sum()) / COUNT
        assert point.accuracy == point.agreement == same
    assert curve.points[-1].accuracy > 0.9
    with pytest.raises(InputError, match="labels run from"):
        evaluate(graph, [(BATCH, labels + 1)], (4,))


@pytest.mark.parametrize("outputs", [1, 3])
def test_values_are_judged_by_their_squared_errors(outputs):
    graph, model = with_outputs(outputs, shift=-2.0)
    targets = torch.randn(COUNT, outputs, generator=torch.Generator().manual_seed(1))
    curve = evaluate(graph, [(BATCH[:9], targets[:9]), (BATCH[9:], targets[9:])], (8, 256),
                     metric="mse")  # fmt: skip
    with torch.inference_mode():
        known = model(BATCH).double()
    run = simulate(graph, BATCH, 256, (8,))
    for found, point in zip(run.logits.double(), curve.points, strict=True):
        assert point.error == pytest.approx(float((found - targets).square().mean()))
        assert point.distance == pytest.approx(float((found - known).square().mean()), rel=1e-4)
        assert point.accuracy is None
        assert point.agreement is None
    assert curve.ann_error == pytest.approx(float((known - targets).square().mean()), rel=1e-5)
    assert curve.points[-1].distance < curve.points[0].distance
    assert curve_from_json(json.loads(json.dumps(curve.to_json()))).points == curve.points
    if outputs == 1:
        flat = evaluate(graph, [(BATCH, targets[:, 0])], (8,), metric="mse")
        assert flat.points[0].error == pytest.approx(curve.points[0].error)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), (6,)),
        (
            nn.Sequential(
                *(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
                nn.Linear(4, 3),
            ),
            (2, 9),
        ),
    ],
    ids=["features", "signals"],
)
def test_a_module_of_features_or_signals_is_compared_on_them(model, shape):
    model = random_weights(model)
    inputs = torch.randn(COUNT, *shape, generator=torch.Generator().manual_seed(2))
    graph = convert(model, inputs, hu2021(readout="membrane"))
    labels = torch.arange(COUNT) % 3
    curve = evaluate(graph, [(inputs, labels)], (4,), ann=model)
    assert curve == replace(evaluate(graph, [(inputs, labels)], (4,)), seconds=curve.seconds)
    named = {"inputs": inputs, "target": torch.zeros(COUNT, 3)}
    plain = evaluate(graph, [(inputs, named["target"])], (4,), metric="mse")
    found = evaluate(graph, [named], (4,), metric="mse")
    assert found == replace(plain, seconds=found.seconds)


@pytest.mark.parametrize("head", [nn.Sigmoid(), nn.LogSigmoid(), nn.Identity()])
def test_a_module_with_one_output_behind_a_sigmoid_decides_as_its_logit_does(head):
    graph, model = with_outputs(1)
    with torch.inference_mode():
        labels = (model(BATCH)[:, 0] > 0).long()
    curve = evaluate(graph, [(BATCH, labels)], (4,), ann=nn.Sequential(model, head))
    assert 0 < labels.sum() < COUNT
    assert curve.ann_accuracy == 1
    assert curve.points[0].agreement == curve.points[0].accuracy


@pytest.mark.parametrize(
    ("outputs", "labels", "metric", "told"),
    [
        (3, torch.zeros(COUNT), None, "metric='mse'"),
        (3, torch.zeros(COUNT).long(), "binary", "use accuracy, or mse"),
        (1, torch.zeros(COUNT).long(), "accuracy", "use binary, or mse"),
        (3, torch.zeros(COUNT, 2), "mse", r"targets \[N, 3\]"),
        (3, torch.full((COUNT, 3), torch.nan), "mse", "NaN"),
        (3, [["low"] * 3] * COUNT, "mse", "what are no numbers"),
        (3, [[1.0], [2.0, 3.0]], "mse", "rows of different lengths"),
        (3, None, "mse", "NoneType"),
        (3, torch.zeros(COUNT, 3, dtype=torch.complex64), "mse", "complex64"),
        (3, torch.zeros(COUNT).long(), "auc", "one of accuracy, binary, mse"),
    ],
)
def test_a_metric_that_does_not_go_with_outputs_or_labels_is_refused(outputs, labels, metric, told):
    graph, _ = with_outputs(outputs)
    with pytest.raises(InputError, match=told):
        evaluate(graph, [(BATCH, labels)], (4,), metric=metric)


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
    "one_hot": ([(BATCH, torch.zeros(COUNT, 5))], RECORD, r"one-hot.*labels\.argmax\(1\)"),
    "floats": ([(BATCH, LABELS.float())], RECORD, r"float32, not integers.*labels\.long\(\)"),
    "names": ([(BATCH, ["a"] * COUNT)], RECORD, "number the classes from 0"),
    "ragged": ([(BATCH, [[0], [1, 2]])], RECORD, "number the classes from 0"),
    "unlabelled": ([{"image": BATCH}], RECORD, "no labels among image: call them.*target"),
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


# Top-5


def test_top5_is_a_hand_count():
    graph = spiking_of_seven()
    curve = evaluate(graph, [(SEVEN, PICKED)], (3, 20))
    run = simulate(graph, SEVEN, 20, (3, 20))
    for index, point in enumerate(curve.points):
        order = run.logits[index].argsort(dim=1, descending=True, stable=True)
        right = sum(
            int(label) in row[:5].tolist() for row, label in zip(order, PICKED, strict=True)
        )
        assert point.top5 == right / len(PICKED)
        assert point.top5 >= point.accuracy
    order = interpret.logits(graph.ann, SEVEN).argsort(dim=1, descending=True)
    right = sum(int(label) in row[:5].tolist() for row, label in zip(order, PICKED, strict=True))
    assert curve.ann_top5 == right / len(PICKED)
    found = curve.to_json()
    assert found["ann"]["top5"] == curve.ann_top5
    assert found["snn"][0]["top5_standard_error"] == pytest.approx(
        (curve.points[0].top5 * (1 - curve.points[0].top5) / len(PICKED)) ** 0.5
    )
    assert curve_from_json(json.loads(json.dumps(found))) == curve


def test_five_classes_have_no_top5(graph):
    curve = evaluate(graph, loader(), (4,))
    assert curve.points[0].top5 is curve.ann_top5 is None


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=5))
def test_ties_are_won_by_the_lower_class_as_in_argmax(rows):
    logits = torch.tensor(rows, dtype=torch.float32)
    labels = torch.arange(len(rows)) % 7
    assert torch.equal(among_first(logits, labels, 1), logits.argmax(1) == labels)
    order = logits.argsort(dim=1, descending=True, stable=True)
    expected = [int(label) in row[:5].tolist() for row, label in zip(order, labels, strict=True)]
    assert among_first(logits, labels, 5).tolist() == expected


def test_nan_logits_are_never_right():
    logits = torch.full((2, 7), float("nan"))
    assert not among_first(logits, torch.tensor([0, 3]), 5).any()


def test_labels_beyond_the_classes_are_refused(graph):
    with pytest.raises(InputError, match=r"labels run from 0 to 5.*knows 5 classes"):
        evaluate(graph, [(BATCH[:2], torch.tensor([0, 5]))], (4,))


# Stopping and going on


class Stopped(Exception):
    pass


def stopping_after(batches, loader):
    """The loader's batches, and an exception in the place of the one after `batches`."""
    for number, batch in enumerate(loader):
        if number == batches:
            raise Stopped
        yield batch


def same_but_for_the_time(one, other):
    return replace(one, seconds=0.0) == replace(other, seconds=0.0)


@pytest.mark.parametrize("batches", range(1, 5))
def test_a_stopped_evaluation_goes_on_where_it_was(graph, tmp_path, batches):
    path = tmp_path / "new" / "progress.json"
    whole = evaluate(graph, loader(5), RECORD)
    with pytest.raises(Stopped):
        evaluate(graph, stopping_after(batches, loader(5)), RECORD, resume=path)
    told = []
    curve = evaluate(graph, loader(5), RECORD, resume=path, progress=lambda *x: told.append(x))
    assert [images for images, _ in told] == [*range(5 * batches, 21, 5), 23]
    assert same_but_for_the_time(curve, whole)
    assert [entry.name for entry in path.parent.iterdir()] == ["progress.json"]
    again = evaluate(graph, loader(5), RECORD, resume=path)
    assert again == curve  # all was done


def test_nothing_is_read_twice_where_the_loader_knows_its_batches(graph, tmp_path):
    path, read = tmp_path / "progress.json", []

    class Known(list):
        spans = ((0, 5), (5, 10), (10, 15), (15, 20), (20, 23))

        def only(self, spans):
            read.extend(spans)
            return [self[first // 5] for first, _ in spans]

    with pytest.raises(Stopped):
        evaluate(graph, stopping_after(2, loader(5)), RECORD, resume=path)
    curve = evaluate(graph, Known(loader(5)), RECORD, resume=path)
    assert read == [(10, 15), (15, 20), (20, 23)]
    assert same_but_for_the_time(curve, evaluate(graph, loader(5), RECORD))


def test_what_differs_is_told_in_words_counts_first():
    before = {"data": f"all 600 images: {'a' * 64}", "images": 600, "steps": [2], "kind": "x" * 110}
    now = {"data": f"all 500 images: {'b' * 64}", "images": 500, "steps": [4], "device": "cpu"}
    assert differing(before, now) == (
        'images was 600, now 500; device was null, now "cpu"; steps was [2], now [4]; '
        "not the same data, kind"
    )
    assert differing(now, now) == ""


def test_progress_of_another_evaluation_is_refused_and_says_what_differs(graph, tmp_path):
    path = tmp_path / "progress.json"
    evaluate(graph, loader(5), RECORD, resume=path, facts={"data set": "toy"})
    facts = {"data set": "toy"}
    with pytest.raises(ResumeError, match=r"steps was \[2, 9, 30\], now \[2, 9\]"):
        evaluate(graph, loader(5), (2, 9), resume=path, facts=facts)
    with pytest.raises(ResumeError, match='data set was "toy", now "other"'):
        evaluate(graph, loader(5), RECORD, resume=path, facts={"data set": "other"})
    with pytest.raises(ResumeError, match="another evaluation: not the same network"):
        evaluate(spiking("identity", percentile=99.0), loader(5), RECORD, resume=path, facts=facts)
    with pytest.raises(ResumeError, match="not the same first batch"):
        evaluate(graph, loader(4), RECORD, resume=path, facts=facts)
    with pytest.raises(ResumeError, match="engine was"):
        evaluate(graph, loader(5), RECORD, engine="interpreter", resume=path, facts=facts)
    with pytest.raises(ResumeError, match="not the same agreement"):
        evaluate(graph, loader(5), RECORD, ann=network("identity"), resume=path, facts=facts)
    with pytest.raises(ResumeError, match="loader only 20"):
        evaluate(graph, loader(5)[:4], RECORD, resume=path, facts=facts)
    split = [loader(5)[0], *loader(23)]
    with pytest.raises(ResumeError, match="no batch does"):
        evaluate(graph, split, RECORD, resume=path, facts=facts)


class Told(nn.Module):
    """A network whose state dict holds more than tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images)

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass


@pytest.mark.parametrize("change", [Tensor.numpy, Tensor.tolist, Tensor.clone])
def test_labels_and_pixels_of_any_kind_are_known_again(graph, tmp_path, change):
    path, batches = tmp_path / "progress.json", [(BATCH.bfloat16(), change(LABELS))]
    first = evaluate(graph, batches, (4,), resume=path)
    assert evaluate(graph, batches, (4,), resume=path) == first
    with pytest.raises(ResumeError, match="not the same first batch"):
        evaluate(graph, [(BATCH.bfloat16(), change((LABELS + 1) % 5))], (4,), resume=path)


def test_a_reference_of_any_kind_is_known_again(graph, tmp_path):
    model, batches = network("identity"), [(BATCH, LABELS)]
    free = ({0: torch.export.Dim("images")},)
    exported = torch.export.export(model, (BATCH[:4],), dynamic_shapes=free)
    half = random_weights(network("identity")).bfloat16()
    for number, ann in enumerate((graph.ann, traced("identity"), Told(model), half, exported)):
        path = tmp_path / f"{number}.json"
        first = evaluate(graph, batches, (4,), ann=ann, resume=path)
        assert evaluate(graph, batches, (4,), ann=ann, resume=path) == first
        with pytest.raises(ResumeError, match="not the same agreement"):
            evaluate(graph, batches, (4,), ann=traced("projection"), resume=path)


def test_progress_that_another_process_keeps_is_refused(graph, tmp_path):
    path = tmp_path / "progress.json"
    with held(path), pytest.raises(BusyError, match=r"progress\.json is in use"):
        evaluate(graph, loader(5), RECORD, resume=path)
    evaluate(graph, loader(5), RECORD, resume=path)
    assert os.listdir(tmp_path) == ["progress.json"]


def test_counts_are_kept_as_soon_as_they_are_known(graph, tmp_path):
    path, kept = tmp_path / "progress.json", []

    def look(done, _):
        kept.append((done, json.loads(path.read_text())["tally"]["images"]))

    evaluate(graph, loader(5)[:1], RECORD, resume=path, progress=look)
    assert kept == [(5, 5)]  # not 30 seconds later


def test_notes_may_differ(graph, tmp_path):
    path = tmp_path / "progress.json"
    evaluate(graph, loader(5), RECORD, resume=path)
    renamed = graph.with_notes({"command": "another"})
    assert evaluate(renamed, loader(5), RECORD, resume=path).images == COUNT


def test_progress_of_an_earlier_version_is_told_from_another_evaluation(graph, tmp_path):
    path = tmp_path / "progress.json"
    path.write_text('{"version": 1, "facts": {}, "tally": {}}')
    with pytest.raises(ResumeError, match="format version 1, and this one reads"):
        evaluate(graph, loader(), RECORD, resume=path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", "[" * 10_000, f'{{"version": {VERSION}, "facts": {{}}, "tally": {{}}}}'],
)
def test_files_that_hold_no_progress_are_refused(graph, tmp_path, content):
    path = tmp_path / "progress.json"
    path.write_text(content)
    with pytest.raises(ResumeError, match=r"progress\.json holds no progress"):
        evaluate(graph, loader(), RECORD, resume=path)
    assert path.read_text() == content


KILLED = """
import sys, time
import spiking_resnet as sr
from spiking_resnet import files
from test_evaluate import RECORD, loader
from zoo import spiking

files.WORK_PER_SAVING = 0.0  # a file after every batch

def slowly(batches):
    for batch in batches:
        yield batch
        print("done", flush=True)
        time.sleep(0.02)

sr.evaluate(spiking("identity"), slowly(loader(1)), RECORD, resume=sys.argv[1])
"""


@pytest.mark.sweep
def test_killed_at_any_moment_it_goes_on(graph, tmp_path):
    path = tmp_path / "progress.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        for _ in range(random.randint(2, 12)):
            process.stdout.readline()
        time.sleep(random.random() * 0.03)
        process.kill()
    done = json.loads(path.read_text())["tally"]["images"]
    assert 0 < done < COUNT
    curve = evaluate(graph, loader(1), RECORD, resume=path)
    assert same_but_for_the_time(curve, evaluate(graph, loader(1), RECORD))
