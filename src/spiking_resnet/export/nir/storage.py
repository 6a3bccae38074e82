"""What an HDF5 file may be like before anything of it is read: no links, no sizes it does not hold.

A file of a few bytes can otherwise name arrays of any size, groups within themselves, and others'
files.
"""

from typing import Any

from spiking_resnet.export.format import needed

DEFLATED = 1032  # bytes that deflate makes of one, at most
SPARE = 4096  # bytes that a dataset may have without any of them stored


def check(file: Any) -> None:
    """Raise ValueError, with the culprit's path, for an open file that is not to be read."""
    seen: set[tuple[int, int]] = set()
    waiting = [file]
    while waiting:
        group = waiting.pop()
        for name in group:
            item = _item(group, name, seen)
            if hasattr(item, "keys"):
                waiting.append(item)


def _item(group: Any, name: str, seen: set[tuple[int, int]]) -> Any:
    """Return what has this name in a group, checked."""
    h5py = needed("h5py", "nir")
    where = f"{group.name.rstrip('/')}/{name}"
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{where} is a link, and links are not followed")
    item = group[name]
    about = h5py.h5o.get_info(item.id)
    if (about.fileno, about.addr) in seen:
        raise ValueError(f"{where} stands in the file under another name as well")
    seen.add((about.fileno, about.addr))
    if isinstance(item, h5py.Dataset):
        _check_size(item, where)
    return item


def _check_size(item: Any, where: str) -> None:
    if item.external or item.is_virtual:
        raise ValueError(f"{where} lies in another file")
    stored = item.id.get_storage_size()
    if item.nbytes > DEFLATED * stored + SPARE:
        raise ValueError(f"{where} has {item.nbytes} bytes, and the file holds {stored} of them")
