import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet.conversion.calibration import Calibration, Sample
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.statistics import Histogram, measure
from spiking_resnet.graph import interpret
from spiking_resnet.records import InputError
from zoo import ann, images, same_tensors, traced

BITS = {10: 2**-10, 7: 2**-7}  # the largest relative width of a bin


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    percent=st.sampled_from([50.0, 90.0, 99.0, 99.9, 99.99]),
    bits=st.sampled_from([7, 10]),
    zeros=st.floats(0, 0.4),
    size=st.floats(1e-3, 1e3),
)
def test_percentiles_are_numpys_within_a_bin(seed, percent, bits, zeros, size):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(30, 2, 9, 7, generator=generator).abs() * size
    values[torch.rand(values.shape, generator=generator) < zeros] = 0
    histogram = Histogram(2, bits)
    histogram.add(values)
    for row in (0, 1):
        column = values[:, row].flatten().double().numpy()
        expected = np.percentile(column, percent, method="inverted_cdf")
        assert float(histogram.percentile(percent)[row]) == pytest.approx(
            expected, rel=1.01 * BITS[bits]
        )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_counts_do_not_depend_on_order_or_batches(seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(24, 3, 4, 4, generator=generator)
    one, other = Histogram(3, 7), Histogram(3, 7)
    one.add(values)
    for part in values[torch.randperm(24, generator=generator)].split(5):
        other.add(part)
    assert torch.equal(one.counts, other.counts)
    assert torch.equal(one.maximum, other.maximum)
    assert one.total == other.total == 24 * 16


def test_negative_values_count_as_zeros():
    histogram = Histogram(1, 10)
    histogram.add(torch.tensor([[[-3.0, -2.0, -1.0, 4.0]]]))
    assert histogram.total == 4
    assert histogram.counts.sum() == 1
    assert float(histogram.percentile(50)) == 0
    assert float(histogram.percentile(100)) == 4


def test_the_percentile_never_exceeds_the_maximum():
    histogram = Histogram(1, 7)
    histogram.add(torch.full((1, 1, 50), 1.001))
    assert float(histogram.percentile(99.9)) <= float(histogram.maximum)


@pytest.mark.parametrize("value", [2.0**-40, 2.0**-24, 1.0, 2.0**19, 2.0**30])
def test_tiny_and_huge_values_stay_within_the_maximum(value):
    histogram = Histogram(1, 10)
    histogram.add(torch.full((1, 1, 10), value))
    assert histogram.counts.sum() == 10
    assert 0 < float(histogram.percentile(50)) <= value


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-30, 2.0**21, 2.0**60])
def test_percentiles_scale_with_the_values_whatever_their_size(scale):
    values = torch.randn(30, 2, 9, 7, generator=torch.Generator().manual_seed(3)).abs()
    plain, scaled = Histogram(2, 10), Histogram(2, 10)
    plain.add(values)
    scaled.add(values * scale)
    for percent in (50.0, 99.0, 99.9):
        assert torch.equal(scaled.percentile(percent), plain.percentile(percent) * scale)


def test_values_of_any_size_are_counted_the_same_in_any_order():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(24, 3, 4, 4, generator=generator)
    values *= 10.0 ** torch.randint(-30, 30, values.shape, generator=generator)
    up, down = Histogram(3, 7), Histogram(3, 7)
    ordered = values[values.flatten(1).amax(1).argsort()]
    for part in ordered.split(5):
        up.add(part)
    for part in ordered.flip(0).split(3):
        down.add(part)
    assert torch.equal(up.counts, down.counts)
    assert up.lowest == down.lowest
    assert int(up.counts.sum()) == int((values > 0).sum())


def test_activations_that_are_not_finite_are_refused():
    calibration = images("identity", 4).sign() * 3e38
    with pytest.raises(InputError, match="not finite on calibration images"):
        measure(ann("identity"), Calibration(calibration))


@pytest.mark.parametrize("scale", [1e-5, 1e12])
def test_pixels_that_a_grid_cannot_tell_apart_are_refused(scale):
    with pytest.raises(InputError, match="divide the images by a constant"):
        measure(ann("identity"), Calibration(images("identity", 4) * scale))


def test_images_without_a_positive_logit_are_counted():
    graph, frames = ann("identity"), images("identity", 30)
    with torch.inference_mode():
        expected = int((interpret.logits(graph, frames).amax(1) <= 0).sum())
    assert measure(graph, Calibration(frames)).no_positive_logit == expected


def test_nothing_positive_gives_zero():
    histogram = Histogram(2, 10)
    histogram.add(torch.zeros(3, 2, 4))
    assert histogram.percentile(99.9).tolist() == [0, 0]
    assert histogram.percentile(100).tolist() == [0, 0]


def test_memory_does_not_grow_with_images():
    few = measure(ann("identity"), Calibration(images("identity", 5)), True, sample=4)
    many = measure(ann("identity"), Calibration(images("identity", 150)), True, sample=4)
    assert (few.images, many.images) == (5, 150)
    for name, histogram in few.layers.items():
        assert histogram.counts.shape == many.layers[name].counts.shape
    assert few.sample.shape == many.sample.shape == (4, 3, 8, 8)


