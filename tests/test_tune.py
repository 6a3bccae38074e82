import json

import pytest
import torch
from typer.testing import CliRunner

from spiking_resnet.cli import app
from spiking_resnet.fairness import Facts
from spiking_resnet.judging import Reading
from spiking_resnet.methods import hu2021
from spiking_resnet.recipes import Recipe, chosen
from spiking_resnet.records import InputError
from spiking_resnet.tune import Limits, Trial, Tuning, ladder, tune
from zoo import images, network


def validation(count=24):
    frames = images("identity", count, seed=7)
    with torch.inference_mode():
        labels = network("identity").eval()(frames).argmax(1)
    return [(frames, labels)]


def tuned(recipes="hu2021,differential-1", **options):
    picked = chosen(recipes) if isinstance(recipes, str) else recipes
    return tune(
        network("identity"), images("identity", 16), validation(), recipes=picked, **options
    )


def trial(recipe, steps, operations, loss, meets):
    reading = Reading(
        steps, 0.9, (0.8, 1.0), 0.01, loss, 0.1, 0.9, operations, 1.0, 0.1, "cpu", True
    )
    return Trial(recipe, steps, hu2021(), Facts(1, False, False, 0, 8, False), reading, meets)


@pytest.mark.parametrize(
    ("most", "rungs"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_the_ladder_is_powers_of_two_and_the_last(most, rungs):
    assert ladder(most) == rungs


def test_the_winner_is_the_cheapest_that_meets_and_the_nearest_has_the_least_loss():
    trials = (
        trial("cheap", 2, 10.0, 5.0, False),
        trial("dear", 2, 90.0, 0.4, True),
        trial("slow", 8, 40.0, 0.5, True),
    )
    by_operations = Tuning(0.5, "operations", 100, 0.9, trials)
    by_steps = Tuning(0.5, "steps", 100, 0.9, trials)
    assert by_operations.winner.recipe == "slow"
    assert by_steps.winner.recipe == "dear"
    assert by_steps.nearest.recipe == by_operations.nearest.recipe == "dear"
    assert Tuning(0.1, "steps", 100, 0.9, trials[:1]).winner is None


@pytest.mark.parametrize("measure", ["steps", "operations"])
def test_nothing_cheaper_meets_the_target_among_all_there_is(measure):
    found = tuned(target_loss=8.4, max_steps=64, measure=measure)
    everything = tuned(target_loss=0.0, max_steps=64, measure=measure)  # the stricter, the longer
    assert found.winner is not None
    cheaper = [
        each
        for each in everything.trials
        if each.reading.loss <= 8.4 and each.cost(measure) < found.winner.cost(measure)
    ]
    assert not cheaper
    assert len(found.trials) <= len(everything.trials)


def test_a_recipe_is_tried_at_more_steps_only_while_it_falls_short():
    found = tuned(target_loss=0.0, max_steps=32)
    for name in ("hu2021", "differential-1"):
        own = [each for each in found.trials if each.recipe == name]
        assert [each.steps for each in own] == list(ladder(32))[: len(own)]
        assert not any(each.meets for each in own[:-1])


def test_what_is_not_allowed_is_left_out_with_its_reason():
    found = tuned("hu2021,burst,differential-1", limits=Limits(binary=True), max_steps=4)
    assert {each.recipe for each in found.trials} == {"hu2021"}
    assert set(found.left_out) == {"burst", "differential-1"}
    assert "levels" in tuned("burst", limits=Limits(levels=2), max_steps=2).left_out["burst"]
    waiting = Facts(1, False, True, 0, 8, False)
    assert Limits().objection(waiting)
    assert not Limits(waiting=True).objection(waiting)


def test_a_method_that_fails_is_left_out_and_the_others_go_on():
    def broken(steps):
        raise ValueError(f"cannot do {steps} steps")

    broken_one = Recipe("broken", "raises", broken, per_steps=True)
    found = tuned([broken_one, *chosen("hu2021")], max_steps=2, target_loss=0.0)
    assert "cannot do" in found.left_out["broken"]
    assert {each.recipe for each in found.trials} == {"hu2021"}


def test_losses_without_labels_are_of_the_networks_own_decisions():
    frames = validation()[0][0]
    found = tune(
        network("identity"), images("identity", 16), frames, 0.0, 4, recipes=chosen("hu2021")
    )
    assert found.ann_accuracy == 1.0
    for each in found.trials:
        assert each.reading.loss == pytest.approx(100 * (1 - each.reading.agreement))


@pytest.mark.parametrize(("loss", "steps"), [(-1.0, 4), (float("nan"), 4), (0.5, 0)])
def test_targets_that_mean_nothing_are_refused(loss, steps):
    with pytest.raises(InputError, match="at least 1 step"):
        tuned(target_loss=loss, max_steps=steps)


def test_the_command_prints_how_to_convert_and_writes_everything(tmp_path):
    wanted = tmp_path / "tuned.json"
    call = "tune digits_resnet8 --methods hu2021,differential-1 --target-loss 2 --max-steps 64"
    sizes = ["--calibration-images", "64", "--validation-images", "100", "--json", str(wanted)]
    result = CliRunner().invoke(app, [*call.split(), *sizes])
    assert result.exit_code == 0, result.output
    found = json.loads(wanted.read_text())
    assert found["winner"]["meets"]
    assert found["winner"]["reading"]["loss"] <= 2
    assert "the cheapest in operations" in result.stdout
    assert found["convert"].splitlines()[0] in result.stdout


def test_the_command_ends_with_1_where_nothing_meets_the_target():
    call = "tune digits_resnet8 --methods hu2021 --target-loss 0 --max-steps 1"
    result = CliRunner().invoke(app, [*call.split(), "--validation-images", "100"])
    assert result.exit_code == 1
    assert "nothing meets" in result.stdout
