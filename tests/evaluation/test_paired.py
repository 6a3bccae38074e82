from math import comb, sqrt

import pytest

from spiking_resnet.evaluation.paired import Paired

Z = 1.6448536269514722  # of 95 %, one-sided


@pytest.mark.parametrize("images", [20, 100, 2000])
def test_where_nothing_differs_the_loss_is_below_the_closed_form(images):
    found = Paired(0, 0, images)
    assert found.at_most(0.95) == pytest.approx(Z**2 / (images + Z**2))
    assert found.at_least(0.95) == pytest.approx(-found.at_most(0.95))
    assert found.images_to_settle(0.005, 0.95) == pytest.approx(Z**2 * 199, abs=1)


@pytest.mark.parametrize(("lost", "gained", "images"), [(3, 0, 40), (5, 4, 60), (0, 2, 30)])
def test_the_bound_is_where_the_score_test_begins_to_reject(lost, gained, images):
    """The likelihood is maximised here by trying; the module has it in closed form."""
    delta = Paired(lost, gained, images).at_most(0.95)

    def slope(q):  # of the log-likelihood with P(first alone) = q + delta, P(second alone) = q
        same = images - lost - gained
        return lost / (q + delta) + gained / q - 2 * same / (1 - 2 * q - delta)

    low, high = 1e-12, (1 - delta) / 2 - 1e-12
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    q = low
    score = (lost - gained - images * delta) / sqrt(images * (2 * q + delta * (1 - delta)))
    assert score == pytest.approx(-Z, abs=1e-3)


def test_exchanged_networks_exchange_the_bounds():
    assert Paired(7, 3, 90).at_most(0.9) == pytest.approx(-Paired(3, 7, 90).at_least(0.9))


@pytest.mark.parametrize(("p", "q"), [(0.02, 0.01), (0.05, 0.0), (0.1, 0.1)])
def test_the_bound_holds_as_often_as_it_says(p, q):
    """All outcomes of 60 images, by their probability."""
    n, right, total = 60, 0.0, 0.0
    for lost in range(26):
        for gained in range(26 if q else 1):
            same = n - lost - gained
            chance = comb(n, lost) * comb(n - lost, gained) * p**lost * q**gained
            chance *= (1 - p - q) ** same
            total += chance
            if Paired(lost, gained, n).at_most(0.95) >= p - q:
                right += chance
    assert total == pytest.approx(1, abs=1e-6)
    assert right > 0.93  # the score interval is approximate for so few images


def test_what_lies_at_the_target_is_settled_by_no_number_of_images():
    assert Paired(5, 0, 1000).images_to_settle(0.005, 0.95) is None
    far, near = (Paired(n, 0, 1000).images_to_settle(0.02, 0.95) for n in (2, 15))
    assert far < near


@pytest.mark.parametrize(("lost", "gained"), [(6, 4), (1, 0), (9, 1), (0, 0)])
def test_the_images_that_settle_a_loss_are_those_at_which_its_bound_meets_the_target(lost, gained):
    paired = Paired(lost, gained, 200)
    images = paired.images_to_settle(0.03, 0.95)
    assert (images > 200) == (paired.at_least(0.95) < 0.03 < paired.at_most(0.95))
    scaled = Paired(lost * images / 200, gained * images / 200, images)
    bound = scaled.at_most(0.95) if paired.loss < 0.03 else scaled.at_least(0.95)
    assert bound == pytest.approx(0.03, abs=3e-4)


@pytest.mark.parametrize("images", [1, 12, 1000])
def test_where_the_standard_error_is_zero_the_bounds_reach_further(images):
    assert Paired(0, 0, images).reach == pytest.approx(1 / (images + 1))
    assert Paired(images, 0, images).reach == pytest.approx(2 / (images + 1))


def test_of_many_differing_images_the_bounds_reach_a_standard_error():
    found, loss = Paired(60, 40, 2000), 0.01
    assert found.reach == pytest.approx(sqrt((0.05 - loss**2) / 2000), rel=0.05)
