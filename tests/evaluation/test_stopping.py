from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluate import with_outputs

from spiking_resnet import InputError, ResumeError, Stop, calibrate_stop, evaluate, simulate
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import calibrated, differential
from spiking_resnet.costs.operations import costs
from spiking_resnet.evaluation.stopping import read_outs, rule, thresholds
from spiking_resnet.graph import interpret
from spiking_resnet.records import decisions, margins
from teams import in_team, plain
from zoo import images, spiking, traced

COUNT, T = 11, 10
BATCH = images("identity", COUNT, seed=7)
LABELS = torch.randint(5, (COUNT,), generator=torch.Generator().manual_seed(0))
TRAINING = images("identity", 60, seed=8)


def loader(size=4):
    return list(zip(BATCH.split(size), LABELS.split(size), strict=True))


@pytest.fixture(scope="module")
def graph():
    return spiking("identity")


@cache
def rules(*confidence):
    return calibrate_stop(spiking("identity"), TRAINING, T, confidence)


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


# The rule


@pytest.mark.parametrize(
    ("known", "same", "share", "expected"),
    [
        ((4, 3, 2, 1), (1, 1, 1, 1), 1.0, 1.0),
        ((4, 3, 2, 1), (1, 1, 0, 1), 1.0, 3.0),
        ((4, 3, 2, 1), (1, 1, 0, 1), 0.75, 3.0),  # 2 of 3 on the way are too few
        ((4, 3, 2, 1), (1, 1, 0, 1), 0.6, 1.0),
        ((1, 2, 4, 3), (1, 0, 1, 1), 1.0, 3.0),  # in any order
        ((4, 3, 2, 1), (0, 1, 1, 1), 0.75, None),  # the surest one errs
        ((4, 2, 2, 1), (1, 1, 0, 1), 1.0, 4.0),  # equal margins stop together
        ((4, 2, 2, 1), (1, 1, 0, 1), 2 / 3, 1.0),
        ((0, 0, 0, 0), (1, 1, 1, 1), 1.0, 0.0),
        ((2, 2, 2, 2), (1, 1, 1, 0), 0.75, 2.0),
    ],
)
def test_a_threshold_is_the_smallest_margin_above_which_enough_agree(known, same, share, expected):
    assert thresholds(row(*known), row(*same).bool(), share) == (expected,)


def test_no_threshold_is_below_that_of_a_later_step():
    known = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]], dtype=torch.float64)
    same = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1]]).bool()
    assert thresholds(known, same, 1.0) == (3.0, 3.0, 1.0)
    same[1, 0] = False
    assert thresholds(known, same, 1.0) == (None, None, 1.0)


def test_a_step_is_asked_for_more_than_the_whole_where_images_err_at_several():
    known = torch.tensor(
        [[8, 7, 6, 5, 0, 0, 0, 0], [8, 8, 8, 8, 7, 7, 6, 5], [9] * 8], dtype=torch.float64
    )
    same = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0], [1] * 8]).bool()
    assert thresholds(known[:-1], same[:-1], 0.75) == (5.0, 5.0)  # three of eight would err
    found = rule(known, same, (1, 2, 3), 0.75)
    assert found.share == 7 / 8
    assert found.thresholds == (7.0, 7.0)
    assert found.agreement == 1.0
    assert found.mean_steps == (2 * 1 + 4 * 2 + 2 * 3) / 8


