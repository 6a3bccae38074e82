import json
import os
import sys

import pytest
import torch

from spiking_resnet import convert, evaluate, methods, simulate
from spiking_resnet.capture.module import trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import described
from spiking_resnet.conversion.presets import RECIPES, chosen, suits
from spiking_resnet.evaluation.compare import compare
from spiking_resnet.evaluation.conditions import facts
from spiking_resnet.files import BusyError, held
from spiking_resnet.records import InputError
from zoo import images, network, quantised


def judged(count=12):
    frames = images("identity", count, seed=7)
    with torch.inference_mode():
        labels = network("identity").eval()(frames).argmax(1)
    return [(frames[:5], labels[:5]), (frames[5:], labels[5:])]


def compared(**options):
    recipes = chosen("hu2021,differential-1,calibrated")
    return compare(
        network("identity"), images("identity", 16), judged(), recipes, (4, 16), **options
    )


def test_rows_hold_every_step_and_the_network_itself_as_the_judge():
    found = compared()
    assert [row.recipe for row in found.rows] == ["hu2021", "differential-1", "calibrated"]
    for row in found.rows:
        assert sorted(row.readings) == [4, 16]
        for reading in row.readings.values():  # labels are the network's own decisions
            assert reading.agreement == reading.accuracy


def test_methods_share_what_they_measure(monkeypatch):
    names, read = "hu2021,hu2021-channel,burst,calibrated,dcgs-1", []
    plain = Calibration.batches
    monkeypatch.setattr(Calibration, "batches", lambda self: read.append(self) or plain(self))
    frames = images("identity", 16)
    found = compare(network("identity"), frames, judged(), chosen(names), (4, 16))
    assert len(read) == 2  # one histogram a layer, and one a channel; 7 conversions
    assert sum(len(row.entries) for row in found.rows) == 7
    for row in found.rows:  # each network is the one that its method makes alone
        for entry in row.entries:
            made = convert(network("identity"), frames, described(entry.method))
            for steps, reading in row.readings.items():
                if steps in [each.steps for each in entry.readings]:
                    spikes = evaluate(made, judged(), (steps,)).points[0].spikes_per_image
                    assert reading.spikes_per_image == spikes


def test_a_comparison_goes_on_where_it_was(tmp_path):
    file = tmp_path / "rows.json"
    one, two = compared(resume=file), compared(resume=file)
    for before, after in zip(one.rows, two.rows, strict=True):
        assert before.to_json() == after.to_json()


class Stopped(BaseException):
    pass


def stopping(what, done):
    def look(label, now, _):
        if label.startswith(what) and now >= done:
            raise Stopped

    return look


@pytest.mark.parametrize(("kept", "left"), [(5, [7]), (4, [5, 7])], ids=["", "other batches"])
def test_a_comparison_goes_on_in_the_middle_of_a_part(tmp_path, monkeypatch, kept, left):
    file, recipes = tmp_path / "rows.json", chosen("hu2021,signed")
    given = (network("identity"), images("identity", 16), judged(), recipes, (4, 16))
    whole = compare(*given)
    at = 12 * 16 + 5 * 16  # all images of the first recipe, five of the second
    with pytest.raises(Stopped):
        compare(*given, resume=file, progress=stopping("signed: simulating", at))
    found = json.loads(file.read_text())
    assert (len(found["parts"]), found["begun"]["tally"]["images"]) == (1, 5)
    simulated = []
    monkeypatch.setattr(
        sys.modules["spiking_resnet.evaluation.evaluate"], "simulate",
        lambda graph, x, *rest: simulated.append(len(x)) or simulate(graph, x, *rest),
    )  # fmt: skip
    found["begun"]["tally"]["images"] = kept  # 4 images are no batch of these: begun again
    file.write_text(json.dumps(found))
    again = compare(*given, resume=file)
    assert simulated == left
    assert [row.readings for row in again.rows] == [row.readings for row in whole.rows]
    assert json.loads(file.read_text())["begun"] == {}
    assert os.listdir(tmp_path) == ["rows.json"]


def test_a_comparison_that_another_process_is_making_is_refused(tmp_path):
    with held(tmp_path / "rows.json"), pytest.raises(BusyError, match=r"rows\.json is in use"):
        compared(resume=tmp_path / "rows.json")


def test_judged_images_are_not_among_the_calibration_images():
    frames, labels = judged()[0]
    with pytest.raises(InputError, match="calibrat"):
        compare(network("identity"), frames, [(frames, labels)], chosen("hu2021"), (4,))


@pytest.mark.parametrize(
    ("method", "levels", "signed"),
    [
        (methods.hu2021(), 1, False),
        (methods.hu2021(levels=5), 5, False),
        (methods.hu2021(signed=True), 1, True),
        (methods.differential(steps=4, levels=4, images=8), 4, True),
        (methods.calibrated(signed=True, delay=0, steps=4, images=8), 1, True),
    ],
)
def test_facts_come_from_the_neurons(method, levels, signed):
    found = facts(convert(network("identity"), images("identity", 8), method))
    assert (found.levels, found.signed, found.waits) == (levels, signed, False)
    assert found.binary == (levels == 1 and not signed)


def test_unknown_recipes_are_refused():
    with pytest.raises(InputError, match="hu2021"):
        chosen("best")
    assert len(chosen("all")) == len(RECIPES)


def test_recipes_for_trained_networks_suit_no_others():
    trained = {"qcfs", "qcfs-srp", "qcfs-cos"}
    plain, own = trace(network("identity"), (3, 8, 8)), trace(quantised(), (3, 8, 8))
    assert {each.name for each in RECIPES.values() if not suits(each, plain)} == trained
    assert all(suits(each, own) for each in RECIPES.values())
    found = compare(
        network("identity"), images("identity", 8), images("identity", 4, seed=3), chosen("qcfs")
    )
    assert "ReLU without levels" in found.rows[0].problem
