"""Event lists of event cameras and of spikes: read in the usual layouts, binned into frames.

An event is (t, x, y, p): a time, in whatever unit the list has (microseconds as a rule), a column,
a row, and a polarity, 0 or 1 (or False and True, or -1 and 1). Lists are numpy structured arrays
with fields named as Tonic names them (x, y, t, p) or AEDAT 4 (timestamp, x, y, polarity).
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Shape
from spiking_resnet.records import InputError

FIELDS = {"t": ("t", "timestamp"), "x": ("x",), "y": ("y",), "p": ("p", "polarity")}  # by either
POLARITIES = 2
MOST_TIME = 2**62  # so that differences are int64
MOST_COUNTS = 2**32  # of all pixels of all frames
Counting = Literal["sum", "binary"]


@dataclass(frozen=True, eq=False)
class Events:
    """Events of a sensor, ascending in time: arrays int64 [E] of equal length; p is 0 or 1."""

    t: np.ndarray[Any, Any]
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    p: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.t)


def events_of(found: Any) -> Events:
    """The events of a structured array in Tonic's or AEDAT 4's layout.

    Raises InputError for other arrays, times that descend, negative places, other polarities.
    """
    names = getattr(getattr(found, "dtype", None), "names", None)
    if names is None or found.ndim != 1:
        raise InputError(
            "events are no structured array [E]: give one with fields x, y, t, p (Tonic), or "
            "timestamp, x, y, polarity (AEDAT 4)"
        )
    arrays = {}
    for name, known in FIELDS.items():
        own = next((each for each in known if each in names), None)
        if own is None:
            raise InputError(f"events have fields {', '.join(names)}, and none for {name!r}")
        arrays[name] = _whole(name, found[own])
    events = Events(**{**arrays, "p": np.where(arrays["p"] < 0, 0, arrays["p"])})
    if len(events) and bool((np.diff(events.t) < 0).any()):
        at = int(np.argmax(np.diff(events.t) < 0)) + 1
        raise InputError(f"event {at} is earlier than the one before it: sort the events by time")
    if len(events) and not 0 <= int(events.p.min()) <= int(events.p.max()) <= 1:
        raise InputError("events have polarities other than 0 and 1 (or -1 and 1)")
    return events


def _whole(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A field's values as int64; InputError for others than whole numbers."""
    if values.dtype.kind not in "biuf":
        raise InputError(f"events have {name!r} of {values.dtype}: give whole numbers")
    if len(values) and not -MOST_TIME <= float(values.min()) <= float(values.max()) <= MOST_TIME:
        raise InputError(f"events have {name!r} beyond 2^62, or NaN: give whole numbers")
    whole = values.astype(np.int64)
    if values.dtype.kind == "f" and bool((whole != values).any()):
        raise InputError(
            f"events have {name!r} that are no whole numbers: scale them, seconds to microseconds"
        )
    return whole


def frames(
    events: Any,
    size: tuple[int, int],
    window: int | None = None,
    count: int | None = None,
    counting: Counting = "sum",
) -> Tensor:
    """Bin events into frames float32 [T, 2, height, width], one channel for each polarity.

    size: (height, width) of the sensor. window: the time of a frame, in the unit of t; frames begin
    at the first event. count: the events of a frame instead; the last one may have fewer.
    counting: how many events a pixel had ("sum"), or whether it had any ("binary").
    Raises InputError as `events_of`, for events outside the sensor, unless one of window and
    count is given, and for more frames than memory holds.
    """
    found = events_of(events)
    window = None if window is None else arguments.whole("window", window)
    count = None if count is None else arguments.whole("count", count)
    if (window is None) == (count is None) or (window or count or 0) < 1:
        raise InputError(f"window is {window} and count {count}: give one of them, at least 1")
    if counting not in ("sum", "binary"):
        raise InputError(f"counting is {counting!r}: use 'sum' or 'binary'")
    _check_places(found, size)
    if window is not None:
        frame = (found.t - found.t[:1]) // window
    else:
        frame = np.arange(len(found), dtype=np.int64) // (count or 1)
    number = int(frame[-1]) + 1 if len(found) else 0
    if number * POLARITIES * size[0] * size[1] > MOST_COUNTS:
        raise InputError(
            f"the events are {number:,} frames of {window}, more than memory holds: give a longer "
            "window, or cut the list at its gaps"
        )
    return binned(found, frame, (number, POLARITIES, *size), counting)


def binned(
    events: Events, frame: np.ndarray[Any, Any], shape: Shape, counting: Counting = "sum"
) -> Tensor:
    """Count events in frames [T, 2, height, width], given the frame of each."""
    places = np.ravel_multi_index((frame, events.p, events.y, events.x), shape)
    counts = np.bincount(places, minlength=int(np.prod(shape))).reshape(shape)
    found = torch.from_numpy(counts.astype(np.float32))
    return found.clamp(max=1) if counting == "binary" else found


def _check_places(events: Events, size: tuple[int, int]) -> None:
    """Raise InputError for an event outside the sensor."""
    for name, values, most in (("x", events.x, size[1]), ("y", events.y, size[0])):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < most:
            bad = int(values.max()) if int(values.max()) >= most else int(values.min())
            raise InputError(
                f"an event has {name} = {bad}, outside the sensor of {size[0]} x {size[1]} "
                "(height x width)"
            )


def spike_events(trains: Tensor) -> np.ndarray[Any, Any]:
    """List the spikes of one layer: a structured array [E] of (t, n, index, size), ascending.

    trains: [T, N, ...] sizes of spikes, as `Run.trains` holds them. t: the time step; n: the
    image; index: the neuron's, in the flattened layer; size: of the spike.
    """
    flat = trains.flatten(2).cpu()
    t, n, index = (each.numpy() for each in flat.nonzero(as_tuple=True))
    layout = [("t", np.int64), ("n", np.int64), ("index", np.int64), ("size", np.int64)]
    found = np.zeros(len(t), dtype=layout)
    found["t"], found["n"], found["index"] = t, n, index
    found["size"] = flat[t, n, index].long().numpy()
    return found


def trains_of(events: np.ndarray[Any, Any], shape: Shape) -> Tensor:
    """The sizes of spikes, int32 [T, N, ...] of this shape, that `spike_events` listed.

    Raises InputError for spikes outside the shape.
    """
    flat = torch.zeros(shape[0], shape[1], int(np.prod(shape[2:])), dtype=torch.int32)
    for name, most in zip(("t", "n", "index"), flat.shape, strict=True):
        values = events[name]
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < most:
            raise InputError(
                f"a spike has {name} = {int(values.max())}, and {shape} ends at {most}"
            )
    places = tuple(torch.from_numpy(events[name].astype(np.int64)) for name in ("t", "n", "index"))
    flat[places] = torch.from_numpy(events["size"].astype(np.int32))
    return flat.view(shape)


def save_trains(trains: Mapping[str, Tensor], path: str | Path) -> None:
    """Write spike trains by layer to an .npz file: arrays [T, N, ...] of sizes, by name."""
    content, arrays = io.BytesIO(), dict[str, Any]()
    for name, each in trains.items():
        arrays[name] = each.cpu().numpy()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    write_whole(path, content.getvalue())


def load_trains(path: str | Path) -> dict[str, Tensor]:
    """The spike trains by layer of a file that `save_trains` wrote; InputError for other files."""
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as found:
            return {name: torch.from_numpy(found[name]) for name in found.files}
    except (ValueError, TypeError, AttributeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no spike trains ({error})") from error