MARGINS = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=4, max_size=4),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(drawn=MARGINS, confidence=st.lists(st.floats(0.01, 1), min_size=2, max_size=2))
def test_a_rule_keeps_its_confidence_and_a_larger_one_stops_no_image_earlier(drawn, confidence):
    known = torch.tensor(drawn, dtype=torch.float64)[..., 0].T.contiguous()
    same = torch.tensor(drawn)[..., 1].T.bool().contiguous()
    same[-1] = True
    steps, ends = (2, 3, 5, 8), []
    for each in (*sorted(confidence), 1.0):
        found = rule(known, same, steps, each)
        ends.append(found.ends(known))
        kept = same.gather(0, ends[-1][None])[0].double().mean()
        assert kept >= each - 1e-9
        assert found.agreement == pytest.approx(float(kept))
        assert found.mean_steps == pytest.approx(
            float(torch.tensor(steps)[ends[-1]].double().mean())
        )
        for step, least in enumerate(found.thresholds):  # what each step is asked for
            if least is not None:
                reached = same[step][known[step] >= least].double()
                assert len(reached) == 0 or reached.mean() >= found.share - 1e-9
    assert same.gather(0, ends[-1][None]).all()  # 1 changes no decision
    assert (ends[0] <= ends[1]).all()
    assert (ends[1] <= ends[2]).all()


def test_margins_are_of_the_two_largest_logits_and_of_one_logit_its_size():
    assert margins(torch.tensor([[3.0, 7.5, -1.0], [2.0, 2.0, 1.0]])).tolist() == [4.5, 0.0]
    assert margins(torch.tensor([[-2.0], [0.5]])).tolist() == [2.0, 0.5]


def test_an_image_stops_at_the_first_step_that_reaches_its_threshold():
    stop = Stop(0.9, (2, 4, 6), (None, 1.0))
    known = torch.tensor([[9.0, 9, 9, 9], [1, 2, 0.5, torch.nan], [0, 0, 0, torch.nan]])
    assert stop.ends(known.double()).tolist() == [1, 1, 2, 2]
    assert Stop(1.0, (1,), ()).ends(known[:1].double()).tolist() == [0, 0, 0, 0]
    assert stop.full == 6


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((0.0, (1,), ()), "confidence is 0.0"),
        ((99, (1,), ()), "such as 0.99"),
        ((0.9, (), ()), "ascending"),
        ((0.9, (2, 1), (None,)), "ascending"),
        ((0.9, (0, 1), (None,)), "at least 1"),
        ((0.9, (1, 2), ()), "0 thresholds for 2 steps"),
        ((0.9, (1, 2), (float("nan"),)), "give numbers"),
        ((0.9, (1, 2), (float("inf"),)), "give numbers"),
        ((0.9, (1, 2), ("high",)), "give numbers"),
        (("much", (1,), ()), "confidence is much"),
    ],
)
def test_what_is_no_rule_is_refused(arguments, told):
    with pytest.raises(InputError, match=told):
        Stop(*arguments)


# Found on training images


def test_a_rule_is_found_by_the_margins_of_one_simulation(graph):
    run = simulate(graph, TRAINING, T, range(1, T + 1))
    decided = decisions(run.logits)
    for found in rules(0.8, 0.95, 1.0):
        expected = rule(
            margins(run.logits), decided == decided[-1], run.record, found.confidence,
            network=found.network,
        )  # fmt: skip
        assert found == expected
        assert found.steps == tuple(range(1, T + 1))
        assert found.images == 60
    first, second, third = rules(0.8, 0.95, 1.0)
    assert first.mean_steps <= second.mean_steps <= third.mean_steps < T
    assert third.agreement == 1.0


def test_batches_and_their_order_change_nothing(graph):
    batches = [(batch, None) for batch in reversed(TRAINING.split(7))]
    assert calibrate_stop(graph, batches, T, 0.9) == rules(0.9)


def test_a_team_finds_the_rules_of_one(graph):
    batches = [(batch, None) for batch in TRAINING.split(7)]
    found = in_team(3, lambda _: calibrate_stop(graph, batches, T, (0.9, 1.0)))
    assert found == [rules(0.9, 1.0)] * 3


