import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet.conversion.calibration import Calibration, Sample
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.statistics import Histogram, Measured, measure
from spiking_resnet.graph import ReLU, interpret
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


def slow_counts(values, rows, bits):
    """What a Histogram counts, value by value with `frexp`: bins, the lowest exponent, maxima."""
    table = values.transpose(0, 1).reshape(rows, -1).double().numpy()
    highest = max(int(np.frexp(table.max())[1]) - 1, -126) if table.max() >= 2.0**-126 else -127
    lowest, counts = max(-127, highest - 43), np.zeros((rows, 44 << bits), dtype=np.int64)
    for row, column in enumerate(table):
        for value in column[column > 0]:
            fraction, exponent = np.frexp(value)  # value = fraction * 2^exponent, fraction >= 1/2
            if value < 2.0**-126:  # a denormal float32
                place = int(value * 2.0**126 * (1 << bits)) + ((-127 - lowest) << bits)
            else:
                inside = int((2 * fraction - 1) * (1 << bits))
                place = ((int(exponent) - 1 - lowest) << bits) + inside
            counts[row, max(place, 0)] += 1
    return torch.from_numpy(counts), lowest, torch.from_numpy(table.max(1)).clamp(min=0).float()


LARGEST = torch.finfo(torch.float32).max
AWKWARD = {
    "zeros of both signs": [0.0, -0.0, -1.0, 1.0],
    "denormals": [2.0**-149, 2.0**-140, 2.0**-127, -(2.0**-149)],
    "denormals beside ones": [2.0**-149, 2.0**-126, 1.0, 2.0**-43],
    "huge": [LARGEST, 1.0, 2.0**84, 2.0**85],
    "negative alone": [-1.0, -LARGEST, -0.0, -2.0],
    "edges of bins": [1 + 2.0**-7, 1 + 2.0**-10, 2.0, 2 - 2.0**-23],
    "just below edges": [1 + 2.0**-7 - 2.0**-23, 1 - 2.0**-24, 1.0, 4 - 2.0**-22],
    "the lowest octave": [2.0, 2.0**-42, 2.0**-43, 2.0**-42 - 2.0**-66],
}


@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize(("rows", "bits"), [(1, 10), (1, 7), (2, 7)])
def test_counts_are_those_of_a_slow_reference(case, rows, bits):
    values = torch.tensor(AWKWARD[case], dtype=torch.float32).view(2, 2, 1)
    histogram = Histogram(rows, bits)
    for part in values:  # the octaves move while values come in
        histogram.add(part[None])
    counts, lowest, maximum = slow_counts(values, rows, bits)
    assert torch.equal(histogram.counts, counts)
    assert torch.equal(histogram.maximum, maximum)
    if counts.any():
        assert histogram.lowest == lowest


def test_counts_of_many_values_are_those_of_a_slow_reference():
    values = torch.randn(9, 4, 5, generator=torch.Generator().manual_seed(2))
    values *= 10.0 ** torch.arange(-20, 16, 4).view(9, 1, 1)
    for rows, bits in ((1, 10), (4, 7)):
        histogram = Histogram(rows, bits)
        histogram.add(values.permute(0, 2, 1).contiguous().permute(0, 2, 1))
        assert torch.equal(histogram.counts, slow_counts(values, rows, bits)[0])


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


def images_alive():
    """How many images [3, 8, 8] the tensors alive hold, whole storages counted."""
    storages = {}
    for one in gc.get_objects():
        if type(one) is torch.Tensor and one.shape[-3:] == (3, 8, 8):
            storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
    return sum(storages.values()) / (3 * 8 * 8 * 4)


@pytest.mark.sweep
def test_a_measured_batch_is_not_kept_for_the_sample_of_it():
    gc.collect()
    before, found = images_alive(), []

    def source():
        for seed in range(10):
            found.append(images_alive() - before)
            yield images("identity", 100, seed=seed)

    measure(ann("identity"), Calibration(source()), sample=64)
    assert max(found) == found[2]  # with the sample full, nothing is kept of further parts