def test_padding_of_the_last_batch_is_not_counted():
    statistics = measure(ann("identity"), Calibration(images("identity", 7)), True)
    for layer, histogram in statistics.layers.items():
        assert histogram.total == 7 * (1 if layer == "output" else 64) * len_of(layer)


def len_of(layer):
    """Values a row: the logits share one row, channels have their own."""
    return 5 if layer == "output" else 1


def test_the_input_limit_is_the_largest_pixel():
    batch = images("identity", 40)
    assert measure(ann("identity"), Calibration(batch)).input_limit == float(batch.abs().max())


def stream(batch, sizes, labelled=None):
    """A generator of batches of these sizes, plain or in one of the usual wrappings."""
    for part in batch.split(sizes):
        if labelled is tuple:
            yield part, torch.zeros(len(part), dtype=torch.int64)
        elif labelled is dict:
            yield {"image": part, "label": torch.zeros(len(part), dtype=torch.int64)}
        else:
            yield part


COUNT = 120
BATCH = images("identity", COUNT, seed=3)
SHUFFLED = BATCH[torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))]
SOURCES = {
    "ones": lambda: stream(BATCH, 1),
    "sevens": lambda: stream(BATCH, 7),
    "fifties": lambda: stream(BATCH, 50),
    "uneven": lambda: stream(BATCH, [1, 99, 20]),
    "list": lambda: list(stream(BATCH, 30)),
    "labelled": lambda: stream(BATCH, 16, tuple),
    "dictionaries": lambda: stream(BATCH, 16, dict),
    "shuffled": lambda: SHUFFLED,
    "shuffled_sevens": lambda: stream(SHUFFLED, 7),
    "backwards": lambda: BATCH.flip(0),
    "float64": lambda: BATCH.double(),
    "channels_last": lambda: BATCH.contiguous(memory_format=torch.channels_last),
    "gradients": lambda: BATCH.clone().requires_grad_(),
}


def converted(source, **options):
    method = hu2021(steps=32, compensation_steps=16, compensation_images=20, **options)
    return method.apply(traced("identity"), Calibration(source))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_conversion_does_not_depend_on_order_or_batches(source, per_channel):
    expected = converted(BATCH, per_channel=per_channel)
    found = converted(SOURCES[source](), per_channel=per_channel)
    assert same_tensors(found, expected)
    assert found.notes == expected.notes


@pytest.mark.parametrize("source", ["shuffled_sevens", "labelled"])
def test_nor_does_the_search_for_compensation(source):
    expected = converted(BATCH, compensation="search")
    found = converted(SOURCES[source](), compensation="search")
    assert same_tensors(found, expected)
    assert found.notes == expected.notes


def test_the_number_of_threads_changes_nothing():
    one = converted(BATCH)
    torch.set_num_threads(2)
    assert same_tensors(converted(BATCH), one)


def test_a_sample_is_chosen_by_content():
    one, other = Sample(10), Sample(10)
    one.add(BATCH)
    for part in SHUFFLED.split(9):
        other.add(part)
    assert torch.equal(one.images(), other.images())
    assert len(one.images()) == 10
    known = {image.numpy().tobytes() for image in BATCH}
    assert all(image.numpy().tobytes() in known for image in one.images())


def test_a_sample_of_more_than_there_are_is_all_of_them():
    sample = Sample(500)
    sample.add(BATCH)
    assert len(sample.images()) == COUNT


def test_batches_have_one_size_and_lose_no_image():
    calibration = Calibration(stream(BATCH, [3, 77, 40]))
    found = list(calibration.batches())
    assert all(len(batch) == Calibration.BATCH for batch, _ in found)
    assert torch.equal(torch.cat([batch[:count] for batch, count in found]), BATCH)
    assert calibration.shape == (3, 8, 8)


BAD = {
    "nothing": ([], "empty"),
    "no_images": (torch.zeros(0, 3, 8, 8), "empty"),
    "not_images": ([torch.zeros(8)], r"not \[N, C, H, W\]"),
    "integers": (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "float"),
    "nan": (torch.full((4, 3, 8, 8), float("nan")), "NaN"),
    "infinite": (torch.full((4, 3, 8, 8), float("inf")), "NaN or infinite"),
    "text": (["image.png"], "str"),
    "two_images": ([{"a": BATCH, "b": BATCH}], "2 image entries"),
    "no_image": ([{"label": torch.zeros(3)}], "0 image entries"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calibration_sets_are_refused(case):
    source, message = BAD[case]
    with pytest.raises(InputError, match=message):
        Calibration(source)


@pytest.mark.parametrize("case", ["nan", "integers", "not_images"])
def test_a_bad_batch_is_found_wherever_it_is(case):
    source, message = BAD[case]
    calibration = Calibration([BATCH, *([source] if isinstance(source, torch.Tensor) else source)])
    with pytest.raises(InputError, match=message):
        list(calibration.batches())


def test_a_change_of_image_size_is_refused():
    calibration = Calibration([BATCH, torch.zeros(2, 3, 9, 9)])
    with pytest.raises(InputError, match=r"\(3, 8, 8\) to \(3, 9, 9\)"):
        list(calibration.batches())
