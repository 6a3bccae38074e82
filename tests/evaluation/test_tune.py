import json
import re

import pytest
import torch
from typer.testing import CliRunner

from spiking_resnet.cli import app
from spiking_resnet.conversion.methods import calibrated, hu2021
from spiking_resnet.conversion.presets import Recipe, chosen
from spiking_resnet.evaluation.candidate import Reading
from spiking_resnet.evaluation.conditions import Facts
from spiking_resnet.evaluation.paired import Paired
from spiking_resnet.evaluation.trials import Limits, Trial, Tuning, within
from spiking_resnet.evaluation.tune import ladder, tune
from spiking_resnet.files import BusyError, held
from spiking_resnet.records import InputError
from spiking_resnet.report.tuning import verdict
from zoo import images, network


def validation(count=60):
    frames = images("identity", count, seed=7)
    with torch.inference_mode():
        labels = network("identity").eval()(frames).argmax(1)
    return [(frames, labels)]


def tuned(recipes="hu2021,differential-1", **options):
    picked = chosen(recipes) if isinstance(recipes, str) else recipes
    return tune(
        network("identity"), images("identity", 16), validation(), methods=picked, **options
    )


def trial(recipe, steps, operations, lost, verdict, of=1000):
    reading = Reading(
        steps=steps, accuracy=0.9, interval=(0.8, 1.0), standard_error=0.01,
        loss=100 * lost / of, loss_error=0.1, agreement=0.9, lost=lost, gained=0,
        operations=operations, spikes_per_image=1.0, firing_rate=0.1, engine="cpu", exact=True,
    )  # fmt: skip
    facts = Facts(1, False, False, 0, 8, False)
    return Trial(recipe, steps, hu2021(), facts, reading, verdict, (0.0, 1.0))


