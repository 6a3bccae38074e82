import csv
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spiking_resnet import ann
from spiking_resnet.ann.augment import Augmentation, generator_for
from spiking_resnet.ann.class_names import class_names
from spiking_resnet.ann.data import (
    NORMALISATIONS,
    DataError,
    Framing,
    MissingDataError,
    Normalisation,
    load_dataset,
    normalisation_named,
)
from spiking_resnet.ann.images import in_memory
from spiking_resnet.ann.sample_images import FOLDER

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(20) % 5


@pytest.fixture
def npz(tmp_path):
    def write(images=IMAGES, labels=LABELS, name="some"):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
        return str(tmp_path / f"{name}.npz")

    return write


def test_photographs_come_with_their_authors_and_the_shipped_network_knows_most():
    sets = {split: load_dataset("photographs", split) for split in ("train", "test")}
    with (FOLDER / "photographs.csv").open(encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    for split, images in sets.items():
        classes = [one["class"] for one in told if one["split"] == split]
        assert [class_names("photographs")[label] for label in images.labels] == classes
    assert {one["licence"] for one in told} == {"https://creativecommons.org/licenses/by/2.0/"}
    assert all(one["author"] and "flickr.com/" in one["page"] for one in told)
    model = ann.pretrained("cifar10_resnet20").model.eval()
    ((images, labels),) = sets["test"].loader(96)
    with torch.no_grad():
        assert int((model(images).argmax(1) == labels).sum()) == 64


def test_digits_are_split_by_class_and_disjoint():
    train, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    assert (len(train), len(test)) == (1300, 497)
    assert (train.classes, train.channels, train.size) == (10, 1, (8, 8))
    assert torch.bincount(test.labels).min() >= 48
    rows = [data.pixels(torch.arange(len(data))).flatten(1).tolist() for data in (train, test)]
    shared = {tuple(row) for row in rows[0]} & {tuple(row) for row in rows[1]}
    assert not shared


def test_npz_keeps_pixels_and_labels(npz):
    data = load_dataset(npz(), "test")
    assert (data.count, data.classes, data.channels, data.size) == (20, 5, 3, (8, 8))
    images, labels = next(iter(data.loader(20)))
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert np.array_equal((images * 255).round().byte().permute(0, 2, 3, 1).numpy(), IMAGES)
    assert labels.tolist() == LABELS.tolist()


def test_grey_npz_gets_a_channel(npz):
    data = load_dataset(npz(images=IMAGES[..., 0], labels=LABELS.astype(np.uint8)), "test")
    assert data.channels == 1


def test_named_set_from_data_directory_and_environment(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "test.npz", images=IMAGES, labels=LABELS)
    data = load_dataset("cifar10", "test", data=tmp_path)
    assert data.classes == 10
    assert data.normalisation == NORMALISATIONS["cifar10"]
    monkeypatch.setenv("SPIKING_RESNET_DATA", str(tmp_path))
    assert len(load_dataset("cifar10", "test")) == 20
    assert len(load_dataset(str(tmp_path / "cifar10"), "test")) == 20


def test_torchvisions_own_layout(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = IMAGES[..., 0]
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">iiii", 0x803, 20, 8, 8) + pixels.tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">ii", 0x801, 20) + LABELS.astype(np.uint8).tobytes()
        )
    data = load_dataset("mnist", "test", data=tmp_path)
    assert np.array_equal(data.pixels(torch.arange(20))[:, 0].numpy(), pixels)
    assert data.labels.tolist() == LABELS.tolist()


def test_folder_of_small_images_keeps_their_size(tmp_path):
    for label, name in enumerate(("cat", "dog", "empty")):
        (tmp_path / name).mkdir()
        if name != "empty":
            Image.fromarray(IMAGES[label]).save(tmp_path / name / "one.png")
    data = load_dataset(str(tmp_path), "test")
    assert (len(data), data.classes, data.size) == (2, 3, (8, 8))
    assert np.array_equal(data.pixels(torch.tensor([1]))[0].permute(1, 2, 0).numpy(), IMAGES[1])


