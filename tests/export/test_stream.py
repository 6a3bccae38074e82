"""Streams run as `simulate` does on all frames at once; event lists become frames and come back."""

import numpy as np
import pytest
import torch
from torch import nn

import spiking_resnet as sr
from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import calibrated, differential, hu2021
from spiking_resnet.export.events import (
    frames,
    load_trains,
    save_trains,
    spike_events,
    trains_of,
)
from spiking_resnet.records import InputError
from zoo import images, network

TONIC = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)]
AEDAT4 = [("timestamp", np.int64), ("x", np.int16), ("y", np.int16), ("polarity", np.int8)]
TOLD = [(0, 0, 0, 1), (3, 1, 0, 0), (9, 2, 1, 1), (10, 2, 1, 1), (25, 0, 1, 0)]  # t, x, y, p


def listed(layout, told=TOLD):
    names = [name for name, _ in layout]
    order = ["timestamp", "x", "y", "polarity"] if "timestamp" in names else ["t", "x", "y", "p"]
    found = np.zeros(len(told), dtype=layout)
    for name, values in zip(order, zip(*told, strict=True), strict=True):
        found[name] = values
    return found


@pytest.fixture(scope="module")
def snn():
    return convert(network("one_relu"), images("one_relu", 20), hu2021(steps=32))


@pytest.fixture(scope="module")
def events_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    return convert(model, torch.randn(20, 2, 2, 3).abs(), hu2021(steps=32))


@pytest.mark.parametrize("engine", ["auto", "interpreter"])
def test_a_stream_is_one_simulation(snn, engine):
    shown = images("one_relu", 12).unflatten(0, (6, 2))
    layers = list(snn.neurons)
    expected = simulate(snn, shown, record=range(1, 7), trains=layers, engine=engine)
    stream = sr.Stream(snn, 2, layers, engine)
    assert stream.time == 0
    for time, frame in enumerate(shown):
        step = stream.push(frame)
        assert step.time == stream.time == time + 1
        assert torch.equal(step.logits, expected.logits[time])
        assert torch.equal(stream.readout, expected.logits[time])
        for layer, train in step.spikes.items():
            assert torch.equal(train[0], expected.trains[layer][time])
    stream.reset()
    assert torch.equal(stream.push_frames(shown).logits, expected.logits[-1])


def test_one_frame_serves_all_streams(snn):
    frame = images("one_relu", 1)[0]
    step = sr.Stream(snn, 3).push(frame)
    assert torch.equal(step.logits, simulate(snn, frame.expand(3, *frame.shape), 1).logits[-1])


def test_a_stream_goes_on_from_a_file(snn, tmp_path):
    shown = images("one_relu", 8).unflatten(0, (4, 2))
    stream = sr.Stream(snn, 2)
    stream.push_frames(shown[:3])
    stream.save(tmp_path / "state.safetensors")
    other = sr.Stream(snn, 2)
    other.restore(tmp_path / "state.safetensors")
    assert other.time == 3
    assert torch.equal(other.push(shown[3]).logits, stream.push(shown[3]).logits)
    another = convert(network("identity"), images("identity", 20))
    with pytest.raises(InputError, match="another network"):
        sr.Stream(another, 2).restore(tmp_path / "state.safetensors")
    with pytest.raises(InputError):
        sr.Stream(snn, 3).restore(tmp_path / "state.safetensors")
    (tmp_path / "no").write_bytes(b"x" * 20)
    with pytest.raises(InputError, match="holds no state"):
        other.restore(tmp_path / "no")


def test_a_stream_refuses_what_it_cannot_run(snn):
    changing = convert(network("one_relu"), images("one_relu", 20), differential(steps=4, images=4))
    with pytest.raises(InputError, match="takes no stream"):
        sr.Stream(changing)
    with pytest.raises(InputError, match="batch is 0"):
        sr.Stream(snn, 0)
    with pytest.raises(InputError, match="there is no population 'nobody'"):
        sr.Stream(snn, layers=("nobody",))
    stream = sr.Stream(snn)
    for what in (lambda: stream.readout, lambda: stream.save("x")):
        with pytest.raises(InputError, match="no time step was run"):
            what()
    with pytest.raises(InputError, match="frames have shape"):
        stream.push(torch.zeros(1, 1, 1))
    with pytest.raises(InputError, match="events have 2"):
        stream.push_events(listed(TONIC), window=10)


