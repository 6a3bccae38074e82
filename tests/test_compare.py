import pytest
import torch

from spiking_resnet import convert, methods
from spiking_resnet.compare import compare
from spiking_resnet.fairness import facts
from spiking_resnet.recipes import RECIPES, chosen, suiting
from spiking_resnet.records import InputError
from spiking_resnet.trace import trace
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


def test_a_comparison_goes_on_where_it_was(tmp_path):
    file = tmp_path / "rows.json"
    one, two = compared(resume=file), compared(resume=file)
    for before, after in zip(one.rows, two.rows, strict=True):
        assert before.to_json() == after.to_json()


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
    suited = suiting(chosen("all"), trace(network("identity"), (3, 8, 8)))
    assert RECIPES.keys() - {recipe.name for recipe in suited} == trained
    assert suiting(chosen("all"), trace(quantised(), (3, 8, 8))) == chosen("all")
    found = compare(
        network("identity"), images("identity", 8), images("identity", 4, seed=3), chosen("qcfs")
    )
    assert "ReLU without levels" in found.rows[0].problem