def test_large_images_are_cut_as_torchvision_cuts_them(tmp_path):
    from torchvision import transforms

    (tmp_path / "imagenet" / "val" / "0000").mkdir(parents=True)
    big = np.random.default_rng(1).integers(0, 256, (301, 423, 3), dtype=np.uint8)
    Image.fromarray(big).save(tmp_path / "imagenet" / "val" / "0000" / "a.png")
    data = load_dataset("imagenet", "test", data=tmp_path)
    wanted = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()]
    )(Image.fromarray(big))
    assert torch.equal(data.pixels(torch.tensor([0]))[0], wanted)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_framing_is_torchvisions(tmp_path, interpolation):
    from torchvision import transforms

    big = Image.fromarray(np.random.default_rng(1).integers(0, 256, (301, 423, 3), dtype=np.uint8))
    (tmp_path / "a").mkdir()
    big.save(tmp_path / "a" / "1.png")
    data = load_dataset(str(tmp_path), "test").framed(Framing(232, 200, interpolation))
    mode = transforms.InterpolationMode(interpolation)
    wanted = transforms.Compose(
        [transforms.Resize(232, mode), transforms.CenterCrop(200), transforms.PILToTensor()]
    )(big)
    assert torch.equal(data.pixels(torch.tensor([0]))[0], wanted)
    assert (data.size, data.framing.resize) == ((200, 200), 232)
    assert Framing(**data.framing.to_json()) == data.framing


def test_impossible_framings_are_refused(npz):
    with pytest.raises(DataError, match="crop must be"):
        Framing(200, 224)
    with pytest.raises(DataError, match="bilinear"):
        Framing(256, 224, "cubic")
    data = load_dataset(npz(), "test")
    assert data.framing is None
    assert data.framed(Framing()) is data


@pytest.fixture
def folder(tmp_path):
    """Three classes of 2, 5 and 9 images, each of one grey."""
    for label, count in enumerate((2, 5, 9)):
        (tmp_path / f"{label}").mkdir()
        for number in range(count):
            grey = np.full((8, 8, 3), 20 * label + number, np.uint8)
            Image.fromarray(grey).save(tmp_path / f"{label}" / f"{number}.png")
    return tmp_path


def test_images_per_class_are_chosen_by_the_seed(folder):
    data = load_dataset(str(folder), "train")

    def greys(count, seed=0):
        chosen = data.per_class(count, seed)
        assert torch.bincount(chosen.labels).tolist() == [min(count, n) for n in (2, 5, 9)]
        return chosen.pixels(torch.arange(len(chosen)))[:, 0, 0, 0].tolist()

    assert greys(3) == greys(3) == sorted(greys(3))
    assert len({tuple(greys(3, seed)) for seed in range(5)}) > 1
    assert set(greys(2)) < set(greys(3))
    assert len(greys(100)) == 16
    with pytest.raises(DataError, match="at least 1"):
        data.per_class(0)


def test_files_are_read_ahead_but_not_all(folder, monkeypatch):
    read = []
    whole = Framing.apply
    monkeypatch.setattr(Framing, "apply", lambda self, image: read.append(1) or whole(self, image))
    data = load_dataset(str(folder), "test")
    loader = data.loader(2)
    stream = iter(loader)
    for number in range(8):
        images, labels = next(stream)
        assert torch.equal(
            images,
            loader.normalisation.apply(data.pixels(torch.arange(2 * number, 2 * number + 2))),
        )
        assert torch.equal(labels, data.labels[2 * number : 2 * number + 2])
    with pytest.raises(StopIteration):
        next(stream)
    read.clear()
    stream = iter(loader)
    next(stream)
    stream.close()
    assert len(read) <= 6  # one batch given, two ahead


def test_batches_of_some_spans(folder):
    loader = load_dataset(str(folder), "test").loader(3)
    whole = list(loader)
    assert loader.spans == ((0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 16))
    for places in ((), (0, 2, 5), range(6)):
        some = loader.only([loader.spans[place] for place in places])
        assert len(some) == len(list(some)) == len(places)
        for (a, b), place in zip(some, places, strict=True):
            assert torch.equal(a, whole[place][0])
            assert torch.equal(b, whole[place][1])


def test_damaged_image_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(IMAGES[0]).save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2\.png"):
        list(load_dataset(str(tmp_path), "test").loader(2))