@pytest.mark.parametrize("layout", [TONIC, AEDAT4])
def test_events_are_counted_by_polarity(layout):
    found = frames(listed(layout), (2, 3), window=10)
    assert found.shape == (3, 2, 2, 3)
    expected = torch.zeros(3, 2, 2, 3)
    for t, x, y, p in TOLD:
        expected[t // 10, p, y, x] += 1
    assert torch.equal(found, expected)
    assert torch.equal(
        frames(listed(layout), (2, 3), window=10, counting="binary"), expected.sign()
    )
    by_count = frames(listed(layout), (2, 3), count=2)
    assert by_count.sum((1, 2, 3)).tolist() == [2, 2, 1]
    assert float(by_count[1, 1, 1, 2]) == 2
    assert len(frames(listed(layout)[:0], (2, 3), window=10)) == 0


def test_signs_are_polarities_too():
    told = [(t, x, y, 2 * p - 1) for t, x, y, p in TOLD]
    assert torch.equal(
        frames(listed(AEDAT4, told), (2, 3), window=10), frames(listed(TONIC), (2, 3), window=10)
    )


def test_bad_events_are_refused():
    good = listed(TONIC)
    for found, what in (
        (good[::-1], "event 1 is earlier"),
        (np.zeros((3, 4)), "no structured array"),
        (good[["x", "y", "t"]], "none for 'p'"),
        (listed(AEDAT4, [(0, 0, 0, 7)]), "polarities"),
        (listed(TONIC, [(0, 3, 0, 1)]), "x = 3, outside the sensor of 2 x 3"),
        (listed(TONIC, [(0, 0, -1, 1)]), "y = -1"),
    ):
        with pytest.raises(InputError, match=what):
            frames(found, (2, 3), window=10)
    for options in ({}, {"window": 1, "count": 1}, {"window": 0}):
        with pytest.raises(InputError, match="give one of them"):
            frames(good, (2, 3), **options)


def test_events_are_pushed_as_frames(events_network):
    expected = simulate(events_network, frames(listed(TONIC), (2, 3), window=10)[:, None])
    stream = sr.Stream(events_network)
    step = stream.push_events(listed(AEDAT4), window=10)
    assert step.time == 3
    assert torch.equal(step.logits, expected.logits[-1])


@pytest.mark.parametrize("levels", [1, 3])
def test_spike_trains_come_back(tmp_path, levels):
    method = calibrated(steps=4, levels=levels, signed=levels > 1, compensation="none")
    snn = convert(network("one_relu"), images("one_relu", 20), method)
    run = simulate(snn, images("one_relu", 2), 4, trains=list(snn.neurons))
    save_trains(run.trains, tmp_path / "trains.npz")
    again = load_trains(tmp_path / "trains.npz")
    for layer, train in run.trains.items():
        assert torch.equal(again[layer], train)
        events = spike_events(train)
        assert len(events) == int((train != 0).sum())
        assert bool((np.diff(events["t"]) >= 0).all())
        assert torch.equal(trains_of(events, tuple(train.shape)), train.int())
    with pytest.raises(InputError, match="a spike has t"):
        trains_of(events, (1, *train.shape[1:]))


def test_times_and_windows_are_whole_numbers(events_network):
    seconds = [("x", np.float32), ("y", np.int16), ("t", np.float64), ("p", np.int8)]
    good = listed(TONIC)
    for found, what in (
        (listed(seconds, [(0.5, 0, 0, 1)]), "'t' that are no whole numbers: scale them"),
        (listed(seconds, [(0, 1.5, 0, 1)]), "'x' that are no whole numbers"),
        (listed(seconds, [(np.nan, 0, 0, 1)]), "'t' beyond"),
        (good.astype([(n, "U9" if n == "t" else good.dtype[n]) for n in good.dtype.names]), "<U9"),
        (listed(TONIC, [(0, 0, 0, 1), (10**15, 0, 0, 1)]), "more than memory holds"),
    ):
        with pytest.raises(InputError, match=what):
            frames(found, (2, 3), window=10)
    same = frames(listed(seconds), (2, 3), window=10)
    assert torch.equal(same, frames(good, (2, 3), window=np.int64(10)))
    for options in ({"window": 10.5}, {"window": "a"}, {"count": 1.5}):
        with pytest.raises(InputError, match="give a whole number"):
            sr.Stream(events_network).push_events(good, **options)


def test_trains_have_any_names(tmp_path):
    trains = {name: torch.ones(2, 1, 3) for name in ("file", "allow_pickle", "a/b", "\u00e4")}
    save_trains(trains, tmp_path / "trains.npz")
    assert list(load_trains(tmp_path / "trains.npz")) == list(trains)
    content = (tmp_path / "trains.npz").read_bytes()
    for bad in (b"", b"x" * 40, content[:-30], content[:60]):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(InputError, match="holds no spike trains"):
            load_trains(tmp_path / "bad")


def test_a_state_of_no_time_is_refused(snn, tmp_path):
    stream = sr.Stream(snn, 1)
    stream.push(images("one_relu", 1))
    stream.save(tmp_path / "state")
    content = (tmp_path / "state").read_bytes()
    size = int.from_bytes(content[:8], "little")
    head = content[8 : 8 + size].replace(b'time\\": 1', b'time\\": Infinity')
    head += b" " * (-len(head) % 8)
    (tmp_path / "state").write_bytes(len(head).to_bytes(8, "little") + head + content[8 + size :])
    with pytest.raises(InputError, match="holds no state"):
        stream.restore(tmp_path / "state")