def test_values_are_freed_when_their_last_reader_ran():
    graph, known, most = ann("identity"), [], 0
    for _, value in interpret.walk(graph.nodes, images("identity", 2), {}):
        known.append(weakref.ref(value))
        most = max(most, sum(one() is not None for one in known))
    assert most <= 3  # what a shortcut hands on, and the value before the one that was just made
    assert len(graph.nodes) > 8


def test_logits_are_found_without_keeping_the_values(monkeypatch):
    graph, known, most = ann("identity"), [], []
    relu = ReLU.advance

    def watched(*given):
        value = relu(*given)
        most.append(sum(one() is not None for one in known))
        known.append(weakref.ref(value))
        return value

    monkeypatch.setattr(ReLU, "advance", watched)
    interpret.logits(graph, images("identity", 2))
    assert max(most) <= 2 < len(most)


def test_large_images_are_measured_in_small_batches():
    few = Calibration(torch.ones(20, 1, 129, 128))
    assert [(len(batch), count) for batch, count in few.batches()] == [(16, 16), (16, 4)]
    many = Calibration(torch.ones(20, 1, 128, 128))
    assert [(len(batch), count) for batch, count in many.batches()] == [(50, 20)]


@pytest.mark.parametrize("per_channel", [False, True])
def test_statistics_do_not_depend_on_the_size_of_batches(per_channel, monkeypatch):
    graph, frames = ann("identity"), images("identity", 40)
    usual = measure(graph, Calibration(frames), per_channel, sample=8)
    monkeypatch.setattr(Calibration, "BATCH", 16)
    small = measure(graph, Calibration(frames), per_channel, sample=8)
    assert torch.equal(small.sample, usual.sample)
    assert (small.images, small.input_limit) == (usual.images, usual.input_limit)
    for name, histogram in usual.layers.items():
        assert histogram.total == small.layers[name].total
        assert torch.allclose(histogram.maximum, small.layers[name].maximum, rtol=1e-6)


@pytest.fixture
def walks(monkeypatch):
    """The batches that a network was run on."""
    found, plain = [], interpret.walk

    def counted(nodes, images, *rest):
        found.append(len(images))
        return plain(nodes, images, *rest)

    monkeypatch.setattr(interpret, "walk", counted)
    return found


def test_what_several_methods_need_is_measured_once(walks):
    graph, frames = ann("identity"), images("identity", 70)
    shared = Measured(frames)
    for per_channel, sample in ((False, 4), (False, 100), (True, 256), (True, 1)):
        plain = measure(graph, Calibration(frames), per_channel, sample)
        before = len(walks)
        found = measure(graph, shared, per_channel, sample)
        assert len(walks) - before == (2 if sample in (4, 256) else 0)  # two batches of 50, or none
        assert torch.equal(found.sample, plain.sample)
        assert (found.images, found.input_limit) == (plain.images, plain.input_limit)
        assert found.no_positive_logit == plain.no_positive_logit
        for name, histogram in plain.layers.items():
            assert torch.equal(found.layers[name].counts, histogram.counts)
            assert torch.equal(found.layers[name].maximum, histogram.maximum)


def test_a_larger_sample_or_another_network_is_measured_again(walks):
    frames = images("identity", 70)
    shared = Measured(frames)
    shared.SAMPLE = 10
    assert len(measure(ann("identity"), shared, sample=5).sample) == 5
    assert len(measure(ann("identity"), shared, sample=50).sample) == 50
    assert len(measure(ann("identity"), shared, sample=500).sample) == 70
    assert len(walks) == 3 * 2
    assert len(measure(ann("identity"), shared, sample=1000).sample) == 70
    assert len(walks) == 3 * 2
    measure(ann("projection"), shared)
    assert len(walks) == 4 * 2


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
    bad = [source] if isinstance(source, torch.Tensor) else source
    calibration = Calibration([BATCH, BATCH, *bad])
    with pytest.raises(InputError, match=message):
        list(calibration.batches())


def test_a_change_of_image_size_is_refused():
    calibration = Calibration([BATCH, torch.zeros(2, 3, 9, 9)])
    with pytest.raises(InputError, match=r"\(3, 8, 8\) to \(3, 9, 9\)"):
        list(calibration.batches())