def test_loader_repeats_itself_and_covers_everything(npz):
    loader = load_dataset(npz(), "test").loader(8)
    first, second = list(loader), list(loader)
    assert [len(labels) for _, labels in first] == [8, 8, 4]
    assert len(loader) == 3
    assert all(
        torch.equal(a, c) and torch.equal(b, d)
        for (a, b), (c, d) in zip(first, second, strict=True)
    )


def test_limit_chooses_the_same_images_for_a_seed(npz):
    data = load_dataset(npz(images=np.arange(20, dtype=np.uint8)[:, None, None]), "test")

    def chosen(limit, seed):
        return data.subset(limit, seed).pixels(torch.arange(limit)).flatten().tolist()

    assert chosen(6, 0) == chosen(6, 0) == sorted(chosen(6, 0))
    assert chosen(6, 0) != chosen(6, 1)
    assert set(chosen(6, 0)) < set(chosen(12, 0))
    assert chosen(6, None) == [0, 1, 2, 3, 4, 5]
    assert len(data.subset(100)) == 20


def test_normalisation_is_the_formula(npz):
    data = load_dataset(npz(), "test")
    images, _ = next(iter(data.loader(20, normalisation="imagenet")))
    preset = NORMALISATIONS["imagenet"]
    expected = (IMAGES / 255 - np.array(preset.mean)) / np.array(preset.std)
    assert np.allclose(images.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_augmentation_moves_and_mirrors_by_seed_alone():
    pixels = torch.arange(1, 37, dtype=torch.uint8).view(1, 1, 6, 6).expand(64, 1, 6, 6)
    augment = Augmentation(pad=2, flip=True)
    torch.manual_seed(1)
    first = augment.apply(pixels, generator_for(0, 1))
    torch.manual_seed(2)
    assert torch.equal(first, augment.apply(pixels, generator_for(0, 1)))
    assert not torch.equal(first, augment.apply(pixels, generator_for(0, 2)))
    padded = torch.nn.functional.pad(pixels[0, 0], (2, 2, 2, 2))
    windows = [padded[y : y + 6, x : x + 6] for y in range(5) for x in range(5)]
    allowed = {tuple(window.flatten().tolist()) for window in windows}
    allowed |= {tuple(window.flip(1).flatten().tolist()) for window in windows}
    seen = {tuple(image.flatten().tolist()) for image in first}
    assert seen <= allowed
    assert len(seen) > 20


def test_no_augmentation_leaves_images_alone():
    pixels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    assert torch.equal(Augmentation(0, False).apply(pixels, generator_for(0)), pixels)


def test_augmented_loader_repeats_itself(npz):
    loader = load_dataset(npz(), "test").loader(8, augment=Augmentation(2), seed=3)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(loader, loader, strict=True))


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"batch_size": 4, "limit": 0}])
def test_impossible_loaders_are_refused(npz, arguments):
    with pytest.raises(DataError, match="at least 1"):
        load_dataset(npz(), "test").loader(**arguments)


def test_normalisation_of_other_channels_is_refused(npz):
    data = load_dataset(npz(images=IMAGES[..., 0]), "test")
    with pytest.raises(DataError, match="3 channels does not fit images of 1"):
        data.loader(4, normalisation="imagenet")
    with pytest.raises(DataError, match="imagenet"):
        normalisation_named("imagnet")
    with pytest.raises(DataError, match="positive"):
        Normalisation((0.0,), (0.0,))


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES[:0], LABELS[:0], "no images"),
        (IMAGES, LABELS[:3], "20 images but 3 labels"),
        (IMAGES / 255, LABELS, r"uint8.*float64 from 0 to 1: save \(images \* 255\)\.round\(\)"),
        (IMAGES.astype(np.int32), LABELS, r"int32 from 0 to 255: save images\.round\(\)"),
        (IMAGES / 100 - 1, LABELS, "undo what scaled"),
        (IMAGES, LABELS.astype(np.float32), r"float32, not integers.*astype\('int64'\)"),
        (IMAGES, np.eye(5)[LABELS], r"one-hot.*labels\.argmax\(1\)"),
        (IMAGES, LABELS.astype(str), "number the classes from 0"),
        (IMAGES, LABELS.astype(object), "pickled Python objects"),
        (IMAGES, LABELS - 1, "-1"),
        (IMAGES.transpose(0, 3, 1, 2), LABELS, r"channels first.*transpose\(0, 2, 3, 1\)"),
        (IMAGES[0, 0], LABELS, r"N, H, W, C"),
        (IMAGES.astype(object), LABELS, "plain arrays"),
    ],
)
def test_unusable_npz_is_refused(npz, images, labels, words):
    path = npz(images, labels)
    with pytest.raises(DataError, match=words) as caught:
        load_dataset(path, "test")
    assert "some" in str(caught.value)


