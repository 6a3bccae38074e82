from itertools import pairwise

import pytest
import torch

from spiking_resnet import InputError, simulate
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import calibrated, differential
from spiking_resnet.evaluation.watching import largest, moments
from zoo import images, spiking, traced

IMAGE = images("identity", 1, seed=7)


@pytest.mark.parametrize("every", [1, 4, 9, 20])
def test_moments_are_those_of_one_simulation(every):
    graph = spiking("identity")
    found = list(moments(graph, IMAGE, 9, every))
    steps = [*range(every, 9, every), 9]
    run = simulate(graph, IMAGE, 9, range(1, 10))
    assert [moment.step for moment in found] == steps
    before = dict.fromkeys(graph.neurons, 0)
    decided = run.logits.argmax(2)[:, 0].tolist()
    seen = [decided[step - 1] for step in steps]
    for number, moment in enumerate(found):
        assert torch.equal(moment.logits, run.logits[moment.step - 1, 0])
        assert moment.decision == seen[number]
        assert all(each == moment.decision for step, each in zip(steps, seen, strict=True)
                   if moment.since <= step <= moment.step)  # fmt: skip
        assert moment.flips == sum(one != other for one, other in pairwise(seen[: number + 1]))
        more = moment.step - (found[number - 1].step if number else 0)
        for name, neurons in graph.neurons.items():
            spikes = int(run.spikes[name].spikes[moment.step - 1, 0])
            assert moment.spikes[name] == spikes
            assert moment.mean[name] == pytest.approx(spikes / neurons / moment.step)
            assert moment.now[name] == pytest.approx((spikes - before[name]) / neurons / more)
            before[name] = spikes


@pytest.mark.parametrize("method", [calibrated(steps=6, waits=True), differential(steps=6)])
def test_networks_of_every_coding_are_watched(method):
    graph = method.apply(traced("identity"), Calibration(images("identity", 20)))
    steps = graph.made_for
    last = list(moments(graph, IMAGE, steps))[-1]
    assert torch.equal(last.logits, simulate(graph, IMAGE, steps).logits[-1, 0])


def test_what_cannot_be_watched_is_refused():
    for image, steps, every in ((images("identity", 2), 4, 1), (IMAGE, 0, 1), (IMAGE, 4, 0)):
        with pytest.raises(InputError, match=r"one at a time|at least 1"):
            next(moments(spiking("identity"), image, steps, every))


def test_the_largest_come_first_and_of_equal_ones_the_lower():
    assert largest(torch.tensor([1.0, 3.0, 3.0, 2.0]), 3) == [1, 2, 3]
