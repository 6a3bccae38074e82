"""Data sets in folders of image files: the classes, their order, and the files that are images.

The order is that of torchvision's ImageFolder, sorted names, and all splits take it from the
training images' folder: a class without test images keeps its label and those of the others.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from spiking_resnet.ann.images import NORMALISATIONS, ImageData
from spiking_resnet.ann.pictures import SUFFIXES, DataError, picture_size
from spiking_resnet.ann.pixels import Framing, PixelsInFiles
from spiking_resnet.ann.remarks import remark

_TRAIN = ("train", "training")
_TEST = ("test", "val", "valid", "validation", "testing")
_OF_SYSTEMS = {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "lost+found"}
_FILES_OF_SYSTEMS = {"thumbs.db", "desktop.ini"}
_SMALL = 64  # images of folders up to this size keep it; larger ones are framed as for ImageNet


def from_folder(path: Path, name: str, split: str) -> ImageData:
    """The set of `CLASS/*` image files in a folder, or in the folder of the split in it.

    Hidden folders and files, and those that systems make, are passed over. What else is left out
    is told by a Remark. Images of up to 64 pixels a side keep the size of the first; larger ones
    are resized to 256 and cropped to 224, as most of torchvision's ImageNet networks expect
    (`framed` changes that). Raises DataError for folders of the splits that do not go together.
    """
    folder = _folder_of(path, split)
    names = _classes(folder)
    paths: list[Path] = []
    labels: list[int] = []
    skipped: Counter[str] = Counter()
    for label, each in enumerate(names):
        for file in sorted(_files(folder / each)):
            if file.suffix.lower() in SUFFIXES:
                paths.append(file)
                labels.append(label)
            else:
                skipped[file.suffix.lower() or file.name] += 1
    if not paths:
        raise DataError(
            f"{folder}: no image files in folders of classes{_listed(skipped)}; expected "
            f"{folder}/CLASS/IMAGE.jpg"
        )
    _tell(folder, names, labels, skipped)
    width, height = picture_size(paths[0])
    side = min(width, height)
    framing = Framing(side, side) if max(width, height) <= _SMALL else Framing()
    return ImageData(
        name, split, PixelsInFiles(tuple(paths), framing),
        torch.tensor(labels, dtype=torch.int64), len(names), NORMALISATIONS["imagenet"], names,
    )  # fmt: skip


def _folder_of(path: Path, split: str) -> Path:
    """Where the classes of a split are: in its folder, else in `path` itself."""
    alike = next((group for group in (_TRAIN, _TEST) if split in group), ())
    for each in dict.fromkeys((split, *alike)):
        if (path / each).is_dir() and _subfolders(path / each):
            if each != split:
                remark(f"{path} has no folder {split}: took {each}")
            return path / each
    inside = _subfolders(path)
    if inside and {each.lower() for each in inside} <= {*_TRAIN, *_TEST}:
        raise DataError(f"{path} has no images of the split {split}, only of {', '.join(inside)}")
    return path


def _classes(folder: Path) -> tuple[str, ...]:
    """The classes of a folder of a split, in the order of the training images' folder."""
    own = _subfolders(folder)
    if folder.name.lower() not in (*_TRAIN, *_TEST):
        return own
    beside = {
        each.lower(): _subfolders(folder.parent / each)
        for each in _subfolders(folder.parent)
        if each.lower() in (*_TRAIN, *_TEST) and each != folder.name
    }
    for each in (*_TRAIN, *sorted(beside)):
        theirs = beside.get(each, ())
        if not theirs or folder.name.lower() in _TRAIN:
            continue
        if unknown := [one for one in own if one not in theirs]:
            raise DataError(
                f"{folder} has classes that {folder.parent / each} has not ({_few(unknown)}), so "
                "labels would not mean the same: give both the same folders (an empty one counts)"
            )
        if each not in _TRAIN and own != theirs:
            missing = [one for one in theirs if one not in own]
            raise DataError(
                f"{folder} lacks classes that {folder.parent / each} has ({_few(missing)}), and no "
                "folder train says which there are: make folders of these names (empty ones count)"
            )
        return theirs
    return own


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in _OF_SYSTEMS


def _subfolders(path: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted as torchvision does."""
    return tuple(sorted(e.name for e in os.scandir(path) if _visible(e.name) and e.is_dir()))


def _files(folder: Path) -> Iterator[Path]:
    """All visible files in a folder and in those inside it; none where it does not exist."""
    for base, inner, names in os.walk(folder, followlinks=True):
        inner[:] = [each for each in inner if _visible(each)]
        for name in names:
            if _visible(name) and name.lower() not in _FILES_OF_SYSTEMS:
                yield Path(base, name)


def _tell(folder: Path, names: tuple[str, ...], labels: list[int], skipped: Counter[str]) -> None:
    """Remark on classes without images and on files that were left out."""
    seen = set(labels)
    empty = [each for label, each in enumerate(names) if label not in seen]
    if empty:
        remark(
            f"{folder} has no images of {len(empty)} of {len(names)} classes ({_few(empty)}), "
            "which count as classes all the same"
        )
    if skipped:
        remark(f"{folder}: left out{_listed(skipped)}")
    loose = [
        entry.name
        for entry in os.scandir(folder)
        if entry.is_file() and _visible(entry.name) and Path(entry.name).suffix.lower() in SUFFIXES
    ]
    if loose:
        remark(f"{folder}: left out {len(loose)} images that are in no class's folder")


def _listed(skipped: Counter[str]) -> str:
    """How many files are no images, and their suffixes; an empty text where there are none."""
    if not skipped:
        return ""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(5))
    return f" {skipped.total()} files of other kinds ({kinds})"


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