@pytest.mark.parametrize("kind", ["u1", "i1", ">i2", "u2", "i4", "u8", ">i8"])
@pytest.mark.parametrize("axes", [1, 2])
def test_labels_of_any_integer_type_are_the_same(npz, kind, axes):
    labels = LABELS.astype(kind).reshape((20, 1)[:axes])
    assert load_dataset(npz(labels=labels), "test").labels.tolist() == LABELS.tolist()


def test_truth_values_are_two_classes(npz):
    data = load_dataset(npz(labels=LABELS > 2), "test")
    assert data.classes == 2
    assert data.labels.tolist() == [int(label > 2) for label in LABELS]


def test_other_names_in_an_npz_are_listed(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=IMAGES, y_train=LABELS)
    with pytest.raises(DataError, match=r"mnist\.npz holds x_train, y_train, not images and"):
        load_dataset(str(tmp_path / "mnist.npz"), "train")


def test_labels_beyond_the_classes_are_refused(tmp_path):
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "test.npz", images=IMAGES, labels=LABELS + 8)
    with pytest.raises(DataError, match=r"outside 0\.\.9"):
        load_dataset("cifar10", "test", data=tmp_path)


def test_damaged_and_incomplete_files_are_refused(tmp_path, npz):
    whole = npz()
    content = Path(whole).read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.npz"):
        load_dataset(str(tmp_path / "cut.npz"), "test")
    np.savez(tmp_path / "half.npz", images=IMAGES)
    with pytest.raises(DataError, match="labels"):
        load_dataset(str(tmp_path / "half.npz"), "test")


def test_missing_sets_say_where_and_what(tmp_path, monkeypatch):
    monkeypatch.delenv("SPIKING_RESNET_DATA", raising=False)
    with pytest.raises(MissingDataError, match=r"--data.*SPIKING_RESNET_DATA.*download"):
        load_dataset("cifar10", "test")
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-py.*--data.*download"):
        load_dataset("cifar10", "test", data=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"val.*--data"):
        load_dataset("imagenet", "test", data=tmp_path)
    with pytest.raises(FileNotFoundError, match="cifar100"):
        load_dataset("cifar11", "test")
    with pytest.raises(FileNotFoundError, match=r"no\.npz"):
        load_dataset(str(tmp_path / "no.npz"), "test")
    with pytest.raises(DataError, match="CLASS"):
        load_dataset(str(tmp_path), "test")
    with pytest.raises(DataError, match="splits"):
        load_dataset("digits", "validation")


def test_in_memory_refuses_floats():
    with pytest.raises(DataError, match="uint8"):
        in_memory("x", "test", torch.zeros(2, 1, 4, 4), [0, 1], 2, NORMALISATIONS["none"])


@pytest.mark.parametrize(
    ("name", "split", "count", "size"),
    [("cifar10", "test", 10000, (32, 32)), ("mnist", "test", 10000, (28, 28)),
     ("imagenet", "one_per_class", 1000, (224, 224)), ("imagenet", "contest", 1000, (224, 224))],
)  # fmt: skip
def test_real_sets(real_data, name, split, count, size):
    if not (real_data / name).is_dir():
        pytest.skip(f"{real_data / name} is not there")
    data = load_dataset(name, split, data=real_data)
    assert (len(data), data.size) == (count, size)
    images, labels = next(iter(data.loader(4, limit=4)))
    assert images.shape == (4, data.channels, *size)
    assert int(labels.max()) < data.classes