@pytest.mark.parametrize(
    ("most", "rungs"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_the_ladder_is_powers_of_two_and_the_last(most, rungs):
    assert ladder(most) == rungs


def test_the_winner_is_the_cheapest_that_meets_and_the_nearest_has_the_least_loss():
    trials = (
        trial("cheap", 2, 10.0, 50, "misses"),
        trial("dear", 2, 90.0, 4, "meets"),
        trial("slow", 8, 40.0, 5, "meets"),
    )
    by_operations = Tuning(0.5, "operations", 1000, 0.9, trials)
    by_steps = Tuning(0.5, "steps", 1000, 0.9, trials)
    assert by_operations.winner.recipe == "slow"
    assert by_steps.winner.recipe == "dear"
    assert by_steps.nearest.recipe == by_operations.nearest.recipe == "dear"
    assert Tuning(0.1, "steps", 1000, 0.9, trials[:1]).winner is None


def test_what_was_seen_within_the_target_but_is_not_certain_does_not_win():
    trials = (
        trial("cheap", 1, 10.0, 4, "uncertain"),
        trial("far", 1, 5.0, 9, "uncertain"),
        trial("dear", 4, 90.0, 1, "meets"),
    )
    found = Tuning(0.5, "operations", 1000, 0.9, trials)
    assert (found.winner.recipe, found.likely.recipe) == ("dear", "cheap")
    assert found.images_to_settle(trials[0]) > 1000
    told = verdict(found, found.winner)
    assert "dear at T = 4" in told
    assert "cheap at T = 1 would be cheaper" in told
    assert "not certain" in told
    alone = Tuning(0.5, "operations", 1000, 0.9, trials[:2])
    assert alone.winner is None
    assert "nothing is certain" in verdict(alone, alone.likely)


@pytest.mark.parametrize(("lost", "target", "fits"), [(2, 2.0, True), (3, 2.0, False)])
def test_losses_are_compared_as_whole_numbers_of_images(lost, target, fits):
    """100 * (0.98 - 0.96) is 2.0000000000000018, and two of a hundred images are 2 points."""
    assert within(Paired(lost, 0, 100), target) is fits
    assert within(Paired(7, 0, 1000), 0.7)  # 0.7 is no binary fraction either


def test_the_verdicts_are_bounds_from_counts():
    found = tuned(target_loss=9.0, max_steps=16)
    for each in found.trials:
        paired = Paired(each.reading.lost, each.reading.gained, found.images)
        assert each.bounds == pytest.approx(
            (100 * paired.at_least(0.95), 100 * paired.at_most(0.95))
        )
        if each.meets:
            assert each.bounds[1] <= 9.0
        elif each.verdict == "misses":
            assert each.bounds[0] > 9.0
        else:
            assert each.bounds[0] <= 9.0 < each.bounds[1]
    assert {"meets", "misses"} <= {each.verdict for each in found.trials}


@pytest.mark.sweep
@pytest.mark.parametrize("measure", ["steps", "operations"])
def test_nothing_cheaper_meets_the_target_among_all_there_is(measure):
    found = tuned(target_loss=8.4, max_steps=64, measure=measure)
    everything = tuned(target_loss=0.0, max_steps=64, measure=measure)  # the stricter, the longer
    assert found.winner is not None
    cheaper = [
        each
        for each in everything.trials
        if each.bounds[1] <= 8.4 and each.cost(measure) < found.winner.cost(measure)
    ]
    assert not cheaper
    assert len(found.trials) <= len(everything.trials)


@pytest.mark.sweep
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
    class broken(calibrated):
        def apply(self, traced, calibration):
            raise ValueError(f"cannot do {self.steps} steps")

    broken_one = Recipe("broken", "raises", broken())
    found = tuned([broken_one, *chosen("hu2021")], max_steps=2, target_loss=0.0)
    assert "cannot do" in found.left_out["broken"]
    assert {each.recipe for each in found.trials} == {"hu2021"}


def test_losses_without_labels_are_of_the_networks_own_decisions():
    frames = validation()[0][0]
    found = tune(network("identity"), images("identity", 16), frames, 0.0, 4, methods="hu2021")
    assert found.ann_accuracy == 1.0
    for each in found.trials:
        assert each.reading.loss == pytest.approx(100 * (1 - each.reading.agreement))


@pytest.mark.parametrize(("loss", "steps"), [(-1.0, 4), (float("nan"), 4), (0.5, 0)])
def test_targets_that_mean_nothing_are_refused(loss, steps):
    with pytest.raises(InputError, match="at least 1 step"):
        tuned(target_loss=loss, max_steps=steps)


@pytest.mark.sweep
def test_the_command_prints_how_to_convert_and_writes_everything(tmp_path):
    wanted = tmp_path / "tuned.json"
    call = "tune digits_resnet8 --methods hu2021,differential-1 --target-loss 2 --max-steps 64"
    sizes = ["--calibration-images", "64", "--validation-images", "300", "--json", str(wanted)]
    result = CliRunner().invoke(app, [*call.split(), *sizes])
    assert result.exit_code == 0, result.output
    found = json.loads(wanted.read_text())
    assert found["winner"]["meets"]
    assert found["winner"]["reading"]["loss"] <= found["winner"]["bounds"][1] <= 2
    assert (found["winner"]["verdict"], found["confidence"]) == ("meets", 0.95)
    assert "the cheapest in operations" in result.stdout
    assert found["convert"].splitlines()[0] in result.stdout


def test_the_command_ends_with_1_where_nothing_meets_the_target():
    call = "tune digits_resnet8 --methods hu2021 --target-loss 0 --max-steps 1"
    result = CliRunner().invoke(app, [*call.split(), "--validation-images", "100"])
    assert result.exit_code == 1
    assert "nothing meets" in result.stdout


def test_the_command_says_that_so_few_images_show_nothing():
    call = "tune digits_resnet8 --methods hu2021 --target-loss 0.5 --max-steps 64"
    result = CliRunner().invoke(app, [*call.split(), "--validation-images", "100"])
    assert result.exit_code == 1
    assert re.search("100 validation images cannot show .* take 539 or more", result.stderr)
    assert "nothing is certain to lose at most 0.5 points" in result.stdout


@pytest.mark.parametrize("confidence", [0.4, 1.0])
def test_a_confidence_that_means_nothing_is_refused(confidence):
    with pytest.raises(InputError, match="confidence"):
        tuned(confidence=confidence)


@pytest.mark.sweep
def test_a_search_goes_on_where_it_was(tmp_path):
    class Stopped(BaseException):
        pass

    def stopping(what):
        if what == "differential-1, T = 2":
            raise Stopped

    file, options = tmp_path / "trials.json", {"max_steps": 4, "target_loss": 0.0}
    whole = tuned(**options)
    with pytest.raises(Stopped):
        tuned(**options, tell=stopping, resume=file)
    kept = json.loads(file.read_text())["parts"]
    assert 0 < len(kept) < len(whole.trials)
    assert tuned(**options, resume=file) == whole
    limits = Limits(binary=True)  # what is not allowed now is left out, though it is known
    again = tuned(**options, limits=limits, resume=file)
    assert again.left_out == {"differential-1": "its spikes are not 0 or 1"}
    with held(file), pytest.raises(BusyError):
        tuned(**options, resume=file)
    with pytest.raises(InputError, match="engine was"):
        tuned(**options, engine="interpreter", resume=file)
