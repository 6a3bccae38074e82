import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets.folder import default_loader

from spiking_resnet.ann.data import DataError, load_dataset
from spiking_resnet.ann.remarks import Remark

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
RAMP = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)  # of 16 bits


def put(path, picture=PIXELS, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **more)


@pytest.fixture
def root(tmp_path):
    """Three classes of two training images, and one test image of each but the second."""
    for name in "abc":
        for number in range(2):
            put(tmp_path / "train" / name / f"{number}.png")
        if name != "b":
            put(tmp_path / "test" / name / "0.png")
    return tmp_path


def labels(path, split="train"):
    data = load_dataset(str(path), split)
    return data.labels.tolist(), data.class_names


def test_what_is_hidden_or_made_by_a_system_is_neither_class_nor_image(root):
    expected = ([0, 0, 1, 1, 2, 2], ("a", "b", "c"))
    put(root / "train" / ".ipynb_checkpoints" / "0-checkpoint.png")
    put(root / "train" / "__MACOSX" / "a" / "0.png")
    put(root / "train" / "a" / ".thumbs" / "0.png")
    (root / "train" / "@eaDir").mkdir()
    (root / "train" / "b" / "._0.jpg").write_bytes(b"\0\5\x16\7")
    (root / "train" / "b" / "Thumbs.db").write_bytes(b"\0")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Remark)
        assert labels(root) == expected
        load_dataset(str(root), "train").pixels(torch.arange(6))


def test_the_training_folder_gives_the_order_of_classes(root):
    expected = ([0, 2], ("a", "b", "c"))
    with pytest.warns(Remark, match=r"no images of 1 of 3 classes \(b\)"):
        assert labels(root, "test") == expected
    with pytest.warns(Remark, match="classes"):
        assert labels(root / "test", "test") == expected
    put(root / "test" / "d" / "0.png")
    with pytest.raises(DataError, match=r"classes that .*train has not \(d\)"):
        labels(root, "test")


@pytest.mark.filterwarnings("ignore::spiking_resnet.ann.remarks.Remark")
def test_without_a_training_folder_the_splits_must_have_the_same_classes(root):
    (root / "train").rename(root / "val")
    with pytest.raises(DataError, match=r"lacks classes that .*val has \(b\)"):
        labels(root, "test")
    (root / "test" / "b").mkdir()
    assert labels(root, "test") == ([0, 2], ("a", "b", "c"))


def test_a_split_by_another_name_is_taken_with_a_word_and_never_as_a_class(root):
    (root / "test").rename(root / "val")
    with pytest.warns(Remark) as told:
        assert labels(root, "test")[0] == [0, 2]
    assert "no folder test: took val" in str(told[0].message)
    with pytest.raises(DataError, match=r"no images of the split all, only of train, val"):
        labels(root, "all")


def test_an_empty_class_is_told(root):
    (root / "train" / "aa").mkdir()
    with pytest.warns(Remark, match=r"no images of 1 of 4 classes \(aa\)"):
        assert labels(root)[0] == [0, 0, 2, 2, 3, 3]


def test_every_usual_suffix_is_read_and_all_others_are_counted(tmp_path):
    kinds = {"1.PNG": "PNG", "2.Jpeg": "JPEG", "3.jfif": "JPEG", "4.webp": "WEBP", "5.TIF": "TIFF",
             "6.bmp": "BMP", "7.ppm": "PPM", "8.pgm": "PPM"}  # fmt: skip
    for name, kind in kinds.items():
        picture = Image.fromarray(PIXELS)
        put(tmp_path / "große Klasse" / name, picture.convert("L") if name == "8.pgm" else picture,
            format=kind)  # fmt: skip
    for name in ("a.heic", "b.HEIC", "notes.txt"):
        (tmp_path / "große Klasse" / name).write_text("x")
    put(tmp_path / "loose.png")
    with pytest.warns(Remark) as told:
        data = load_dataset(str(tmp_path), "train")
    assert [path.name for path in data.source.paths] == list(kinds)
    assert data.pixels(torch.arange(8)).shape == (8, 3, 8, 8)
    text = " ".join(str(each.message) for each in told)
    assert "left out 3 files of other kinds (2 .heic, 1 .txt)" in text
    assert "1 images that are in no class's folder" in text


