import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spiking_resnet.ann.contents import content_hash
from spiking_resnet.ann.data import DataError, Framing, load_dataset
from spiking_resnet.ann.images import NORMALISATIONS, in_memory
from spiking_resnet.ann.remarks import Remark
from spiking_resnet.ann.training_state import CheckpointError, read_state, write_state

PIXELS = torch.arange(600 * 4, dtype=torch.int64).remainder(251).to(torch.uint8).view(600, 1, 2, 2)
LABELS = torch.arange(600) % 10


def data(pixels=PIXELS, labels=LABELS):
    return in_memory("some", "test", pixels, labels, 10, NORMALISATIONS["none"])


def test_every_pixel_and_label_counts_and_nothing_else():
    whole = content_hash(data())
    assert whole == content_hash(replace(data(), name="other"))
    for index in (0, 37, 599):
        pixels, labels = PIXELS.clone(), LABELS.clone()
        pixels[index, 0, 1, 1] += 1
        labels[index] = (labels[index] + 1) % 10
        assert content_hash(data(pixels)) != whole
        assert content_hash(data(labels=labels)) != whole
    assert content_hash(data(PIXELS.view(600, 1, 4, 1))) != whole
    assert content_hash(data().subset(599, None)) != whole


def test_of_image_files_every_byte_and_how_they_are_framed(tmp_path):
    for place in ("here", "there"):
        for number in range(20):
            picture = np.full((8, 8, 3), number, np.uint8)
            (tmp_path / place / "a").mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / place / "a" / f"{number}.png")
    first, second = (load_dataset(str(tmp_path / place), "test") for place in ("here", "there"))
    whole = content_hash(first)
    assert content_hash(second) == whole
    assert content_hash(first.framed(Framing(7, 7))) != whole
    path = second.source.paths[13]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the last checksum
    path.write_bytes(content)
    assert content_hash(second) != whole
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        content_hash(second)


def test_progress_is_told():
    told = []
    content_hash(data(), lambda done, total: told.append((done, total)))
    assert told == [(256, 600), (512, 600)]


def test_a_training_goes_on_with_the_same_images_only(tmp_path):
    path, identity = tmp_path / "a.training", {"seed": 0, "images": content_hash(data())}
    write_state(path, identity, {"state": 3})
    assert read_state(path, identity)["state"] == 3
    pixels = PIXELS.clone()
    pixels[300] = 0
    with pytest.raises(CheckpointError, match="images"):
        read_state(path, {"seed": 0, "images": content_hash(data(pixels))})


def test_the_state_of_a_training_from_before_images_were_hashed_is_read_with_a_word(tmp_path):
    path, identity = tmp_path / "a.training", {"seed": 0}
    write_state(path, identity, {"state": 3})
    with pytest.warns(Remark, match="not checked"):
        assert read_state(path, {**identity, "images": "ab"})["state"] == 3
    with pytest.raises(CheckpointError, match="seed"), pytest.warns(Remark):
        read_state(path, {"seed": 1, "images": "ab"})
    assert json.loads(torch.load(path)["identity"]) == identity