def test_read_outs_lie_apart_and_behind_what_the_network_leaves_out(graph):
    assert read_outs(graph, 5) == (1, 2, 3, 4, 5)
    assert read_outs(graph, 10, 4) == (2, 6, 10)
    assert read_outs(graph, 1) == (1,)
    assert read_outs(graph, 128) == tuple(range(2, 129, 2))
    output = replace(graph.output, delay=3)
    late = graph.with_nodes(output if node is graph.output else node for node in graph.nodes)
    assert read_outs(late, 8) == (4, 5, 6, 7, 8)
    assert read_outs(late, 2) == (2,)
    with pytest.raises(InputError, match="at least 1"):
        read_outs(graph, 0)
    with pytest.raises(InputError, match="at least 1"):
        read_outs(graph, 5, 0)


@pytest.mark.parametrize("method", [calibrated(steps=6), differential(steps=4)])
def test_networks_that_are_made_for_one_T_stop_before_it(method):
    made = method.apply(traced("identity"), Calibration(TRAINING))
    (found,) = calibrate_stop(made, TRAINING, confidence=0.5)
    assert found.full == made.made_for
    (stopped,) = evaluate(made, loader(), stop=found).stopped
    assert stopped.full.steps == made.made_for
    assert sum(stopped.ended) == COUNT


@pytest.mark.parametrize(
    ("batches", "arguments", "told"),
    [
        ([], {}, "no images to find"),
        ([BATCH], {"confidence": 99}, "confidence is 99"),
        ([BATCH], {"confidence": ()}, "confidence is 0"),
        ([BATCH], {"confidence": "high"}, "give numbers"),
        ([BATCH], {"steps": 0}, "steps is 0"),
        ([BATCH], {"every": 0}, "every 0"),
        (3, {}, "give a loader"),
    ],
)
def test_what_no_rule_can_be_found_on_is_refused(graph, batches, arguments, told):
    with pytest.raises(InputError, match=told):
        calibrate_stop(graph, batches, **arguments)


# Evaluated


def alone(graph, image, stop):
    """(steps, decision, spikes by layer, decision of the full run) of one image, step by step."""
    least = dict(zip(stop.steps[:-1], stop.thresholds, strict=True))
    for steps in stop.steps:
        run = simulate(graph, image, steps)
        wanted = least.get(steps)
        if steps == stop.full or (wanted is not None and margins(run.logits[-1])[0] >= wanted):
            break
    full = simulate(graph, image, stop.full)
    spikes = {name: int(count.spikes[-1, 0]) for name, count in run.spikes.items()}
    return steps, int(decisions(run.logits[-1])), spikes, int(decisions(full.logits[-1]))