def test_a_folder_of_other_files_says_which(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image files.*1 files of other kinds \(1 \.npy\)"):
        load_dataset(str(tmp_path), "train")


def translucent():
    return Image.fromarray(np.dstack([PIXELS, np.full((8, 8), 7, np.uint8)]))


def turned():
    picture = Image.fromarray(PIXELS)
    picture.getexif()[0x0112] = 6  # to be shown a quarter turned
    return picture


PICTURES = {
    "grey.png": lambda: Image.fromarray(PIXELS[..., 0]),
    "bits.png": lambda: Image.fromarray(PIXELS).convert("1"),
    "palette.png": lambda: Image.fromarray(PIXELS).convert("P"),
    "cmyk.jpg": lambda: Image.fromarray(PIXELS).convert("CMYK"),
    "rgba.png": translucent,
    "la.png": lambda: translucent().convert("LA"),
    "turned.jpg": turned,
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_become_the_pixels_that_torchvisions_loader_gives(tmp_path, name):
    picture = PICTURES[name]()
    put(tmp_path / "a" / name, picture, exif=picture.getexif())
    expected = np.array(default_loader(str(tmp_path / "a" / name)))
    (found,) = load_dataset(str(tmp_path), "train").pixels(torch.tensor([0]))
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, name):
    put(tmp_path / "a" / name, RAMP)
    (found,) = load_dataset(str(tmp_path), "train").pixels(torch.tensor([0]))
    expected = np.round(RAMP / 65535 * 255).astype(np.uint8)
    assert np.array_equal(found.numpy(), np.stack([expected] * 3))


def test_sixteen_bits_of_a_pgm(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.pgm").write_bytes(b"P5 8 8 65535\n" + RAMP.astype(">u2").tobytes())
    (found,) = load_dataset(str(tmp_path), "train").pixels(torch.tensor([0]))
    assert np.array_equal(found[0].numpy(), np.round(RAMP / 65535 * 255).astype(np.uint8))


@pytest.mark.parametrize(("kind", "word"), [(np.float32, "floats"), (np.int32, "32-bit integers")])
def test_numbers_without_a_scale_are_refused(tmp_path, kind, word):
    put(tmp_path / "a" / "deep.tif", (RAMP / 65535).astype(kind))
    with pytest.raises(DataError, match=rf"deep\.tif: its pixels are {word}.*8 or 16 bits"):
        load_dataset(str(tmp_path), "train").pixels(torch.tensor([0]))


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_broken_image_is_named_wherever_it_breaks(tmp_path, keep):
    put(tmp_path / "a" / "1.png")
    put(tmp_path / "a" / "2.png")
    whole = (tmp_path / "a" / "2.png").read_bytes()
    (tmp_path / "a" / "2.png").write_bytes(whole[:keep])
    with pytest.raises(DataError, match=r"2\.png: cannot be read as an image"):
        load_dataset(str(tmp_path), "train").pixels(torch.arange(2))


def test_channels_are_those_of_the_network_and_it_is_told(root, tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    data = load_dataset(str(root), "train")
    with pytest.warns(Remark, match="read as grey"):
        single = data.with_channels(1)
    assert single.pixels(torch.arange(6)).shape == (6, 1, 8, 8)
    assert np.array_equal(single.pixels(torch.tensor([0]))[0, 0].numpy(),
                          np.array(Image.fromarray(PIXELS).convert("L")))  # fmt: skip
    np.savez(tmp_path / "grey.npz", images=grey, labels=np.arange(6))
    flat = load_dataset(str(tmp_path / "grey.npz"), "train")
    with pytest.warns(Remark, match="repeated"):
        triple = flat.with_channels(3)
    assert np.array_equal(triple.pixels(torch.arange(6)).numpy(), np.stack([grey] * 3, 1))
    assert flat.with_channels(1) is flat
    with pytest.raises(DataError, match="images have 1 channels, the network takes 4"):
        flat.with_channels(4)


@pytest.mark.filterwarnings("ignore::spiking_resnet.ann.remarks.Remark")
def test_labels_go_by_the_networks_own_classes(root):
    data = load_dataset(str(root / "test"), "test")  # of a and c
    assert data.ordered_as(("a", "b", "c")) is data
    found = data.ordered_as(("c", "x", "a", "b"))
    assert (found.labels.tolist(), found.classes) == ([2, 0], 4)
    with pytest.warns(Remark, match="the network's own order"):
        data.ordered_as(("c", "b", "a"))
    with pytest.raises(DataError, match=r"images of 'c', which is none of the network's 2 classes"):
        data.ordered_as(("a", "b"))
