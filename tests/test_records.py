import json
from functools import reduce
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.images import image_digest, images_of
from spiking_resnet.records import (
    UNRELIABLE,
    Curve,
    InputError,
    LayerCount,
    Point,
    curve_from_json,
    graver,
)
from spiking_resnet.shares import wilson


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [  # Wilson's score interval, as printed in tables and by R's binom.confint
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
        (9173, 10000, 0.9117, 0.9225),
    ],
)
def test_wilsons_interval_has_known_values(correct, total, low, high):
    found = wilson(correct, total)
    assert found[0] == pytest.approx(low, abs=6e-5)
    assert found[1] == pytest.approx(high, abs=6e-5)


@settings(deadline=None, max_examples=200)
@given(total=st.integers(1, 10_000), share=st.floats(0, 1))
def test_the_ends_of_the_interval_are_where_the_score_test_just_rejects(total, share):
    correct = round(share * total)
    low, high = wilson(correct, total)
    found = correct / total
    assert 0 <= low <= found + 1e-12
    assert found - 1e-12 <= high <= 1
    for end in (low, high):
        if 0 < end < 1 and abs(end - found) > 1e-9:
            score = abs(found - end) / sqrt(end * (1 - end) / total)
            assert score == pytest.approx(1.959964, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(total=st.integers(1, 1000), share=st.floats(0, 1))
def test_the_interval_is_symmetric_in_right_and_wrong(total, share):
    correct = round(share * total)
    low, high = wilson(correct, total)
    other_low, other_high = wilson(total - correct, total)
    assert low == pytest.approx(1 - other_high, abs=1e-12)
    assert high == pytest.approx(1 - other_low, abs=1e-12)


def test_rates_by_hand():
    count = LayerCount(10, torch.tensor([[5, 15], [20, 40]]))
    assert count.rate((2, 4)).tolist() == [0.5, 0.75]


IMAGES = torch.rand(2, 3, 4, 4)


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        IMAGES.double(),
        (IMAGES, torch.zeros(2)),
        [IMAGES],
        {"x": IMAGES, "label": torch.zeros(2)},
    ],
    ids=["tensor", "float64", "pair", "list", "dictionary"],
)
def test_images_are_found_in_every_usual_batch(batch):
    found = images_of(batch)
    assert found.dtype == torch.float32
    assert torch.equal(found, IMAGES)


def test_images_of_half_precision_are_taken():
    assert images_of(IMAGES.half()).dtype == torch.float32


def test_a_curve_without_points_is_json_too():
    curve = Curve(0, (), None, None, "cpu", 0.0, True)
    assert curve.to_json()["snn"] == []
    assert set(curve.to_json()["ann"].values()) == {None}


def test_a_curve_survives_json():
    point = Point(8, 0.5, (0.4, 0.6), 0.75, 12.0, 0.1, {"a": 0.1})
    curve = Curve(4, (point,), 0.9, (0.8, 0.95), "cpu", 1.5, True, notes={"method": "hu2021"})
    assert curve_from_json(json.loads(json.dumps(curve.to_json()))) == curve


def test_of_the_remarks_of_all_batches_the_gravest_is_told():
    slight, grave = "engines may differ in single spikes", f"... {UNRELIABLE}: ..."
    for order in (("", slight, grave), (grave, "", slight), (slight, grave, "")):
        assert reduce(graver, order) == grave
    assert graver("", slight) == graver(slight, "") == slight
    assert graver("", "") == ""


# What a tensor of images may be


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda x: x.to("meta"), "meta"),
        (lambda x: x.to_sparse(), "sparse_coo"),
        (lambda x: x.to(torch.complex64), "complex"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantised"),
        (lambda x: torch.nested.nested_tensor([x[0], x[1]]), "nested"),
        (lambda x: x.to_mkldnn(), "mkldnn"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_numbers_are_refused(make, kind):
    images = make(torch.rand(2, 3, 4, 4))
    with pytest.raises(InputError, match=kind):
        images_of(images)
    with pytest.raises(InputError, match=kind):
        images_of((images, torch.zeros(2)))


def test_the_same_pixels_are_the_same_images_however_they_lie():
    pixels = torch.rand(2, 3, 4, 4).half().float()
    wide = pixels.repeat_interleave(2, 3)
    alike = {
        "channels last": pixels.contiguous(memory_format=torch.channels_last),
        "every second of a row": wide[..., ::2],
        "flipped twice": pixels.flip(3).contiguous().flip(3),
        "float16": pixels.half(),
        "float64": pixels.double(),
        "with gradients": pixels.clone().requires_grad_(),
        "a parameter": torch.nn.Parameter(pixels),
        "negated lazily": torch._neg_view(-pixels),
    }
    for name, images in alike.items():
        found = images_of(images)
        assert found.dtype == torch.float32, name
        assert torch.equal(found, pixels), name
        assert not found.requires_grad, name
        assert [image_digest(one) for one in found] == [image_digest(one) for one in pixels], name
    one = pixels[:1].expand(3, -1, -1, -1)
    assert torch.equal(images_of(one), torch.cat([pixels[:1]] * 3))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (torch.zeros(2, 3, 4, 4).to_sparse(), "sparse_coo"),
        (torch.zeros(2, 3, 4, 4, device="meta"), "meta"),
        (torch.tensor(1.0), r"shape \(\)"),
        (torch.zeros(0, 3, 4, 4), "empty"),
        ([torch.zeros(0, 3, 4, 4)], "empty"),
    ],
)
def test_a_calibration_tensor_that_holds_no_images_is_named(source, told):
    with pytest.raises(InputError, match=told):
        Calibration(source)


def test_calibration_passes_over_batches_without_images():
    images = torch.ones(2, 3, 4, 4)
    found = Calibration([images[:0], images, images[:0]])
    assert torch.equal(found.first, images)
    assert [count for _, count in found.batches()] == [2]