def test_stopped_images_are_those_of_a_loop_that_ends_each_at_its_own_step(graph):
    curve = evaluate(graph, loader(), (4,), stop=rules(0.5, 0.95))
    reference = decisions(interpret.logits(graph.ann, BATCH)).tolist()
    assert [point.steps for point in curve.points] == [4, T]
    spent = costs(graph)
    for stop, stopped in zip(rules(0.5, 0.95), curve.stopped, strict=True):
        found = [alone(graph, image[None], stop) for image in BATCH]
        steps = [each[0] for each in found]
        chosen, full = [each[1] for each in found], [each[3] for each in found]
        right = [one == int(label) for one, label in zip(chosen, LABELS, strict=True)]
        full_right = [one == int(label) for one, label in zip(full, LABELS, strict=True)]
        pairs = list(zip(right, full_right, strict=True))
        assert stopped.ended == tuple(steps.count(each) for each in stop.steps)
        assert stopped.mean_steps == pytest.approx(sum(steps) / COUNT)
        assert stopped.quantile(0.5) == sorted(steps)[COUNT // 2]
        assert stopped.accuracy == sum(right) / COUNT
        assert stopped.kept == sum(map(int.__eq__, chosen, full)) / COUNT
        assert stopped.agreement == sum(map(int.__eq__, chosen, reference)) / COUNT
        assert stopped.lost == sum(theirs and not own for own, theirs in pairs)
        assert stopped.gained == sum(own and not theirs for own, theirs in pairs)
        for name, count in stopped.layers.items():
            assert count == sum(each[2][name] for each in found) / COUNT
        expected = sum(count * spent.per_spike[name] for name, count in stopped.layers.items())
        assert stopped.operations == pytest.approx(expected + spent.per_step * stopped.mean_steps)
        assert stopped.full == curve.points[-1]
        assert stopped.full_operations == spent.operations(curve.points[-1])
        assert stopped.rule == stop
    assert 1 < curve.stopped[0].mean_steps < T


def test_where_no_image_stops_the_full_run_is_what_is_left(graph):
    stop = Stop(1.0, (3, T), (None,))
    curve = evaluate(graph, loader(), (4,), stop=stop)
    (stopped,), full = curve.stopped, curve.points[-1]
    assert stopped.ended == (0, COUNT)
    assert stopped.mean_steps == T
    assert (stopped.kept, stopped.lost, stopped.gained) == (1.0, 0, 0)
    assert (stopped.accuracy, stopped.agreement) == (full.accuracy, full.agreement)
    assert stopped.operations == pytest.approx(stopped.full_operations)
    assert "no image stops before T = 10" in str(curve)


def test_stopping_changes_nothing_else(graph):
    plain_one = evaluate(graph, loader(), (4, T))
    with_rules = evaluate(graph, loader(7), (4, T), stop=rules(0.9))
    assert replace(with_rules, stopped=(), seconds=plain_one.seconds) == plain_one
    assert plain_one.stopped == ()


def test_one_logit_stops_by_its_size():
    graph, model = with_outputs(1)
    (stop,) = calibrate_stop(graph, TRAINING, 12, 0.8)
    with torch.inference_mode():
        labels = (model(BATCH)[:, 0] > 0).long()
    (stopped,) = evaluate(graph, [(BATCH, labels)], (12,), stop=stop).stopped
    found = [alone(graph, image[None], stop) for image in BATCH]
    assert stopped.mean_steps == pytest.approx(sum(each[0] for each in found) / COUNT)
    right = [int(label) == each[1] for label, each in zip(labels, found, strict=True)]
    assert stopped.accuracy == sum(right) / COUNT


@pytest.mark.parametrize("batches", [1, 3])
def test_an_evaluation_with_rules_goes_on_with_the_same_rules(graph, tmp_path, batches):
    path, whole = tmp_path / "progress.json", evaluate(graph, loader(5), (4,), stop=rules(0.9, 1.0))
    begun = iter([*loader(5)[:batches], "no batch"])
    with pytest.raises(InputError):
        evaluate(graph, begun, (4,), stop=rules(0.9, 1.0), resume=path)
    with pytest.raises(ResumeError, match="not the same stop"):
        evaluate(graph, loader(5), (4,), stop=rules(0.9), resume=path)
    found = evaluate(graph, loader(5), (4,), stop=rules(0.9, 1.0), resume=path)
    assert plain(found) == plain(whole)


def test_a_team_evaluates_with_rules_as_one(graph):
    whole = evaluate(graph, loader(5), (4,), stop=rules(0.9, 1.0))
    work = lambda _: evaluate(graph, loader(5), (4,), stop=rules(0.9, 1.0))  # noqa: E731
    rules(0.9, 1.0)
    assert [plain(each) for each in in_team(3, work)] == [plain(whole)] * 3


def test_rules_that_do_not_fit_are_refused(graph):
    with pytest.raises(InputError, match="metric mse has none"):
        evaluate(graph, [(BATCH, torch.zeros(COUNT, 5))], (4,), metric="mse", stop=rules(0.9))
    with pytest.raises(InputError, match="another network"):
        evaluate(spiking("identity", percentile=90.0), loader(), (4,), stop=rules(0.9))
    with pytest.raises(InputError, match="give a Stop"):
        evaluate(graph, loader(), (4,), stop=0.99)
